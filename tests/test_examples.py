"""Every example is a fleet that validates as it lies there, and whose plan is carried out whole."""

from __future__ import annotations

import pathlib
import re

import pytest

from reconciler import bootstrap, choices
from reconciler.services import materialize, preview
from reconciler.services.clock import SystemClock
from reconciler.services.observe import make_plan
from reconciler.settings import Settings
from reconciler.source import schemas, validate
from reconciler.source.scratch import ScratchRepository
from reconciler.source.tree import FolderTree
from reconciler.store import devices, status

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


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
async def test_an_example_is_planned_and_applied_and_each_of_its_batches_lives(example, tmp_path):
    repository = ScratchRepository(tmp_path / "fleet")
    repository.copy(example, *(path.name for path in example.iterdir()))
    repository.commit("Everything")
    settings = Settings(repo=str(tmp_path / "fleet"), data_dir=tmp_path / "data", bootstrap="start")
    with bootstrap.opened(settings) as base:
        followed = choices.repository_of(settings)
        try:
            service, clock = bootstrap.reconcile_of(base, followed, SystemClock()), SystemClock()
            applied = await service.run_pass()
            assert applied.plan.verdicts == ()
            presence = devices.Presence(devices.NO_EPOCH, choices.settle_of(settings))
            await materialize.everything(base.database, clock, presence)
            policy = choices.policy_of(settings)
            with base.database.reading() as connection:
                again = make_plan(connection, service.state.commit, policy, clock.now())
                assert again.plan.actions == again.plan.verdicts == ()
                assert list(preview.reaches(connection, service.state.commit, again, policy.limits)) == []
                batches = [found for found in status.objects(connection) if found.kind == "Batch"]
        finally:
            followed.close()
    assert batches
    assert all(found.run is not None for found in batches)
