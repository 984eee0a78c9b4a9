"""Decides whether a package's files from outside are here: nothing begins with it before they all are.

A rule of `plan.diff`; also asked what to say about one of them. A package in force whose files went missing waits for
them, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reconciler.domain import foreign
from reconciler.domain.actions import Action, Look, Reason, Verdict
from reconciler.domain.actual import ActualState, Fetch
from reconciler.domain.desired import Declaration, ForeignFile


def awaited(actions: Sequence[Action], verdicts: Sequence[Verdict], look: Look) -> list[Verdict]:
    """Packages some of whose files are not here, or never will be."""
    del actions
    known = {verdict.key for verdict in verdicts}
    found = []
    for key, declaration in look.desired.declarations.items():
        verdict = _judged(declaration, look) if key not in known else None
        if verdict is not None:
            found.append(verdict)
    return found


def warnings(action: Action, look: Look) -> Iterator[str]:
    """What to say of a package whose files are taken for granted."""
    for file in expected(action.declaration, look.actual) if action.declaration is not None else ():
        yield f"{foreign.shown(file.source)} is fetched first, and nothing begins before it is here"


def expected(declaration: Declaration, state: ActualState) -> Iterator[ForeignFile]:
    """The files of a package that are to come from outside first."""
    for file in declaration.files:
        if isinstance(file, ForeignFile) and file.sha256 not in state.files:
            yield file


def _judged(declaration: Declaration, look: Look) -> Verdict | None:
    for file in declaration.files:
        here = look.actual.files.get(file.sha256)
        if not isinstance(file, ForeignFile) or here is None:
            continue
        what = f"{foreign.shown(file.source)}: the file"
        if file.size not in {None, here.size}:
            what += f" has {here.size:,} bytes, not {file.size:,}: correct the manifest's size"
            return Verdict(declaration.key, Reason.FETCH_FAILED, what)
        if file.md5 not in {None, here.md5}:
            what += f"'s MD5 is {here.md5}, not {file.md5}: correct the manifest's md5"
            return Verdict(declaration.key, Reason.FETCH_FAILED, what)
    missing = list(expected(declaration, look.actual))
    fetches = [(file, look.actual.fetches.get((file.sha256, file.source), Fetch())) for file in missing]
    for file, fetch in fetches:
        if fetch.failed:
            message = f"{foreign.shown(file.source)}: {fetch.message}"
            return Verdict(declaration.key, Reason.FETCH_FAILED, message)
    if not missing or not look.policy.awaits_files:
        return None
    return Verdict(declaration.key, Reason.FETCHING, "; ".join(said(file.source, f) for file, f in fetches))


def said(source: str, fetch: Fetch) -> str:
    """How far a file is, in words."""
    text = f"fetching {foreign.shown(source)}"
    if fetch.total:
        text += f", {fetch.received / fetch.total:.0%} of {fetch.total:,} bytes"
    elif fetch.received:
        text += f", {fetch.received:,} bytes so far"
    return text + (f"; the last attempt: {fetch.message}" if fetch.message else "")
