"""Commands to gym equipment and what comes back: JSON documents on `cmd` (platform to node) and `rsp` (node to platform).

The sender draws the command's id; a node carries an id out once, however often it arrives, and gives the same answer again. Each command
names the athlete it is for and when it is too late; a node refuses it unless that athlete is bound to that device at that moment.
Unknown keys refuse a command, because a limit somebody meant to set must not be dropped; in replies they are ignored.
Units: watts, metres a second, percent; times UTC microseconds. The reasons travel: never rename one, only add.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Annotated, Final, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from broker.errors import BadInputError
from broker.ids import is_id

MAX_COMMAND_BYTES: Final = 4_096
MAX_AHEAD_US: Final = 600_000_000  # a command that stays good for longer is refused: it would start a belt nobody waits for
_STRICT: Final = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
_OPEN: Final = ConfigDict(extra="ignore", frozen=True)
_COMMAND_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{7,63}", re.ASCII)


def _id(text: str) -> str:
    if not is_id(text):
        raise ValueError(f"{text!r} is not an id: use 1-32 of a-z 0-9 . _ - starting with a letter or digit")
    return text


def is_command_id(text: str) -> bool:
    """True for 8-64 of `a-z 0-9 -`, starting with a letter or digit: a lower-case UUID is one."""
    return _COMMAND_ID.fullmatch(text) is not None


def _command_id(text: str) -> str:
    if not is_command_id(text):
        raise ValueError(f"{text!r} is not a command id: use 8-64 of a-z 0-9 - starting with a letter or digit, new for each command")
    return text


Id = Annotated[str, AfterValidator(_id)]
CommandId = Annotated[str, AfterValidator(_command_id)]


class Plain(BaseModel):
    """An action without a value. `start` also resumes; `reset` ends the machine's session; `spindown` starts a trainer's calibration."""

    model_config = _STRICT
    action: Literal["start", "stop", "pause", "reset", "spindown"]


class Target(BaseModel):
    """A value to reach and hold: power in W, speed in m/s, incline in %, resistance in the machine's own levels (FTMS) or % (FE-C)."""

    model_config = _STRICT
    action: Literal["target_power_w", "speed_mps", "incline_pct", "resistance"]
    value: float = Field(ge=-1_000, le=10_000)


class Simulation(BaseModel):
    """A road to be felt: the machine makes resistance of its own speed. Headwind is positive."""

    model_config = _STRICT
    action: Literal["simulation"]
    grade_pct: float = Field(default=0.0, ge=-50, le=50)
    wind_mps: float = Field(default=0.0, ge=-35, le=35)
    crr: float = Field(default=0.004, ge=0, le=0.0254)  # rolling resistance
    cw_kgpm: float = Field(default=0.51, ge=0, le=1.86)  # 1/2 x air density x frontal area x drag coefficient


Order = Plain | Target | Simulation


class Command(BaseModel):
    """One command on `cmd`."""

    model_config = _STRICT
    id: CommandId
    device: Id
    athlete: Id
    expires_us: int = Field(ge=0)
    order: Annotated[Order, Field(discriminator="action")]


class CommandState(StrEnum):
    """How far a command is. `accepted` is followed by one of the others, which are final."""

    ACCEPTED = "accepted"  # durable at the node; it will be carried out once
    DONE = "done"  # the machine said that it took it
    REFUSED = "refused"  # not carried out, and it will not be
    LOST = "lost"  # nobody knows whether the machine took it

    @property
    def final(self) -> bool:
        return self is not CommandState.ACCEPTED


class CommandReason(StrEnum):
    """Why a command was refused or lost."""

    BAD_COMMAND = "bad_command"  # the document does not follow the contract
    EXPIRED = "expired"  # its time was over before it could be carried out
    CLOCK_UNSET = "clock_unset"  # the node's clock was never set, so it cannot tell whether the command is late
    DISABLED = "disabled"  # the gym does not allow its equipment to be commanded
    NOT_CONTROLLABLE = "not_controllable"  # no connection to such a machine, or it takes no commands
    NOT_BOUND = "not_bound"  # the athlete is not bound to the machine now, or was not any more before its turn came
    NOT_LIVE = "not_live"  # the machine has sent no data lately
    NOT_SUPPORTED = "not_supported"  # the machine cannot do this
    LIMIT = "limit"  # beyond what the machine, its profile or the gym allows
    BUSY = "busy"  # too many commands wait at the node
    NOT_STORED = "not_stored"  # the node cannot remember it, so it could not keep it from being carried out twice
    SUPERSEDED = "superseded"  # a newer command of the same action came before its turn, or before its target was reached
    STOPPED = "stopped"  # a stop or pause came first
    HALTED = "halted"  # somebody stopped the machine at the machine: start it first
    NO_CONTROL = "no_control"  # the machine gives control to nobody, or to somebody else
    CONTROL_LOST = "control_lost"  # the machine took control back while the command was under way
    INVALID = "invalid"  # the machine calls the value invalid
    FAILED = "failed"  # the machine says that it failed
    LINK_LOST = "link_lost"  # the connection to the machine broke
    NO_ANSWER = "no_answer"  # the machine did not answer in time
    BOX_RESTARTED = "box_restarted"  # the node was killed while the command was under way


class NoticeEvent(StrEnum):
    """What a node tells of a machine without having been asked."""

    STOPPED = "stopped"  # the node stopped it by itself
    STOP_OWED = "stop_owed"  # the node wants to stop it and cannot yet
    STOP_FAILED = "stop_failed"  # the machine did not take the stop; somebody must look
    CONTROL_LOST = "control_lost"  # the machine took control back
    HALTED = "halted"  # somebody stopped it at the machine (button or safety key)


class NoticeReason(StrEnum):
    """Why a node stopped a machine by itself."""

    PLATFORM_LOST = "platform_lost"  # no link to the platform for longer than the gym allows
    LINK_LOST = "link_lost"  # the connection to the machine broke while it was moving by our command
    BINDING_ENDED = "binding_ended"  # the athlete it was moved for is no longer bound to it
    SHUTDOWN = "shutdown"  # the node ends
    BOX_RESTARTED = "box_restarted"  # the node was killed while the machine was moving by our command
    TOO_LATE = "too_late"  # a stop was owed for more than ten minutes; it is not sent any more
    USER = "user"  # a button at the machine
    SAFETY_KEY = "safety_key"  # its safety key or emergency stop
    NONE = ""


class Reply(BaseModel):
    """The answer to a command. A command whose id cannot be read is answered with an empty `id`."""

    model_config = _OPEN
    kind: Literal["reply"] = "reply"
    id: str
    device: str
    state: CommandState
    reason: CommandReason | None = None  # of `refused` and `lost`
    detail: str = Field(default="", max_length=400)  # for people
    at_us: int | None = None  # None: the node's clock was never set


class Notice(BaseModel):
    """Something happened to a machine that was moving by command."""

    model_config = _OPEN
    kind: Literal["notice"] = "notice"
    device: str
    athlete: str = ""
    event: NoticeEvent
    reason: NoticeReason = NoticeReason.NONE
    detail: str = Field(default="", max_length=400)
    at_us: int | None = None


Answer = Reply | Notice
_ANSWER: Final[TypeAdapter[Answer]] = TypeAdapter(Annotated[Answer, Field(discriminator="kind")])


def encode_command(command: Command) -> bytes:
    """The JSON document on `cmd`."""
    return command.model_dump_json().encode()


def decode_command(raw: bytes) -> Command:
    """Inverse of `encode_command`; BadInputError names the field and what would be right."""
    if len(raw) > MAX_COMMAND_BYTES:
        raise BadInputError(f"cmd: {len(raw)} bytes, at most {MAX_COMMAND_BYTES}", cure="see docs/equipment.md")
    try:
        return Command.model_validate_json(raw)
    except ValidationError as error:
        raise _bad("cmd", error) from error


def id_in(raw: bytes) -> tuple[str, str]:
    """(command id, device) as far as a refused document tells them, for the answer; "" for what cannot be read."""
    try:
        document: object = json.loads(raw[:MAX_COMMAND_BYTES])
    except (ValueError, RecursionError):
        return "", ""
    found = cast("dict[str, object]", document) if isinstance(document, dict) else {}
    ident, device = found.get("id"), found.get("device")
    return (
        ident if isinstance(ident, str) and is_command_id(ident) else "",
        device if isinstance(device, str) and is_id(device) else "",
    )


def encode_answer(answer: Answer) -> bytes:
    """The JSON document on `rsp`."""
    return answer.model_dump_json().encode()


def decode_answer(raw: bytes) -> Answer:
    """Inverse of `encode_answer`; BadInputError names the field."""
    if len(raw) > MAX_COMMAND_BYTES:
        raise BadInputError(f"rsp: {len(raw)} bytes, at most {MAX_COMMAND_BYTES}", cure="see docs/equipment.md")
    try:
        return _ANSWER.validate_json(raw)
    except ValidationError as error:
        raise _bad("rsp", error) from error


def _bad(where: str, error: ValidationError) -> BadInputError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "document"
    return BadInputError(f"{where}: {field}: {first['msg'].removeprefix('Value error, ')}", cure="see docs/equipment.md")
