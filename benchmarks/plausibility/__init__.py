"""How well doubts tell cheats from athletes: made-up cheats by kind, simulated athletes, every real recording, judged by the finish stage.

`python -m benchmarks.plausibility --data FOLDER` writes the tables of docs/plausibility.md.
"""
