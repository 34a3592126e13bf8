"""The ride of the demo: a FIT file made by our own writer from a simulated rider on the simulators' course."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path

from device_profiles.files import Point, Points, Recording, write_fit
from device_profiles.files.recording import FIELDS
from simulators.athlete import Sport, draw_athlete
from simulators.course import synthetic_loop
from simulators.gym import athlete_source


def write_ride(path: Path, seconds: int, seed: int) -> int:
    """Write a ride of so many seconds at 1 Hz that ends now; the number of its points."""
    rider = draw_athlete("rider", Sport.RIDE, seed)
    source = athlete_source(rider, synthetic_loop(), 1.0, seconds)
    start_us = (int(time.time()) - seconds) * 1_000_000
    samples = islice(iter(source, None), seconds)
    points = [
        Point(start_us + i * 1_000_000, **{name: value for name, value in values.items() if name in FIELDS})
        for i, values in enumerate(samples)
        if values
    ]
    write_fit(Recording(Points.of(points), sport="cycling", device="demo"), path)
    return len(points)
