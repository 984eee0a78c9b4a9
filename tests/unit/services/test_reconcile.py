"""Passes over a real repository: which commit, when, and what happens to what fails."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import subprocess

import pytest
from rig import base, batch
from sqlalchemy import select, text

from reconciler import errors
from reconciler.domain.desired import Key
from reconciler.domain.plan import Action, Plan, Policy, Reason, Verb, Verdict
from reconciler.domain.resources import Kind
from reconciler.services.planned import summary
from reconciler.services.reconcile import Reconcile
from reconciler.source.repository import Repository
from reconciler.store import tables

ONE, TWO, THREE = "dev-1", "dev-2", "dev-3"


class Fleet:
    """A team's repository."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "commit.gpgsign=false")
        ran = subprocess.run(
            ["git", *who, *arguments], cwd=self.path, env=env, check=True, capture_output=True, text=True
        )
        return ran.stdout.strip()

    def commit(self, *parts: dict[str, bytes], message: str = "change") -> str:
        """A commit that holds just these files."""
        for old in self.path.iterdir():
            if old.name != ".git":
                old.unlink()
        for part in parts:
            for name, content in part.items():
                (self.path / name).write_bytes(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", f"--message={message}")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def fleet(tmp_path):
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def passes(rig, fleet, tmp_path):
    repository = Repository(str(fleet.path), tmp_path / "mirror", "main")
    policy = Policy(hold_first_sight=False)
    yield Reconcile(rig.database, repository, rig.stage, rig.clock, policy)
    repository.close()


async def test_a_pass_applies_the_commit_that_the_ref_names(rig, fleet, passes):
    sha = fleet.commit(base(ONE), batch(), message="upgrade everybody")
    applied = await passes.run_pass()
    assert applied.changed
    (revision,) = rig.rows(select(tables.revision))
    assert (revision.sha, revision.ref, revision.subject) == (sha, "main", "upgrade everybody")
    assert revision.author.startswith("Ann")
    await rig.materialize()
    assert rig.status(ONE) == "QUEUED"
    state = passes.state
    assert (state.failing, state.passes, state.failures, state.last_success) == (None, 1, 0, rig.clock.now())
    assert state.commit.revision.sha == sha
    assert summary(state.plan) == "Plan: 4 to create, 0 to change, 0 to cancel."


async def test_the_next_pass_over_the_same_commit_writes_nothing(rig, fleet, passes):
    fleet.commit(base(ONE), batch())
    await passes.run_pass()
    await rig.materialize()
    before = rig.dump()
    rig.clock.advance(60)
    applied = await passes.run_pass()
    assert (applied.changed, rig.dump()) == (False, before)
    assert summary(passes.state.plan) == "No changes."


def planned(verbs=(), held=0, refused=0):
    key = Key(Kind.BATCH, "all")
    verdicts = [Verdict(key, Reason.FIRST_SIGHT, "")] * held
    verdicts += [Verdict(key, Reason.INVALID, "")] * refused
    return Plan(tuple(Action(verb, key, "") for verb in verbs), tuple(verdicts))


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (planned([Verb.CREATE, Verb.CREATE, Verb.CANCEL]), "Plan: 2 to create, 0 to change, 1 to cancel."),
        (planned([Verb.REMOVE]), "Plan: 0 to create, 0 to change, 0 to cancel, 1 to remove."),
        (planned([Verb.CHANGE], held=4), "Plan: 0 to create, 1 to change, 0 to cancel; 4 held."),
        (planned(), "No changes."),
        (planned(held=4, refused=1), "No changes; 1 refused, 4 held."),
    ],
)
def test_the_summary_counts_removals_apart_and_what_is_kept_out(plan, said):
    assert summary(plan) == said


async def test_a_pass_looks_at_the_newest_commit_only(rig, fleet, passes):
    fleet.commit(base(ONE))
    await passes.run_pass()
    fleet.commit(base(ONE), batch(), message="never seen")
    fleet.commit(base(ONE), batch("other"))
    await passes.run_pass()
    assert [row.batch for row in rig.rows(select(tables.run))] == ["other"]


async def test_a_repository_without_a_commit_is_waited_for(rig, fleet, passes):
    assert await passes.run_pass() is None
    assert passes.state.failing == "the repository has no commit yet"
    fleet.commit(base(ONE))
    await passes.run_pass()
    assert passes.state.failing is None


async def test_a_commit_s_trailer_confirms_its_cancellations(rig, fleet, passes):
    many = [batch(f"b{i}", target={"devices": [name]}) for i, name in enumerate((ONE, TWO, THREE))]
    fleet.commit(base(ONE, TWO, THREE), *many)
    await passes.run_pass()
    fleet.commit(base(ONE, TWO, THREE))
    applied = await passes.run_pass()
    assert {verdict.reason for verdict in applied.plan.held} == {Reason.MASS_CANCEL}
    fleet.commit(base(ONE, TWO, THREE), message="stop them\n\nConfirm-Cancel: many")
    assert (await passes.run_pass()).plan.actions == ()
    fleet.commit(base(ONE, TWO, THREE), message="stop them\n\nConfirm-Cancel: 3")
    assert len((await passes.run_pass()).plan.actions) == 3


async def test_whoever_waits_for_a_pass_hears_of_changes_only(rig, fleet, passes):
    heard = []

    async def after() -> None:
        heard.append(passes.state.passes)

    passes.after_apply = after
    fleet.commit(base(ONE))
    await passes.run_pass()
    await passes.run_pass()
    fleet.commit(base(ONE), batch())
    await passes.run_pass()
    assert heard == [1, 3]


async def test_what_follows_a_pass_is_tried_again_until_it_succeeds(rig, fleet, passes):
    heard = []

    async def after() -> None:
        heard.append(passes.state.passes)
        if len(heard) == 1:
            raise errors.TransientError("away")

    passes.after_apply = after
    fleet.commit(base(ONE))
    with pytest.raises(errors.TransientError):
        await passes.run_pass()
    for _ in range(2):
        await passes.run_pass()
    assert heard == [1, 2]


async def test_a_repository_that_is_gone_changes_nothing(rig, fleet, passes):
    fleet.commit(base(ONE), batch())
    await passes.run_pass()
    await rig.materialize()
    before = rig.dump()
    fleet.path.rename(fleet.path.with_name("away"))
    with pytest.raises(errors.ReconcilerError):
        await passes.run_pass()
    assert rig.dump() == before
    fleet.path.with_name("away").rename(fleet.path)
    assert not (await passes.run_pass()).changed


@pytest.mark.parametrize("place", ["all.yaml", "moved.yaml"])
async def test_a_manifest_that_becomes_a_link_is_not_taken_for_a_deleted_one(
    rig, fleet, passes, place, caplog
):
    fleet.commit(base(ONE), batch())
    await passes.run_pass()
    (fleet.path / "all.yaml").unlink()
    (fleet.path / place).symlink_to("elsewhere.yaml")
    fleet.git("add", "--all")
    fleet.git("commit", "--quiet", "--message=link")
    applied = await passes.run_pass()
    assert {verdict.key.name: verdict.reason for verdict in applied.plan.verdicts} == {
        "all": Reason.UNREADABLE
    }
    assert rig.run().phase == "IN_PROGRESS"
    assert f"{place} is a symbolic link" in caplog.text


@pytest.mark.parametrize("mode", ["120000", "160000"])
async def test_a_folder_that_becomes_a_link_or_a_submodule_holds_what_it_held(rig, fleet, passes, mode):
    fleet.commit(base(ONE), batch())
    (fleet.path / "batches").mkdir()
    (fleet.path / "all.yaml").rename(fleet.path / "batches" / "all.yaml")
    fleet.git("add", "--all")
    fleet.git("commit", "--quiet", "--message=folder")
    await passes.run_pass()
    target = fleet.git("rev-parse", "HEAD" if mode == "160000" else "HEAD:app.bin")
    fleet.git("rm", "-r", "--quiet", "batches")
    fleet.git("update-index", "--add", "--cacheinfo", f"{mode},{target},batches")
    fleet.git("commit", "--quiet", "--message=elsewhere")
    applied = await passes.run_pass()
    assert {verdict.key.name: verdict.reason for verdict in applied.plan.verdicts} == {
        "all": Reason.UNREADABLE
    }
    assert rig.run().phase == "IN_PROGRESS"


async def test_a_commit_says_of_which_repository_and_ref_it_is(rig, fleet, passes):
    fleet.commit(base(ONE))
    await passes.run_pass()
    assert passes.state.commit.origin == f"{fleet.path} main"
    assert rig.rows(select(tables.daemon.c.origin)) == [(f"{fleet.path} main",)]


async def test_findings_are_logged_once_for_a_commit(rig, fleet, passes, caplog):
    fleet.commit(base(ONE), {"bad.yaml": b"kind: Batch\n"})
    await passes.run_pass()
    found = [record for record in caplog.records if "bad.yaml" in record.message]
    assert found
    await passes.run_pass()
    assert [record for record in caplog.records if "bad.yaml" in record.message] == found


@contextlib.asynccontextmanager
async def running(passes: Reconcile, interval: float = 600.0):
    task = asyncio.create_task(passes.run(interval))
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - watches the loop's own waiting
            await asyncio.sleep(0.02)


async def test_the_daemon_s_loop_follows_every_commit_and_a_wake(rig, fleet, passes):
    async with running(passes):
        await until(lambda: passes.state.failing is not None)
        first = fleet.commit(base(ONE))
        await until(lambda: passes.state.commit is not None and passes.state.commit.revision.sha == first)
        second = fleet.commit(base(ONE), batch())
        await until(lambda: passes.state.commit.revision.sha == second)
        count = passes.state.passes
        passes.wake()
        await until(lambda: passes.state.passes > count)


async def test_the_daemon_s_loop_says_what_fails_and_tries_again(rig, fleet, passes):
    fleet.commit(base(ONE))
    with rig.database.writing() as connection:
        connection.execute(text("ALTER TABLE object RENAME TO elsewhere"))
    async with running(passes):
        await until(lambda: passes.state.failures > 0)
        assert "the database" in passes.state.failing
        with rig.database.writing() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO object"))
        passes.wake()
        await until(lambda: passes.state.failing is None)
    assert dataclasses.replace(passes.state).commit is not None
