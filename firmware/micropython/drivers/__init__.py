"""Sensors on their lines: what they measure as integers with units, no byte allocated per sample.

A driver takes the bus or pin it is wired to and imports no `machine`: the same file runs on a board, on the unix port and on CPython with fakes. A transfer
that is not answered once is counted; one that is not answered again and again, or a chip that is another one, is an OSError that names the bus address and
the cure.
"""
