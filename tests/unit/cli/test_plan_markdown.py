"""A plan as a comment: what it looks like, and that nothing foreign in it is more than text."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt  # comes with rich

from reconciler.cli import comment, plan_markdown, tables

REACH = {
    "devices": 1200, "waiting": 34, "overwritten": 0, "offline": 202, "offlineUpgrades": 200, "conflicts": 2,
    "leftOut": {"already-on-target": 3}, "onOtherVersions": 7, "shareOf": None, "laterToo": False, "isTrial": False,
    "declaredByThisCommit": 0, "bytes": 1_234_000_000, "minutes": 21, "startsAt": None,
    "endsAt": "2030-01-02T00:00:00Z", "waitsForVerification": None, "tasksCanceled": 0, "tasksDraining": 0,
    "examples": ["dev-1", "dev-2"], "follows": [],
}  # fmt: skip
ESTIMATE = {
    "devicesAtMost": 40, "countedFrom": "the inventories in Git", "complete": False, "onVersions": ["1.3.0"],
    "shareOf": None, "laterToo": False, "isTrial": False, "bytesAtMost": 2_000_000, "minutesForAll": 4,
    "startsAt": None, "endsAt": None, "waitsForVerification": None, "tasksEnd": False, "follows": [],
}  # fmt: skip
TOTALS = {
    "upgrades": 1234, "offline": 202, "offlineUpgrades": 200, "conflicts": 2, "bytes": 1_234_000_000, "minutes": 21,
    "tasksCanceled": 0, "tasksDraining": 0,
}  # fmt: skip


def action(name="eu", **more):
    plain = {
        "verb": "create",
        "kind": "Batch",
        "name": name,
        "why": "new in Git",
        "changed": [],
        "warnings": [],
    }
    return {**plain, "reach": None, "estimate": None, **more}


def refused(name="us", **more):
    plain = {
        "kind": "Batch",
        "name": name,
        "reason": "Immutable",
        "held": False,
        "message": "package: can't change",
    }
    leaves = {"sync": "OutOfSync", "inForce": True, "run": 2, "unfinishedTasks": 14}
    return {**plain, "details": [], "leaves": leaves, **more}


def finding(**more):
    plain = {
        "code": "OTA113",
        "severity": "error",
        "message": "unknown field `rolout`",
        "path": "batches/eu.yaml",
    }
    rest = {
        "line": 14,
        "column": 3,
        "endColumn": 9,
        "help": "did you mean `retry`?",
        "object": "",
        "field": "",
    }
    return {**plain, **rest, "label": "", "related": [], **more}


def document(**more):
    plain = {
        "formatVersion": "1.3", "basis": "live", "revision": "main@sha1:abc", "subject": "Upgrade", "base": None,
        "notes": [], "summary": "Plan: 1 to create, 0 to change, 0 to cancel.", "totals": TOTALS, "actions": [],
        "refused": [], "diagnostics": [],
    }  # fmt: skip
    return {**plain, **more}


def test_what_follows_from_tags_is_told_batch_by_batch_and_counted_in_the_table():
    follows = ["3 devices more in the group beta: Batch/a upgrades them"]
    reach = {**REACH, "devices": 3, "waiting": 0, "conflicts": 2, "bytes": 270, "minutes": 1, "endsAt": None}
    tags = action("berlin", kind="DeviceInventory", reach={**reach, "follows": follows})
    said = plan_markdown.render(document(actions=[tags])).split("\n\n")
    assert said[3].splitlines()[-1].endswith("| 3 | ≥ 1 min, 270 bytes |")
    assert html.unescape(said[5]).splitlines() == [
        f"- {follows[0]}",
        "- 270 bytes to ship, at least 1 minute at its push rate",
    ]


def test_a_comment_begins_with_its_summary_and_folds_the_rest():
    said = plan_markdown.render(
        document(
            actions=[action(reach=REACH, warnings=["its start is past"])],
            refused=[refused()],
            diagnostics=[finding()],
        )
    )
    assert (
        said
        == """\
<!-- reconciler-plan -->
### Plan: 1 to create, 0 to change, 0 to cancel.

<code>main&#64;sha1&#58;abc</code> <code>Upgrade</code>

**1,234 upgrades (200 not connected now), 1.2 GB to ship, at least 21 minutes, 2 devices in conflict**

**1 error** in the manifests.

| | Object | Why | Devices | Takes |
|---|---|---|---:|---|
| `+` | <code>Batch/eu</code> ⚠ | new in Git | 1,234 | ≥ 21 min, 1.2 GB |
| `!` | <code>Batch/us</code> | refused, Immutable: package: can't change |  |  |

<details><summary>1 finding</summary>

- <code>batches/eu.yaml&#58;14&#58;3</code> error OTA113: unknown field &#96;rolout&#96; (did you mean &#96;retry&#96;?)

</details>

<details><summary><code>Batch/us</code>: refused, Immutable</summary>

- package: can't change
- it stays as it was, OutOfSync, and its run 2 goes on with 14 unfinished tasks

</details>

<details><summary><code>Batch/eu</code></summary>

- 1,234 devices to upgrade, 200 of them not connected now
- that fit: dev-1, dev-2, …
- 34 of them wait behind another task
- 2 devices more fail at once: conflict with another batch
- 3 left out: already-on-target
- 7 devices on other versions
- 1.2 GB to ship, at least 21 minutes at its push rate
- ends 2030-01-02T00&#58;00&#58;00Z: what is not notified then is cancelled
- ⚠ its start is past

</details>
"""
    )


def test_a_plan_from_git_alone_says_so_and_says_at_most():
    said = plan_markdown.render(
        document(basis="git", totals=None, notes=["from Git alone"], actions=[action(estimate=ESTIMATE)])
    )
    assert "to cancel. (from Git alone)\n" in said
    assert "\n> note: from Git alone\n" in said
    assert "| new in Git | ≤ 40+ | 4 min for all |" in said
    assert (
        "- at most 40 devices to upgrade, by the inventories in Git, and those that Git doesn't list\n"
        in said
    )
    assert "- only those that report 1.3.0\n" in said


def test_nothing_to_do_is_a_comment_of_three_lines():
    nothing = document(summary="No changes.", totals=dict.fromkeys(TOTALS, 0))
    assert len(plan_markdown.render(nothing).splitlines()) == 4


NASTY = [
    "a|b", "`code`", "</details><img src=x onerror=alert(1)>", "[x](https://evil.example)", "# head", "- item",
    "1. item", "12) item", "--- ", "@everybody", "/close", "line\n/approve\n\n| a | b |", "<!-- reconciler-plan -->",
    "$\\sqrt{x}$",
    "https://evil.example www.evil.example", "\\", "&lt;b&gt;", "~~gone~~ **loud** _soft_", "\u202e", "中文",
]  # fmt: skip


def shape(markdown):
    """The structure of a comment, without its texts, and all of its text."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    kinds, words = [], []
    for token in tokens:
        kinds.append(token.type)
        if token.type == "html_block":
            kinds.append(re.sub(r">[^<]*<", "><", token.content))
            words.append(html.unescape(token.content))
        for child in token.children or ():
            if child.type == "html_inline":
                kinds.append(child.content)
            elif child.type in {"text", "text_special"}:
                words.append(child.content)
            else:
                kinds.append(child.type)
    return kinds, "".join(words)


def everywhere(text):
    """A plan that has a text wherever a text can stand."""
    return document(
        revision=text,
        subject=text,
        notes=[text],
        actions=[
            action(
                text,
                why=text,
                changed=[text],
                warnings=[text],
                reach={**REACH, "examples": [text], "follows": [text]},
            )
        ],
        refused=[refused(text, reason=text, message=text, details=[text])],
        diagnostics=[finding(path=text, message=text, help=text, code=text)],
    )


@pytest.mark.parametrize("text", NASTY)
def test_foreign_text_is_text_and_nothing_else(text):
    plain, _ = shape(plan_markdown.render(everywhere("word")))
    kinds, words = shape(plan_markdown.render(everywhere(text)))
    assert kinds == plain
    whole = " ".join(tables.printable(text).split())
    assert whole in words.replace("\u200b", "")


@settings(max_examples=25)
@given(st.text(min_size=1, max_size=40))
def test_no_text_at_all_breaks_a_comment(text):
    kinds, _ = shape(plan_markdown.render(everywhere("x" + text)))
    plain, _ = shape(plan_markdown.render(everywhere("word")))
    assert kinds == plain


def test_nobody_is_mentioned_and_no_line_begins_with_foreign_text():
    said = plan_markdown.render(everywhere("@everybody\n/close\nwww.evil.example"))
    assert "@everybody" not in said
    assert not [line for line in said.splitlines() if line.startswith("/")]
    assert "www.evil" not in said


@pytest.mark.parametrize(
    "reference",
    [
        "@ada",
        "#12",
        "acme/fleet#12",
        "!12",
        "%1",
        '%"next"',
        "~bug",
        "$7",
        "&3",
        "^alert#1",
        "smb://evil",
        "https://evil",
    ],
)
def test_what_a_forge_looks_for_after_the_markup_is_not_found_either(reference):
    found = html.unescape(plan_markdown.text(f"see {reference} now"))
    assert reference not in found
    assert reference in found.replace("\u200b", "")
    assert html.unescape(plan_markdown.text("100 % of 5: R & D, 3 ~ 4!")) == "100 % of 5: R & D, 3 ~ 4!"


def test_all_of_a_plan_is_written_and_what_is_cut_for_a_comment_comes_last():
    many = [action(f"batch-{number}", reach=REACH, warnings=["x" * 500] * 3) for number in range(400)]
    said = plan_markdown.render(document(actions=many, refused=[refused()]))
    assert [name for name in range(400) if said.count(f"| <code>Batch/batch-{name}</code> ⚠ |") != 1] == []
    assert said.count("x" * 500) == 1200
    assert "| | and 301 more, below | | | |" in said
    cut = comment.cut(said, comment.LARGEST, "the log")
    assert cut.count("<details>") == cut.count("</details>") > 20
    assert "<code>Batch/us</code>: refused, Immutable</summary>" in cut
    assert "more lines: the log has all of them" in cut
