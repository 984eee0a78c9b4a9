"""What may happen next in a reference run: a vocabulary for each thing that one looks for, and one of everything.

Mixing everything seldom reaches deep states: a vocabulary of few devices, packages and fields does. The next action is
chosen by a function that picks one of some options, so a hypothesis machine and a random explorer share this. Choices
look at the model: half of what devices say is what moves their task on.
"""

from __future__ import annotations

import dataclasses

MINUTE, HOUR, DAY = 60, 3600, 86_400
VERSIONS = ("1.0.0", "1.5.0", "2.0.0", "3.0.0", "odd-9")
STEPS = (0, 10, 100, -1, -2, -3, -4)
STEADY = {
    "online": 4, "offline": 2, "inform": 5, "progress": 5, "get": 2, "further": 8, "advance": 4, "soon": 6, "add": 4,
    "delete": 1, "state": 1, "again": 1, "repeat": 2, "redelivery": 1, "restart": 1, "burst": 3, "unchanged": 1,
}  # fmt: skip
ORDERS = {"cancel_task": 1, "upgrade_again": 2, "stop": 1, "suspend": 1, "resume": 1}
PACKAGES = {
    "pkg-2": {"version": "2.0.0"},
    "pkg-3": {"version": "3.0.0"},
    "mcu-2": {"version": "2.0.0", "module": "mcu"},
    "delta": {"version": "2.0.0", "source": "1.0.0"},
}
OF_TWO = {
    "pkg-2": PACKAGES["pkg-2"],
    "pkg-3": PACKAGES["pkg-3"],
    "other-2": {"version": "2.0.0", "product": "q"},
}
FULL = {name: PACKAGES[name] for name in ("pkg-2", "pkg-3")}
RETRIES = (None, [0, 1], [0, 2], [600, 1], [600, 2])
TIMEOUTS = (None, None, MINUTE, 5 * MINUTE, HOUR)
SILENCES = (None, None, 90, 600)
CONFLICTS = ("Keep", "Overwrite", "Wait")
SCOPES = ("Scheduled", "Unconfirmed", "Queued", "Notified", "InProgress")
ON_CANCEL = (
    [],
    ["Scheduled"],
    ["Scheduled", "Unconfirmed", "Queued"],
    ["Notified", "InProgress"],
    list(SCOPES),
)
SOURCES = ([], ["1.0.0"], ["1.5.0"], ["1.0.0", "1.5.0"])
GROUPS = {
    "beta-ring": ({"match_tags": [["ring", "beta"]]}, {"match_tags": [["ring", "alpha"]]}),
    "old-ones": ({"module": ["default", "1.0.0"]}, {"module": ["default", "1.5.0"]}),
    "eu-but-one": (
        {"product": None, "expressions": [["ring", "In", ["beta", "alpha"]], ["site", "DoesNotExist", []]]},
        {"product": None, "expressions": [["ring", "NotIn", ["beta"]]]},
    ),
}


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """What a run is made of. `fields`: of a batch's manifest, each with what it may say (None: its default)."""

    verbs: dict
    devices: int = 3
    products: tuple = ("p",)
    open_products: tuple = ()
    packages: dict = dataclasses.field(default_factory=lambda: FULL)
    strategies: tuple = ("Static",)
    targets: tuple = ("all",)
    sources: tuple = ([],)
    schedules: bool = False
    fields: dict = dataclasses.field(default_factory=dict)
    edits: tuple = ("rate", "timeout", "retry", "tags", "suspend", "on_cancel")
    batches: int = 4


_MOVES = {"retry": RETRIES, "timeout": TIMEOUTS, "no_response": SILENCES}
_FLAGS = {
    "confirm": (None, None, True),
    "allow_downgrade": (None, None, True),
    "delivery": (None, None, "Pull"),
    "multi_module": (None, None, True),
    "suspend": (None, None, None, True),
}
_CHANGES = {"edit": 2, "state": 2, "delete": 2}
VOCABULARIES = {
    "messages": Vocabulary(STEADY, devices=1, fields={"allow_downgrade": (None, True)}, sources=SOURCES),
    "retries": Vocabulary(STEADY | {"edit": 1} | ORDERS, devices=1, fields=_MOVES),
    "conflicts": Vocabulary(
        STEADY | _CHANGES | ORDERS, devices=2, fields={"conflict": CONFLICTS, "on_cancel": ON_CANCEL}
    ),
    "modules": Vocabulary(
        STEADY | _CHANGES,
        devices=2,
        packages=PACKAGES,
        fields={"conflict": CONFLICTS, "multi_module": (None, True)},
    ),
    "deltas": Vocabulary(
        STEADY | {"edit": 1} | ORDERS,
        devices=2,
        packages={"delta": PACKAGES["delta"], "pkg-3": PACKAGES["pkg-3"]},
        strategies=("Static", "Static", "Dynamic"),
        sources=([], ["1.0.0"]),
        fields={**_MOVES, "conflict": CONFLICTS, "delivery": (None, "Pull")},
    ),
    "schedules": Vocabulary(
        STEADY | _CHANGES | ORDERS | {"confirm": 2},
        devices=2,
        schedules=True,
        sources=([], [], ["1.0.0"], ["1.0.0", "1.5.0"]),
        fields={"retry": RETRIES, "conflict": CONFLICTS, "confirm": (None, True), "on_cancel": ON_CANCEL},
        edits=("end", "suspend", "on_cancel", "retry"),
    ),
    "runs": Vocabulary(
        STEADY | {"edit": 2, "state": 5, "delete": 5, "add": 6, "cancel_more": 2} | ORDERS | {"fleet": 2},
        devices=2,
        fields={"on_cancel": ON_CANCEL, "conflict": CONFLICTS},
        batches=3,
    ),
    "versions": Vocabulary(
        STEADY | _CHANGES | {"fleet": 1, "edit": 3},
        devices=2,
        strategies=("Dynamic", "Dynamic", "Static"),
        sources=SOURCES[1:],
        fields={"new_reports_only": (None, True), "conflict": CONFLICTS},
        edits=("sources", "sources", "suspend"),
    ),
    "reports": Vocabulary(
        {
            "online": 2, "inform": 2, "unchanged": 6, "burst": 2, "fleet": 6, "add": 4, "delete": 2, "further": 2,
            "soon": 1, "progress": 1,
        },
        devices=2,
        open_products=("p",),
        strategies=("Dynamic",),
        targets=("group", "all"),
        sources=SOURCES[1:],
        fields={"new_reports_only": (True, True, None)},
    ),
    "groups": Vocabulary(
        STEADY | _CHANGES | {"fleet": 6, "group": 4, "upgrade_again": 1, "cancel_task": 1},
        devices=2,
        strategies=("Dynamic", "Dynamic", "Static"),
        targets=("group",),
        fields={"new_reports_only": (None, True), "conflict": CONFLICTS},
    ),
    "trials": Vocabulary(
        STEADY | _CHANGES | {"trial": 5, "package": 1, "removal": 1, "fleet": 1, "upgrade_again": 2, "edit": 3},
        devices=3,
        schedules=True,
        edits=("end", "end", "suspend", "on_cancel"),
        fields={"conflict": CONFLICTS, "on_cancel": ON_CANCEL, "retry": RETRIES},
    ),
    "targets": Vocabulary(
        STEADY | _CHANGES | {"fleet": 3, "group": 2, "removal": 1},
        devices=5,
        targets=("all", "devices", "gray", "group"),
        sources=SOURCES,
        fields={"allow_downgrade": (None, True)},
    ),
    "products": Vocabulary(
        STEADY | _CHANGES | ORDERS | {"trial": 2},
        devices=2,
        products=("p", "q"),
        packages=OF_TWO,
        strategies=("Static", "Static", "Dynamic"),
        targets=("all", "devices", "group"),
        sources=SOURCES,
        fields={"conflict": CONFLICTS, "on_cancel": ON_CANCEL},
    ),
    "rates": Vocabulary(
        STEADY | {"get": 8, "edit": 2}, devices=6, fields={"rate": (None, 10, 60, 120), "retry": RETRIES}
    ),
    "everything": Vocabulary(
        STEADY | _CHANGES | ORDERS | {"confirm": 2, "fleet": 2, "group": 2, "trial": 1, "package": 1, "edit": 2},
        devices=4,
        packages=PACKAGES,
        strategies=("Static", "Static", "Dynamic"),
        targets=("all", "all", "devices", "gray", "group"),
        sources=SOURCES,
        schedules=True,
        fields={
            **_MOVES, **_FLAGS, "conflict": CONFLICTS, "on_cancel": ON_CANCEL, "new_reports_only": (None, True),
            "rate": (None, None, 60),
        },
        edits=("rate", "timeout", "retry", "tags", "suspend", "on_cancel", "end", "sources", "conflict"),
        batches=5,
    ),
}  # fmt: skip


class Author:
    """Thinks of the next action of a run.

    Args:
        vocabulary: what there is.
        play: the model's side, as it is now.
        choose: picks one of some options.
    """

    def __init__(self, vocabulary, play, choose):
        self._words, self._play, self.choose = vocabulary, play, choose
        self._verbs = [verb for verb, weight in vocabulary.verbs.items() for _ in range(weight)]
        numbers = range(1, vocabulary.devices + 1)
        self._keys = [f"{product}/dev-{number}" for product in vocabulary.products for number in numbers]
        self._number = 0
        self._said: list[list] = []
        self._buried: list[tuple] = []

    def opening(self):
        """How each run begins: devices, some of them there, with a version."""
        edits = [["product", name, {"registration": "Auto"}] for name in self._words.open_products]
        declared = [key for key in self._keys if not edits or self.choose([True, False])]
        edits += [["device", key, {}] for key in declared]
        edits += [["package", name, data] for name, data in self._words.packages.items()]
        if "group" in self._words.targets:
            edits += [["group", name, data[0]] for name, data in GROUPS.items()]
            edits.append(["group", "lab-set", {"devices": ["dev-1", "dev-2"]}])
        yield ["commit", edits]
        for key in declared:
            if self.choose([True, True, False]):
                yield ["online", key]
                yield ["inform", key, "default", "1.0.0", self._id()]
        yield ["advance", self.choose([0, 10, 100])]

    def next(self):
        """The next action; it may be one that can't be done now."""
        verb = self.choose(self._verbs)
        action = getattr(self, f"_{verb}")()
        messages = action[1] if action[0] == "burst" else [action]
        self._said += [message for message in messages if message[0] in {"inform", "progress"}]
        return action

    def _id(self):
        self._number += 1
        return str(self._number)

    def _key(self):
        return self.choose(self._keys)

    def _present(self):
        there = [key for key in self._keys if self._online_since(key) is not None]
        return self.choose(there or self._keys)

    def _online_since(self, key):
        device = self._play.fleet.devices.get(key)
        return device.online_since if device else None

    def _modules(self):
        return sorted({package.get("module", "default") for package in self._words.packages.values()})

    # ---- devices ----

    def _online(self):
        away = [key for key in self._keys if self._online_since(key) is None]
        return ["online", self.choose(away)] if away else self._inform()

    def _offline(self):
        return ["offline", self._present()]

    def _inform(self):
        return ["inform", self._present(), self.choose(self._modules()), self.choose(VERSIONS), self._id()]

    def _progress(self):
        return ["progress", self._present(), self.choose(self._modules()), self.choose(STEPS), self._id()]

    def _get(self):
        return ["get", self._present(), self.choose(self._modules())]

    def _further(self):
        """What moves a task on: the target, the source again, a step."""
        tasks = [
            task
            for task in self._play.fleet.tasks
            if task.holds and task.device.online_since is not None and task.status != "CONFIRM"
        ]
        if not tasks:
            return self._soon()
        task = self.choose(tasks)
        target = task.run.package.version
        say = self.choose([10, 100, -1, -2, target, target, task.source or "1.0.0", "1.5.0", "get"])
        if say == "get":
            return ["get", task.device.key, task.module]
        verb = "progress" if isinstance(say, int) else "inform"
        return [verb, task.device.key, task.module, say, self._id()]

    def _repeat(self):
        return list(self.choose(self._said[-4:])) if self._said else self._inform()

    def _unchanged(self):
        """What a device reported already."""
        known = [
            [device.key, module, version]
            for device in self._play.fleet.devices.values()
            for module, version in device.versions.items()
            if device.online_since is not None
        ]
        return ["inform", *self.choose(known), self._id()] if known else self._inform()

    def _burst(self):
        """A few messages that are heard at once, of one device or of several."""
        makers = (self._inform, self._progress, self._further, self._repeat, self._unchanged)
        messages = [self.choose(makers)() for _ in range(self.choose([2, 2, 3, 5]))]
        return ["burst", [message for message in messages if message[0] in {"inform", "progress"}]]

    def _redelivery(self):
        steps = [action for action in self._said[-12:] if action[0] == "progress"]
        return ["redelivery", *self.choose(steps)[1:]] if steps else self._progress()

    # ---- time ----

    def _advance(self):
        return ["advance", self.choose([1, 9, 10, 30, 60, 61, 200, 601, HOUR, 2 * HOUR])]

    def _soon(self):
        """To the next moment at which something may happen, or just before."""
        fleet = self._play.fleet
        moments = [moment - fleet.now for moment in fleet.due_moments()[:3]]
        short = [int(gap) for gap in moments if gap <= 2 * DAY]
        return ["advance", max(1, self.choose(short) - self.choose([0, 0, 1]))] if short else self._advance()

    def _restart(self):
        return ["restart", self.choose([0, 3, 90, 700])]

    # ---- operators ----

    def _batch(self):
        names = sorted(self._play.fleet.batches)
        return self.choose(names) if names else None

    def _order(self, verb, *more):
        name = self._batch()
        return [verb, name, *more] if name else self._add()

    def _of_task(self, verb, *statuses):
        """About a task that it can be about, mostly."""
        tasks = [
            task for task in self._play.fleet.tasks if task.status in statuses and task.run.type != "Verify"
        ]
        if not tasks or self.choose([True, False, False, False]):
            return self._order(verb, self._key())
        task = self.choose(tasks)
        return [verb, task.run.owner, task.device.key]

    def _confirm(self):
        return self._of_task("confirm", "CONFIRM")

    def _cancel_task(self):
        return self._of_task("cancel", "CONFIRM", "QUEUED", "NOTIFIED", "IN_PROGRESS")

    def _upgrade_again(self):
        return self._of_task("again", "FAILED", "CANCELED")

    def _stop(self):
        return self._order("stop")

    def _suspend(self):
        return self._order("suspend")

    def _resume(self):
        return self._order("resume")

    # ---- Git ----

    def _declared(self):
        names = sorted(self._play.desired.batches)
        return self.choose(names) if names else None

    def _add(self):
        """A new batch, mostly; or one that was deleted is back, as it was."""
        if self._buried and self.choose([True, False, False]):
            name, spec = self.choose(self._buried)
        else:
            name, spec = f"b{self._id()}", self._spec()
        if len(self._play.desired.batches) >= self._words.batches and name not in self._play.desired.batches:
            return self._delete()
        self._buried = [*self._buried[-3:], (name, spec)]
        return ["commit", [["batch", name, spec]]]

    def _spec(self):
        words, choose = self._words, self.choose
        spec = {"package": choose(sorted(words.packages)), "strategy": choose(words.strategies)}
        spec |= {
            name: value for name, options in words.fields.items() if (value := choose(options)) is not None
        }
        dynamic = spec["strategy"] == "Dynamic"
        spec["target"] = self._target(choose(words.targets), dynamic=dynamic)
        if spec["target"][0] in {"all", "gray"}:
            spec["sources"] = choose(words.sources) or (["1.0.0"] if dynamic else [])
        if not dynamic:
            spec.pop("new_reports_only", None)
            if words.schedules:
                spec |= self._schedule()
        if spec.get("multi_module") and spec.get("conflict") == "Overwrite":
            spec.pop("conflict")
        return spec

    def _target(self, kind, *, dynamic):
        if kind == "group":
            static = [["group", "lab-set"], ["devices", "dev-1", "dev-2"]]
            return ["group", self.choose(sorted(GROUPS))] if dynamic else self.choose(static)
        if dynamic or kind == "all":
            return ["all"]
        if kind == "gray":
            return ["gray", self.choose(["0.001", "33.333", "50", "100"])]
        return ["devices", *self._some()]

    def _some(self):
        first = self.choose(range(len(self._keys)))
        keys = self._keys[first : first + self.choose([1, 2, 5])]
        return list(dict.fromkeys(key.partition("/")[2] for key in keys))

    def _schedule(self):
        now = int(self._play.fleet.now)
        lead = self.choose([None, None, -2 * HOUR, -60, 299, 300, 900, HOUR, 8 * DAY])
        if lead is None:
            return {}
        length = self.choose([None, HOUR, HOUR, 2 * HOUR, DAY])
        return {"start": now + lead} | ({"end": now + lead + length} if length else {})

    def _delete(self):
        name = self._declared()
        return ["commit", [["batch", name, None]]] if name else self._add()

    def _state(self):
        name = self._declared()
        if name is None:
            return self._add()
        return ["commit", [["edit", name, {"state": self.choose(["Canceled", "Active"])}]]]

    def _cancel_more(self):
        """A cancellation, and while it is being carried out another one, which may end more."""
        name = self._declared()
        if name is None:
            return self._add()
        first, second = self.choose(ON_CANCEL), self.choose(ON_CANCEL)
        canceled = {"state": "Canceled", "on_cancel": first}
        return ["commits", [["edit", name, canceled]], [["edit", name, {"on_cancel": second}]]]

    def _again(self):
        """A batch that is there is written anew, under the same name."""
        name = self._declared()
        return ["commit", [["batch", name, self._spec()]]] if name else self._add()

    def _edit(self):
        name = self._declared()
        if name is None:
            return self._add()
        field, now = self.choose(self._words.edits), int(self._play.fleet.now)
        options = {
            "rate": (10, 60, 1000) if "rate" in self._words.fields else (1000, 2000),
            "timeout": (None, MINUTE, 5 * MINUTE, HOUR),
            "retry": RETRIES,
            "tags": ([], [["site", "one"]]),
            "suspend": (True, False),
            "on_cancel": ON_CANCEL,
            "end": (None, now - 60, now + 1, now + HOUR, now + DAY),
            "sources": SOURCES[1:],
            "conflict": CONFLICTS,
        }
        return ["commit", [["edit", name, {field: self.choose(options[field])}]]]

    def _fleet(self):
        """A device is declared, with some tags, or declared no more."""
        tags = ({}, {"ring": "beta"}, {"ring": "alpha"}, {"ring": "beta", "site": "one"}, None)
        return ["commit", [["device", self._key(), self.choose(tags)]]]

    def _removal(self):
        """A device is declared no more, in the same commit as something that may name it."""
        return ["commit", [["device", self._key(), None], *self.choose([self._trial, self._add])()[1]]]

    def _group(self):
        names = [*GROUPS, "lab-set"]
        name = self.choose(names)
        if name == "lab-set":
            data = self.choose([{"devices": self._some()}, None])
        else:
            data = self.choose([*GROUPS[name], *GROUPS[name], None])
        return ["commit", [["group", name, data]]]

    def _trial(self):
        name = self.choose(sorted(self._words.packages))
        data = dict(self._words.packages[name])
        if self.choose([True, True, True, False]):
            data["verification"] = {
                "devices": self._some(),
                "attempt": self.choose([1, 2]),
                "timeout": self.choose([600, DAY]),
                "sources": self.choose([[], [], ["1.0.0"]]),
            }
        return ["commit", [["package", name, data]]]

    def _package(self):
        name = self.choose(sorted(self._words.packages))
        declared = name in self._play.desired.packages
        return ["commit", [["package", name, None if declared else self._words.packages[name]]]]
