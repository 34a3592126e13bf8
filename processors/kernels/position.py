"""Position: an extended Kalman filter of an athlete's way in a plane, fix by fix.

State: position, velocity and a slowly wandering bias of the receiver, per axis. Velocity is a random walk, livelier along the way than
across it (Bar-Shalom, Li, Kirubarajan, Estimation with Applications to Tracking and Navigation, 2001, section 6.2: white acceleration,
discretised); the bias is a first-order Gauss-Markov process (Brown and Hwang, Introduction to Random Signals, 2012, section 3.9).
Measurements go in one number after the other (the same book: sequential scalar update), so no matrix is inverted. Innovations beyond
the gate are weighed down as the tail of Student's distribution would (variance times d2 / gate), beyond all proportion refused; refused
for long, the filter opens again.

Outcomes: time not a number, or not later than the last: nothing changes, LATE. Position absent: the state goes on by its velocity. Accuracy
absent, zero or negative: `UNSTATED_M`; absurd: at most `WORST_M`. A silence over SILENCE_S begins anew at the next position.
"""

from __future__ import annotations

import math
from typing import Final

from processors.kernels.columns import (
    BB,
    BC,
    BW,
    BY,
    CC,
    LAST_EAST,
    LAST_NORTH,
    LAST_SPEED,
    REFUSED_T,
    SIGMA,
    VB,
    VC,
    VV,
    VW,
    VY,
    WC,
    WW,
    XB,
    XC,
    XV,
    XW,
    XX,
    XY,
    YC,
    YW,
    YY,
    B,
    C,
    T,
    V,
    W,
    X,
    Y,
)  # fmt: skip
from processors.kernels.compiled import Row, compiled

LATE: Final = 0  # nothing changed
ABSENT: Final = 1  # no position in the sample: carried on
TAKEN: Final = 2
REFUSED: Final = 3  # out of all proportion: carried on
FROZEN: Final = 4  # the receiver repeats itself while moving: carried on
STARTED: Final = 5  # the first position, or the first after a silence

SILENCE_S: Final = 60.0
UNSTATED_M: Final = 6.0  # accuracy of a receiver that states none
WORST_M: Final = 150.0
FAR_M: Final = 15.0
FAR_D2: Final = 100.0
FASTEST_MPS: Final = 100.0  # a speed beyond is none
STILL_MPS: Final = 0.35  # a stated speed below it is standing
STILL_VAR: Final = 0.01
SLOW_SHARE: Final = 0.3  # of the usual speed: slower is a stop, or another sport
SLOW_LEARNT: Final = 0.1
JUMP_M: Final = 3.0  # nobody turns or brakes so far off in a second
MOST_BIAS: Final = 4.0  # deviations of a usual fix that a bias may come to by jumps
FALL: Final = 0.1  # share of a better accuracy that is taken over at once
ORIENTED_MPS: Final = 0.6  # from this speed on the heading is known
STATED_SHARE: Final = 1.5  # stated accuracies are about 1.5 deviations of an axis

# A tuning: process noise along and across the way (m2/s3), bias (share of the deviation, seconds), white noise (share), deviation of a
# stated speed (share), gate (d2), seconds of refusal before opening, spread of speed when nothing is known (m/s), share of the variance
# across the way in the length of the velocity (`travel`), gate of a stated speed; what of a worse accuracy is in the fix alone (share) and
# how fast the usual one follows it (share a sample); from which d2 on the bias is taken to have jumped, and how far (share of the
# variance); when no speed is stated: seconds in which the usual one is learnt, how near it one stays (share, over a second; 0: anywhere)
# and beyond which distance (share) it says less. Found on seeds from 9000 on of the generator (benchmarks/accuracy), never on those that
# are reported.
(
    ALONG, ACROSS, BIAS, BIAS_S, WHITE, DOPPLER, GATE, OPEN_S, SPREAD, LENGTH, SPEED_GATE, WORSE, RISE, JUMP_D2, JUMP, USUAL_S, NEAR, FAR,
) = range(18)  # fmt: skip
RUN: Final = (0.41, 0.70, 0.813, 12.3, 0.215, 0.201, 18.8, 0.133, 3.0, -0.3, 14.0, 1.0, 0.1, 100.0, 0.0, 30.0, 0.0, 1.0)
RIDE: Final = (5.06, 15.0, 1.65, 13.5, 0.181, 0.276, 13.2, 0.041, 8.0, -0.1, 34.3, 1.0, 0.1, 100.0, 0.0, 30.0, 0.0, 1.0)
RUN_UNSTATED: Final = (0.306, 0.575, 0.722, 18.6, 0.331, 0.2, 5.54, 0.177, 8.0, -0.336, 14.0, 0.161, 0.177, 3.15, 0.289, 27.3, 0.548, 0.34)
RIDE_UNSTATED: Final = (1.67, 1.83, 0.806, 31.1, 0.265, 0.276, 6.6, 0.15, 8.0, -0.385, 34.0, 0.012, 0.018, 2.96, 0.116, 26.0, 0.724, 0.966)
# Of a track that is smoothed backwards: no speed is expected before it is seen.
WHOLE_RUN: Final = (0.91, 0.40, 0.72, 15.2, 0.156, 0.134, 48.8, 0.14, 20.0, 0.0, 31.6, 1.0, 0.1, 100.0, 0.0, 30.0, 0.0, 1.0)
WHOLE_RIDE: Final = (1.98, 4.93, 0.905, 16.0, 0.22, 0.147, 26.2, 0.62, 20.0, 0.0, 56.0, 1.0, 0.1, 100.0, 0.0, 30.0, 0.0, 1.0)

# A step of the journal: 27 of state and covariance, share of the bias kept, seconds since the step before (0 begins a piece), how many
# updates, and of each innovation / variance, gain, H: position twice, velocity at most twice.
STEP: Final = 82
KEEP, ELAPSED, UPDATES, FIRST_UPDATE = 27, 28, 29, 30


@compiled
def feed(row: Row, tune: Row, t: float, east: float, north: float, accuracy_m: float, speed_mps: float, journal: Row, note: int) -> int:
    """Take a sample at `t` seconds: position in metres of a plane, stated accuracy and speed; NaN is absent. Returns the outcome.

    With `note` = 1 the step is written to `journal` (STEP floats) for `backwards`.
    """
    placed = east == east and north == north and abs(east) < 1e9 and abs(north) < 1e9
    if t != t or (row[T] == row[T] and t <= row[T]):
        return LATE
    if row[T] != row[T] or t - row[T] > SILENCE_S:
        if not placed:
            return ABSENT
        _start(row, tune, t, east, north, accuracy_m)
        if note == 1:
            _note(row, journal, 0.0, 0.0)
        return STARTED
    dt = t - row[T]
    row[T] = t
    keep = _predict(row, tune, dt)
    if note == 1:
        journal[UPDATES] = 0.0
    outcome = ABSENT
    if placed:
        frozen = east == row[LAST_EAST] and north == row[LAST_NORTH] and row[V] * row[V] + row[W] * row[W] > 1.0
        row[LAST_EAST] = east
        row[LAST_NORTH] = north
        outcome = FROZEN
        if not frozen or speed_mps < STILL_MPS:
            outcome = _fix(row, tune, t, east, north, accuracy_m, journal, note)
    if 0.0 <= speed_mps < FASTEST_MPS:
        if outcome != FROZEN or speed_mps != row[LAST_SPEED]:
            _speed(row, tune, speed_mps, journal, note)
        row[LAST_SPEED] = speed_mps
    elif placed:
        _usual(row, tune, dt, journal, note)
    if note == 1:
        _note(row, journal, dt, keep)
    return outcome


@compiled
def _start(row: Row, tune: Row, t: float, east: float, north: float, accuracy_m: float) -> None:
    """Begin at a position, standing still as far as is known."""
    for i in range(X, CC + 1):
        row[i] = 0.0
    sigma = _deviation(accuracy_m)
    bias = tune[BIAS] * tune[BIAS] * sigma * sigma
    white = tune[WHITE] * tune[WHITE] * sigma * sigma
    row[T], row[X], row[Y] = t, east, north
    row[XX] = row[YY] = bias + white
    row[BB] = row[CC] = bias
    row[XB] = row[YC] = -bias
    row[VV] = row[WW] = tune[SPREAD] * tune[SPREAD]
    row[SIGMA] = sigma
    row[REFUSED_T] = math.nan
    row[LAST_EAST], row[LAST_NORTH], row[LAST_SPEED] = east, north, math.nan


@compiled
def _deviation(accuracy_m: float) -> float:
    """Deviation of one axis in metres of a stated accuracy."""
    if not accuracy_m > 0.0:
        return UNSTATED_M / STATED_SHARE
    return min(max(accuracy_m / STATED_SHARE, 0.5), WORST_M)


@compiled
def _predict(row: Row, tune: Row, dt: float) -> float:
    """Carry the state on by `dt` seconds; the share of the bias that stays. exp(-u) is 1 / (1 + u + u2/2 + u3/6), exact enough here."""
    u = dt / tune[BIAS_S]
    keep = 1.0 / (1.0 + u + u * u / 2.0 + u * u * u / 6.0)
    sigma = tune[BIAS] * row[SIGMA]
    fresh = sigma * sigma * (1.0 - keep * keep)
    speed2 = row[V] * row[V] + row[W] * row[W]
    along, across = tune[ALONG], tune[ACROSS]
    hh_e, hh_n, hh_x = 0.5, 0.5, 0.0
    if speed2 > 1e-6:
        hh_e, hh_n, hh_x = row[V] * row[V] / speed2, row[W] * row[W] / speed2, row[V] * row[W] / speed2
    if speed2 < 9.0:
        across = across * math.sqrt(speed2) / 3.0 + 0.01
    q_e = along * hh_e + across * hh_n
    q_n = along * hh_n + across * hh_e
    q_x = (along - across) * hh_x
    t2, t3 = dt * dt / 2.0, dt * dt * dt / 3.0
    row[X] += dt * row[V]
    row[Y] += dt * row[W]
    row[B] *= keep
    row[C] *= keep
    xx = row[XX] + dt * (2.0 * row[XV] + dt * row[VV]) + q_e * t3
    xy = row[XY] + dt * (row[XW] + row[VY] + dt * row[VW]) + q_x * t3
    yy = row[YY] + dt * (2.0 * row[YW] + dt * row[WW]) + q_n * t3
    row[XX], row[XY], row[YY] = xx, xy, yy
    row[XV] += dt * row[VV] + q_e * t2
    row[XW] += dt * row[VW] + q_x * t2
    row[VY] += dt * row[VW] + q_x * t2
    row[YW] += dt * row[WW] + q_n * t2
    row[XB] = keep * (row[XB] + dt * row[VB])
    row[XC] = keep * (row[XC] + dt * row[VC])
    row[BY] = keep * (row[BY] + dt * row[BW])
    row[YC] = keep * (row[YC] + dt * row[WC])
    row[VV] += q_e * dt
    row[VW] += q_x * dt
    row[WW] += q_n * dt
    row[VB] *= keep
    row[VC] *= keep
    row[BW] *= keep
    row[WC] *= keep
    row[BB] = keep * keep * row[BB] + fresh
    row[BC] = keep * keep * row[BC]
    row[CC] = keep * keep * row[CC] + fresh
    return keep


@compiled
def _fix(row: Row, tune: Row, t: float, east: float, north: float, accuracy_m: float, journal: Row, note: int) -> int:
    """Both axes of a position through one gate."""
    sigma = _deviation(accuracy_m)
    row[SIGMA] += (tune[RISE] if sigma > row[SIGMA] else FALL) * (min(sigma, 4.0 * row[SIGMA]) - row[SIGMA])
    r = tune[WHITE] * tune[WHITE] * sigma * sigma
    if sigma > row[SIGMA]:  # worse than usual: what is beyond the usual is not in the bias
        r += tune[WORSE] * (sigma * sigma - row[SIGMA] * row[SIGMA])
    r_e, r_n = east - row[X] - row[B], north - row[Y] - row[C]
    s_e = row[XX] + 2.0 * row[XB] + row[BB] + r
    s_n = row[YY] + 2.0 * row[YC] + row[CC] + r
    s_x = row[XY] + row[XC] + row[BY] + row[BC]
    det = s_e * s_n - s_x * s_x
    if det <= 0.0:
        return REFUSED
    d2 = (r_e * r_e * s_n - 2.0 * r_e * r_n * s_x + r_n * r_n * s_e) / det
    off2 = r_e * r_e + r_n * r_n
    if d2 > FAR_D2 and off2 > FAR_M * FAR_M:
        if row[REFUSED_T] != row[REFUSED_T]:
            row[REFUSED_T] = t
        if t - row[REFUSED_T] < tune[OPEN_S]:
            return REFUSED
        row[XX] += off2
        row[YY] += off2
        row[VV] += tune[SPREAD] * tune[SPREAD]
        row[WW] += tune[SPREAD] * tune[SPREAD]
        s_e += off2
        s_n += off2
        d2 = 0.0
    row[REFUSED_T] = math.nan
    if d2 > tune[JUMP_D2] and off2 > JUMP_M * JUMP_M:  # reflections: the bias of the receiver, not the athlete
        jump, room = tune[JUMP] * (d2 / tune[JUMP_D2] - 1.0), MOST_BIAS * MOST_BIAS * row[SIGMA] * row[SIGMA]
        jump_e, jump_n = min(jump * s_e, max(room - row[BB], 0.0)), min(jump * s_n, max(room - row[CC], 0.0))
        row[BB] += jump_e
        row[CC] += jump_n
        s_e += jump_e
        s_n += jump_n
        d2 = (r_e * r_e * s_n - 2.0 * r_e * r_n * s_x + r_n * r_n * s_e) / (s_e * s_n - s_x * s_x)
    grown = max(d2 / tune[GATE] - 1.0, 0.0)
    s_e += grown * s_e
    r_n_var = r + grown * s_n
    _update(
        row, row[XX] + row[XB], row[XV] + row[VB], row[XB] + row[BB], row[XY] + row[BY], row[XW] + row[BW], row[XC] + row[BC],
        s_e, r_e, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, journal, note,
    )  # fmt: skip
    s_n = row[YY] + 2.0 * row[YC] + row[CC] + r_n_var
    _update(
        row, row[XY] + row[XC], row[VY] + row[VC], row[BY] + row[BC], row[YY] + row[YC], row[YW] + row[WC], row[YC] + row[CC],
        s_n, north - row[Y] - row[C], 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, journal, note,
    )  # fmt: skip
    return TAKEN


@compiled
def _speed(row: Row, tune: Row, speed_mps: float, journal: Row, note: int) -> None:
    """A stated speed: standing stills both axes, else it is the velocity along the heading."""
    if speed_mps < STILL_MPS:
        _velocity(row, 1.0, 0.0, STILL_VAR, -row[V], 0.0, journal, note)
        _velocity(row, 0.0, 1.0, STILL_VAR, -row[W], 0.0, journal, note)
        return
    speed = math.sqrt(row[V] * row[V] + row[W] * row[W])
    if speed < ORIENTED_MPS:
        return
    r = tune[DOPPLER] * tune[DOPPLER] * row[SIGMA] * row[SIGMA]
    _velocity(row, row[V] / speed, row[W] / speed, r, speed_mps - speed, tune[SPEED_GATE], journal, note)


@compiled
def _usual(row: Row, tune: Row, dt: float, journal: Row, note: int) -> None:
    """No speed is stated: it is near the usual one, which LAST_SPEED keeps then; the further away, the less that says."""
    speed = math.sqrt(row[V] * row[V] + row[W] * row[W])
    usual = row[LAST_SPEED]
    if usual != usual:
        row[LAST_SPEED] = speed
        return
    if speed > ORIENTED_MPS and usual > ORIENTED_MPS and tune[NEAR] > 0.0:
        near, far = tune[NEAR] * usual, (usual - speed) / (tune[FAR] * usual)
        r = near * near * (1.0 + far * far) / dt
        _velocity(row, row[V] / speed, row[W] / speed, r, usual - speed, 0.0, journal, note)
        speed = math.sqrt(row[V] * row[V] + row[W] * row[W])
    learnt = dt / (dt + tune[USUAL_S])
    if speed < SLOW_SHARE * usual:
        learnt *= SLOW_LEARNT  # a stop is not the usual
    row[LAST_SPEED] += learnt * (speed - usual)


@compiled
def _velocity(row: Row, h_v: float, h_w: float, r: float, innovation: float, gate: float, journal: Row, note: int) -> None:
    """The velocity along (h_v, h_w), of variance `r`; beyond the gate (0 is none) it counts less."""
    g_v, g_w = h_v * row[VV] + h_w * row[VW], h_v * row[VW] + h_w * row[WW]
    s = h_v * g_v + h_w * g_w + r
    if gate > 0.0 and innovation * innovation > gate * s:
        s = innovation * innovation / gate
    _update(
        row, h_v * row[XV] + h_w * row[XW], g_v, h_v * row[VB] + h_w * row[BW], h_v * row[VY] + h_w * row[YW], g_w,
        h_v * row[VC] + h_w * row[WC], s, innovation, 0.0, h_v, 0.0, 0.0, h_w, 0.0, journal, note,
    )  # fmt: skip


@compiled
def _update(
    row: Row, g_x: float, g_v: float, g_b: float, g_y: float, g_w: float, g_c: float, s: float, innovation: float,
    h_x: float, h_v: float, h_b: float, h_y: float, h_w: float, h_c: float, journal: Row, note: int,
) -> None:  # fmt: skip
    """One scalar measurement: `g` is the covariance times H, `s` the variance of the innovation."""
    k_x, k_v, k_b, k_y, k_w, k_c = g_x / s, g_v / s, g_b / s, g_y / s, g_w / s, g_c / s
    row[X] += k_x * innovation
    row[V] += k_v * innovation
    row[B] += k_b * innovation
    row[Y] += k_y * innovation
    row[W] += k_w * innovation
    row[C] += k_c * innovation
    row[XX] -= k_x * g_x
    row[XV] -= k_x * g_v
    row[XB] -= k_x * g_b
    row[XY] -= k_x * g_y
    row[XW] -= k_x * g_w
    row[XC] -= k_x * g_c
    row[VV] -= k_v * g_v
    row[VB] -= k_v * g_b
    row[VY] -= k_v * g_y
    row[VW] -= k_v * g_w
    row[VC] -= k_v * g_c
    row[BB] -= k_b * g_b
    row[BY] -= k_b * g_y
    row[BW] -= k_b * g_w
    row[BC] -= k_b * g_c
    row[YY] -= k_y * g_y
    row[YW] -= k_y * g_w
    row[YC] -= k_y * g_c
    row[WW] -= k_w * g_w
    row[WC] -= k_w * g_c
    row[CC] -= k_c * g_c
    if note == 1:
        at = FIRST_UPDATE + 13 * int(journal[UPDATES])
        journal[UPDATES] += 1.0
        journal[at] = innovation / s
        journal[at + 1], journal[at + 2], journal[at + 3] = k_x, k_v, k_b
        journal[at + 4], journal[at + 5], journal[at + 6] = k_y, k_w, k_c
        journal[at + 7], journal[at + 8], journal[at + 9] = h_x, h_v, h_b
        journal[at + 10], journal[at + 11], journal[at + 12] = h_y, h_w, h_c


@compiled
def _note(row: Row, journal: Row, dt: float, keep: float) -> None:
    """The state after the sample; `dt` 0 begins a piece."""
    for i in range(KEEP):
        journal[i] = row[X + i]
    journal[KEEP] = keep
    journal[ELAPSED] = dt
    if dt == 0.0:
        journal[UPDATES] = 0.0
