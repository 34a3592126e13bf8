"""Plausibility: what speaks against an effort, how much, and whether boards leave it out (pure).

Each doubt has a word of `DOUBTS` and a weight from 0 to 1; the score is 100 times what all of them leave, each of its share. Below
`KEEP_PCT` an effort is kept off boards. Doubts ask for what no body, bicycle or receiver does: they refuse no record, and so they miss
whoever cheats within what the best can do. A live effort is judged by its speeds alone, a final one by all that was measured.
Sources of curves and constants: `records`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from processors.live_kernel import I64
from processors.motion_evidence import DEAD_METER_W, Evidence, Span, unmeasured
from processors.records import F64, RIDE_MPS, RIDE_WPKG, RUN_MPS, TOTAL_OF_BODY, Curve, least_wpkg, record, record_of, slope_share
from processors.results import BELIEVED, CURVE_POINTS, Timed, Verdict

KEEP_PCT: Final = 50
WORDS: Final = {
    "vehicle": "moved like a car or motorcycle",
    "e_bike": "recorded on an e-bike, or climbed as only a motor does",
    "wrong_sport": "recorded as a run, but nobody runs like that",
    "teleport": "the positions jump further than anybody can move",
    "splice": "the speed the device measured does not fit its positions",
    "speed": "faster than anybody ever was for so long",
    "power": "would take more power than anybody has, or than was measured",
    "heart": "the heart hardly worked for it",
    "gap": "no position near the start or finish line",
    "coarse": "too few positions",
    "accuracy": "positions too inaccurate",
}
DOUBTS: Final = tuple(WORDS)
_SHORTEST_M: Final = 150.0  # a part of an effort that is judged alone is at least so long ...
_SHORTEST_SHARE: Final = 0.2  # ... this much of the whole: switchbacks mislead about less ...
_SHORTEST_S: Final = 20.0  # ... and takes so long
_STEEPEST_RUN: Final = 0.15  # what altitudes of a trail say beyond is more often wrong than not
_WILD_SHARE: Final = 0.08  # of a part's positions: more, and a wandering receiver says nothing about legs
_SLACK_M: Final = 15.0  # what positions may add to a part
_UNKNOWN_RIDE: Final = 1.15  # without altitude a ride may have gone downhill and with the wind
_UNKNOWN_RUN: Final = 1.05
_STATED_SLACK_M: Final = 40.0


@dataclass(frozen=True, slots=True)
class Parts:
    """All parts of an effort that are judged alone: metres, seconds (with the timing's error to its favour), from and to which 64th."""

    metres: F64
    seconds: F64
    first: I64
    last: I64


def judge_live(timed: Timed, length_m: float, sport: str) -> Verdict:
    """How far an effort is believed while the activity goes on. `sport` is that of the segment ("any": the fastest)."""
    if _surely_slow(timed, length_m, RUN_MPS if sport == "run" else RIDE_MPS):
        return BELIEVED
    parts = _parts(timed, length_m)
    if parts is None:
        return BELIEVED
    share = _share_of_records(parts, sport, None)
    return _verdict({"speed": _ramp(share, 1.01, 1.10) if sport == "run" else _ramp(share, 1.0, 1.25)})


def judge(timed: Timed, length_m: float, evidence: Evidence) -> Verdict:
    """How far an effort of a finished activity is believed."""
    elapsed_s = timed.elapsed_ms * 1e-3
    span = evidence.span(timed.start_us, timed.start_us + timed.elapsed_ms * 1000)
    weights = {
        "vehicle": evidence.vehicle,
        "e_bike": 1.0 if evidence.declared == "e_bike" else evidence.motor,
        "wrong_sport": evidence.wrong_sport,
        "teleport": 0.9 * _ramp(span.jump_m, 0.0, 30.0 + 0.03 * length_m),
        "splice": _splice(span, length_m),
        "gap": _gap(span.gate_gap_s, elapsed_s),
        "coarse": max(0.4 * _ramp(span.step_s, 8.0, 15.0), 0.15 * _ramp(span.missing_share, 0.3, 0.6)),
        "accuracy": 0.4 * _ramp(span.accuracy_m, 25.0, 60.0),
    }
    parts = _parts(timed, length_m)
    if parts is not None:
        weights |= _body(parts, timed, evidence, span, elapsed_s)
    return _verdict(weights)


def _body(parts: Parts, timed: Timed, evidence: Evidence, span: Span, elapsed_s: float) -> dict[str, float]:
    """What legs and heart say: by speed, on a ride by power where the altitude is known."""
    at_us = timed.start_us + np.array([0, *timed.curve_ms], np.int64) * 1000
    parts = _steady(parts, evidence.wandering(at_us))
    if not len(parts.metres):
        return {}
    altitude = evidence.altitudes_m(at_us)
    if evidence.sport == "run" or altitude is None:
        slopes = None if altitude is None else _gradients(parts, altitude, evidence.altitude_error_m)
        share = _share_of_records(parts, evidence.sport, slopes)
        speed = _ramp(share, 1.01, 1.10) if evidence.sport == "run" else _ramp(share, 1.0, 1.25)
        return {"speed": speed, "heart": _heart(span, evidence, share if evidence.sport == "run" else 0.0, elapsed_s)}
    needed_wpkg, share = _power(parts, altitude, evidence.altitude_error_m)
    power = max(_ramp(share, 0.95, 1.15), _unmeasured(span, needed_wpkg, evidence.body_kg))
    return {"power": power, "heart": _heart(span, evidence, share, elapsed_s)}


def _surely_slow(timed: Timed, length_m: float, curve: Curve) -> bool:
    """Whether no 64th was as fast as the record for the whole: then no part can be doubted. Cheap, and true of nearly all."""
    if len(timed.curve_ms) != CURVE_POINTS:
        return True
    shortest_ms = min(after - before for before, after in pairwise((0, *timed.curve_ms)))
    return length_m * 1000.0 < CURVE_POINTS * shortest_ms * record_of(curve, timed.elapsed_ms * 1e-3)


def _verdict(weights: dict[str, float]) -> Verdict:
    """Doubts of at least a twentieth, and the score all of them leave."""
    named = {word: round(weights.get(word, 0.0), 2) for word in DOUBTS}
    named = {word: weight for word, weight in named.items() if weight >= 0.05}
    pct = round(100.0 * math.prod(1.0 - weight for weight in named.values()))
    return Verdict(tuple(named), pct, pct < KEEP_PCT) if named else BELIEVED


def _ramp(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high` on, in proportion between."""
    return min(max((value - low) / (high - low), 0.0), 1.0)


_EVERY: Final = 2  # parts begin and end at every second 64th
_FIRST, _LAST = (_EVERY * ends for ends in np.triu_indices(CURVE_POINTS // _EVERY + 1, 1))


def _parts(timed: Timed, length_m: float) -> Parts | None:
    """Every part between two 64ths that is long enough, and the whole; None when there is no curve."""
    if len(timed.curve_ms) != CURVE_POINTS or length_m <= 0.0:
        return None
    at_s = np.array([0, *timed.curve_ms]) * 1e-3
    seconds = at_s[_LAST] - at_s[_FIRST] + 2e-3 * timed.accuracy_ms
    metres = (_LAST - _FIRST) * (length_m / CURVE_POINTS)
    whole = (_LAST - _FIRST) == CURVE_POINTS
    chosen = whole | ((metres >= max(_SHORTEST_M, _SHORTEST_SHARE * length_m)) & (seconds >= _SHORTEST_S))
    return Parts(np.maximum(metres - _SLACK_M, 0.0)[chosen], np.maximum(seconds, 1e-3)[chosen], _FIRST[chosen], _LAST[chosen])


def _steady(parts: Parts, wandering: I64) -> Parts:
    """The parts whose positions keep together; none when those of the whole do not."""
    count, wild = wandering[:, parts.last] - wandering[:, parts.first]
    steady = wild <= _WILD_SHARE * np.maximum(count, 1)
    steady &= steady[int(np.argmax(parts.last - parts.first))]
    return Parts(parts.metres[steady], parts.seconds[steady], parts.first[steady], parts.last[steady])


def _share_of_records(parts: Parts, sport: str, gradients: F64 | None) -> float:
    """The fastest part beside the record of its duration: on its slope for a run, wherever for a ride."""
    speed = parts.metres / parts.seconds
    if sport == "run":
        slope = _UNKNOWN_RUN if gradients is None else slope_share(np.minimum(gradients, _STEEPEST_RUN))
        return float((speed / (record(RUN_MPS, parts.seconds) * slope)).max())
    return float((speed / (record(RIDE_MPS, parts.seconds) * _UNKNOWN_RIDE)).max())


def _gradients(parts: Parts, altitude_m: F64, error_m: float) -> F64:
    """Mean slopes of the parts, as far downhill as the altitude's error allows."""
    return (altitude_m[parts.last] - altitude_m[parts.first] - error_m) / np.maximum(parts.metres, 1.0)


def _power(parts: Parts, altitude_m: F64, error_m: float) -> tuple[float, float]:
    """(W/kg the whole takes at least, the greatest share of a part's least power in the record of its duration).

    Speed a part begins with and does not end with is work that was done before it.
    """
    speed = parts.metres / parts.seconds
    paces = _paces(parts)
    kept = 0.5 * TOTAL_OF_BODY * np.maximum(paces[parts.first] ** 2 - paces[parts.last] ** 2, 0.0) / parts.seconds
    least = least_wpkg(speed, _gradients(parts, altitude_m, error_m)) - kept
    whole = int(np.argmax(parts.last - parts.first))
    return float(least[whole]), float((least / record(RIDE_WPKG, parts.seconds)).max())


def _paces(parts: Parts) -> F64:
    """The speed around each 64th: over the shortest part that holds it, the fastest."""
    paces = np.zeros(CURVE_POINTS + 1)
    speed = parts.metres / parts.seconds
    np.maximum.at(paces, parts.first, speed)
    np.maximum.at(paces, parts.last, speed)
    return paces


def _unmeasured(span: Span, needed_wpkg: float, body_kg: float | None) -> float:
    """A meter that measured far less than the slope took of the lightest rider; one that measured next to nothing is broken."""
    if span.power_w is None or span.power_w < DEAD_METER_W or needed_wpkg < 2.5:
        return 0.0
    return 0.7 * float(unmeasured(np.array([span.power_w]), np.array([needed_wpkg]), body_kg)[0])


def _heart(span: Span, evidence: Evidence, share: float, elapsed_s: float) -> float:
    """A heart far from its maximum in an effort near the records; too short an effort says nothing."""
    if span.hr_bpm is None or elapsed_s < 90.0:
        return 0.0
    return 0.6 * _ramp(share, 0.42, 0.52) * _ramp(0.64 - span.hr_bpm / evidence.hr_max_bpm, 0.0, 0.06)


def _splice(span: Span, length_m: float) -> float:
    """The stated speed over the time makes another way than the segment: times or pieces were changed."""
    if span.stated_m is None or span.missing_share > 0.02 or length_m < 200.0:
        return 0.0
    return 0.8 * _ramp(max(abs(span.stated_m - length_m) - _STATED_SLACK_M, 0.0) / length_m, 0.1, 0.18)


def _gap(gate_gap_s: float, elapsed_s: float) -> float:
    """A line crossed between two fixes far apart: what that leaves open, beside how long the effort took."""
    return 0.4 * _ramp(gate_gap_s, 10.0, 30.0) * min(20.0 * gate_gap_s / max(elapsed_s, 1.0), 1.0)
