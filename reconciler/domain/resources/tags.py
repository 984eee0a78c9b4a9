"""A batch's tags, which devices get with the push: stricter than a device's own tags, which never go over the wire.

Used by `batch`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import pydantic
from pydantic_core import PydanticCustomError

from reconciler.domain.diagnostics import Code
from reconciler.domain.resources import base, clauses

_KEY = re.compile(r"[A-Za-z0-9.]{1,30}")
_KEY_RULE = "1 to 30 letters, digits and dots"


def _check(tags: dict[str, str]) -> dict[str, str]:
    base.refuse(_wrong(tags))
    return tags


def _wrong(tags: dict[str, str]) -> Iterator[PydanticCustomError]:
    if len(tags) > 10:
        yield base.problem(Code.RANGE, f"a batch has at most 10 tags, these are {len(tags)}")
    for key, value in tags.items():
        if not _KEY.fullmatch(key):
            yield base.problem(
                Code.MALFORMED, f"`{key}` is not a tag's key", remedy=_KEY_RULE, at=(key,), at_key=True
            )
        if key in base.PROTOCOL_KEYS:
            yield _taken_for_a_field(key, key, at_key=True)
        if not 1 <= len(value) <= 1024:
            message = f"a tag's value has 1 to 1,024 characters, this has {len(value):,}"
            yield base.problem(Code.RANGE, message, at=(key,))
        if base.looks_like_a_field(value):
            yield _taken_for_a_field(value, key)
        if not base.is_balanced(value):
            yield base.problem(
                Code.MALFORMED, "the braces of this tag do not pair up", remedy=base.BRACES, at=(key,)
            )
    size = sum(len(key) + len(value) for key, value in tags.items())
    if size > 4096:
        yield base.problem(Code.RANGE, f"tags have at most 4,096 characters together, these have {size:,}")


def _taken_for_a_field(text: str, key: str, *, at_key: bool = False) -> PydanticCustomError:
    return base.problem(
        Code.MALFORMED,
        f"`{text}` is a field of the device protocol, and cannot be a tag",
        remedy="devices find fields by their name alone and would take the tag for the field",
        at=(key,),
        at_key=at_key,
    )


Tags = Annotated[dict[str, str], pydantic.AfterValidator(_check)]
SCHEMA: dict[str, Any] = {
    "maxProperties": 10,
    "propertyNames": {
        "pattern": f"^{_KEY.pattern}$",
        "patternErrorMessage": _KEY_RULE,
        **clauses.not_among(base.PROTOCOL_KEYS),
    },
    "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 1024},
}
"""What the published schemas say of them."""
