"""The engine and the reference model, side by side: each action is done to both, and what can be seen is compared.

An action is a list of plain data (`tests/reference/actions.py` has the vocabulary), so a run is a JSON document. The
engine is the whole of it but the daemon: a `Rig` over a real database file. After each action it works until nothing is
left to do, and each push that it made is put before the model, which says whether it was allowed. Time passes in the
steps that matter: to just before, and to, each moment that the model knows.
"""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import engine_manifests
from engine_view import View
from reference import pushing
from reference.actions import Play
from rig import Rig, turn

from reconciler.domain import targeting
from reconciler.protocol import topics
from reconciler.protocol.topics import Address
from reconciler.store import materialization, objects
from reconciler.store.database import Database

SPREAD = 360
"""At this rate, six devices are pushed to in one second: then nobody waits for a slot."""


class Difference(AssertionError):  # noqa: N818 - it is what was looked for
    """Engine and model see something differently."""


def same(what, engine, model):
    """Both sides of one thing.

    Raises:
        Difference: they differ; only what differs is in the message.
    """
    if engine == model:
        return
    if isinstance(engine, dict) and isinstance(model, dict):
        keys = [key for key in {**engine, **model} if engine.get(key) != model.get(key)]
        lines = [
            f"  {key}: engine {engine.get(key)}, model {model.get(key)}" for key in sorted(keys, key=str)
        ]
        raise Difference(f"{what}:\n" + "\n".join(lines))
    raise Difference(f"{what}: engine {engine}, model {model}")


class SideBySide:
    """Both sides, from an empty database on. `close` ends it."""

    def __init__(self, empty_database):
        self._folder = Path(tempfile.mkdtemp())
        shutil.copy(empty_database, self._folder / "state.db")
        self._database = Database(f"sqlite:///{self._folder / 'state.db'}")
        self._loop = asyncio.Runner()
        self.play = Play(gray_parameters=targeting.gray_parameters)
        self.fleet = self.play.fleet
        self._rig = Rig(self._folder, self._database, mass_cancel_least=10**6)
        self._told = 0
        self.done: list[list] = []
        self._loop.run(self._rig.boot())

    def close(self):
        self._loop.run(self._rig.kill())
        self._loop.close()
        self._database.close()
        shutil.rmtree(self._folder)

    def do(self, action):
        """One action on both sides; True when it could be done at all.

        Raises:
            Difference: the two sides are not alike afterwards.
        """
        if not self._can(action):
            return False
        self.done.append(json.loads(json.dumps(action)))
        self._loop.run(self._do(*action))
        self._rig.check()
        return True

    def _can(self, action):
        verb, *arguments = action
        if verb == "redelivery" and ["progress", *arguments] not in self.done:
            return False
        if verb in {"inform", "progress", "get", "offline", "redelivery", "burst"}:
            messages = arguments[0] if verb == "burst" else [action]
            return all(self._is_online(message[1]) for message in messages)
        if verb == "online":
            return not self._is_online(arguments[0])
        if verb in {"confirm", "cancel", "again"}:
            batch, device = self.fleet.batches.get(arguments[0]), self.fleet.devices.get(arguments[1])
            return batch and device and device.product == batch.run.package.product
        if verb in {"stop", "suspend", "resume"}:
            return arguments[0] in self.fleet.batches
        return True

    def _is_online(self, key):
        return key in self.fleet.devices and self.fleet.devices[key].online_since is not None

    async def _do(self, verb, *arguments):
        if verb == "advance":
            await self._advance(*arguments)
            return
        if verb == "restart":
            await self._kill(*arguments)
        if verb in {"commit", "commits"}:  # what was heard before it was heard before it
            await self._advance(1)
        if verb == "commits":
            await self._commits(*arguments)
        else:
            answer = self.play.step([verb, *arguments])
            await getattr(self, f"_{verb}")(answer, *arguments)
        await self._settle()

    # what is done to the engine

    async def _commit(self, refused, edits):
        del edits
        applied = await self._rig.commit(engine_manifests.files(self.play.desired))
        said = {
            verdict.key.name: verdict.message
            for verdict in applied.plan.verdicts
            if verdict.key.kind in {"Batch", "Package"}
        }
        if said.keys() != refused.keys():
            raise Difference(f"refused: engine {said}, model {refused}")

    async def _commits(self, *commits):
        """Of what follows from each, the first little is done; the rest when all were applied."""
        rig = self._rig
        materialize, rig.materialize = rig.materialize, self._begin
        for edits in commits:
            await self._commit(self.play.step(["commit", edits]), edits)
        rig.materialize = materialize
        await rig.materialize()

    async def _begin(self):
        await self._rig.database.write(
            materialization.work, self._rig.presence, self._rig.clock.now(), chunk=1
        )

    async def _online(self, answer, key):
        del answer
        self._rig.wire.connect(_address(key))

    async def _offline(self, answer, key):
        del answer
        self._rig.wire.disconnect(_address(key))

    async def _inform(self, answer, key, module, version, number):
        del answer
        self._say(key, topics.inform, number, {"version": version, "module": module})

    async def _progress(self, answer, key, module, step, number):
        del answer
        self._say(key, topics.progress, number, {"step": str(step), "desc": "", "module": module})

    async def _burst(self, answer, messages):
        for verb, *arguments in messages:
            await getattr(self, f"_{verb}")(answer, *arguments)

    async def _redelivery(self, answer, key, module, step, number):
        del answer
        params = {"step": str(step), "desc": "", "module": module}
        self._say(key, topics.progress, number, params, duplicate=True)

    async def _get(self, expected, key, module):
        self._say(key, topics.firmware_get, "7", {"module": module})
        await self._rig.hear()
        said = [json.loads(push.payload) for push in self._rig.wire.published[self._told :]]
        self._told += len(said)
        answers = [one["data"].get("version") for one in said if one["code"] == 200]
        same(f"{key} asked for {module}", answers, [expected])

    def _say(self, key, topic, number, params, *, duplicate=False):
        address = _address(key)
        payload = json.dumps({"id": number, "params": params}).encode()
        self._rig.wire.send(address, topic(address), payload, duplicate=duplicate)

    async def _kill(self, seconds):
        """The daemon is gone for so long; what it would have noted last of its life is noted."""
        await self._rig.database.write(objects.beat, self._rig.clock.now())
        await self._rig.kill()
        self._rig.clock.advance(seconds)

    async def _restart(self, answer, seconds):
        del answer, seconds
        await self._rig.boot()
        await self._rig.materialize()

    async def _order(self, refusal, type_, **arguments):
        done = await self._rig.order(type_, **arguments)
        if done.ok != (refusal is None):
            raise Difference(f"{type_} {arguments}: engine {done.ok} ({done.result}), model {refusal}")

    async def _confirm(self, refusal, batch, key):
        await self._order(refusal, "confirm", batch=batch, devices=[_address(key).device_name])

    async def _cancel(self, refusal, batch, key):
        await self._order(refusal, "cancel", batch=batch, device=_address(key).device_name)

    async def _again(self, refusal, batch, key):
        await self._order(refusal, "retry", batch=batch, device=_address(key).device_name)

    async def _stop(self, refusal, batch):
        await self._order(refusal, "cancel", batch=batch)

    async def _suspend(self, refusal, batch):
        await self._order(refusal, "suspend", batch=batch)

    async def _resume(self, refusal, batch):
        await self._order(refusal, "resume", batch=batch)

    # time

    async def _advance(self, seconds):
        until = self.fleet.now + seconds
        while self.fleet.now < until:
            step = min(self._next_step(), until - self.fleet.now)
            self._rig.clock.advance(step)
            self.fleet.tick(self.fleet.now + step)
            await self._settle()

    def _next_step(self):
        now = self.fleet.now
        if any(pushing.owed(task) for task in self.fleet.may_push()):
            return 1
        ahead = min(self.fleet.due_moments(), default=math.inf) - now
        return ahead - 1 if ahead > 1 else ahead

    # after each

    async def _settle(self):
        """The engine works until it is idle; then both sides are compared."""
        rig = self._rig
        busy = True
        while busy:
            busy = len(rig.intake) > 0
            await rig.hear()
            await rig.sweep.round()
            await rig.materialize()
            await turn()
            busy |= bool(await rig.push())
            self._tell()
        self._compare()

    def _tell(self):
        """Puts the engine's pushes before the model."""
        for push in self._rig.wire.published[self._told :]:
            self._told += 1
            data = json.loads(push.payload)["data"]
            key = f"{push.address.product_key}/{push.address.device_name}"
            wrong = self.fleet.pushed(key, data["version"], data.get("module", "default"))
            if wrong:
                raise Difference(f"pushed {data['version']} to {key}: {wrong}")

    def _compare(self):
        seen, snapshot, fleet = View(self._rig), self.fleet.snapshot(), self.fleet
        same("tasks", seen.tasks, snapshot["tasks"])
        same("batches", seen.batches, snapshot["batches"])
        trials = {name: fleet.verification(name) for name in fleet.packages}
        same("verification", seen.verification, trials)
        late = Counter(task.device.key for task in fleet.tasks if task.late_success)
        same("late successes", seen.late_successes, late)
        same("left out", seen.left_out, self._left_out())
        grace = 0 if all(run.spec.rate >= SPREAD for run in fleet.runs) else 60
        late = [f"{task.device.key} of {task.run.owner}: {task}" for task in fleet.overdue(grace)]
        if late:
            raise Difference(f"not pushed at {fleet.now}: {late}")

    def _left_out(self):
        """Who is on the target already, or above it; of a delta also who is not on its source."""
        return {
            ("Verify" if run.type == "Verify" else "Batch", run.owner, run.number, key): verdict
            for run in self.fleet.runs
            for key, verdict in run.left_out.items()
            if verdict != "source-version" or run.package.source
        }


def _address(key):
    return Address(*key.split("/"))
