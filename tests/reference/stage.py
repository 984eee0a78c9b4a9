"""A small stage for the worked examples of this folder: one product, a few devices on one version, a few packages."""

from __future__ import annotations

from dataclasses import replace

from reference import pushing
from reference.commits import Manifests
from reference.model import Fleet
from reference.words import DAY, HOUR, MINUTE, Group, Package, Spec, Verification

__all__ = ["DAY", "HOUR", "MINUTE", "Group", "Package", "Spec", "Stage", "Verification"]

PACKAGES = (
    Package("pkg-2", "2.0.0"),
    Package("pkg-3", "3.0.0"),
    Package("delta", "2.0.0", source="1.0.0"),
    Package("mcu-2", "2.0.0", module="mcu"),
)


class Stage:
    """A fleet of devices that are online for long, and what Git says; `dev` is the first device."""

    def __init__(self, names=("dev1",), version="1.0.0"):
        self.fleet, self.desired = Fleet(), Manifests(packages={one.name: one for one in PACKAGES})
        self.desired.devices.update({f"p/{name}": {} for name in names})
        self.fleet.now, self.said = -3600.0, 1000
        self.commit()
        for key in self.desired.devices:
            self.fleet.online(key)
            if version is not None:
                self.fleet.inform(key, version)
        self.fleet.tick(0.0)
        self.dev = f"p/{names[0]}"

    def commit(self):
        return self.fleet.commit(self.desired)

    def batch(self, batch_name, package="pkg-2", **fields):
        """Adds a batch in a commit of its own; returns what refuses it."""
        self.desired.batches[batch_name] = Spec(package, **fields)
        return self.commit().get(batch_name)

    def edit(self, batch_name, **fields):
        self.desired.batches[batch_name] = replace(self.desired.batches[batch_name], **fields)
        return self.commit().get(batch_name)

    def drop(self, batch_name):
        del self.desired.batches[batch_name]
        self.commit()

    def package(self, name, version="2.0.0", **fields):
        self.desired.packages[name] = Package(name, version, **fields)
        return self.commit().get(name)

    def group(self, name, **fields):
        self.desired.groups[name] = Group(**fields)
        self.commit()

    def tag(self, key, **tags):
        self.desired.devices[key] = tags
        self.commit()

    def later(self, seconds):
        self.fleet.tick(self.fleet.now + seconds)

    def inform(self, version, name=None, **more):
        self.fleet.inform(self._key(name), version, **{"message_id": self._next_id(), **more})

    def progress(self, step, name=None, **more):
        self.fleet.progress(self._key(name), step, **{"message_id": self._next_id(), **more})

    def _next_id(self):
        self.said += 1
        return str(self.said)

    def get(self, name=None, **more):
        return self.fleet.ask(self._key(name), **more)

    def push(self, name=None, version="2.0.0", **more):
        """The engine pushes; returns what is wrong with that, or None."""
        return self.fleet.pushed(self._key(name), version, **more)

    def all(self, owner, name=None):
        """The owner's tasks on a device, oldest first, of every run."""
        device = self.fleet.devices[self._key(name)]
        return [task for task in self.fleet.tasks_of(device) if task.run.owner == owner]

    def of(self, owner, name=None):
        return self.all(owner, name)[-1]

    def task(self, owner, name=None):
        found = self.of(owner, name)
        return found.status, found.hold, found.reason

    def source(self, owner, name=None):
        return self.of(owner, name).source

    def phase(self, batch_name):
        return self.fleet.batches[batch_name].run.phase

    def waits(self, owner):
        found = self.of(owner)
        verified = self.fleet.verification(found.run.package.name) in ("not-required", "verified")
        return pushing.waits_for(found, verified=verified)

    def _key(self, name):
        return self.dev if name is None else f"p/{name}"


def confirm(one, **fields):
    one.batch("b", confirm=True, **fields)


def queue(one, **fields):
    one.batch("b", **fields)


def notify(one, **fields):
    one.batch("b", **fields)
    assert one.push() is None


def begin(one, **fields):
    notify(one, **fields)
    one.progress(1, message_id="begin")
