"""Every code of a diagnostic has its folder: a manifest that is wrong, what is said about it, and how it is right.

After a change of words, `python tests/unit/cli/test_golden.py` writes the messages anew, to be read before they are
committed.
"""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import tempfile

import pytest
from click.testing import CliRunner

from reconciler.cli.validate import command as validate
from reconciler.domain.diagnostics import Code

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
FLAGS = {
    "OTA120": ["--schemas", "schemas"],
    "OTA209": ["--limits", "packages=1"],
    "OTA312": ["--limits", "devices-per-file=2"],
}
"""What a user of these gives besides: a schema of their own, or a limit that is soon reached."""


def said(code, manifest, folder):
    """The exit code, and what is said about a manifest beside the other files of its folder."""
    left_out = shutil.ignore_patterns("message.txt", *{"bad.yaml", "good.yaml"} - {manifest})
    shutil.copytree(GOLDEN / code, folder, symlinks=True, ignore=left_out)
    with contextlib.chdir(folder):
        runner = CliRunner(env={"GITHUB_ACTIONS": None, "GITLAB_CI": None})
        result = runner.invoke(validate, [".", *FLAGS.get(code, [])])
    return result.exit_code, result.output


@pytest.mark.parametrize("code", [str(code) for code in Code])
def test_each_code_is_told_in_these_words_and_is_mended_so(code, tmp_path):
    message = (GOLDEN / code / "message.txt").read_text(encoding="utf-8")
    wrong = message.startswith("error[")
    assert message.startswith((f"error[{code}]: ", f"warning[{code}]: "))
    assert said(code, "bad.yaml", tmp_path / "bad") == (int(wrong), message)
    exit_code, output = said(code, "good.yaml", tmp_path / "good")
    assert (exit_code, output.split()[1:]) in [(0, ["manifest", "valid"]), (0, ["manifests", "valid"])], (
        output
    )


@pytest.mark.parametrize("code", [str(code) for code in Code])
def test_each_message_is_about_its_code_alone_and_has_a_remedy(code):
    message = (GOLDEN / code / "message.txt").read_text(encoding="utf-8")
    heads = [line for line in message.splitlines() if line.startswith(("error[", "warning["))]
    assert {head.split("[")[1].split("]")[0] for head in heads} == {code}
    assert "= help: " in message


def test_no_folder_is_left_over():
    assert {folder.name for folder in GOLDEN.iterdir()} == set(Code)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        for known in Code:
            _, words = said(known, "bad.yaml", pathlib.Path(scratch, known))
            (GOLDEN / known / "message.txt").write_text(words, encoding="utf-8")
