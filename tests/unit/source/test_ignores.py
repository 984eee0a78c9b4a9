"""Comments that ask for a warning to be ignored, and what becomes of those that ignore nothing."""

from __future__ import annotations

import pytest
from test_checking import BATCH, check

from reconciler.domain.diagnostics import Code, Severity

GROUPED = BATCH.replace('{all: {}, sourceVersions: ["1.3.0"]}', "\n    group: beta")


def ignoring(comment):
    return check({"b/eu.yaml": GROUPED.replace("group: beta", f"group: beta {comment}")}).diagnostics


def test_a_warning_is_ignored_on_its_line():
    assert [found.code for found in ignoring("# a remark")] == [Code.REFERENCE]
    assert ignoring("# reconciler: ignore[OTA201] accepted in May, its group is gone") == ()
    assert ignoring("#reconciler:ignore[OTA201]") == ()


@pytest.mark.parametrize(
    ("comment", "codes", "said", "remedy"),
    [
        (
            "# reconciler: ignore[OTA201, OTA207]",
            ["OTA118"],
            "there is no OTA207 on this line",
            "remove the comment",
        ),
        (
            "# reconciler: ignore[OTA2201]",
            ["OTA118", "OTA201"],
            "there is no code `OTA2201`",
            "did you mean `OTA201`?",
        ),
        ("# reconciler: ignore[x]", ["OTA118", "OTA201"], "there is no code `x`", "codes look like OTA207"),
        ("# reconciler: ignore", ["OTA118", "OTA201"], "does not say which code", "ignore[OTA207] reason"),
        ("# reconciler: ignore[]", ["OTA118", "OTA201"], "does not say which code", "ignore[OTA207] reason"),
    ],
)
def test_an_ignore_that_ignores_nothing_is_a_warning(comment, codes, said, remedy):
    found = ignoring(comment)
    assert sorted(one.code for one in found) == codes
    (useless,) = (one for one in found if one.code is Code.IGNORE)
    assert said in useless.message
    assert remedy in useless.help
    assert (useless.place.line, useless.place.column, useless.severity) == (8, 17, Severity.WARNING)


def test_an_error_cannot_be_ignored():
    text = BATCH.replace("package: fw", "package: none # reconciler: ignore[OTA201] later")
    error, useless = check({"b/eu.yaml": text}).diagnostics
    assert (error.code, error.severity) == (Code.REFERENCE, Severity.ERROR)
    assert useless.message == "OTA201 is an error here, and only warnings can be ignored"


def test_a_comment_counts_on_its_own_line_only_and_in_files_with_manifests():
    above = GROUPED.replace("  target:", "  # reconciler: ignore[OTA201] reason\n  target:")
    assert [found.code for found in check({"b/eu.yaml": above}).diagnostics] == [Code.IGNORE, Code.REFERENCE]
    assert check({"other.yaml": "a: 1 # reconciler: ignore[OTA201] reason\n"}).diagnostics == ()
    assert check({"b/eu.yaml": BATCH + "# the reconciler: ignored by us\n"}).diagnostics == ()


@pytest.mark.parametrize(
    ("title", "codes"),
    [
        ('"see # reconciler: ignore[OTA201]"', [Code.REFERENCE]),
        ("'see # reconciler: ignore[nothing] \U0001f4a1'", [Code.REFERENCE]),
        ("|-\n    see\n    # reconciler: ignore[OTA201]\n\n    it", [Code.REFERENCE]),
        ('"a # b" # reconciler: ignore[OTA201]', [Code.IGNORE, Code.REFERENCE]),
        (">- # reconciler: ignore[OTA201]\n    it #1", [Code.IGNORE, Code.REFERENCE]),
        ("|-\n    it #1\n  # reconciler: ignore[OTA201]", [Code.IGNORE, Code.REFERENCE]),
    ],
)
def test_what_stands_in_a_text_is_no_comment(title, codes):
    text = GROUPED.replace("  package:", f"  title: {title}\n  package:")
    assert [found.code for found in check({"b/eu.yaml": text}).diagnostics] == codes


@pytest.mark.parametrize("other", ["b/eu.yaml", "b/us.yaml"])
def test_an_ignore_is_not_called_useless_while_an_error_may_hide_its_warning(other):
    ignoring, rival = (
        BATCH.replace("}\n", "} # reconciler: ignore[OTA207] on purpose\n"),
        BATCH.replace(": eu", ": us"),
    )
    files = {"b/eu.yaml": rival.replace(": us", ": ee"), "b/us.yaml": ignoring.replace(": eu", ": us")}
    assert check(files).diagnostics == ()
    files[other] += "  timeuot: 60m\n"
    assert [found.code for found in check(files).diagnostics] == [Code.UNKNOWN_FIELD]
