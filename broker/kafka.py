"""How a client reaches a Kafka cluster, and where a key belongs.

Keys are placed by murmur2 on every client (`partition_of`); a client with another placement would split a key over two partitions.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

_MULTIPLIER: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF


class KafkaSettings(BaseModel):
    """A cluster and how to log in. `bootstrap` empty: no Kafka. `compression` is that of the frames ingest writes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    bootstrap: str = Field(default="", pattern=r"^([^\s,:]+:\d{1,5}(,[^\s,:]+:\d{1,5})*)?$")
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str = ""
    password: SecretStr = SecretStr("")
    cafile: str = ""
    compression: Literal["none", "lz4", "zstd"] = "lz4"

    @model_validator(mode="after")
    def _log_in_is_whole(self) -> KafkaSettings:
        if self.security.startswith("SASL") and not (self.username and self.password.get_secret_value()):
            raise ValueError(f"security {self.security} needs username and password")
        return self

    @property
    def servers(self) -> list[str]:
        """`host:port` of each server to begin with."""
        return [server for server in self.bootstrap.split(",") if server]


def partition_of(key: bytes, partitions: int) -> int:
    """Where a key belongs: murmur2 as Kafka's own producer uses it, without its sign, modulo the number of partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """The 32-bit hash murmur2 with Kafka's seed, unsigned (Austin Appleby; the seed and the sign are those of Apache Kafka)."""
    length = len(data)
    found = 0x9747B28C ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _MULTIPLIER & _MASK
        k = (k ^ k >> 24) * _MULTIPLIER & _MASK
        found = (found * _MULTIPLIER & _MASK) ^ k
    if rest := data[whole:]:
        found = (found ^ int.from_bytes(rest, "little")) * _MULTIPLIER & _MASK
    found = (found ^ found >> 13) * _MULTIPLIER & _MASK
    return found ^ found >> 15
