"""What the published schemas say of rules between fields: small parts of JSON schemas, put together beside each model.

The models judge; a clause repeats one of their rules for editors, which know the schemas only. What no schema can say
(sums, spans of time, names that differ by case) has no clause. A test holds models and schemas against each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pydantic

Clause = dict[str, Any]


def rules(*clauses: Clause) -> pydantic.ConfigDict:
    """A model's configuration that adds clauses to its schema."""
    return pydantic.ConfigDict(json_schema_extra={"allOf": list(clauses)})


def given(*fields: str, **values: str | bool) -> Clause:
    """Holds where these fields are, some of them with this value."""
    said = {"properties": {name: {"const": value} for name, value in values.items()}} if values else {}
    return {"required": [*fields, *values], **said}


def filled(field: str, what: str = "minItems") -> Clause:
    """Holds where a list is there and not empty; or a mapping, with `minProperties`."""
    return {"required": [field], "properties": {field: {what: 1}}}


def none_of(*fields: str) -> Clause:
    """Holds where none of these fields is. An editor underlines the one that is."""
    return {"properties": dict.fromkeys(fields, False)}


def exactly_one(*fields: str) -> Clause:
    """Holds where one of these fields is, and no other of them."""
    return {"oneOf": [given(field) for field in fields]}


def not_among(words: Iterable[str]) -> Clause:
    """Holds for a text that is none of these."""
    return {"not": {"enum": sorted(words)}}


def any_of(*clauses: Clause) -> Clause:
    """Holds where at least one of these does."""
    return {"anyOf": list(clauses)}


def all_of(*clauses: Clause) -> Clause:
    """Holds where each of these does."""
    return {"allOf": list(clauses)}


def when(condition: Clause, then: Clause, otherwise: Clause | None = None) -> Clause:
    """Where the condition holds, `then` must, too; elsewhere `otherwise`, if there is one."""
    return {"if": condition, "then": then} | ({} if otherwise is None else {"else": otherwise})


def without(field: str, below: str, then: Clause) -> Clause:
    """Where the mapping `below` has no such field, `then` must hold."""
    return when({"not": {"required": [below], "properties": {below: given(field)}}}, then)


def name_of(shortest: int, longest: int) -> Clause:
    """Holds where `metadata.name` has so many characters."""
    length = {"minLength": shortest, "maxLength": longest}
    return {"properties": {"metadata": {"properties": {"name": length}}}}
