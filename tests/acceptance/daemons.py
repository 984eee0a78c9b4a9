"""The real daemon as a process of its own, so that it can be killed; and its HTTP side."""

from __future__ import annotations

import asyncio
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import httpx

CLI = (sys.executable, "-c", "from reconciler.cli import main; main()", "--log-format", "text")


def environment() -> dict[str, str]:
    """Ours, without settings that somebody may have exported."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RECONCILER_")}


def cli(*arguments: str, within: float = 60.0) -> subprocess.CompletedProcess[str]:
    """A command, as somebody types it."""
    return subprocess.run(
        [*CLI, *arguments], env=environment(), capture_output=True, text=True, timeout=within, check=False
    )


class Daemon:
    """`reconciler run …`, started, killed and started again on the same data directory and ports.

    Args:
        arguments: its flags.
        log: the file that all its lives write to.
        http_port: where it serves HTTP.
    """

    def __init__(self, arguments: list[str], log: pathlib.Path, http_port: int) -> None:
        self.arguments = arguments
        self.log = log
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{http_port}", timeout=10.0)
        self.peak_memory = 0
        """Most resident bytes of any of its lives that was asked for."""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*CLI, "run", *self.arguments], env=environment(), stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def ready(self, within: float = 30.0) -> None:
        """Waits until `/readyz` says so."""
        deadline = time.monotonic() + within
        said = "nothing"
        while time.monotonic() < deadline:
            self.check()
            try:
                answer = await self.http.get("/readyz?verbose")
            except httpx.TransportError as error:
                said = repr(error)
            else:
                if answer.status_code == 200:
                    return
                said = answer.text
            await asyncio.sleep(0.05)
        raise AssertionError(f"not ready after {within} s: {said}\n{self.tail()}")

    async def readiness(self) -> tuple[int, str]:
        """What `/readyz` says now."""
        answer = await self.http.get("/readyz")
        return answer.status_code, answer.text

    async def metric(self, name: str, **labels: str) -> float:
        """One number of `/metrics`; 0.0 when it is not there."""
        text = (await self.http.get("/metrics")).text
        for line in text.splitlines():
            found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if found and dict(re.findall(r'(\w+)="([^"]*)"', found[1] or "")) == labels:
                return float(found[2])
        return 0.0

    def check(self) -> None:
        """Fails when the daemon ended by itself."""
        assert self._process is not None
        assert self._process.poll() is None, f"the daemon ended by itself\n{self.tail()}"

    def kill(self) -> None:
        """Ends it as a power cut would."""
        assert self._process is not None
        self.measure()
        self._process.kill()
        self._process.wait(10)

    def terminate(self) -> tuple[int, float]:
        """SIGTERM; the exit code, and how many seconds it took."""
        assert self._process is not None
        self.measure()
        asked = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        return code, time.monotonic() - asked

    async def close(self) -> None:
        """Whatever it does, it is over afterwards."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)
        await self.http.aclose()

    def measure(self) -> int:
        """Its resident memory at its peak, in bytes."""
        status = pathlib.Path(f"/proc/{self.pid}/status")
        if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
            self.peak_memory = max(self.peak_memory, int(found[1]) * 1024)
        return self.peak_memory

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
