"""Plans for who asks the daemon: one at a time, each within its time, of any ref of its repository."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from reconciler import errors
from reconciler.domain import plan
from reconciler.services.clock import SystemClock
from reconciler.services.planning import BusyError, Planning
from reconciler.source.repository import Repository
from reconciler.source.scratch import ScratchRepository
from reconciler.store import objects

PRODUCT = "apiVersion: ota/v1\nkind: Product\nmetadata: {name: lamp}\nspec: {}\n"


@pytest.fixture
def fleet(tmp_path):
    repository = ScratchRepository(tmp_path / "fleet")
    (repository.folder / "product.yaml").write_text(PRODUCT)
    repository.commit("A lamp")
    repository._git("branch", "later")
    return repository


class Slow(Repository):
    """A repository whose answer somebody waits for."""

    answers = threading.Event()

    def fetch(self):
        self.answers.wait(20)
        return super().fetch()

    def close(self):
        self.answers.set()
        super().close()


@pytest.fixture
def planning(fleet, database, tmp_path):
    def make(kind=Repository, **options):
        def opened(ref):
            return kind(str(fleet.folder), tmp_path / "mirror", ref or "main")

        Slow.answers = threading.Event()
        return Planning(database, SystemClock(), plan.Policy(), opened, **options)

    return make


async def test_the_plan_of_a_ref_is_json_and_the_ref_s_own(planning):
    plans = planning()
    for ref, shown in (("", "main@sha1:"), ("later", "later@sha1:")):
        said = json.loads(await plans.plan(ref))
        assert said["revision"].startswith(shown)
        assert (said["basis"], said["summary"]) == ("live", "Plan: 1 to create, 0 to change, 0 to cancel.")
        assert said["totals"]["upgrades"] == 0


async def test_a_ref_that_lacks_what_was_applied_says_so_to_who_asks_the_daemon(planning, fleet, database):
    (fleet.folder / "product.yaml").write_text(PRODUCT.replace("lamp", "lantern"))
    applied = objects.Revision(fleet.commit("A lantern"), "main", "A lantern", "Ada")
    with database.writing() as connection:
        objects.record_revision(connection, applied, SystemClock().now())
    assert json.loads(await planning().plan("main"))["notes"] == []
    (note,) = json.loads(await planning().plan("later"))["notes"]
    assert f"lacks 1 commit of what is in force, {applied}: what it brought shows as deleted" in note


async def test_a_ref_that_can_t_be_or_is_not_there_is_the_caller_s_to_mend(planning):
    plans = planning()
    with pytest.raises(errors.UsageError):
        await plans.plan("--upload-pack=x")
    with pytest.raises(errors.UserError, match="has no branch or tag 'nowhere'"):
        await plans.plan("nowhere")
    assert await plans.plan("")


async def test_a_plan_that_is_too_large_is_not_answered(planning):
    with pytest.raises(errors.UserError, match="at most 100 are answered"):
        await planning(largest=100).plan("")


async def test_one_plan_is_made_at_a_time(planning):
    plans = planning(Slow)
    first = asyncio.create_task(plans.plan(""))
    await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await plans.plan("")
    Slow.answers.set()
    assert await first
    assert await plans.plan("later")


async def test_a_plan_that_takes_too_long_is_ended_and_the_next_one_can_be_made(planning):
    plans = planning(Slow, seconds=0.01)
    with pytest.raises(errors.TransientError, match=r"took longer than 0\.01 s"):
        await plans.plan("")
    assert Slow.answers.is_set()  # it was closed
    await asyncio.wait([plans._making], timeout=10)
    with pytest.raises(errors.TransientError, match="longer"):  # not busy: its own time is over
        await plans.plan("")


async def test_a_plan_that_nobody_waits_for_any_more_is_ended(planning):
    plans = planning(Slow)
    first = asyncio.create_task(plans.plan(""))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first], timeout=10)
    assert Slow.answers.is_set()
