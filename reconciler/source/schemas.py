"""The published JSON schemas: made from the models, and used to check documents against a published set.

`generate` is called by `schema export` and by the test that compares; `check` by `validate --schemas`. The schemas
keep to the subset of draft-07 that editors support: no references between files, no nulls, one `if` for each kind
(and `patternErrorMessage`, an editor's own keyword: what it says instead of the pattern). The models stay the judge: a
schema cannot say everything that they check.
"""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from reconciler import errors
from reconciler.domain import resources
from reconciler.domain.diagnostics import Code, Diagnostic
from reconciler.domain.limits import DEFAULT
from reconciler.domain.resources import Kind
from reconciler.source import explain, loader, reading, validate
from reconciler.source.tree import Tree, UnreadableError

ALL = "all.schema.json"
_DRAFT = "http://json-schema.org/draft-07/schema#"
_ENVELOPE = ("apiVersion", "kind", "metadata", "spec")
_DATA = frozenset({"default", "examples", "enum", "const", "required"})
"""Keywords whose values are no schemas."""
_LIKE_A_NUMBER = re.compile(r"[0-9.]*")


class _Validator(Protocol):
    def iter_errors(self, instance: object) -> Iterator[Any]: ...


def file_name(kind: Kind) -> str:
    """`product.schema.json`."""
    return f"{kind.lower()}.schema.json"


def generate() -> dict[str, str]:
    """The text of every schema by its file's name."""
    single = {kind: _schema(kind) for kind in Kind}
    named = {file_name(kind): _headed(f"v1:{kind.lower()}", schema) for kind, schema in single.items()}
    named[ALL] = _headed("v1:all", _switch(single))
    return {name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in named.items()}


def check(tree: Tree, folder: pathlib.Path) -> list[Diagnostic]:
    """What documents say that the schemas in a folder do not allow.

    Raises:
        UserError: a schema is missing or is none.
    """
    validators: dict[str, _Validator] = {}
    found: list[Diagnostic] = []
    for path in sorted(filter(validate.is_manifest, tree.paths())):
        try:
            file = reading.read(tree.read(path, loader.FILE_BYTES), DEFAULT)
        except UnreadableError:
            continue
        for one in file.readings:
            if one.key is not None:
                if one.key.kind not in validators:
                    validators[one.key.kind] = _validator(folder / file_name(one.key.kind))
                subject = explain.Subject(one.document, path, str(one.key))
                found += _complaints(validators[one.key.kind], subject, file_name(one.key.kind))
    return found


def _complaints(validator: _Validator, subject: explain.Subject, schema: str) -> Iterator[Diagnostic]:
    for mistake in validator.iter_errors(subject.document.data):
        message = f"the schema does not allow this: {str(mistake.message)[:300]}"
        remedy = f"mend it, or the rule in {schema}"
        yield subject.report(Code.SCHEMA, message, tuple(mistake.absolute_path), help=remedy)


def _validator(path: pathlib.Path) -> _Validator:
    import jsonschema  # noqa: PLC0415 - 60 ms that `validate` spends only when asked to

    try:
        schema = json.loads(path.read_bytes())
        jsonschema.Draft7Validator.check_schema(schema)
    except OSError as problem:
        raise errors.UserError(f"{path} cannot be read: {problem.strerror}") from problem
    except (ValueError, jsonschema.SchemaError) as problem:
        raise errors.UserError(f"{path} is not a JSON schema: {str(problem)[:200]}") from problem
    return jsonschema.Draft7Validator(schema)


def _headed(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"$schema": _DRAFT, "$id": f"urn:reconciler:schemas:{name}", **schema}


def _switch(single: Mapping[Kind, dict[str, Any]]) -> dict[str, Any]:
    """One schema for every kind: what `kind` says decides, so that an editor's message is about that kind alone.

    What all kinds share stands at the top: an editor completes it before a kind is chosen, and says nothing twice.
    """
    shared = next(iter(single.values()))["properties"]
    kind = {"description": shared["kind"]["description"], "enum": [str(kind) for kind in Kind]}
    spec = {"description": "What the object is, or is to do; its fields follow from `kind`."}
    return {
        "description": "Any manifest.",
        "type": "object",
        "required": list(_ENVELOPE),
        "additionalProperties": False,
        "properties": {**shared, "kind": kind, "spec": spec},
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": str(kind)}}, "required": ["kind"]},
                "then": {"$ref": f"#/definitions/{kind}"},
            }
            for kind in Kind
        ],
        "definitions": {
            str(kind): {
                "properties": {"spec": schema["properties"]["spec"]},
                **{key: value for key, value in schema.items() if key == "allOf"},
            }
            for kind, schema in single.items()
        },
    }


def _schema(kind: Kind) -> dict[str, Any]:
    raw = resources.MODELS[kind].model_json_schema(by_alias=True)
    schema = dict(_plain(raw, raw.get("$defs", {})))
    schema["properties"] = {name: schema["properties"][name] for name in _ENVELOPE}
    return {**schema, "required": list(_ENVELOPE)}


def _plain(part: Any, definitions: Mapping[str, Any]) -> Any:
    """Part of a generated schema without references, nulls and the titles that pydantic invents."""
    if isinstance(part, list):
        return [_plain(entry, definitions) for entry in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        referred = definitions[part["$ref"].rpartition("/")[2]]
        return _plain({**referred, **{key: part[key] for key in part if key != "$ref"}}, definitions)
    options = [option for option in part.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        rest = {key: value for key, value in part.items() if key not in {"anyOf", "default"}}
        return _plain({**options[0], **rest}, definitions)
    made = {
        key: _member(key, value, definitions) for key, value in part.items() if key not in {"$defs", "title"}
    }
    return _open_keys(_with_default(made))


def _member(key: str, value: Any, definitions: Mapping[str, Any]) -> Any:
    """What stands under a keyword: schemas by their names, data, or schemas."""
    if key == "properties":
        return {name: _plain(schema, definitions) for name, schema in value.items()}
    return value if key in _DATA else _plain(value, definitions)


def _with_default(schema: dict[str, Any]) -> dict[str, Any]:
    """The default in the description, too: that is what every editor shows when one points at a field."""
    default = schema.get("default")
    if default in ("", None, [], {}) or "Default:" in schema["description"]:
        return schema
    return {**schema, "description": f"{schema['description']} Default: `{written(default)}`."}


def written(value: Any) -> str:
    """A value as one writes it in a manifest, in one line; what looks like a number is quoted."""
    is_plain = isinstance(value, str) and not _LIKE_A_NUMBER.fullmatch(value)
    return str(value) if is_plain else json.dumps(value, ensure_ascii=False)


def _open_keys(schema: dict[str, Any]) -> dict[str, Any]:
    """A rule about a mapping's keys as a rule: as pydantic writes it, keys that break it have no rule at all."""
    if "patternProperties" not in schema:
        return schema
    ((pattern, values),) = schema["patternProperties"].items()
    rest = {key: value for key, value in schema.items() if key != "patternProperties"}
    keys = {"pattern": pattern, **schema.get("propertyNames", {})}
    return {**rest, "additionalProperties": values, "propertyNames": keys}
