"""The whole engine under arbitrary histories: devices that come, go, report, fail and repeat themselves, commits
that add and cancel batches, restarts, and time. What must hold at every moment is checked after every step."""

from __future__ import annotations

import asyncio
import json
import pathlib
import shutil
import tempfile
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from rig import SOURCE, TARGET, Rig, address, base, batch, package
from sqlalchemy import select

from reconciler.protocol import topics
from reconciler.store import tables
from reconciler.store.database import Database
from reconciler.transport.base import Delivery

NAMES = ["dev-1", "dev-2", "dev-3"]
ENDED = {"SUCCEEDED", "FAILED", "CANCELED"}
DEVICES = st.sampled_from(NAMES)
VERSIONS = st.sampled_from([SOURCE, TARGET, "1.5.0", "3.0.0"])
STEPS = st.sampled_from([0, 10, 100, -1, -2, -3, -4])
SETS = st.lists(DEVICES, min_size=1, unique=True)
BATCHES = st.fixed_dictionaries(
    {},
    optional={
        "target": st.one_of(
            st.just({"all": {}}),
            st.just({"all": {}, "sourceVersions": [SOURCE, "1.5.0"]}),
            SETS.map(lambda names: {"devices": names}),
        ),
        "timeout": st.sampled_from(["1m", "5m"]),
        "pushRatePerMinute": st.sampled_from([10, 1000]),
        "delivery": st.sampled_from(["Push", "Pull"]),
        "onCancel": st.lists(
            st.sampled_from(["Scheduled", "Unconfirmed", "Queued", "Notified", "InProgress"]), unique=True
        ),
        "retry": st.sampled_from([{"interval": "0s", "limit": 1}, {"interval": "0s", "limit": 2}]),
        "noResponseTimeout": st.sampled_from(["1m", "5m"]),
        "conflict": st.sampled_from(["Keep", "Overwrite", "Wait", "Wait"]),
        "confirm": st.booleans(),
        "suspend": st.booleans(),
        "package": st.sampled_from(["lamp-2", "lamp-3"]),
        "allowDowngrade": st.booleans(),
    },
)


class Engine(RuleBasedStateMachine):
    """One database for its whole life; daemons come and go."""

    empty: ClassVar[pathlib.Path]

    @initialize(spec=BATCHES, there=SETS)
    def begin(self, spec, there) -> None:
        self.loop = asyncio.Runner()
        self.folder = pathlib.Path(tempfile.mkdtemp())
        shutil.copy(self.empty, self.folder / "state.db")
        self.database = Database(f"sqlite:///{self.folder / 'state.db'}")
        self.rig = Rig(self.folder, self.database)
        self.batches: dict[str, dict] = {}
        self.ended: dict[int, tuple] = {}
        self.loop.run(self.rig.boot())
        self.loop.run(self.rig.commit(base(*NAMES)))
        self.loop.run(self.rig.arrive(*there))
        self.orders = 0
        self.order(spec)
        self.work(2)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.run(self.rig.kill())
            self.database.close()
            self.loop.close()
            shutil.rmtree(self.folder)

    # devices

    def _there(self, name: str) -> bool:
        return self.rig.wire.is_connected(address(name))

    def _hear(self, *, now: bool) -> None:
        if now:
            self.loop.run(self.rig.hear())

    @rule(names=SETS, version=VERSIONS, settle=st.booleans())
    def come(self, names, version, settle):
        for name in names:
            if not self._there(name):
                self.rig.connect(name)
                self.rig.inform(name, version)
        if settle:
            self.loop.run(self.rig.wait(12, each=6))

    @rule(names=SETS, now=st.booleans())
    def go(self, names, now):
        for name in filter(self._there, names):
            self.rig.wire.disconnect(address(name))
        self._hear(now=now)

    @rule(names=SETS, version=VERSIONS, times=st.integers(1, 2), now=st.booleans())
    def report(self, names, version, times, now):
        for name in filter(self._there, names):
            for _ in range(times):
                self.rig.inform(name, version)
        self._hear(now=now)

    @rule(names=SETS, step=STEPS, times=st.integers(1, 2), now=st.booleans())
    def get_on(self, names, step, times, now):
        for name in filter(self._there, names):
            for _ in range(times):
                self.rig.progress(name, step)
        self._hear(now=now)

    @rule(names=SETS, percent=st.sampled_from([None, 0, 100]), failed=st.booleans())
    def upgrade(self, names, percent, failed):
        for name in filter(self._there, names):
            if percent is not None:
                self.rig.progress(name, percent)
            if failed:
                self.rig.progress(name, -1)
            else:
                self.rig.inform(name, TARGET)
        self._hear(now=True)

    @rule(names=SETS)
    def ask(self, names):
        for name in filter(self._there, names):
            self.rig.ask(name)

    @rule(name=DEVICES, text=st.sampled_from([b"", b"{", b"[]", b'{"params":{"step":"x"}}']))
    def babble(self, name, text):
        if self._there(name):
            self.rig.say(name, topics.progress, text)

    # operators and commits

    @rule(spec=BATCHES)
    def order(self, spec):
        self.orders += 1
        self._commit({**self.batches, f"b{self.orders}": spec})

    @rule(which=st.integers(0, 5), spec=BATCHES, replace=st.booleans())
    def delete(self, which, spec, replace):
        kept = {name: spec for name, spec in self.batches.items() if name != self._one(which)}
        if replace:
            self.orders += 1
            kept[f"b{self.orders}"] = spec
        self._commit(kept)

    @rule(which=st.integers(0, 5), state=st.sampled_from(["Active", "Canceled"]))
    def cancel_or_start_again(self, which, state):
        name = self._one(which)
        if name is not None:
            self._commit({**self.batches, name: {**self.batches[name], "state": state}})

    def _one(self, which):
        """One of the batches that are declared."""
        return sorted(self.batches)[which % len(self.batches)] if self.batches else None

    @rule(rate=st.sampled_from([10, 1000]), suspend=st.booleans())
    def change_in_place(self, rate, suspend):
        more = {"pushRatePerMinute": rate, "suspend": suspend}
        self._commit({name: {**spec, **more} for name, spec in self.batches.items()})

    def _commit(self, batches):
        self.batches = batches
        parts = [batch(name, **spec) for name, spec in batches.items()]
        self.loop.run(self.rig.commit(base(*NAMES), package(), *parts, confirmed=3))

    # the daemon

    @rule(seconds=st.sampled_from([1, 2, 12, 70, 400]))
    def work(self, seconds):
        self.loop.run(self.rig.wait(seconds, each=max(1, seconds // 3)))

    @rule(delivery=st.sampled_from([Delivery.CONFIRMED, Delivery.TIMED_OUT, Delivery.BUSY]))
    def reach(self, delivery):
        self.rig.wire.delivery = delivery

    @rule(claimed=st.booleans(), seconds=st.sampled_from([0, 5, 100]))
    def die_and_start_again(self, claimed, seconds):
        async def restart():
            if claimed:
                await self.rig.dispatch.round()
            await self.rig.kill()
            self.rig.clock.advance(seconds)
            await self.rig.boot()
            await self.rig.materialize()

        self.loop.run(restart())

    # what holds

    @invariant()
    def everything_is_as_it_must_be(self):
        if not hasattr(self, "rig"):
            return
        self.rig.check()
        tasks = self.rig.rows(select(tables.task))
        self.ended_tasks_never_change(tasks)
        self.every_change_of_a_status_has_one_event_and_they_make_a_chain(tasks)
        self.a_run_is_complete_exactly_when_nothing_is_unfinished(tasks)

    def ended_tasks_never_change(self, tasks):
        for row in tasks:
            if row.status in ENDED:
                kept = (row.status, row.reason, row.ended_at, row.source_version, row.step, row.pushes)
                assert self.ended.setdefault(row.id, kept) == kept
            else:
                assert row.id not in self.ended

    def every_change_of_a_status_has_one_event_and_they_make_a_chain(self, tasks):
        event = tables.event
        moved = select(event.c.task_id, event.c.from_status, event.c.to_status).where(
            event.c.task_id.is_not(None), event.c.from_status != event.c.to_status
        )
        chains: dict[int, list[tuple[str, str]]] = {}
        for task, origin, to in self.rig.rows(moved.order_by(event.c.id)):
            chains.setdefault(task, []).append((origin, to))
        for row in tasks:
            chain = chains.pop(row.id, [])
            at = chain[0][0] if chain else row.status
            assert at in {"QUEUED", "CONFIRM"} or (row.status, row.reason, chain) == (
                "FAILED",
                "conflict",
                [],
            )
            for origin, to in chain:
                assert origin == at
                at = to
            assert at == row.status
        assert not chains

    def a_run_is_complete_exactly_when_nothing_is_unfinished(self, tasks):
        unfinished = {row.run_id for row in tasks if row.status not in ENDED}
        runs = {row.id: row for row in self.rig.rows(select(tables.run))}
        assert self.rig.rows(select(tables.job)) == []
        for run in runs.values():
            if run.phase != "CANCELED":
                assert (run.phase == "COMPLETED") == (run.id not in unfinished)
        assert all(runs[row.run_id].push_delivery for row in tasks if row.push_due_at is not None)
        self.nobody_waits_for_a_device_that_is_free(tasks)

    def nobody_waits_for_a_device_that_is_free(self, tasks):
        taken = {row.device_id for row in tasks if row.holds}
        assert all(row.device_id in taken for row in tasks if row.hold == "behind")


@pytest.mark.timeout(300)
def test_the_engine_keeps_its_promises_whatever_happens(empty_database):
    Engine.empty = empty_database
    run_state_machine_as_test(
        Engine,
        settings=settings(
            max_examples=20,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# --- replay ---

SAID = st.one_of(
    st.tuples(DEVICES, st.just("inform"), VERSIONS),
    st.tuples(DEVICES, st.just("progress"), STEPS),
)


async def _replayed(folder: pathlib.Path, said: list[tuple], bursts: list[int]) -> None:
    database = Database(f"sqlite:///{folder / 'state.db'}")
    rig = Rig(folder, database)
    await rig.boot()
    await rig.commit(base(*NAMES))
    await rig.arrive(*NAMES)
    await rig.commit(base(*NAMES), batch(timeout="5m"))
    await rig.wait(3)
    for number, (name, what, value) in enumerate(said):
        if what == "inform":
            payload = {"id": str(number), "params": {"version": value}}
            rig.say(name, topics.inform, payload)
        else:
            payload = {"id": str(number), "params": {"step": str(value), "desc": ""}}
            rig.say(name, topics.progress, payload)
        if number in bursts:
            await rig.hear()
    await rig.hear()
    before = rig.dump("seen_message")
    rig.clock.advance(30)
    for number, (name, what, value) in enumerate(said):
        params = {"version": value} if what == "inform" else {"step": str(value), "desc": ""}
        topic = topics.inform if what == "inform" else topics.progress
        rig.say(name, topic, {"id": str(number), "params": params}, duplicate=True)
    await rig.hear()  # what was not acknowledged comes at once
    try:
        assert rig.dump("seen_message") == before
        rig.check()
    finally:
        await rig.kill()
        database.close()


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(said=st.lists(SAID, min_size=1, max_size=12), bursts=st.lists(st.integers(0, 11), max_size=4))
def test_a_redelivery_of_everything_changes_nothing(empty_database, said, bursts):
    folder = pathlib.Path(tempfile.mkdtemp())
    shutil.copy(empty_database, folder / "state.db")
    asyncio.run(_replayed(folder, said, bursts))
    shutil.rmtree(folder)


async def _repeated(folder: pathlib.Path, said: list[tuple], times: int) -> dict:
    database = Database(f"sqlite:///{folder / 'state.db'}")
    rig = Rig(folder, database)
    await rig.boot()
    await rig.commit(base(*NAMES))
    await rig.arrive(*NAMES)
    await rig.commit(base(*NAMES), batch(timeout="5m"))
    await rig.wait(3)
    for number, (name, what, value) in enumerate(said):
        params = {"version": value} if what == "inform" else {"step": str(value), "desc": ""}
        topic = topics.inform if what == "inform" else topics.progress
        for _ in range(times):
            rig.say(name, topic, json.dumps({"id": number, "params": params}).encode())
            await rig.hear()
    found = rig.dump("seen_message", "event") | {"lines": [line.message for line in rig.events()]}
    await rig.kill()
    database.close()
    return found


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(said=st.lists(SAID, min_size=1, max_size=10))
def test_a_device_that_says_everything_twice_ends_where_one_does_that_says_it_once(empty_database, said):
    folder = pathlib.Path(tempfile.mkdtemp())
    ends = []
    for times in (1, 2):
        shutil.copy(empty_database, folder / "state.db")
        ends.append(asyncio.run(_repeated(folder, said, times)))
        for leftover in folder.glob("state.db*"):
            leftover.unlink()
    shutil.rmtree(folder)
    assert ends[0] == ends[1]
