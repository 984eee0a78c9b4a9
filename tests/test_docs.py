"""The documentation says what the code does: generated pages are fresh, links lead somewhere, nothing is left out."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import re
import types
from typing import Any

import pytest

from reconciler.domain import actions, conditions, resources
from reconciler.source import schemas

ROOT = pathlib.Path(__file__).parent.parent
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/README.md")]
)


def _generator() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["lifecycle.md", "reference.md", "errors.md"])
def test_generated_pages_are_fresh(page: str) -> None:
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == _generator().PAGES[page]()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: pathlib.Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_metric_is_documented() -> None:
    source = (ROOT / "reconciler" / "services" / "metrics.py").read_text(encoding="utf-8")
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    metrics = set(re.findall(r'"(reconciler_[a-z_]+)"', source))
    assert metrics
    assert {metric for metric in metrics if f"`{metric}" not in text} == set()


def _paths(schema: dict[str, Any], above: str = "") -> set[str]:
    """Every field below a part of a schema."""
    found = set()
    for name, field in schema.get("properties", {}).items():
        found |= {f"{above}{name}"} | _paths(field, f"{above}{name}.")
        found |= _paths(field.get("items", {}), f"{above}{name}[].")
    return found


@pytest.mark.parametrize("kind", resources.Kind)
def test_every_field_of_a_manifest_is_documented(kind: resources.Kind) -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    chapters = {part.split("\n", 1)[0]: part for part in re.split(r"^### ", text, flags=re.MULTILINE)}
    known = _paths(json.loads(schemas.generate()[schemas.file_name(kind)])) - {"spec"}
    assert len(known) > 8
    said = chapters["Every manifest"] + chapters[str(kind)]
    assert {path for path in known if f"| `{path}` |" not in said} == set()


def test_every_example_explains_itself() -> None:
    folders = [folder for folder in (ROOT / "examples").iterdir() if folder.is_dir()]
    assert [folder.name for folder in folders if not (folder / "README.md").exists()] == []


def _condition_reasons() -> set[str]:
    source = (ROOT / "reconciler" / "domain" / "conditions.py").read_text(encoding="utf-8")
    words = r'(?:, |= |else |return |\(|^ {8,12})"([A-Z][A-Za-z]+)"(?=[,) ]|$)'
    return set(re.findall(words, source, re.MULTILINE))


def test_the_operator_is_told_what_to_do_about_every_reason() -> None:
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    assert {reason for reason in actions.Reason if f"`{reason}`" not in text} == set()
    well = {
        *conditions.Sync,
        *conditions.Health,
        "Applied",
        "Completed",
        "Canceled",
        "NotStalled",
        "NotSuspended",
        "NotRequired",
        "Verified",
    }
    assert {word for word in _condition_reasons() - well if f"`{word}`" not in text} == set()


def test_every_reason_of_a_condition_is_documented() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    said = _condition_reasons()
    assert {
        "NotStalled",
        "CanceledByOperator",
        "NoDevices",
        "SuspendedInGit",
        "Unverified",
        "Starting",
    } <= said
    assert {word for word in said if f"`{word}`" not in text} == set()
