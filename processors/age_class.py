"""Age classes of boards: where an athlete competes in the calendar year of an effort.

Only the year of birth is known, so the age is that of the 31st of December: year of the effort minus year of birth. The classes leave no
gap, and a year of birth behind that of the effort counts as youngest.
"""

from __future__ import annotations

from typing import Final

AGE_CLASSES: Final[dict[str, tuple[int | None, int | None]]] = {
    "U20": (None, 19),
    "20-24": (20, 24),
    "25-34": (25, 34),
    "35-44": (35, 44),
    "45-54": (45, 54),
    "55-64": (55, 64),
    "65-69": (65, 69),
    "70-74": (70, 74),
    "75+": (75, None),
}  # first and last age, None is open


def age_class(birth_year: int, year: int) -> str:
    """The class of somebody born in `birth_year` for an effort in the local calendar `year`."""
    age = year - birth_year
    return next(name for name, (_, last) in AGE_CLASSES.items() if last is None or age <= last)
