# What we use of confluent-kafka 2.16: its own annotations leave futures without a type.
class KafkaException(Exception): ...  # noqa: N818 - its name

class KafkaError:
    def str(self) -> str: ...
