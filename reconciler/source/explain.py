"""A model's complaints about a document as diagnostics: place, cause and remedy in plain words.

Called by `validate` with what pydantic collected. Messages of our own rules pass through; pydantic's own are put
into the words of somebody who writes YAML (`1.10` was read as a number; `yes` is text).
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pydantic

from reconciler.domain import resources
from reconciler.domain.diagnostics import Code, Diagnostic, Place, Related
from reconciler.domain.resources import Kind, Location
from reconciler.source.documents import Document, Node, named
from reconciler.source.yaml_problems import Problem, Spot

_KEY = "[key]"
_LONGEST = 800
"""Characters of a message or a name: more than any of ours has, with values of the length that is allowed."""
_LONGEST_WORD = 300
LISTED = 100
"""Findings in one document that are listed; the others are counted."""
_NEVER = {
    "status": "status is never in Git: remove it",
    "<<": "write the fields out: there is no merging",
}
"""Fields that people bring from elsewhere."""
_REMEDIES = {
    Code.REPEATED: "remove one of them",
    Code.CHOICE: "write one of these",
}
"""For rules that say all else themselves."""
_BOOLEANS = {
    **dict.fromkeys(("yes", "y", "on", "Yes", "On", "YES", "ON", "Y"), "true"),
    **dict.fromkeys(("no", "n", "off", "No", "Off", "NO", "OFF", "N"), "false"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """The document that diagnostics are about."""

    document: Document
    path: str
    name: str = ""

    def place(self, location: Location, *, at_key: bool = False) -> Place:
        """Where a field stands; a field that is missing stands at its nearest parent's key."""
        node, exact = self.document.find(location)
        composed = bool(node.children) or node.text == ""
        spot = node.key if node.key and (at_key or not exact or composed) else node.spot
        return place_of(self.path, spot)

    def report(self, code: Code, message: str, location: Location = (), **more: Any) -> Diagnostic:
        """A diagnostic about a field of the document; `more` are fields of `Diagnostic`, and `at_key`."""
        place = self.place(location, at_key=more.pop("at_key", False))
        more["help"] = short(more.get("help", ""))
        field = short(field_path(location))
        return Diagnostic(code, short(message), place, object=short(self.name), field=field, **more)


def short(said: str) -> str:
    """What a finding says, without the middle of a text that is megabytes long."""
    return said if len(said) <= _LONGEST else f"{said[: _LONGEST // 2]} … {said[-_LONGEST // 4 :]}"


def place_of(path: str, spot: Spot) -> Place:
    """A place in a file."""
    return Place(path, spot.line, spot.column, spot.end_column)


def field_path(location: Location) -> str:
    """`spec.target.devices[2]`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return text.removeprefix(".")


def yaml_problem(problem: Problem, path: str, name: str = "") -> Diagnostic:
    """The diagnostic of a problem with the YAML itself."""
    return Diagnostic(
        problem.code,
        short(problem.message),
        place_of(path, problem.spot),
        label=problem.label,
        object=short(name),
        help=short(problem.help),
        related=tuple(Related(place_of(path, spot), message) for spot, message in problem.related),
    )


def nearest(word: str, words: Iterable[str]) -> str:
    """The remedy that names the word that was probably meant; empty when none is close."""
    found = closest(word, words)
    return f"did you mean `{found}`?" if found else ""


def closest(word: str, words: Iterable[str]) -> str:
    """The word that was probably meant; empty when none is close."""
    if len(word) > _LONGEST_WORD:
        return ""
    options = sorted(set(words))
    folded = {option.lower(): option for option in reversed(options)}
    found = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else ""


def model_problems(errors: Sequence[Any], kind: Kind, subject: Subject) -> Iterator[Diagnostic]:
    """A model's complaints about a document: the first are listed, the others counted."""
    for error in errors[:LISTED]:
        yield _complaint(error, kind, subject)
    if len(errors) > LISTED:
        last = _complaint(errors[LISTED], kind, subject)
        yield dataclasses.replace(last, message=f"{last.message}; {not_listed(len(errors) - LISTED - 1)}")


def not_listed(count: int) -> str:
    """How many more findings there are than anybody would read."""
    return f"{count:,} more findings in this document are not listed"


def _complaint(error: Any, kind: Kind, subject: Subject) -> Diagnostic:
    location = tuple(error["loc"])
    at_key = location[-1:] == (_KEY,)
    if at_key:
        location = location[:-1]
    if error["type"] == "rule":
        context = error["ctx"]
        return subject.report(
            context["code"],
            context["message"],
            (*location, *context["at"]),
            at_key=at_key or context["at_key"],
            help=context["remedy"] or _REMEDIES.get(context["code"], ""),
            label=context["label"],
        )
    if error["type"] == "missing":
        return _missing(location, subject)
    if error["type"] == "extra_forbidden":
        return _unknown_field(location, kind, subject)
    return _wrong_value(error, location, subject)


def _missing(location: Location, subject: Subject) -> Diagnostic:
    parent = field_path(location[:-1]) or "the document"
    return subject.report(
        Code.REQUIRED,
        f"`{location[-1]}` is missing in {parent}",
        location,
        label=f"needs `{location[-1]}`",
        help=f"add `{location[-1]}:`",
    )


def _unknown_field(location: Location, kind: Kind, subject: Subject) -> Diagnostic:
    name = str(location[-1])
    parent = field_path(location[:-1])
    steps = tuple(step for step in location[:-1] if isinstance(step, str))
    siblings, elsewhere = _known_fields(kind, steps)
    remedy = _NEVER.get(name, "") or _belongs(name, elsewhere) or nearest(name, siblings)
    if not remedy and (meant := closest(name, elsewhere)):
        remedy = f"did you mean `{meant}`, which belongs under {elsewhere[meant]}?"
    known = ", ".join(siblings)
    return subject.report(
        Code.UNKNOWN_FIELD,
        f"unknown field `{name}` in {kind}{f' {parent}' if parent else ''}",
        location,
        at_key=True,
        label="not a known field",
        help=remedy or (f"known are {known}" if known else "this has no fields"),
    )


def _belongs(name: str, elsewhere: dict[str, str]) -> str:
    return f"`{name}` belongs under {elsewhere[name]}: check the indentation" if name in elsewhere else ""


@functools.cache
def _known_fields(kind: Kind, parent: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    """The fields that the parent has, and for the other fields of the kind where they belong."""
    siblings: list[str] = []
    elsewhere: dict[str, str] = {}
    for location, fields in _walk(resources.MODELS[kind], ()):
        if location == parent:
            siblings = fields
        for field in fields:
            elsewhere.setdefault(field, field_path(location) or "the top level")
    return siblings, elsewhere


def _walk(
    model: type[pydantic.BaseModel], at: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    names = {name: field.alias or name for name, field in model.model_fields.items()}
    yield at, list(names.values())
    for name, field in model.model_fields.items():
        for below in _models_in(field.annotation):
            yield from _walk(below, (*at, names[name]))


def _models_in(annotation: Any) -> Iterator[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def _wrong_value(error: Any, location: Location, subject: Subject) -> Diagnostic:
    node, _ = subject.document.find(location)
    value = error["input"]
    context = error.get("ctx", {})
    match error["type"]:
        case "enum" | "literal_error":
            code, message, remedy = _choice(value, node, context["expected"])
        case "greater_than_equal":
            code, message, remedy = (
                Code.RANGE,
                f"this is at least {context['ge']}, not {value}",
                "",
            )
        case "string_too_short":
            code, message, remedy = Code.RANGE, "this cannot be empty", "write it"
        case kind:
            code = Code.TYPE
            message, remedy = _type(kind, value, node)
    return subject.report(code, message, location, help=remedy)


def _choice(value: object, node: Node, expected: str) -> tuple[Code, str, str]:
    options = [option.strip("'") for option in expected.replace(" or ", ", ").split(", ")]
    written = node.text if node.text is not None else value
    listed = ", ".join(options)
    if not isinstance(value, str):
        return Code.CHOICE, f"this is {named(value)}, not one of {listed}", ""
    if len(options) == 1:
        return Code.CHOICE, f"`{written}` is not `{listed}`", f"write `{listed}`"
    return Code.CHOICE, f"`{written}` is none of {listed}", nearest(value, options)


def _type(kind: str, value: object, node: Node) -> tuple[str, str]:
    """Message and remedy for a value that is no text, no boolean, no number, no list or no mapping."""
    written = node.text if node.text is not None else value
    match kind:
        case "string_type":
            return _no_text(value, written)
        case "bool_type" if isinstance(value, str) and value in _BOOLEANS:
            said = f"`{value}` is text in YAML 1.2, not a boolean", f"write {_BOOLEANS[value]}"
        case "bool_type":
            said = f"this is {named(value)}, not true or false", "write true or false, without quotes"
        case "tuple_type":
            scalar = isinstance(value, (str, int, float))
            said = f"this is {named(value)}, but a list is needed", f"write [{written}]" if scalar else ""
        case "model_type" | "dict_type":
            remedy = "write `{}` if nothing is to be said" if value is None else ""
            said = f"this is {named(value)}, but a mapping is needed", remedy
        case _:
            what = "a number" if kind == "float_type" else "a whole number"
            quoted = isinstance(value, str) and value.isdigit()
            said = f"this is {named(value)}, but {what} is needed", "remove the quotes" if quoted else ""
    return said


def _no_text(value: object, written: object) -> tuple[str, str]:
    if value is None:
        return "there is nothing here, but a text is needed", "write it, or remove the key"
    if isinstance(value, (bool, int, float)):
        return f"`{written}` was read as {named(value)}, but a text is needed", f'quote it: "{written}"'
    return f"this is {named(value)}, but a text is needed", ""
