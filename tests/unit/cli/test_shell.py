"""What all commands share: names, the version, flags that may stand before the command or after it."""

from __future__ import annotations

import json
import logging

import reconciler as package
from reconciler.cli import logs
from reconciler.source.scratch import ScratchRepository


def test_the_version_is_said_as_a_flag_and_as_a_command(reconciler):
    said = reconciler("--version")
    assert (said.code, said.out) == (0, reconciler("version").out)
    assert said.out.startswith(f"reconciler {package.__version__} ")


def test_a_command_that_is_nearly_one_is_suggested(reconciler):
    ran = reconciler("aply")
    assert (ran.code, ran.out) == (2, "")
    assert "there is no command 'aply'" in ran.err
    assert "Did you mean apply?" in ran.err
    assert "reconciler --help" in reconciler("xyzzy").err


def test_flags_of_the_log_may_stand_after_the_command(reconciler, tmp_path):
    repository = ScratchRepository(tmp_path / "fleet")
    (repository.folder / "a.yaml").write_text(
        "apiVersion: ota/v1\nkind: Product\nmetadata: {name: lamp}\nspec: {}\n"
    )
    repository.commit("A lamp")
    ran = reconciler("apply", "--repo", str(repository.folder), "--log-format", "json")
    assert (ran.code, json.loads(ran.err.splitlines()[0])["level"]) == (0, "info")
    (repository.folder / "a.yaml").write_text("")
    repository.commit("None")
    ran = reconciler("--log-level", "info", "apply", "--repo", str(repository.folder), "--log-level", "error")
    assert (ran.code, ran.err) == (0, "")


def test_what_others_write_moves_no_cursor_and_begins_no_line_of_the_text_log():
    error = ValueError("\x1b[2K\nmore")
    record = logging.makeLogRecord({
        "msg": "%s\n2026 ERROR forged", "args": ("固件\x1b]0;pwned\x07\x9b",), "levelname": "ERROR",
        "exc_info": (ValueError, error, None),
    })  # fmt: skip
    first, *traceback = logs.Text().format(record).split("\n")
    assert first.endswith(r"ERROR   固件\x1b]0;pwned\x07\x9b\n2026 ERROR forged")
    assert traceback == [r"ValueError: \x1b[2K", "more"]
