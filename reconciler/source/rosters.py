"""CSV files of devices beside a manifest: a batch's or a group's names, or an inventory's names and tags.

`check` is called by `validate` and reports line by line; `iter_entries` is for whoever stages a checked file in the
database. Both stream: a million names never stand in memory together. Who a name belongs to is not known here.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import enum
import hashlib
import itertools
import re
import types
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from reconciler.domain import resources
from reconciler.domain.desired import RosterRef
from reconciler.domain.diagnostics import Code
from reconciler.domain.limits import Limits
from reconciler.source.tree import Tree, UnreadableError

FLAWS = 50
"""Findings in one file that are listed; the others are counted."""
_LINE_BYTES = 1 << 16
_SPLIT = "split the list, and the object that uses it, or ask the operator for a higher limit"
_NO_TAGS: Mapping[str, str] = types.MappingProxyType({})
_TAG_KEY = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Shape(enum.Enum):
    """What a file consists of."""

    NAMES = "one name a line, after an optional header `name`"
    TAGGED = "columns under a header: `name`, then one for each tag"


class Entry(NamedTuple):
    """One device; its line counts from 1. An empty cell is no tag.

    A tuple, because a million of them pass by, and a frozen dataclass takes three times as long to make.
    """

    line: int
    name: str
    tags: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with a line; line 0 is the file. `first_line` is where a repeated name stood before."""

    code: Code
    line: int
    message: str
    help: str = ""
    first_line: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """A file's facts when it can be used, else what is wrong with it."""

    ref: RosterRef | None
    flaws: tuple[Flaw, ...] = ()


def iter_entries(tree: Tree, path: str, shape: Shape, limits: Limits) -> Iterator[Entry]:
    """The devices of a file that `check` found clean.

    Raises:
        UnreadableError: the file is not what it was, or was never clean.
    """
    for found in _read(tree, path, shape, limits):
        if isinstance(found, Flaw):
            raise UnreadableError(f"{path}:{found.line}: {found.message}", remedy=found.help)
        yield found


def check(tree: Tree, path: str, shape: Shape, limits: Limits) -> Checked:
    """The file's facts, or its flaws: malformed lines, repeated names, limits."""
    size = tree.size(path)
    if size is None:
        return Checked(None, (Flaw(Code.NO_FILE, 0, f"there is no file {path}"),))
    if size > limits.device_file_bytes:
        message = f"the list has {size:,} bytes, at most {limits.device_file_bytes:,} are allowed"
        return Checked(None, (Flaw(Code.ROSTER_TOO_LARGE, 0, message, _SPLIT),))
    entries, flaws = _survey(tree, path, shape, limits)
    if flaws:
        return Checked(None, tuple(flaws))
    digest = hashlib.sha256()
    for chunk in tree.chunks(path):
        digest.update(chunk)
    return Checked(RosterRef(path, size, digest.hexdigest(), entries))


def _survey(tree: Tree, path: str, shape: Shape, limits: Limits) -> tuple[int, list[Flaw]]:
    """How many devices a file has, and its flaws: the first ones listed, the others counted."""
    flaws: list[Flaw] = []
    marks: set[int] = set()
    uncounted = entries = 0
    for found in _read(tree, path, shape, limits):
        if isinstance(found, Entry):
            entries += 1
            marks.add(hash(found.name))
        elif len(flaws) < FLAWS:
            flaws.append(found)
        else:
            uncounted += 1
    if not flaws and not entries:
        flaws.append(Flaw(Code.ROSTER, 0, "the list names no device", "write one name a line"))
    if len(marks) < entries:
        flaws += [
            Flaw(Code.ROSTER_REPEATED, second, f"`{name}` is listed twice", "remove one of them", first)
            for name, first, second in repeats(lambda: _names(tree, path, shape, limits), FLAWS)
        ]
    if uncounted:
        flaws.append(Flaw(Code.ROSTER, 0, f"{uncounted:,} more lines are malformed"))
    return entries, flaws


_Where = TypeVar("_Where")


def repeats(read: Callable[[], Iterator[tuple[str, _Where]]], most: int) -> list[tuple[str, _Where, _Where]]:
    """Names that come twice, with their first and their second place; at most so many.

    Reads twice, so that only hashes are kept of a million names: a chance meeting of hashes shows in the second pass.
    """
    seen: set[int] = set()
    suspects: set[str] = set()
    for name, _ in read():
        mark = hash(name)
        if mark in seen and len(suspects) < most:
            suspects.add(name)
        seen.add(mark)
    if not suspects:
        return []
    first: dict[str, _Where] = {}
    found: list[tuple[str, _Where, _Where]] = []
    for name, where in read():
        if name not in suspects:
            continue
        if name in first:
            found.append((name, first[name], where))
            suspects.remove(name)
        else:
            first[name] = where
    return found


def crowded(
    read: Callable[[], Iterator[tuple[str, _Where]]], times: int, most: int
) -> list[tuple[str, _Where]]:
    """Where names come more often than so many times: each place from the next one on; of so many names at most.

    Reads twice and keeps hashes only, as `repeats` does.
    """
    counted = collections.Counter(hash(name) for name, _ in read())
    suspects = {mark for mark, count in counted.items() if count > times}
    if not suspects:
        return []
    seen: collections.Counter[str] = collections.Counter()
    found: list[tuple[str, _Where]] = []
    for name, where in read():
        if hash(name) not in suspects:
            continue
        seen[name] += 1
        if seen[name] > times:
            found.append((name, where))
    listed = set(itertools.islice(dict.fromkeys(name for name, _ in found), most))
    return [(name, where) for name, where in found if name in listed]


def _names(tree: Tree, path: str, shape: Shape, limits: Limits) -> Iterator[tuple[str, int]]:
    for found in _read(tree, path, shape, limits):
        if isinstance(found, Entry):
            yield found.name, found.line


def _read(tree: Tree, path: str, shape: Shape, limits: Limits) -> Iterator[Entry | Flaw]:
    """Entries and flaws in the order of the file; nothing comes after a flaw that makes the rest meaningless."""
    columns: tuple[str, ...] = ()
    entries = 0
    for number, raw in enumerate(_lines(tree, path), 1):
        cells = _cells(raw, number)
        if isinstance(cells, Flaw):
            yield cells
            if len(raw) > _LINE_BYTES:
                return
            continue
        if cells == [""]:
            continue
        if not columns:
            header = _header(cells, number, shape)
            if isinstance(header, Flaw):
                yield header
                return
            columns = header
            if shape is Shape.TAGGED or cells[0] == "name":
                continue
        entry = _entry(cells, number, columns, limits)
        entries += isinstance(entry, Entry)
        if entries > limits.devices_per_file:
            message = f"a list has at most {limits.devices_per_file:,} devices, this has more"
            yield Flaw(Code.ROSTER_TOO_LARGE, number, message, _SPLIT)
            return
        yield entry


def _lines(tree: Tree, path: str) -> Iterator[bytes]:
    """The file's lines without their ends; a line that is too long is cut off there, and is the last one."""
    rest = b""
    for chunk in tree.chunks(path):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > _LINE_BYTES:
            break
    if rest:
        yield rest


def _cells(raw: bytes, number: int) -> list[str] | Flaw:
    """The trimmed cells of a line; `[""]` for an empty one."""
    if len(raw) > _LINE_BYTES:
        return Flaw(Code.ROSTER, number, f"the line is longer than {_LINE_BYTES:,} bytes")
    try:
        line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
    except UnicodeDecodeError:
        return Flaw(Code.ROSTER, number, "the line is not UTF-8", "save the file as UTF-8")
    if '"' not in line:
        return [cell.strip() for cell in line.split(",")]
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=True))]
    except csv.Error:
        return Flaw(
            Code.ROSTER, number, "the quotes of this line do not pair up", 'write `"` inside quotes as `""`'
        )


def _header(cells: list[str], number: int, shape: Shape) -> tuple[str, ...] | Flaw:
    """The names of the columns. A list of names needs no header."""
    if shape is Shape.NAMES:
        return ("name",)
    if cells[0] != "name":
        remedy = "the first line is a header: `name`, then the name of each tag, separated by commas"
        return Flaw(Code.ROSTER, number, f"the first column is `{cells[0][:40]}`, not `name`", remedy)
    for place, tag in enumerate(cells[1:], 1):
        if not _TAG_KEY.fullmatch(tag):
            message = f"column {place + 1}, `{tag[:80]}`, is not a tag's key"
            return Flaw(Code.ROSTER, number, message, "1 to 64 letters, digits, `.`, `_` and `-`")
        if tag in cells[:place]:
            return Flaw(Code.ROSTER, number, f"the column `{tag}` is there twice")
    return tuple(cells)


def _entry(cells: list[str], number: int, columns: tuple[str, ...], limits: Limits) -> Entry | Flaw:
    if len(cells) != len(columns):
        wanted = "one name a line" if len(columns) == 1 else f"{len(columns)} columns, as in the header"
        return Flaw(
            Code.ROSTER,
            number,
            f"the line has {len(cells)} cell{'' if len(cells) == 1 else 's'}",
            f"there must be {wanted}",
        )
    complaint = resources.device_name_problem(cells[0], limits)
    if complaint:
        return Flaw(Code.ROSTER, number, complaint, "correct the name, or remove the line")
    if len(cells) == 1:
        return Entry(number, cells[0], _NO_TAGS)
    tags = {tag: value for tag, value in zip(columns[1:], cells[1:], strict=True) if value}
    if any(len(value) > 1024 for value in tags.values()):
        return Flaw(Code.ROSTER, number, "a tag's value has more than 1,024 characters")
    return Entry(number, cells[0], tags)
