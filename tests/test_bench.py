"""The measurements run, at sizes that measure nothing: what they call changes, and nobody looks at them for weeks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROWS = {
    "validate": ("cold start", "60 manifests of 40 lines", "a commit that changes one of them"),
    "planning": ("plan for all of 2,000",),
    "creation": ("a batch of 2,000 tasks", "memory grown"),
    "moves": ("pick and mark 100 due tasks, of 2,000", "expire", "cancel", "match 50 reports"),
    "latency": ("p99 of",),
    "ingest": (
        "messages through the endpoint",
        "messages from Mosquitto",
        "CPU a message",
        "wait in Mosquitto",
    ),
    "downloads": (
        "MB downloaded, 1 client",
        "MB downloaded, 32 clients",
        "MB digested on its way in",
        "memory at the peak",
        "a push, beside 10 slow clients",
        "over MQTT",
    ),
}


@pytest.mark.needs("mosquitto", "nginx")
@pytest.mark.parametrize("script", ROWS)
def test_a_measurement_of_the_engine_ends_in_its_table(script):
    command = [sys.executable, "-m", "bench", "--quick", script]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = ended.stdout.splitlines()
    for row in ROWS[script]:
        assert any(row in line for line in found), f"{row!r} is not in\n{ended.stdout}"


def test_a_measurement_that_does_not_exist_is_refused_with_the_names_of_those_that_do():
    command = [sys.executable, "-m", "bench", "speed"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "there is no speed; choose from validate, fleet" in ended.stderr
