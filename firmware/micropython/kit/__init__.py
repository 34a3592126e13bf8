"""The device kit of Paceline: the same files run on MicroPython 1.25 and on CPython."""
