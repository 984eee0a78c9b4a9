"""Writes the pages that the code knows better than we do: `python docs/generate.py`. A test compares."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable
from datetime import timedelta

from reconciler import cli
from reconciler.domain import lifecycle, limits, plan, resources
from reconciler.domain.diagnostics import Code
from reconciler.settings import PREFIX, SECRETS, Settings

DOCS = pathlib.Path(__file__).parent


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def lifecycle_page() -> str:
    """The transition table as a diagram and as a table."""
    arrows: dict[tuple[str, str], list[str]] = {}
    rows = []
    for status, row in lifecycle.TABLE.items():
        for trigger, rule in row.items():
            effects = "; ".join(sorted(effect.value for effect in rule.effects))
            rows.append((status.value, trigger.value, rule.to.value, rule.reason or "", effects))
            if rule.to is not status:
                arrows.setdefault((status.value, rule.to.value), []).append(trigger.value)
    diagram = [f"    {a} --> {b}: {', '.join(triggers)}" for (a, b), triggers in arrows.items()]
    ends = [f"    {status.value} --> [*]" for status in lifecycle.ENDED]
    return f"""# How a task moves

Generated from `reconciler/domain/lifecycle.py` by `python docs/generate.py`. A pair that is not listed changes nothing.
A new task is QUEUED, or FAILED as `conflict` when its device is in another unfinished task.

```mermaid
stateDiagram-v2
    [*] --> QUEUED
{chr(10).join([*diagram, *ends])}
```

{table(("From", "Event", "To", "Reason", "Besides"), rows)}

A failed step gives its reason: {", ".join(f"{step} `{reason}`" for step, reason in lifecycle.STEP_REASONS.items())}.
"""


def settings_table() -> str:
    """Every setting, with its flag, variable and default."""
    rows = []
    for name, field in Settings.model_fields.items():
        variable = f"`{PREFIX}{name.upper()}`" + (" (also `…_FILE`)" if name in SECRETS else "")
        default = "" if field.default in ("", None) else f"`{field.default}`"
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


def reference_page() -> str:
    """Commands, settings, codes and reasons."""
    commands = table(
        ("Command", "Means"), ((f"`{name}`", text) for name, text in sorted(cli.COMMANDS.items()))
    )
    codes = table(
        ("Code", "Name"), ((f"`{code.value}`", code.name.lower().replace("_", " ")) for code in Code)
    )
    verdicts = ", ".join(f"`{reason}`" for reason in plan.Reason)
    reasons = ", ".join(f"`{reason}`" for reason in lifecycle.Reason)
    static = (DOCS / "reference.in.md").read_text(encoding="utf-8")
    for mark, text in (
        ("commands", commands),
        ("settings", settings_table()),
        ("limits", limits_table()),
        ("codes", codes),
        ("verdicts", verdicts),
        ("reasons", reasons),
    ):
        static = static.replace(f"<!-- {mark} -->", text)
    return static


PAGES = {"lifecycle.md": lifecycle_page, "reference.md": reference_page}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (DOCS / page).write_text(make(), encoding="utf-8")
