"""Ten thousand devices over fourteen days: what must be true is true at every hour, and a seed is a history."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys

import pytest

from .faults import Odds
from .report import simulate
from .world import Size

ROOT = pathlib.Path(__file__).parents[2]
SMALL = ["--seed", "5", "--devices", "100", "--days", "2", "--crash", "0.05"]


@pytest.mark.timeout(600)
def test_ten_thousand_devices_get_through_fourteen_days_of_faults() -> None:
    found = simulate(7, Size())
    assert found.deaths >= 3
    assert min(found.faults.values()) > 0
    assert set(found.faults) == {field.name for field in dataclasses.fields(Odds)}
    ended = {(status, reason) for status, reason, _ in found.tasks}
    reasons = {reason for _, reason in ended}
    assert {"conflict", "timeout", "no-response", "unexpected-version", "overwritten", "canceled"} <= reasons
    assert {"schedule-ended", "downgrade", "burn-failed"} <= reasons
    assert sum(count for _, _, count in found.tasks) > 20_000


@pytest.mark.timeout(300)
def test_the_same_seed_ends_in_the_same_state_whatever_the_interpreter_hashes_with() -> None:
    """In two processes: nothing may depend on the order of a set, nor on what ran before."""
    ends = [_table(hash_seed) for hash_seed in ("1", "2")]
    assert ends[0] == ends[1]
    assert "digest" in ends[0]


def _table(hash_seed: str) -> dict[str, str]:
    command = [sys.executable, "-m", "tests.simulation", *SMALL]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {line[:32].strip(): line[33:] for line in done.stdout.splitlines()}
    del rows["real seconds"]
    return rows
