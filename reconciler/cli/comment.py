"""`reconciler comment FILE`: one comment in the pull or merge request that a CI job is for, always the same one.

It is found again by a mark that nobody sees, and among our own comments only. What there is too much of is cut off,
with a pointer to the job's log. Where no comment can be written (a fork's token only reads, say) the text goes into
the job's summary, with the reason: that is no failure, as the job itself says what is right and wrong.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Mapping
from typing import TextIO

import click

from reconciler import errors
from reconciler.cli import forges

LARGEST = 65_000
"""Characters of a comment. GitHub takes 65,536; GitLab takes more, but what is longer is not read anyway."""
_SUMMARY = 250_000
"""Characters of a job's summary: GitHub takes 1 MiB, and a character can have 4 bytes."""
_NOTHING = "There is nothing to show: the job's log says why."


@click.command()
@click.argument("file", type=click.File(encoding="utf-8", errors="replace"))
@click.option(
    "--name", default="plan", show_default=True, help="Which comment, where a repository needs several."
)
@click.option("--only-update", is_flag=True, help="Change the comment if there is one; write no new one.")
def command(file: TextIO, name: str, *, only_update: bool) -> None:
    """Keep one comment in the pull request (GitHub) or merge request (GitLab) that this CI job is for.

    FILE is its text, in Markdown; `-` is standard input. Where a comment can't be written, the text goes into the
    job's summary, with the reason, and the exit code is 0. Reads the variables of the CI, and GITHUB_TOKEN or
    GITLAB_TOKEN.
    """
    if not re.fullmatch(r"[A-Za-z0-9_./]+(-[A-Za-z0-9_./]+)*", name):
        raise errors.UsageError(
            f"{name} is no name for a comment", remedy="Letters and digits, with `-`, `_`, `.`, `/` between."
        )
    mark = f"<!-- reconciler-{name} -->"
    text = file.read().removeprefix(mark).strip() or _NOTHING
    try:
        forge = _forge(os.environ)
        click.echo(keep_one(forge, mark, text, only_update=only_update))
    except errors.UsageError:
        raise
    except errors.ReconcilerError as problem:
        _instead(text, problem)


def _forge(environ: Mapping[str, str]) -> forges.Forge:
    if environ.get("GITHUB_ACTIONS") == "true":
        return forges.GitHub(environ)
    if environ.get("GITLAB_CI") == "true":
        return forges.GitLab(environ)
    raise errors.UsageError("this is no job of GitHub Actions or GitLab CI", remedy="Run it there.")


def keep_one(forge: forges.Forge, mark: str, text: str, *, only_update: bool = False) -> str:
    """Leaves exactly one comment with the mark, saying the text; with `only_update` at most one.

    Returns:
        what was done.

    Raises:
        RefusedError: the server says no.
        TransientError: it is away.
    """
    found = [note for note in forge.mine() if note.body.startswith(mark)]
    if only_update and not found:
        return "no comment: there is nothing to say"
    log = f"[the job's log]({forge.log})" if forge.log else "the job's log"
    last = f"<sub>`{forge.commit[:12]}` · {log}</sub>"
    room = LARGEST - len(mark) - len(last) - 3
    body = f"{mark}\n{cut(text, room, log)}\n\n{last}"
    if not found:
        forge.create(body)
        return "comment written"
    forge.update(found[0].id, body)
    for more in found[1:]:  # two jobs at once, or an answer that was lost
        forge.delete(more.id)
    return "comment updated"


def cut(text: str, room: int, log: str) -> str:
    """Markdown in at most so many characters: whole lines; what is open there is closed, and the rest counted."""
    if len(text) <= room:
        return text
    lines = text.split("\n")
    kept: list[str] = []
    used = 0
    spare = 200 + len(log)  # what closes, and the last line
    for line in lines:
        used += len(line) + 1
        if used > room - spare:
            break
        kept.append(line)
    fences = [line for line in kept if line.lstrip().startswith("```")]
    closing = ["```"] if len(fences) % 2 else []
    whole = "\n".join(kept)
    closing += ["</details>"] * min(9, max(0, whole.count("<details") - whole.count("</details>")))
    return "\n".join(
        [*kept, *closing, "", f"… {len(lines) - len(kept):,} more lines: {log} has all of them."]
    )


def _instead(text: str, problem: errors.ReconcilerError) -> None:
    """The text in the job's summary (GitHub has one); the reason there and in the log."""
    why = " ".join(f"no comment was written: {problem.message}. {problem.remedy}".split())
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    click.echo(f"::notice title=reconciler::{why}" if summary else why)
    if not summary:
        return
    try:
        with pathlib.Path(summary).open("a", encoding="utf-8") as page:
            page.write(f"> {why}\n\n{cut(text, _SUMMARY, 'the log')}\n")
    except OSError as error:
        raise errors.UserError(f"{summary} cannot be written: {error.strerror}") from error
