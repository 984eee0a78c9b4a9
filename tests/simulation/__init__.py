"""Fourteen simulated days of a fleet with faults, over the engine's real services and a real SQLite file.

`python -m tests.simulation --seed 7` runs any seed and size; `test_fourteen_days.py` runs one in the suite.
"""
