"""Mosquitto as the tests run it: on a free port, with the settings that a site needs for this project."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import signal
import socket
import subprocess
import time

_SEARCHED = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"


@dataclasses.dataclass
class Mosquitto:
    """A broker that can be stopped, killed and started again on the same port, with what it had stored.

    Args:
        folder: where its configuration, its log and its store are.
        settings: lines of its configuration file, in the place of anonymous access.
    """

    folder: pathlib.Path
    settings: str = "allow_anonymous true"
    tls: str = ""
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("mosquitto", path=_SEARCHED)
        assert program, (
            "mosquitto is missing: install it (Debian: apt-get install mosquitto); it is not optional"
        )
        self.port = self.port or free_port()
        config = self.folder / "mosquitto.conf"
        config.write_text(
            f"listener {self.port} 127.0.0.1\n{self.tls}\n{self.settings}\n"
            f"persistence true\npersistence_location {self.folder}/\n"
            "autosave_interval 1\nmax_queued_messages 100000\nmax_inflight_messages 100\nuser root\n"
            f"log_dest file {self.folder}/mosquitto.log\n"
        )
        self._process = subprocess.Popen(
            [program, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "mosquitto.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("mosquitto does not listen")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """SIGTERM lets it store everything; SIGKILL does not."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(10)
            self._process = None

    @property
    def url(self) -> str:
        return f"mqtt{'s' if self.tls else ''}://127.0.0.1:{self.port}"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
