from collections.abc import Callable, Iterable, Sequence

from device_profiles.values import Row, Value

SHORT: int
UNKNOWN_PAGE: int
EXTRA: int

U8: int
S8: int
U16: int
S16: int
U24: int
S24: int
U32: int
S32: int
U48: int
U64: int
U16BE: int
S16BE: int
U24BE: int
U32BE: int
S32BE: int
SFLOAT: int
FLOAT: int
DATETIME: int
UTF8: int
BYTES: int
FLAGS: int
SKIP: int
FLOAT32: int
SIZES: Sequence[int]
NEXT: int
SAME: int
NO_KEY: int
PAGE_KEY: int
PACK_VERSION: int
PLANS_KEPT: int

class Decoder:
    key: int
    page_at: int
    page_mask: int
    head: int
    plans: dict[int, object]
    def __init__(self, key: int, page_at: int, page_mask: int, rows: Callable[[int], Iterable[Row] | None]) -> None: ...
    def page(self, payload: bytes) -> int: ...
    def decode(self, payload: bytes) -> tuple[dict[str, Value], int]: ...

class Pack:
    blob: bytes
    def __init__(self, blob: bytes) -> None: ...
    def names_of_profiles(self) -> list[str]: ...
    def decoder(self, name: str) -> Decoder: ...
    def rows(self, at: int, page: int) -> list[Row] | None: ...
