"""The README's walk is run as it stands: every block marked `sh walk`, in order, in one shell."""

from __future__ import annotations

import os
import pathlib
import re
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent.parent
_IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Walker"), ("EMAIL", "walker@example.com"))
}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_the_walk_leads_from_an_empty_folder_to_an_upgraded_device(tmp_path: pathlib.Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh walk\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 6
    mqtt, http = _free_port(), _free_port()
    script = (
        "\n".join(blocks)
        .replace("/tmp/walk", str(tmp_path / "walk"))
        .replace("127.0.0.1:1883", f"127.0.0.1:{mqtt}")
    )
    script = script.replace("$PWD/.venv/bin", str(pathlib.Path(sys.executable).parent))
    environment = {
        **os.environ,
        **_IDENTITY,
        "RECONCILER_MQTT_BIND": f"127.0.0.1:{mqtt}",
        "RECONCILER_HTTP_BIND": f"127.0.0.1:{http}",
        "RECONCILER_SETTLE_TIME": "1",
    }
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    log = tmp_path / "walk" / "daemon.log"
    assert done.returncode == 0, done.stdout + done.stderr + (log.read_text() if log.exists() else "")
    assert "1 device to upgrade" in done.stdout
    assert "COMPLETED" in done.stdout
    assert "SUCCEEDED" in done.stdout
