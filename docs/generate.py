"""Writes the pages that the code knows better than we do: `python docs/generate.py`. A test compares."""

from __future__ import annotations

import dataclasses
import difflib
import json
import pathlib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from reconciler import cli
from reconciler.domain import catalogue, lifecycle, limits, plan, resources, waiting
from reconciler.domain.diagnostics import Code
from reconciler.settings import PREFIX, SECRETS, Settings
from reconciler.source import schemas

DOCS = pathlib.Path(__file__).parent
GOLDEN = DOCS.parent / "tests" / "golden"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def lifecycle_page() -> str:
    """The transition table as a diagram and as tables, between what it does not say."""
    marks = {
        "diagram": _diagram(),
        "entries": _entries(),
        "table": _transitions(),
        "steps": ", ".join(f"{step} `{reason}`" for step, reason in lifecycle.STEP_REASONS.items()),
    }
    return _filled("lifecycle.in.md", marks)


def _filled(template: str, marks: Mapping[str, str]) -> str:
    """A page with its marks replaced."""
    page = (DOCS / template).read_text(encoding="utf-8")
    for mark, text in marks.items():
        page = page.replace(f"<!-- {mark} -->", text)
    return page


def _said(state: lifecycle.State) -> str:
    """A state in a table."""
    return state.status if state.hold is lifecycle.Hold.NONE else f"{state.status}, hold {state.hold}"


def _drawn(state: lifecycle.State) -> str:
    """A state in the diagram."""
    return state.status if state.hold is lifecycle.Hold.NONE else f"{state.status}_{state.hold}"


def _goals(origin: lifecycle.State | None, rule: lifecycle.Rule) -> list[tuple[lifecycle.State, str]]:
    """Where a rule leads, and under which condition: a retry stays, and a batch may ask for a confirmation first."""
    goals = [(rule.to, "")]
    if lifecycle.Effect.ASK_FIRST in rule.effects:
        goals.append((lifecycle.State(lifecycle.Status.CONFIRM), " (asks first)"))
    if lifecycle.Effect.RETRY in rule.effects and origin is not None:
        goals.append((lifecycle.State(origin.status, lifecycle.Hold.RETRY), " (retries left)"))
    return goals


def _diagram() -> str:
    """Every way from one state to another, with what happens on it."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for entry, rule in lifecycle.ENTRIES.items():
        for goal, when in _goals(None, rule):
            arrows.setdefault(("[*]", _drawn(goal)), []).append(f"{entry.name.lower()}{when}")
    for state, row in lifecycle.TABLE.items():
        for trigger, rule in row.items():
            for goal, when in _goals(state, rule):
                if goal != state:
                    arrows.setdefault((_drawn(state), _drawn(goal)), []).append(f"{trigger}{when}")
    held = [state for state in lifecycle.TABLE if state.hold is not lifecycle.Hold.NONE]
    names = [f'    state "{_said(state)}" as {_drawn(state)}' for state in held]
    ways = [f"    {a} --> {b}: {', '.join(triggers)}" for (a, b), triggers in arrows.items()]
    ends = [f"    {status} --> [*]" for status in lifecycle.ENDED]
    return "\n".join(["stateDiagram-v2", *names, *ways, *ends])


def _entries() -> str:
    rows = [
        (entry.value, " or ".join(_said(goal) + when for goal, when in _goals(None, rule)), rule.reason or "")
        for entry, rule in lifecycle.ENTRIES.items()
    ]
    return table(("When", "It begins as", "Reason"), rows)


def _transitions() -> str:
    rows = []
    for state, row in lifecycle.TABLE.items():
        for trigger, rule in row.items():
            effects = "; ".join(sorted(effect.value for effect in rule.effects))
            rows.append((_said(state), str(trigger), _said(rule.to), rule.reason or "", effects))
    return table(("From", "Event", "To", "Reason", "Besides"), rows)


def settings_table() -> str:
    """Every setting, with its flag, variable and default."""
    rows = []
    for name, field in Settings.model_fields.items():
        variable = f"`{PREFIX}{name.upper()}`" + (" (also `…_FILE`)" if name in SECRETS else "")
        default = "" if field.default in ("", None, ()) else f"`{field.default}`"
        rows.append((f"`--{name.replace('_', '-')}`", variable, default, field.description or ""))
    return table(("Flag", "Variable", "Default", "Meaning"), rows)


def limits_table() -> str:
    """Every limit that an operator can change, with its default as one writes it."""

    def written(value: object) -> str:
        if isinstance(value, timedelta):
            return resources.format_duration(value)
        return " ".join(value) if isinstance(value, tuple) else str(value)

    fields = dataclasses.fields(limits.Limits)
    rows = [(f"`{field.name.replace('_', '-')}`", f"`{written(field.default)}`") for field in fields]
    return table(("Limit", "Default"), rows)


_TYPES = {"boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "text"}


def _value(schema: Mapping[str, Any]) -> str:
    """What one writes for a field."""
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{schemas.written(choice)}`" for choice in schema["enum"])
    if schema["type"] == "array":
        return f"a list: {_value(schema['items'])}"
    if schema["type"] == "object":
        return "a mapping" + ("" if "properties" in schema else " of texts")
    return _TYPES[schema["type"]]


def _fields(schema: Mapping[str, Any], above: str) -> list[tuple[str, str, str, str]]:
    """A row for every field below a mapping."""
    rows = []
    for name, field in schema["properties"].items():
        default = f"`{schemas.written(field['default'])}`" if field.get("default") not in ("", None) else ""
        meaning = field["description"].removesuffix(f" Default: {default}.")
        for example in field.get("examples", [])[:1]:
            meaning += f" Example: `{schemas.written(example)}`"
        first = "required" if name in schema.get("required", ()) else default
        rows.append((f"`{above}{name}`", _value(field), first, meaning))
        rows += _fields(field, f"{above}{name}.") if field.get("properties") else []
        below = field.get("items", {})
        rows += _fields(below, f"{above}{name}[].") if "properties" in below else []
    return rows


def manifests_section() -> str:
    """Every field of every kind, from the published schemas."""
    heads, parts = ("Field", "Value", "Default", "Meaning"), []
    for kind in resources.Kind:
        schema = json.loads(schemas.generate()[schemas.file_name(kind)])
        if not parts:
            shared = {**schema, "properties": {**schema["properties"]}}
            shared["properties"].pop("spec")
            shared["properties"]["kind"] = {**schema["properties"]["kind"], "enum": list(resources.Kind)}
            shared["properties"]["kind"].pop("const")
            parts.append(f"### Every manifest\n\n{table(heads, _fields(shared, ''))}")
        spec = schema["properties"]["spec"]
        parts.append(f"### {kind}\n\n{schema['description']}\n\n{table(heads, _fields(spec, 'spec.'))}")
    return "\n\n".join(parts)


def reference_page() -> str:
    """Commands, settings, manifests, codes and reasons."""
    commands = table(
        ("Command", "Means"), ((f"`{name}`", text) for name, text in sorted(cli.COMMANDS.items()))
    )
    codes = table(
        ("Code", "Means"), ((f"[`{code}`](errors.md#{code.lower()})", code.meaning) for code in Code)
    )
    verdicts = ", ".join(f"`{reason}`" for reason in plan.Reason)
    reasons = ", ".join(f"`{reason}`" for reason in lifecycle.Reason)
    waits = ", ".join(f"`{wait}`" for wait in waiting.Wait)
    marks = {
        "commands": commands,
        "settings": settings_table(),
        "manifests": manifests_section(),
        "limits": limits_table(),
        "codes": codes,
        "verdicts": verdicts,
        "reasons": reasons,
        "waits": waits,
    }
    return _filled("reference.in.md", marks)


def errors_page() -> str:
    """Each code: what it is about, an example as `validate` shows it, and what mends that."""
    return _filled("errors.in.md", {"codes": "\n\n".join(map(_error, Code))})


def _error(code: Code) -> str:
    folder = GOLDEN / code
    said = (folder / "message.txt").read_text(encoding="utf-8").rpartition("\n\n")[0]
    parts = [
        f"## {code}",
        f"**{code.meaning[0].upper()}{code.meaning[1:]}.** {catalogue.PAGES[code]}",
        f"```text\n{said}\n```",
    ]
    if mended := _mended(folder):
        parts.append(f"```diff\n{mended}\n```")
    return "\n\n".join(parts)


def _mended(folder: pathlib.Path) -> str:
    """What changes from the manifest that is wrong to the one that is right; empty for what is no text."""
    texts = []
    for name in ("bad.yaml", "good.yaml"):
        path = folder / name
        texts.append([] if path.is_symlink() else path.read_text("utf-8", "replace").splitlines())
    if not all(texts):
        return ""
    return "\n".join(list(difflib.unified_diff(*texts, n=2, lineterm=""))[3:])


PAGES = {"lifecycle.md": lifecycle_page, "reference.md": reference_page, "errors.md": errors_page}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (DOCS / page).write_text(make(), encoding="utf-8")
