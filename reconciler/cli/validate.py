"""`reconciler validate [PATH…]`: are these manifests right, alone and together? Offline, and quick.

It imports neither database, broker nor web libraries. Exit code: 0 clean, 1 findings, 2 usage.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import click

from reconciler.cli import options, render
from reconciler.domain import diagnostics as diagnostic
from reconciler.domain.limits import Limits
from reconciler.source import abreast, validate
from reconciler.source import tree as trees

_STANDARD_INPUT = "-"
_SHOWN_BYTES = 4_000_000
_FOR_CI = ("github", "gitlab", "sarif", "junit")
_ENVIRONMENTS = {"GITHUB_ACTIONS": "github", "GITLAB_CI": "gitlab"}
"""Variables that are `true` in a CI system, and the format that it reads."""

_OF_OTHERS = frozenset({diagnostic.Code.REFERENCE, diagnostic.Code.IGNORE})
"""Findings that other manifests can explain."""


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH]…", type=click.Path(exists=True, allow_dash=True))
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "concise", "json", *_FOR_CI]),
    help="How findings are written. Default: text; in GitHub Actions github, in GitLab CI gitlab. The four for CI "
    "tell the findings to people too, on standard error.",
)
@click.option(
    "--schemas",
    type=click.Path(exists=True, file_okay=False, path_type=pathlib.Path),
    help="Check against the JSON schemas in this folder too.",
)
@options.settings("limits")
def command(paths: tuple[str, ...], output: str | None, schemas: pathlib.Path | None, **flags: Any) -> None:
    """Check manifests: their fields, their references, the files beside them.

    PATH is a folder or a file, `-` is standard input; several are checked together. Default: this folder. What single
    files refer to is looked for in the folders above them, too, and nothing is told of those. Standard input is alone.
    Exit code 1: something is wrong, or there is no manifest where you said. Warnings alone are fine.
    """
    root, tree = _tree(paths or (".",))
    limits = options.load(flags).limits
    with _uncollected():
        checked = _checked(root, tree, paths, limits)
    found, counts = list(checked.diagnostics), checked.counts
    if schemas is not None:
        found = _with_schemas(found, tree, schemas)
        unfit = {(one.path, one.object) for one in found if one.code is diagnostic.Code.SCHEMA}
        counts = dataclasses.replace(counts, valid=counts.valid - len(unfit))
    _write(found, counts, output or _usual_output(), _Files(root, tree, paths))
    wrong = any(finding.severity is diagnostic.Severity.ERROR for finding in found)
    if wrong or (paths and not checked.counts.manifests):
        click.get_current_context().exit(1)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Garbage is not looked for: what is read stays, and looking through it takes a quarter of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def _usual_output() -> str:
    read = (output for variable, output in _ENVIRONMENTS.items() if os.environ.get(variable) == "true")
    return next(read, "text")


def _tree(paths: tuple[str, ...]) -> tuple[pathlib.Path, trees.FolderTree]:
    """The folder that paths are relative to, and the files to look at.

    One folder is a fleet of its own: nothing outside it can be referred to. Other paths belong to the repository
    that they are in, or else to their common folder.
    """
    places = [pathlib.Path(path).resolve() for path in paths if path != _STANDARD_INPUT]
    texts = {_STANDARD_INPUT: sys.stdin.buffer.read()} if _STANDARD_INPUT in paths else {}
    wrong = [place for place in places if place.is_file() and not validate.is_manifest(place.name)]
    if wrong:
        raise click.UsageError(f"{wrong[0]} is not a YAML file: manifests end in .yaml or .yml")
    if len(places) == 1 and places[0].is_dir():
        return places[0], trees.FolderTree(
            places[0], texts=texts, in_lfs=functools.partial(_in_lfs, places[0])
        )
    folders = [place if place.is_dir() else place.parent for place in places] or [pathlib.Path.cwd()]
    common = pathlib.Path(os.path.commonpath(folders))
    above = (folder for folder in (common, *common.parents) if (folder / ".git").exists())
    root = next(above, common)
    only = [place.relative_to(root).as_posix() for place in places]
    return root, trees.FolderTree(root, only=only, texts=texts, in_lfs=functools.partial(_in_lfs, root))


def _in_lfs(root: pathlib.Path) -> frozenset[str]:
    from reconciler.source import lfs

    return lfs.kept(root)


def _checked(
    root: pathlib.Path, tree: trees.FolderTree, paths: tuple[str, ...], limits: Limits
) -> validate.Checked:
    """The judgement on what was asked for.

    Single files are judged with the manifests of a folder above them: of the nearest that has all they refer to, so
    that one fleet of a repository is not taken for a part of another; else of the widest that makes nothing worse.
    """
    checked = validate.check(tree, limits, abreast.Abreast())
    if _STANDARD_INPUT in paths:
        return dataclasses.replace(checked, diagnostics=tuple(map(_of_what_was_given, checked.diagnostics)))
    places = [pathlib.Path(path).resolve() for path in paths]
    if not places or not all(place.is_file() for place in places):
        return checked
    asked = frozenset(tree.paths())
    common = pathlib.Path(os.path.commonpath([place.parent for place in places]))
    for folder in (common, *common.parents):
        if not folder.is_relative_to(root) or not any(one.code in _OF_OTHERS for one in checked.diagnostics):
            break
        among = trees.FolderTree(root, only=[folder.relative_to(root).as_posix()])
        wider = _only(asked, checked.counts, validate.check(among, limits, abreast.Abreast()))
        checked = max(wider, checked, key=lambda one: (one.counts.valid, -len(one.diagnostics)))
    return checked


def _only(asked: frozenset[str], counts: validate.Counts, checked: validate.Checked) -> validate.Checked:
    """What a judgement says of some files, of which the sizes are known; also where the cause is in another."""
    everything = (*checked.diagnostics, *checked.kept_out)
    found = diagnostic.in_order([one for one in everything if one.path in asked])
    valid = sum(declared.path in asked for declared in checked.desired.declarations.values())
    return dataclasses.replace(checked, diagnostics=found, counts=dataclasses.replace(counts, valid=valid))


def _of_what_was_given(found: diagnostic.Diagnostic) -> diagnostic.Diagnostic:
    """A pipe may hold a whole fleet, or a part of one that nobody knows the rest of."""
    if found.code not in _OF_OTHERS:
        return found
    return dataclasses.replace(
        found, help=f"{found.help}; only what was given was read, not the files around"
    )


def _with_schemas(
    found: list[diagnostic.Diagnostic], tree: trees.FolderTree, folder: pathlib.Path
) -> list[diagnostic.Diagnostic]:
    """The findings and what the schemas add to them: nothing about documents that are known to be wrong."""
    from reconciler.source import schemas

    known = {(one.path, one.object) for one in found}
    more = [one for one in schemas.check(tree, folder) if (one.path, one.object) not in known]
    return list(diagnostic.in_order([*found, *more]))


class _Files:
    """Names and lines of the files that findings are about."""

    def __init__(self, root: pathlib.Path, tree: trees.FolderTree, asked: tuple[str, ...]) -> None:
        self.asked = ", ".join(asked)
        self._root = root
        self._tree = tree
        self._lines: dict[str, list[str]] = {}

    def shown(self, path: str) -> str:
        """The path as somebody in this folder would type it."""
        return self._from(path, pathlib.Path.cwd())

    def in_repository(self, path: str) -> str:
        """The path from the root of the repository that we are in; from this folder when we are in none."""
        here = pathlib.Path.cwd()
        return self._from(path, next((one for one in (here, *here.parents) if (one / ".git").exists()), here))

    def _from(self, path: str, start: pathlib.Path) -> str:
        if path == _STANDARD_INPUT:
            return "<stdin>"
        try:
            found = os.path.relpath(self._root / path, start)
        except ValueError:  # another drive
            found = str(self._root / path)
        return found.encode(errors="surrogateescape").decode(errors="replace")  # a name may be any bytes

    def lines(self, path: str) -> list[str]:
        """The file's lines; none when it is too large or cannot be read."""
        if path not in self._lines:
            try:
                content = self._tree.read(path, _SHOWN_BYTES)
            except trees.UnreadableError:
                content = b""
            self._lines[path] = content.decode("utf-8-sig", "replace").split("\n")
        return self._lines[path]


def _write(found: list[diagnostic.Diagnostic], counts: validate.Counts, output: str, files: _Files) -> None:
    if output == "json":
        _write_json(found, counts, files)
        return
    if output in _FOR_CI:
        _write_report(found, counts, output, files)
    said = (
        render.concise(found, files.shown)
        if output == "concise"
        else render.text(found, files.shown, files.lines)
    )
    for line in said:
        click.echo(line, err=output in _FOR_CI)
    click.echo(_summary(found, counts, files.asked), err=output != "text")


def _write_report(
    found: list[diagnostic.Diagnostic], counts: validate.Counts, output: str, files: _Files
) -> None:
    from reconciler.cli import reports

    if output in {"github", "junit"}:
        in_lines = {
            "github": lambda: reports.github(found, files.in_repository),
            "junit": lambda: reports.junit(found, files.in_repository, valid=counts.valid),
        }
        for line in in_lines[output]():
            click.echo(line)
        return
    import orjson

    report = reports.gitlab if output == "gitlab" else reports.sarif
    click.echo(orjson.dumps(report(found, files.in_repository), option=orjson.OPT_INDENT_2).decode())


def _write_json(found: list[diagnostic.Diagnostic], counts: validate.Counts, files: _Files) -> None:
    import orjson

    document = {
        "formatVersion": "1.0",
        "diagnostics": [diagnostic.plain(one, files.shown) for one in found],
        "summary": {"manifests": counts.manifests, "valid": counts.valid, "findings": len(found)},
    }
    click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


def _summary(found: list[diagnostic.Diagnostic], counts: validate.Counts, asked: str) -> str:
    if not found and not counts.manifests:
        return f"no manifests found{f' in {asked}' if asked else ''}"
    if not found:
        return f"{_count(counts.manifests, 'manifest')} valid"
    if not counts.manifests:
        return f"{_count(len(found), 'finding')}; no manifest could be read"
    return f"{_count(len(found), 'finding')}; {counts.valid} of {_count(counts.manifests, 'manifest')} valid"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
