"""Where InfluxDB is, and how much may wait for it. Light enough for the command line."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator


class InfluxSettings(BaseModel):
    """A server of the v2 API. `url` empty: no InfluxDB. `bucket` names each of ours on the server: `{bucket}` is live, seg, agg, dev, ops.

    `outbox_mb` bounds what waits on disk while it is away; when that is full the oldest goes (`drop_oldest`) or nothing more is read from
    the platform until there is room (`wait`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    url: str = Field(default="", pattern=r"^(https?://[^\s/?#]+)?$")
    org: str = "paceline"
    token: SecretStr = SecretStr("")
    bucket: str = "paceline_{bucket}"
    cafile: str = ""
    outbox_mb: int = Field(default=1024, ge=1, le=1_000_000)
    when_full: Literal["drop_oldest", "wait"] = "drop_oldest"
    timeout_s: float = Field(default=30.0, gt=0, le=600)

    @field_validator("token")
    @classmethod
    def _fits_a_header(cls, token: SecretStr) -> SecretStr:
        """Without the line end that a file or a shell left: it would end every request, with the token in the error."""
        value = token.get_secret_value().strip()
        if not (value.isascii() and value.isprintable()):
            raise ValueError("must be one line of ASCII without control characters")
        return SecretStr(value)

    @field_validator("bucket")
    @classmethod
    def _names_five(cls, name: str) -> str:
        if name.count("{bucket}") != 1 or set("{}") & set(name.replace("{bucket}", "")):
            raise ValueError("must hold {bucket} once and no other braces, such as paceline_{bucket}")
        return name

    def named(self, bucket: str) -> str:
        """What one of our buckets is called on the server."""
        return self.bucket.replace("{bucket}", bucket)
