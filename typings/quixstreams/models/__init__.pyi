class TopicConfig:
    num_partitions: int
    replication_factor: int
    def __init__(self, num_partitions: int, replication_factor: int, extra_config: dict[str, str] = ...) -> None: ...

class Topic:
    broker_config: TopicConfig
