"""FIT bytes to a `Recording`: our framing (`fit_frames`) finds and dates the messages, fitparse decodes their fields.

fitparse is given a clean file made of only the messages and fields needed here: it then never meets a damaged frame, a field of an
impossible size, a developer field or a compressed header (on which it would stop or keep every message in memory).
Developer fields are not read: they never replace native ones. Import this module only to read FIT: it loads fitparse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from io import BytesIO
from types import MappingProxyType
from typing import Final, cast

from fitparse import FitFile
from fitparse.profile import MESSAGE_TYPES
from fitparse.records import DataMessage, FieldData

from device_profiles.errors import FileError
from device_profiles.files.collector import Collector
from device_profiles.files.fit_frames import Definition, FieldSpec, FitFrames, Message
from device_profiles.files.recording import Beat, Recording

EPOCH_S: Final = 631_065_600  # FIT second 0 is 1989-12-31T00:00:00Z
RELATIVE_BELOW_S: Final = 0x10000000  # smaller values count from power-on (FIT profile, type date_time)
_FILE_ID, _SPORT, _SESSION, _LAP, _RECORD, _EVENT, _HRV = 0, 12, 18, 19, 20, 21, 78
_WANTED: Final[Mapping[int, frozenset[int]]] = MappingProxyType(
    {
        _FILE_ID: frozenset({0, 1, 2, 8}),  # type, manufacturer, product, product_name
        _SPORT: frozenset({0}),
        _SESSION: frozenset({5}),  # sport
        _LAP: frozenset({2}),  # start_time
        _RECORD: frozenset({0, 1, 2, 3, 4, 5, 6, 7, 8, 31, 53, 73, 78}),
        _EVENT: frozenset({0, 1}),  # event, event_type
        _HRV: frozenset({0}),  # time
    }
)
_BASE_TYPE_BYTES: Final[Mapping[int, int]] = MappingProxyType(
    {0x83: 2, 0x84: 2, 0x8B: 2, 0x85: 4, 0x86: 4, 0x8C: 4, 0x88: 4, 0x89: 8, 0x8E: 8, 0x8F: 8, 0x90: 8}
)
_POINT_FIELDS: Final[Mapping[str, tuple[str, float]]] = MappingProxyType(
    {  # later ones win: an enhanced value over its short twin
        "position_lat": ("lat", 180 / 2**31),
        "position_long": ("lon", 180 / 2**31),
        "altitude": ("altitude_m", 1.0),
        "enhanced_altitude": ("altitude_m", 1.0),
        "gps_accuracy": ("accuracy_m", 1.0),
        "speed": ("speed_mps", 1.0),
        "enhanced_speed": ("speed_mps", 1.0),
        "distance": ("distance_m", 1.0),
        "heart_rate": ("hr_bpm", 1.0),
        "cadence": ("cadence_rpm", 1.0),
        "power": ("power_w", 1.0),
    }
)
_MAX_BEAT_DRIFT_US: Final = 3_000_000
MAX_MESSAGES: Final = 2_000_000  # 23 days at one a second; a hostile file can hold one in every byte
_MAX_APART_S: Final = 7 * 86_400


def read_fit(data: bytes, source: str, *, strict: bool = False, max_messages: int = MAX_MESSAGES) -> Recording:
    """The recording in `data`. FileError as `Collector.recording` says, and when more than `max_messages` messages would be kept."""
    collector = Collector(source, "fit")
    frames = FitFrames(data)
    kinds: Counter[int] = Counter()
    wanted: list[Message] = []
    for message in frames:
        kinds[message.definition.global_number] += 1
        if message.definition.global_number in _WANTED:
            wanted.append(message)
            if len(wanted) > max_messages:
                raise FileError(source, f"more than {max_messages} messages of an activity", "split the recording")
    collector.damage = frames.damage
    if frames.trailing_bytes:
        collector.skipped["trailing_bytes"] = frames.trailing_bytes
    if frames.damage:
        wanted = _near_in_time(wanted, collector)
    cleaner = _Cleaner(data, collector.skipped)
    reader = _ActivityReader(collector)
    file = _LeanFitFile(cleaner.clean(wanted))
    try:
        for message, decoded in zip(wanted, file.data_messages(), strict=True):
            reader.take(message, decoded)
    except MemoryError:  # no damage of the file: half of it must not stand for the whole
        raise
    except Exception as error:  # whatever fitparse trips over: what was decoded before it stands
        collector.damage = collector.damage or f"fitparse stops after {len(collector)} points: {type(error).__name__}: {error}"
    finally:
        file.close()
    return collector.recording(strict=strict, about=_about(kinds, reader.file_type))


class _Cleaner:
    """Rewrites the wanted messages as one plain FIT file: normal headers, wanted native fields only."""

    def __init__(self, data: bytes, skipped: Counter[str]) -> None:
        self._data = data
        self._skipped = skipped
        self._kept: dict[Definition, tuple[FieldSpec, ...]] = {}
        self._locals: dict[int, int] = {}  # global number -> local type: each kind of message has its own

    def clean(self, messages: list[Message]) -> BytesIO:
        out = BytesIO()
        out.write(bytes(12))
        current: dict[int, Definition] = {}
        for message in messages:
            shape = message.definition
            local = self._locals.setdefault(shape.global_number, len(self._locals))
            kept = self._fields(shape)
            if current.get(local) is not shape:
                out.write(self._definition(local, shape, kept))
                current[local] = shape
            out.write(bytes((local,)))
            for field in kept:
                start = message.at + field.at
                out.write(self._data[start : start + field.size])
        data_bytes = out.tell() - 12
        out.write(bytes(2))
        out.seek(0)
        out.write(bytes((12, 0x20, 0, 0)) + data_bytes.to_bytes(4, "little") + b".FIT")
        return out

    def _fields(self, shape: Definition) -> tuple[FieldSpec, ...]:
        if shape not in self._kept:
            wanted = [f for f in shape.fields if f.number in _WANTED[shape.global_number]]
            sound = [f for f in wanted if f.size and f.size % _BASE_TYPE_BYTES.get(f.base_type, 1) == 0]
            if len(sound) < len(wanted):
                self._skipped["field_of_impossible_size"] += len(wanted) - len(sound)
            self._kept[shape] = tuple({f.number: f for f in sound}.values())
        return self._kept[shape]

    @staticmethod
    def _definition(local: int, shape: Definition, fields: tuple[FieldSpec, ...]) -> bytes:
        head = bytes((0x40 | local, 0, shape.order == "big")) + shape.global_number.to_bytes(2, shape.order)
        return head + bytes((len(fields),)) + b"".join(bytes((f.number, f.size, f.base_type)) for f in fields)


class _NoProcessing:
    """Leaves values as fitparse decoded them; its default would look up a method name for every field."""

    def run_type_processor(self, field_data: FieldData) -> None: ...
    def run_field_processor(self, field_data: FieldData) -> None: ...
    def run_unit_processor(self, field_data: FieldData) -> None: ...
    def run_message_processor(self, data_message: DataMessage) -> None: ...


class _LeanFitFile(FitFile):
    """A FitFile that forgets each message once it was given out (fitparse keeps them all: 45 times the file's size)."""

    def __init__(self, file: BytesIO) -> None:
        file.seek(0)
        super().__init__(file, check_crc=False, data_processor=_NoProcessing())

    def data_messages(self) -> Iterator[DataMessage]:
        while (message := self._parse_message()) is not None:
            self._messages.clear()
            if message.type == "data":
                yield message


class _ActivityReader:
    """Gives decoded messages to the collector, in file order."""

    def __init__(self, collector: Collector) -> None:
        self._to = collector
        self._last_t_us: int | None = None
        self._beat_t_us: int | None = None
        self._stopped_t_us: int | None = None
        self._product = ""
        self.file_type = ""

    def take(self, message: Message, decoded: DataMessage) -> None:
        """One message of a kind in `_WANTED`."""
        t_us = _utc_us(message.t_s)
        values = _values(decoded)
        self._last_t_us = t_us if t_us is not None else self._last_t_us
        match message.definition.global_number:
            case 20:
                self._record(t_us, message.t_s, values)
            case 78:
                self._beats(values.get("time"))
            case 21:
                self._timer(t_us, values)
            case 19:
                start = values.get("start_time")
                start_us = _utc_us(start) if isinstance(start, int) else None
                if start_us is not None:
                    self._to.lap_starts_us.append(start_us)
            case 0:
                self._file_id(values)
            case _:
                self._to.sport = self._to.sport or _word(values.get("sport"))

    def _record(self, t_us: int | None, t_s: int | None, values: Mapping[str, object]) -> None:
        if t_us is None and t_s is not None:
            self._to.skipped["time_since_power_on"] += 1
        numbers: dict[str, float] = {}
        for name, (field, scale) in _POINT_FIELDS.items():
            number = _number(values.get(name))
            if number is not None:
                numbers[field] = number * scale
        fraction = _number(values.get("fractional_cadence"))
        if fraction is not None and "cadence_rpm" in numbers:
            numbers["cadence_rpm"] += fraction
        self._to.add(t_us, numbers)

    def _beats(self, intervals: object) -> None:
        """hrv messages have no time of their own: beats keep their own clock and are set to the message before when 3 s off it."""
        for interval_s in _items(intervals):
            seconds = _number(interval_s)
            if seconds is None:
                continue
            if self._last_t_us is None or seconds <= 0:
                self._to.skipped["beat_without_time_or_interval"] += 1
                continue
            rr_ms = round(seconds * 1000)
            t_us = None if self._beat_t_us is None else self._beat_t_us + rr_ms * 1000
            if t_us is None or abs(t_us - self._last_t_us) > _MAX_BEAT_DRIFT_US:
                t_us = self._last_t_us
            self._beat_t_us = t_us
            self._to.beats.append(Beat(t_us, rr_ms))

    def _timer(self, t_us: int | None, values: Mapping[str, object]) -> None:
        if values.get("event") != "timer" or t_us is None:
            return
        if str(values.get("event_type")).startswith("stop"):
            self._stopped_t_us = t_us if self._stopped_t_us is None else self._stopped_t_us
        elif values.get("event_type") == "start" and self._stopped_t_us is not None:
            self._to.pauses_us.append((self._stopped_t_us, t_us))
            self._stopped_t_us = None

    def _file_id(self, values: Mapping[str, object]) -> None:
        self.file_type = self.file_type or _word(values.get("type")) or ""
        words = (values.get("manufacturer"), values.get("product_name") or values.get("garmin_product") or values.get("product"))
        self._to.device = self._to.device or " ".join(str(word) for word in words if word is not None) or None


def _values(decoded: DataMessage) -> dict[str, object]:
    """Name to value. A value the file states wins over one fitparse expanded from another field under the same name."""
    values: dict[str, object] = {}
    for field in decoded.fields:
        if field.value is not None and (field.field_def is not None or field.name not in values):
            values[field.name] = field.value
    return values


def _number(value: object) -> float | None:
    """The value as a number; of an array, where the profile has one value, the first that is there."""
    first = next((item for item in _items(value) if item is not None), None)
    return float(first) if isinstance(first, int | float) else None


def _items(value: object) -> tuple[object, ...]:
    return cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)


def _word(value: object) -> str | None:
    return None if value is None else str(value)


def _utc_us(t_s: int | None) -> int | None:
    return None if t_s is None or t_s < RELATIVE_BELOW_S else (t_s + EPOCH_S) * 1_000_000


def _near_in_time(messages: list[Message], collector: Collector) -> list[Message]:
    """Without the records more than a week from the middle one: in a damaged file a flipped bit makes a point of another year."""
    times = sorted(m.t_s for m in messages if m.t_s is not None and m.definition.global_number == _RECORD)
    if not times:
        return messages
    middle = times[len(times) // 2]
    near = [m for m in messages if m.t_s is None or abs(m.t_s - middle) <= _MAX_APART_S]
    if len(near) < len(messages):
        collector.skipped["time_far_off_in_damaged_file"] = len(messages) - len(near)
    return near


def _about(kinds: Counter[int], file_type: str) -> str:
    """What the file holds instead of points, for the error message."""
    names = {number: MESSAGE_TYPES[number].name if number in MESSAGE_TYPES else f"message {number}" for number in kinds}
    found = ", ".join(f"{count} {names[number]}" for number, count in kinds.most_common(5))
    kind = f"a FIT file of type {file_type}" if file_type else "a FIT file"
    return f" ({kind} with {found or 'no messages'})"
