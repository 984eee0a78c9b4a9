"""The vocabulary of a recorded run: actions are lists of plain data, so that a failing run is kept and replayed.

    ["commit", [edit, …]]                     one commit; an edit is
        ["product", "p", {"registration": "Auto"}]  or "Declared", as at first
        ["device", "p/dev-1", {tag: value}]       or null: no longer declared
        ["package", name, {field: value}]         fields of words.Package; or null
        ["batch", name, {field: value}]           fields of words.Spec, the whole of it; or null
        ["edit", name, {field: value}]            the same, merged into what the batch says
        ["group", name, {field: value}]           fields of words.Group; or null
    ["commits", [edit, …], …]                 one commit after the other; the engine has not yet done what
                                              follows from one when the next comes
    ["online", device], ["offline", device]
    ["inform", device, module, version, id]
    ["progress", device, module, step, id]
    ["redelivery", device, module, step, id]   a progress that was heard already comes once more, by the network's doing
    ["burst", [message, …]]                    several of these two, heard at once
    ["get", device, module]
    ["advance", seconds]                      time passes
    ["restart", seconds]                      the engine was away so long: every device has to come back,
                                              device deadlines are extended, schedules not
    ["confirm" | "cancel" | "again", batch, device]
    ["stop" | "suspend" | "resume", batch]

What the engine does by itself is told with the model's `pushed`, and is no part of a recording.
"""

from __future__ import annotations

from dataclasses import replace

from reference.commits import Manifests
from reference.model import Fleet
from reference.words import Group, Package, Spec, Verification


def frozen(value):
    """Lists of a recording as the tuples of the model."""
    if isinstance(value, list):
        return tuple(frozen(one) for one in value)
    return value


def fields(data):
    return {name: frozen(value) for name, value in data.items()}


def package(name, data):
    found = fields(data)
    if found.get("verification") is not None:
        found["verification"] = Verification(**fields(found["verification"]))
    return Package(name, **found)


class Play:
    """The model's side of a recorded run. `desired` is what Git says now."""

    def __init__(self, **options):
        self.fleet = Fleet(**options)
        self.desired = Manifests()

    def step(self, action):
        """Carries out one action; returns what it was answered with: refusals, or the version that `get` got."""
        verb, *arguments = action
        return getattr(self, f"_{verb}")(*arguments)

    def _commit(self, edits):
        for kind, name, data in edits:
            self._edit(kind, name, data)
        return self.fleet.commit(self.desired)

    def _commits(self, *commits):
        return [self._commit(edits) for edits in commits]

    def _edit(self, kind, name, data):
        if kind == "edit":
            self.desired.batches[name] = replace(self.desired.batches[name], **fields(data))
            return
        if kind == "product":
            opened = {name} if data["registration"] == "Auto" else set()
            self.desired.open_products = self.desired.open_products - {name} | opened
            return
        found = {
            "device": self.desired.devices,
            "package": self.desired.packages,
            "batch": self.desired.batches,
            "group": self.desired.groups,
        }[kind]
        if data is None:
            found.pop(name, None)
            return
        made = {
            "device": lambda: dict(data),
            "package": lambda: package(name, data),
            "batch": lambda: Spec(**fields(data)),
            "group": lambda: Group(**fields(data)),
        }
        found[name] = made[kind]()

    def _online(self, device):
        self.fleet.online(device)

    def _offline(self, device):
        self.fleet.offline(device)

    def _inform(self, device, module, version, message_id):
        self.fleet.inform(device, version, module, message_id)

    def _progress(self, device, module, step, message_id):
        self.fleet.progress(device, step, module, message_id)

    def _burst(self, messages):
        with self.fleet.burst():
            for message in messages:
                self.step(message)

    def _get(self, device, module):
        return self.fleet.ask(device, module)

    def _advance(self, seconds):
        self.fleet.tick(self.fleet.now + seconds)

    def _redelivery(self, device, module, step, message_id):
        """What was heard already changes nothing."""

    def _restart(self, seconds):
        for device in self.fleet.devices.values():
            device.online_since = None
        self.fleet.downtime(seconds)
        self.fleet.tick(self.fleet.now + seconds)

    def _confirm(self, batch, device):
        return self.fleet.confirm(batch, device)

    def _cancel(self, batch, device):
        return self.fleet.cancel_task(batch, device)

    def _again(self, batch, device):
        return self.fleet.again(batch, device)

    def _stop(self, batch):
        return self.fleet.cancel_batch(batch)

    def _suspend(self, batch):
        return self.fleet.suspend(batch)

    def _resume(self, batch):
        return self.fleet.suspend(batch, resume=True)
