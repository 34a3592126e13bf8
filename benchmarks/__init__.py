"""The benchmarks: `paceline bench`. Each runs its baseline in the same run and reports CPU-seconds, not wall time."""
