"""Every example is a fleet that validates as it lies there."""

from __future__ import annotations

import pathlib
import re

import pytest

from reconciler.source import schemas, validate
from reconciler.source.tree import FolderTree

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if path.is_dir())
MODELINE = re.compile(r"# yaml-language-server: \$schema=(\S+)\n")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_valid_by_the_rules_and_by_the_schemas(example):
    checked = validate.check(FolderTree(example))
    assert checked.diagnostics == ()
    assert checked.counts.valid == checked.counts.manifests >= 4
    assert schemas.check(FolderTree(example), ROOT / "schemas" / "v1") == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_first_line_of_each_manifest_leads_an_editor_to_its_schema(example):
    for path in example.rglob("*.yaml"):
        text = path.read_text()
        modeline = MODELINE.match(text)
        assert modeline, path
        schema = (path.parent / modeline[1]).resolve()
        kind = re.search(r"^kind: (\w+)$", text, re.MULTILINE)[1]
        assert schema == ROOT / "schemas" / "v1" / f"{kind.lower()}.schema.json"
        assert schema.is_file()
