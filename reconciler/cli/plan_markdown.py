"""A plan as the comment on a pull request, made of its JSON: a short summary, one table, and the details folded away.

Whatever stands in manifests, commits and answers is text here and nothing else: no markup, no link, no mention of a
person, and never the begin of a line, where forges look for commands. All of a plan is written, the most important
first: a job's log has it whole, and `comment` cuts the end off where a forge takes no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reconciler.cli import reach
from reconciler.cli.plan_text import SIGNS
from reconciler.cli.tables import printable

MARKER = "<!-- reconciler-plan -->"
"""The first line, by which the comment of an earlier push is found again."""
_ROWS = 100
"""In the table on top; the others come last, where a comment is cut."""
_CELL = 200
_COMMIT = re.compile(r"(@sha1:[0-9a-f]{12})[0-9a-f]{28}(?![0-9a-f])")
_MARKUP = re.compile(
    r"[\\`*_\[\]|~<>&#!$%\"]|:(?=\S)|(?<=www)\.|^[-+=]|^\d(?=\d*[.)](?:\s|$))", re.IGNORECASE
)
"""What could mean anything in Markdown, HTML or a forge's own words: each becomes an entity, which is just the sign."""

_GAP = "\u200b"
"""A character of no width. It can't be in printable text."""
_REFERENCE = re.compile(r'(?<=[@#!~%$&^])(?=[\w"])|(?<=:)(?=//)')
"""Where a mention, a reference to an issue or the like, or a URL goes on after its sign."""


def render(document: Mapping[str, Any]) -> str:
    """The whole comment."""
    rows = [*map(_row, document["actions"]), *map(_refused_row, document["refused"])]
    top, rest = rows[:_ROWS], rows[_ROWS:]
    parts = ["\n".join([MARKER, *_head(document)])]
    if top:
        more = [f"| | and {len(rest):,} more, below | | | |"] if rest else []
        parts.append("\n".join([*_table(top), *more]))
    parts += _details(document)
    if rest:
        title = reach.plural(len(rest), "object more", "objects more")
        parts.append(_section(title, _table(rest)))
    return "\n\n".join(parts) + "\n"


def text(value: str, most: int = 1000) -> str:
    """Foreign text as text, in one line, of so many characters at most.

    Forges look for mentions, references and GitLab for URLs after the markup: those are broken by a character of no
    width.
    """
    flat = " ".join(printable(value).split())
    if len(flat) > most:
        flat = f"{flat[:most]} …"
    return _MARKUP.sub(_entity, _REFERENCE.sub(_GAP, flat)).replace(_GAP, "&#8203;")


def code(value: str) -> str:
    """Foreign text as code, in which forges look for nothing."""
    flat = " ".join(printable(value).split())
    return f"<code>{_MARKUP.sub(_entity, flat).replace('@', '&#64;')}</code>"


def _entity(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};"


def _head(document: Mapping[str, Any]) -> Iterator[str]:
    offline = " (from Git alone)" if document["basis"] == "git" else ""
    yield f"### {text(document['summary'])}{offline}"
    yield ""
    yield f"{code(_short(document['revision']))} {code(document['subject'])}"
    totals = document["totals"]
    if totals is not None and (totals["upgrades"] or totals["conflicts"] or totals["tasksCanceled"]):
        yield ""
        yield f"**{', '.join(_totals(totals))}**"
    errors = sum(found["severity"] == "error" for found in document["diagnostics"])
    if errors:
        yield ""
        yield f"**{reach.plural(errors, 'error', 'errors')}** in the manifests."
    for note in document["notes"]:
        yield ""
        yield f"> note: {text(_short(note))}"


def _short(value: str) -> str:
    """Commits by as much of their ids as people read; the whole ones are in the JSON."""
    return _COMMIT.sub(r"\1", value)


def _totals(totals: Mapping[str, Any]) -> Iterator[str]:
    if totals["upgrades"]:
        away = reach.offline(totals)
        offline = f" ({away:,} not connected now)" if away else ""
        yield f"{reach.plural(totals['upgrades'], 'upgrade', 'upgrades')}{offline}"
        yield f"{reach.size(totals['bytes'])} to ship"
        yield f"at least {reach.minutes(totals['minutes'])}"
    if totals["conflicts"]:
        yield f"{reach.devices(totals['conflicts'])} in conflict"
    if totals["tasksCanceled"]:
        yield f"{reach.plural(totals['tasksCanceled'], 'task ends', 'tasks end')}"
    if totals["tasksDraining"]:
        yield f"{reach.plural(totals['tasksDraining'], 'task goes', 'tasks go')} on"


def _table(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield "| | Object | Why | Devices | Takes |"
    yield "|---|---|---|---:|---|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _row(action: Mapping[str, Any]) -> tuple[str, ...]:
    sign = SIGNS.get(action["verb"], ("?", ""))[0]
    warned = " ⚠" if action["warnings"] else ""
    changed = f": {', '.join(action['changed'])}" if action["changed"] else ""
    return f"`{sign}`", f"{_object(action)}{warned}", text(action["why"] + changed, _CELL), *_sizes(action)


def _sizes(action: Mapping[str, Any]) -> tuple[str, str]:
    """How many devices, and how long at least (from Git alone: how many at most, and how long if it is all of them)."""
    counted, estimate = action.get("reach"), action.get("estimate")
    if counted is not None:
        count = counted["devices"] + counted["waiting"]
        later = "+" if counted["laterToo"] else ""
        takes = f"≥ {counted['minutes']:,} min, {reach.size(counted['bytes'])}" if count else ""
        return (f"{count:,}{later}", takes) if count or later else ("", "")
    if estimate is not None and estimate["devicesAtMost"] is not None:
        open_ended = "" if estimate["complete"] and not estimate["laterToo"] else "+"
        takes = f"{estimate['minutesForAll']:,} min for all" if estimate["devicesAtMost"] else ""
        return f"≤ {estimate['devicesAtMost']:,}{open_ended}", takes
    return "", ""


def _refused_row(verdict: Mapping[str, Any]) -> tuple[str, ...]:
    what = "held" if verdict["held"] else "refused"
    why = f"{what}, {verdict['reason']}: {verdict['message']}"
    return "`!`", _object(verdict), text(why, _CELL), "", ""


def _object(named: Mapping[str, Any]) -> str:
    return code(f"{named['kind']}/{named['name']}")


def _details(document: Mapping[str, Any]) -> Iterator[str]:
    """The folded sections, the most important first."""
    yield from _folded(
        reach.plural(len(document["diagnostics"]), "finding", "findings"),
        (_finding(found) for found in document["diagnostics"]),
    )
    for verdict in document["refused"]:
        said = [text(verdict["message"]), *map(text, verdict["details"]), text(reach.leaves(verdict))]
        what = "held" if verdict["held"] else "refused"
        yield from _folded(f"{_object(verdict)}: {what}, {text(verdict['reason'])}", said)
    for action in document["actions"]:
        warnings = (f"⚠ {text(warning)}" for warning in action["warnings"])
        yield from _folded(_object(action), [*map(text, reach.lines(action)), *warnings])


def _finding(found: Mapping[str, Any]) -> str:
    place = f"{found['path']}:{found['line']}:{found['column']}" if found["line"] else found["path"]
    remedy = f" ({text(found['help'])})" if found["help"] else ""
    return f"{code(place)} {text(found['severity'])} {text(found['code'])}: {text(found['message'])}{remedy}"


def _folded(title: str, lines: Iterable[str]) -> Iterator[str]:
    listed = list(lines)
    if listed:
        yield _section(title, (f"- {line}" for line in listed))


def _section(title: str, body: Iterable[str]) -> str:
    return "\n".join([f"<details><summary>{title}</summary>", "", *body, "", "</details>"])
