"""The command line, run in this process beside a real database."""

from __future__ import annotations

import dataclasses
import json
import logging

import pytest

from reconciler import cli
from reconciler.cli import logs


@dataclasses.dataclass(frozen=True)
class Ran:
    """What one command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def lines(self):
        return self.out.splitlines()


@pytest.fixture(autouse=True)
def no_ci_system(monkeypatch):
    """These tests may run in a CI system, whose own format `validate` would choose."""
    for variable in ("GITHUB_ACTIONS", "GITLAB_CI"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def quiet_logs():
    """Leaves logging as it was, whatever a command set up."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in logs.NOISY:
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def reconciler(tmp_path, capsys, monkeypatch, quiet_logs):
    """Runs a command line on the database of the test."""
    del quiet_logs
    monkeypatch.setenv("RECONCILER_DATA_DIR", str(tmp_path))

    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        code = cli.execute(list(arguments))
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ran(code, captured.out, captured.err)

    return run
