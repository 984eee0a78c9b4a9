"""`reconciler run`, as somebody types it."""

from __future__ import annotations

import os
import re
import socket
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


def test_the_log_says_where_devices_connect_once_they_can(tmp_path):
    with start(tmp_path, "--repo", str(tmp_path / "fleet"), "--mqtt-bind", "127.0.0.1:0") as daemon:
        try:
            logged = until(daemon, "devices: ")
        finally:
            daemon.terminate()
    port = int(re.search(r"devices: mqtt://127\.0\.0\.1:(\d+); downloads: ", logged)[1])
    assert port != 0
    assert daemon.returncode == 0


def test_a_port_that_is_taken_is_named_once(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"127.0.0.1:{taken.getsockname()[1]}"
        with start(tmp_path, "--repo", str(tmp_path / "fleet"), "--mqtt-bind", at) as daemon:
            _, said = daemon.communicate(timeout=60)
    assert daemon.returncode == 1
    assert f"can't listen for devices on {at}: Address already in use\n" in said
