"""`reconciler run`, as somebody types it."""

from __future__ import annotations

import os
import subprocess
import sys


def start(folder, *flags: str) -> subprocess.Popen[str]:
    program = (sys.executable, "-c", "from reconciler.cli import main; main()")
    arguments = ("run", "--data-dir", str(folder), "--http-bind", "127.0.0.1:0", *flags)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RECONCILER_")}
    return subprocess.Popen([*program, *arguments], env=clean, stderr=subprocess.PIPE, text=True)


def until(daemon: subprocess.Popen[str], *words: str) -> str:
    """What it logged until every one of these was in it."""
    logged = ""
    assert daemon.stderr is not None
    for line in daemon.stderr:
        logged += line
        if all(word in logged for word in words):
            return logged
    raise AssertionError(logged)


def test_credentials_of_the_repository_and_the_broker_are_in_no_log(tmp_path):
    repository = ("--repo", "https://ann:s3cret-token@127.0.0.1:1/fleet.git")
    broker = ("--mqtt", "mqtt://ann:s3cret-word@127.0.0.1:1")
    with start(tmp_path, *repository, *broker) as daemon:
        try:
            logged = until(daemon, "following", "devices:", "the pass failed", "next try within")
        finally:
            daemon.terminate()
        logged += daemon.stderr.read()
    assert "https://127.0.0.1:1/fleet.git main" in logged
    assert "mqtt://ann@127.0.0.1:1" in logged
    assert "s3cret" not in logged
