"""What `plan` says of a commit is what then happens: random fleets, random commits, plan and outcome side by side.

Compared by batch: who is upgraded, who waits, who fails as a conflict, how many tasks end or are overwritten.
"""

from __future__ import annotations

import collections
import random
import re

import pytest
from rig import base, batch, dynamic_group, inventory, package, static_group
from sqlalchemy import select

from reconciler.services import planning
from reconciler.store import tables

NAMES = [f"dev-{number}" for number in range(8)]
VERSIONS = ["1.0.0", "1.1.0", "1.2.0", "2.0.0"]
TAGS = [{}, {"region": "eu"}, {"region": "us"}]
GROUPS = ["beta-dyn", "beta-two"]
ENDS = ["Scheduled", "Unconfirmed", "Queued", "Notified", "InProgress"]
_FOLLOWS = re.compile(r"(\d+) devices? more.*Batch/(\S+) (upgrades|fails)")


class World:
    """A repository that changes at random, and keeps to what `validate` allows."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._names = NAMES
        self.batches: dict[str, dict[str, object]] = {}
        self._files = base(modules=[{"name": "mcu"}]) | package() | self._tried() | self._devices()
        self._files |= package("lamp-d", "2.0.0", title="Delta", type="Delta", sourceVersion="1.1.0")
        self._files |= package("mcu-2", "2.0.0", title="Controller", module="mcu")
        self._files |= self._group(GROUPS[0]) | self._group(GROUPS[1]) | self._static_group()

    def tree(self) -> dict[str, bytes]:
        return self._files | {
            path: text for name, spec in self.batches.items() for path, text in batch(name, **spec).items()
        }

    def change(self) -> None:
        pick = self._chance.choice
        ways = [self._begin, self._begin, self._begin, self._begin, self._cancel, self._delete, self._widen]
        pick([*ways, self._move, self._move, self._regroup, self._try, self._replace, self._edit])()

    def _begin(self) -> None:
        pick, chance = self._chance.choice, self._chance.random
        spec: dict[str, object] = {"package": pick(["lamp-2", "lamp-2", "lamp-3", "lamp-d", "mcu-2"])}
        if chance() < 0.5:
            spec |= {"strategy": "Dynamic", "target": self._dynamic(str(spec["package"]))}
            spec |= {"newReportsOnly": True} if chance() < 0.1 else {}
        else:
            some = self._chance.sample(self._names, self._chance.randint(1, 6))
            targets = [{"all": {}}, {"devices": some}, {"group": "some-few"}]
            spec["target"] = pick([*targets, {"gray": {"percent": pick([10, 33.3, 80])}}])
            if chance() < 0.2:
                hour = pick([8, 9])
                spec["schedule"] = {"start": f"2026-11-0{pick([1, 2])}T{hour:02}:00:00Z"}
                spec["schedule"]["end"] = spec["schedule"]["start"].replace(f"T{hour:02}", f"T{hour + 2}")
        spec["conflict"] = pick(["Keep", "Overwrite", "Wait"])
        spec["confirm"] = chance() < 0.2
        spec["multiModule"] = chance() < 0.3 and spec["conflict"] != "Overwrite"
        if chance() < 0.3:
            spec["onCancel"] = self._chance.sample(ENDS, self._chance.randint(0, 4))
        self.batches[f"b{len(self.batches)}"] = spec

    def _dynamic(self, of: str) -> dict[str, object]:
        if self._chance.random() < 0.5:
            return {"group": self._chance.choice(GROUPS)}
        versions = VERSIONS[:3] if of != "lamp-3" else VERSIONS
        some = self._chance.sample(versions, self._chance.randint(1, 2))
        return {"all": {}, "sourceVersions": ["1.1.0"] if of == "lamp-d" else some}

    def _any(self) -> dict[str, object]:
        return self.batches[self._chance.choice(list(self.batches))] if self.batches else {}

    def _cancel(self) -> None:
        self._any()["state"] = self._chance.choice(["Canceled", "Active"])

    def _delete(self) -> None:
        if self.batches:
            del self.batches[self._chance.choice(list(self.batches))]

    def _edit(self) -> None:
        self._any()["pushRatePerMinute"] = self._chance.choice([10, 600])

    def _widen(self) -> None:
        for spec in self.batches.values():
            if "sourceVersions" in spec["target"] and spec["package"] != "lamp-d":
                spec["target"] = {"all": {}, "sourceVersions": VERSIONS[:3]}

    def _devices(self) -> dict[str, bytes]:
        self._names = self._chance.sample(NAMES, self._chance.randint(6, 8))
        return inventory(**{name: self._chance.choice(TAGS) for name in self._names})

    def _move(self) -> None:
        self._files |= self._devices()

    def _group(self, name: str) -> dict[str, bytes]:
        tags = self._chance.choice([{"region": "eu"}, {"region": "us"}, {}])
        version = self._chance.choice(["", VERSIONS[0], VERSIONS[1]]) if tags else VERSIONS[0]
        return dynamic_group(name, tags, version)

    def _static_group(self) -> dict[str, bytes]:
        return static_group("some-few", *self._chance.sample(NAMES, self._chance.randint(1, 6)))

    def _regroup(self) -> None:
        self._files |= self._group(self._chance.choice(GROUPS))

    def _replace(self) -> None:
        self._files |= self._static_group()

    def _tried(self) -> dict[str, bytes]:
        return package()

    def _try(self) -> None:
        attempt = self._chance.randint(1, 3)
        trial = {"devices": self._chance.sample(self._names, 2), "attempt": attempt}
        self._files |= package(verification=trial)


def planned(rig, commit):
    """By batch: how many begin, and how many of these as a conflict or behind; and how many tasks end otherwise."""
    with rig.database.reading() as connection:
        said = planning.live(connection, commit, rig.policy, rig.clock.now())
    found, ended = collections.Counter(), collections.Counter()
    for action in said["actions"]:
        reach, name = action["reach"], action["name"]
        if reach is None:
            continue
        ended[name] += reach["tasksCanceled"]
        follows = [_FOLLOWS.match(line) for line in reach["follows"]]
        for count, upgrading, how in (match.groups() for match in follows):
            found[upgrading, "goes" if how == "upgrades" else "conflict"] += int(count)
        if reach["waitsForVerification"] and reach["laterToo"]:
            continue  # it looks at the fleet when its trial has passed
        ended["overwritten"] += reach["overwritten"]
        if not follows:
            found[name, "goes"] += reach["devices"] + reach["waiting"]
            found[name, "conflict"] += reach["conflicts"]
            found[name, "behind"] += reach["waiting"]
    return +found, +ended, said


def tasks(rig):
    """All tasks by id."""
    task, run = tables.task, tables.run
    query = select(task, run.c.batch, tables.device.c.name.label("device")).join(
        run, run.c.id == task.c.run_id
    )
    return {
        row.id: row for row in rig.rows(query.join(tables.device, tables.device.c.id == task.c.device_id))
    }


def happened(before, after, begun):
    """The same as it came."""
    found, ended = collections.Counter(), collections.Counter()
    for id_, row in after.items():
        if id_ not in before:
            failed = row.reason == "conflict"
            found[row.batch, "conflict" if failed else "goes"] += 1
            if row.batch in begun:
                found[row.batch, "behind"] += row.hold == "behind"
        if row.reason == "overwritten" and (id_ not in before or before[id_].ended_at is None):
            ended["overwritten"] += 1
        elif id_ in before and before[id_].ended_at is None and row.status == "CANCELED":
            ended[row.batch] += 1
    return +found, +ended


async def play(rig, chance):
    """Between two commits: devices work, report, and come to an end."""
    for name in NAMES:
        lot = chance.random()
        if lot < 0.2:
            rig.progress(name, chance.choice([5, 50, -1]))
        elif lot < 0.35:
            rig.inform(name, chance.choice(VERSIONS))
    await rig.hear()
    rig.clock.advance(2)
    await rig.sweep.round()
    await rig.push()


@pytest.mark.parametrize("seed", range(12))
async def test_what_a_plan_says_is_what_happens(rig, seed):
    chance = random.Random(seed)
    world = World(chance)
    await rig.commit(world.tree())
    for name in NAMES:
        rig.connect(name)
        rig.inform(name, chance.choice(VERSIONS[:3]))
        if chance.random() < 0.6:
            rig.inform(name, chance.choice(VERSIONS[:3]), module="mcu")
    await play(rig, chance)
    for _ in range(3):
        for _ in range(chance.randint(1, 4)):
            world.change()
        commit = rig.read_tree(world.tree())
        found, ended, said = planned(rig, commit)
        before = tasks(rig)
        await rig.apply(commit)
        begun = {action["name"] for action in said["actions"] if action["reach"]}
        if any(row.batch.startswith("lamp") and row.ended_at is None for row in tasks(rig).values()):
            begun = set()  # a trial's turn comes before that of what it waited behind a moment ago
            found = collections.Counter({key: count for key, count in found.items() if key[1] != "behind"})
        assert (found, ended) == happened(before, tasks(rig), begun)
        await play(rig, chance)
