"""What people call kinds and objects: aliases as in kubectl, and the nearest name when one is unknown.

Used by the commands that take a KIND or a NAME.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable

from reconciler import errors
from reconciler.domain import resources
from reconciler.store import about
from reconciler.store.database import Connection


class Thing(enum.StrEnum):
    """What can be looked at; the value is its name in `-o name`."""

    PRODUCT = "product"
    PACKAGE = "package"
    INVENTORY = "inventory"
    GROUP = "group"
    BATCH = "batch"
    DEVICE = "device"
    TASK = "task"


KINDS = {
    Thing.PRODUCT: resources.Kind.PRODUCT,
    Thing.PACKAGE: resources.Kind.PACKAGE,
    Thing.INVENTORY: resources.Kind.DEVICE_INVENTORY,
    Thing.GROUP: resources.Kind.DEVICE_GROUP,
    Thing.BATCH: resources.Kind.BATCH,
}
"""Those that are declared in Git."""

_SPELLINGS = {
    Thing.PRODUCT: ("product", "products"),
    Thing.PACKAGE: ("package", "packages", "pkg"),
    Thing.INVENTORY: ("inventory", "inventories", "deviceinventory", "deviceinventories"),
    Thing.GROUP: ("group", "groups", "devicegroup", "devicegroups"),
    Thing.BATCH: ("batch", "batches"),
    Thing.DEVICE: ("device", "devices"),
    Thing.TASK: ("task", "tasks"),
}
_THINGS = {word: thing for thing, words in _SPELLINGS.items() for word in words}


def thing(word: str) -> Thing:
    """What a word such as `batches` or `DeviceInventory` means.

    Raises:
        UsageError: it means nothing.
    """
    found = _THINGS.get(word.lower())
    if found is None:
        raise errors.UsageError(
            f"there is no kind {word!r}", remedy=nearest(word.lower(), _THINGS) or _every_kind()
        )
    return found


def _every_kind() -> str:
    return f"It is one of {', '.join(words[1] for words in _SPELLINGS.values())}."


def split(kind: str, name: str | None) -> tuple[Thing, str | None]:
    """Reads `KIND NAME`, `KIND/NAME` and `KIND`.

    Raises:
        UsageError: there is no such kind.
    """
    if name is None and "/" in kind:
        kind, _, name = kind.partition("/")
    return thing(kind), name


def plural(thing: Thing) -> str:
    """`batches`."""
    return _SPELLINGS[thing][1]


def nearest(word: str, known: Iterable[str]) -> str:
    """`Did you mean …?`, or nothing when nothing is near."""
    found = difflib.get_close_matches(word, list(known), 1)
    return f"Did you mean {found[0]}?" if found else ""


def unknown(what: str, name: str, known: Iterable[str], *, otherwise: str = "") -> errors.UserError:
    """The error about a name that nothing has."""
    return errors.UserError(f"there is no {what} {name!r}", remedy=nearest(name, known) or otherwise)


def product(connection: Connection, name: str) -> about.Product:
    """The product that is in Git under a name, or on the wire under a key.

    Raises:
        UserError: there is none.
    """
    known = about.products(connection)
    for found in known:
        if name in (found.name, found.product_key):
            return found
    words = [word for found in known for word in (found.name, found.product_key)]
    remedy = "Declare it in Git and let the daemon apply it; `reconciler get products` lists what is known."
    raise unknown("product", name, words, otherwise=remedy)
