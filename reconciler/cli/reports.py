"""Diagnostics as the reports that CI systems read: GitHub Actions, GitLab Code Quality, SARIF 2.1.0, JUnit.

Used by `validate`. Like `render`, it decides nothing about findings. Paths in a report are relative to the
repository's root, which is where its readers look for them; `Shown` gives them. Text of manifests may hold anything:
each format's own way to carry it is kept to here.
"""

from __future__ import annotations

import hashlib
import itertools
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from xml.sax import saxutils

from reconciler import __version__
from reconciler.cli.render import Shown
from reconciler.cli.tables import printable
from reconciler.domain import catalogue
from reconciler.domain.diagnostics import Code, Diagnostic, Place, Severity

_DESCRIPTION = 1024
"""Characters of a rule's description in SARIF that GitHub takes; its help may be longer."""
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def github(diagnostics: Iterable[Diagnostic], shown: Shown) -> Iterator[str]:
    """Workflow commands of GitHub Actions, which show at the line in the pull request."""
    for found in diagnostics:
        properties = {
            "file": shown(found.path),
            "line": found.line,
            "col": found.column,
            "endColumn": found.end_column,
        }
        properties = {**properties, "title": f"{found.code} {found.object}".strip()}
        said = ",".join(f"{key}={_github_property(str(value))}" for key, value in properties.items() if value)
        yield f"::{found.severity} {said}::{_github_data(_message(found))}"


def _message(found: Diagnostic) -> str:
    """Cause and remedy. Nothing in it ends a line but what stands between the two."""
    said = printable(found.message)
    return f"{said}\nhelp: {printable(found.help)}" if found.help else said


def _github_data(value: str) -> str:
    """The runner knows a command's old form too, `##[NAME]`, anywhere in a line: text must not have its beginning."""
    value = value.replace("##[", "## [")
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _github_property(value: str) -> str:
    return _github_data(value).replace(":", "%3A").replace(",", "%2C")


def gitlab(diagnostics: Iterable[Diagnostic], shown: Shown) -> list[dict[str, Any]]:
    """GitLab's Code Quality report, which a merge request compares with that of its target branch."""
    listed = list(diagnostics)
    severities = {Severity.ERROR: "major", Severity.WARNING: "minor"}
    return [
        {
            "description": f"{found.code} {_message(found)}".replace("\nhelp: ", " - "),
            "check_name": str(found.code),
            "fingerprint": fingerprint,
            "severity": severities[found.severity],
            "location": {"path": shown(found.path), "lines": {"begin": found.line or 1}},
        }
        for found, fingerprint in zip(listed, _fingerprints(listed, shown), strict=True)
    ]


def _fingerprints(diagnostics: Sequence[Diagnostic], shown: Shown) -> Iterator[str]:
    """What a finding is known by from one commit to the next.

    It says nothing of lines, which move; findings that are alike but for their lines are counted.
    """
    seen: dict[str, int] = {}
    for found in diagnostics:
        facts = (str(found.code), shown(found.path), found.object, found.field, found.message)
        known = "\0".join(facts)
        seen[known] = seen.get(known, 0) + 1
        yield hashlib.sha256(f"{known}\0{seen[known]}".encode(errors="replace")).hexdigest()


def sarif(diagnostics: Iterable[Diagnostic], shown: Shown) -> dict[str, Any]:
    """A SARIF log with one run; each code that occurs is a rule with its help."""
    listed = list(diagnostics)
    codes = sorted({found.code for found in listed})
    results = [
        {
            "ruleId": str(found.code),
            "ruleIndex": codes.index(found.code),
            "level": str(found.severity),
            "message": {"text": _no_link(_message(found))},
            "locations": [_sarif_location(found, shown)],
            "relatedLocations": [
                {
                    "id": number,
                    "message": {"text": _no_link(printable(other.message))},
                    "physicalLocation": _physical(other.place, shown),
                }
                for number, other in enumerate(found.related, 1)
            ],
            "partialFingerprints": {"reconciler/v1": fingerprint},
        }
        for found, fingerprint in zip(listed, _fingerprints(listed, shown), strict=True)
    ]
    driver = {"name": "reconciler", "version": __version__, "rules": [_rule(code) for code in codes]}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _no_link(text: str) -> str:
    """SARIF's messages have links, `[text](place)`: foreign text must not have the middle of one."""
    return text.replace("](", "] (")


def _rule(code: Code) -> dict[str, Any]:
    text = catalogue.PAGES[code]
    return {
        "id": str(code),
        "name": "".join(word.capitalize() for word in code.name.split("_")),
        "shortDescription": {"text": code.meaning},
        "fullDescription": {"text": _sentences(text, _DESCRIPTION)},
        "help": {"text": text, "markdown": text},
    }


def _sentences(text: str, most: int) -> str:
    """The first whole sentences of a text, in so many characters."""
    return text if len(text) <= most else text[: text.rindex(". ", 0, most) + 1]


def _sarif_location(found: Diagnostic, shown: Shown) -> dict[str, Any]:
    location: dict[str, Any] = {"physicalLocation": _physical(found.place, shown)}
    if about := ".".join(part for part in (found.object, found.field) if part):
        location["logicalLocations"] = [{"fullyQualifiedName": printable(about)}]
    return location


def _physical(place: Place, shown: Shown) -> dict[str, Any]:
    """A finding about a whole file stands at its first line: GitHub shows none without a line."""
    region = {"startLine": place.line or 1}
    if place.line and place.column:
        region["startColumn"] = place.column
        if place.end_column:
            region["endColumn"] = place.end_column
    return {"artifactLocation": {"uri": urllib.parse.quote(shown(place.path))}, "region": region}


def junit(diagnostics: Iterable[Diagnostic], shown: Shown, *, valid: int) -> Iterator[str]:
    """A JUnit report: a suite for each file, a failed test for each error, a passed one for each warning.

    Args:
        diagnostics: sorted by file.
        shown: gives the name that a path is shown by.
        valid: manifests that are valid; all of them are one passed test, as a report without any counts as broken.
    """
    listed = list(diagnostics)
    failures = sum(found.severity is Severity.ERROR for found in listed)
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield f'<testsuites name="reconciler validate" tests="{len(listed) + 1}" failures="{failures}" errors="0">'
    yield '  <testsuite name="manifests" tests="1" failures="0" errors="0" skipped="0">'
    yield f'    <testcase classname="manifests" name="{valid} valid"/>'
    yield "  </testsuite>"
    for path, group in itertools.groupby(listed, key=lambda found: found.path):
        yield from _suite(shown(path), list(group))
    yield "</testsuites>"


def _suite(path: str, findings: list[Diagnostic]) -> Iterator[str]:
    failures = sum(found.severity is Severity.ERROR for found in findings)
    name = _attribute(path)
    yield f'  <testsuite name={name} tests="{len(findings)}" failures="{failures}" errors="0" skipped="0">'
    for found in findings:
        place = Place(path, found.line, found.column)
        title = f"{found.code} {found.object}".strip() + f" {found.line}:{found.column}"
        yield f'    <testcase classname={name} name={_attribute(title)} file={name} line="{found.line or 1}">'
        said = _data(f"{place}: {_message(found)}")
        if found.severity is Severity.ERROR:
            message = _attribute(found.message)
            yield f'      <failure type="{found.code}" message={message}>{said}</failure>'
        else:
            yield f"      <system-out>warning: {said}</system-out>"
        yield "    </testcase>"
    yield "  </testsuite>"


def _attribute(value: str) -> str:
    """A quoted value. XML has no way to carry a control character, so there is none in it."""
    return saxutils.quoteattr(printable(value))


def _data(value: str) -> str:
    return saxutils.escape("\n".join(map(printable, value.split("\n"))))
