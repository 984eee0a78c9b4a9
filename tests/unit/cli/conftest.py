"""The command line, run in this process beside a real database."""

from __future__ import annotations

import dataclasses
import json

import pytest

from reconciler import cli


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


@pytest.fixture
def reconciler(tmp_path, capsys, monkeypatch):
    """Runs a command line on the database of the test."""
    monkeypatch.setenv("RECONCILER_DATA_DIR", str(tmp_path))

    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        code = cli.run(list(arguments))
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ran(code, captured.out, captured.err)

    return run
