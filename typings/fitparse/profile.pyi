from collections.abc import Mapping

class MessageType:
    name: str

MESSAGE_TYPES: Mapping[int, MessageType]
