"""Frames that wait for the kernel, so that the batches of many partitions become one call of it.

A step of the live stage is a generator: it yields the job it has for the kernel, is sent what that gave, and returns what the step made.
Who drives it decides whether a job runs by itself or with those of others. A call costs a tenth of a millisecond before its first frame,
as much as ten frames, and a round over 64 partitions brings a frame or two of each. Rows of subjects know nothing of each other, so what
comes out has the same bits.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple, TypeVar

import numpy as np

from processors.live_row import I64
from processors.run_kernel import Ended, Ran, Sides, run_frames
from processors.samples import Samples, TakenFrame, samples_of

ALONE_FRAMES: Final = 128  # a job of so many is not worth copying rows for

Made = TypeVar("Made")
KernelDone = tuple[Samples, Ran]


class KernelJob(NamedTuple):
    """Frames in order, one slot each; their rows, and what is beside them, are advanced in place."""

    rows: I64
    sides: Sides
    slots: Sequence[int]
    frames: Sequence[TakenFrame]


Steps = Generator[KernelJob, KernelDone, Made]


def run_job(job: KernelJob) -> KernelDone:
    """One job by itself."""
    samples = samples_of(job.frames)
    return samples, run_frames(job.rows, job.slots, samples, job.sides)


def finish(steps: Steps[Made]) -> Made:
    """What steps come to, each of their jobs by itself."""
    try:
        job = next(steps)
        while True:
            job = steps.send(run_job(job))
    except StopIteration as end:
        return end.value


def finish_together(all_steps: Iterable[Steps[None]]) -> None:
    """Finish steps over states that share nothing, their small jobs together."""
    waiting: list[tuple[Steps[None], KernelJob]] = []
    for steps in all_steps:
        _go_on(steps, next(steps, None), waiting)
    while waiting:
        due, waiting = waiting, []
        for (steps, _), done in zip(due, run_jobs([job for _, job in due]), strict=True):
            _go_on(steps, _next_job(steps, done), waiting)


def _go_on(steps: Steps[None], job: KernelJob | None, waiting: list[tuple[Steps[None], KernelJob]]) -> None:
    """Until the next job that is worth waiting for others, or the end."""
    while job is not None and len(job.slots) >= ALONE_FRAMES:
        job = _next_job(steps, run_job(job))
    if job is not None:
        waiting.append((steps, job))


def _next_job(steps: Steps[None], done: KernelDone) -> KernelJob | None:
    try:
        return steps.send(done)
    except StopIteration:
        return None


def run_jobs(jobs: Sequence[KernelJob]) -> list[KernelDone]:
    """What `run_job` gives of each, by one call of the kernel. No two may have the same rows."""
    if len(jobs) == 1:
        return [run_job(jobs[0])]
    samples = samples_of([frame for job in jobs for frame in job.frames])
    touched = [list(dict.fromkeys(job.slots)) for job in jobs]
    row_cuts = [0, *accumulate(map(len, touched))]
    rows = np.concatenate([job.rows[slots] for job, slots in zip(jobs, touched, strict=True)])
    sides: Sides = {}
    places: list[int] = []
    for job, slots, start in zip(jobs, touched, row_cuts, strict=False):
        place_of = {slot: place for place, slot in enumerate(slots, start)}
        places += [place_of[slot] for slot in job.slots]
        sides.update({place_of[slot]: job.sides[slot] for slot in slots if slot in job.sides} if job.sides else {})
    ran = run_frames(rows, places, samples, sides)
    for job, slots, (lo, hi) in zip(jobs, touched, pairwise(row_cuts), strict=True):
        job.rows[slots] = rows[lo:hi]
        if job.sides or sides:
            _put_sides(job.sides, slots, sides, lo)
    return _parted(jobs, samples, ran, [slot for slots in touched for slot in slots])


def _put_sides(of: Sides, slots: Sequence[int], sides: Sides, start: int) -> None:
    for place, slot in enumerate(slots, start):
        of.pop(slot, None)
        if place in sides:
            of[slot] = sides[place]


def _parted(jobs: Sequence[KernelJob], samples: Samples, ran: Ran, slot_at: Sequence[int]) -> list[KernelDone]:
    """What each job would have had; `slot_at`: its own slot for each place."""
    frame_cuts = [0, *accumulate(len(job.slots) for job in jobs)]
    sample_cuts: list[int] = [0, *samples.ends[[cut - 1 for cut in frame_cuts[1:]]].tolist()]
    closed: list[list[Ended]] = [[] for _ in jobs]
    for ended in ran.closed:
        number = next(n for n, cut in enumerate(frame_cuts[1:]) if ended.frame < cut)
        closed[number].append(Ended(ended.row, ended.frame - frame_cuts[number], slot_at[ended.slot]))
    return [
        (samples.part(*frames, *span), Ran(ended, ran.out[slice(*span)]))
        for frames, span, ended in zip(pairwise(frame_cuts), pairwise(sample_cuts), closed, strict=True)
    ]
