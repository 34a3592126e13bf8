"""The machine a figure was measured on, and the CPU clocks the benchmarks divide by.

Wall time on a shared machine is noise: every benchmark reports CPU-seconds (user + system) and ratios to a baseline of the same run.
"""

from __future__ import annotations

import os
import platform
import resource
import sqlite3
from pathlib import Path


def machine() -> dict[str, str | int | float]:
    """Model of the CPU, cores this process may use, memory, kernel, Python, SQLite and the load at this moment."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load_1min": round(os.getloadavg()[0], 1),
    }


def cpu_s() -> float:
    """User + system CPU-seconds of this process and all its threads since it started."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def cpu_s_of(pid: int) -> float:
    """User + system CPU-seconds of another process (10 ms steps). ProcessLookupError when it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError as error:
        raise ProcessLookupError(f"no process {pid}") from error
    fields = stat.rpartition(")")[2].split()  # the name in brackets may hold blanks; field 14 and 15 of proc(5) follow
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb_of(pid: int) -> float:
    """Resident memory of a process in MB (10^6 bytes). ProcessLookupError when it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except FileNotFoundError as error:
        raise ProcessLookupError(f"no process {pid}") from error
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def written_bytes() -> int:
    """Bytes this process made the kernel write to storage (`write_bytes` of /proc/self/io: whole 4 KiB pages; 0 on tmpfs)."""
    return int(_field("/proc/self/io", "write_bytes") or 0)


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")
