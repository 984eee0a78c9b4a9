"""What is merged and ordered in the fourteen days: every kind of batch, every conflict rule, changes, cancellations.

Times are days of a run of fourteen; a shorter run has them closer together.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

PRODUCT, PRODUCT_KEY = "lamp", "lampkey"
CALM_AT = 12.5
"""From this day on nothing goes wrong any more."""
CALM_DAYS = 1.5
"""How long it stays so, also in a shorter run: as the longest timeouts, and a retry."""
Spec = dict[str, object]


class Git:
    """What the branch holds."""

    def __init__(self) -> None:
        self._specs: dict[tuple[str, str], Spec] = {}
        self._files: dict[str, bytes] = {"app.bin": b"firmware " * 10}

    def put(self, kind: str, name: str, **spec: object) -> None:
        """A manifest is written, or written anew."""
        self._specs[kind, name] = spec

    def edit(self, kind: str, name: str, **changes: object) -> None:
        """Some fields of a manifest change."""
        self._specs[kind, name] = {**self._specs[kind, name], **changes}

    def remove(self, kind: str, name: str) -> Spec:
        """A manifest is deleted; what it said."""
        return self._specs.pop((kind, name))

    def table(self, name: str, lines: Sequence[str]) -> None:
        """A CSV file."""
        self._files[name] = "\n".join([*lines, ""]).encode()

    def batch(self, name: str, package: str, **spec: object) -> None:
        """A batch for everybody, unless it says otherwise."""
        self.put("Batch", name, **{"package": package, "target": {"all": {}}, **spec})

    def package(self, name: str, version: str, **spec: object) -> None:
        """A package over the one file."""
        files = [{"name": "app.bin", "source": "app.bin"}]
        self.put("Package", name, product=PRODUCT, version=version, files=files, **spec)

    def files(self) -> dict[str, bytes]:
        """The tree."""
        found = dict(self._files)
        for (kind, name), spec in self._specs.items():
            data = {"apiVersion": "ota/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
            found[f"{kind.lower()}-{name}.yaml"] = json.dumps(data).encode()
        return found


@dataclasses.dataclass(slots=True)
class Desk:
    """Where engineers and operators sit."""

    git: Git
    names: Sequence[str]
    now: datetime
    day: timedelta
    """How long a day of the fourteen is in this run."""
    orders: list[tuple[str, dict[str, object]]] = dataclasses.field(default_factory=list)
    """What operators ask for in this step."""

    def order(self, type_: str, **arguments: object) -> None:
        self.orders.append((type_, arguments))

    def rate(self, of_ten_thousand: int) -> int:
        """A push rate that fits the fleet: a small one is kept waiting, too."""
        return max(10, of_ten_thousand * len(self.names) // 10_000)

    def some(self, share: float, skip: int = 0) -> list[str]:
        """Every so many-th device."""
        step = max(1, round(1 / share))
        return list(self.names[skip % step :: step])

    def schedule(self, start: float, hours: float | None = None) -> dict[str, str]:
        """A schedule that starts so many days from now."""
        begins = self.now + max(timedelta(minutes=6), start * self.day)
        found = {"start": begins.isoformat()}
        if hours is not None:
            found["end"] = (begins + max(timedelta(hours=1), hours / 24 * self.day)).isoformat()
        return found


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """Something that people do, so many days after the beginning."""

    day: float
    do: Callable[[Desk], None]
    merges: bool = True
    """It changes what is in Git."""


def _base(desk: Desk) -> None:
    git, names = desk.git, desk.names
    declared = names[: -max(1, len(names) // 20)]  # the others register themselves
    modules = [{"name": "mcu"}, {"name": "radio"}]
    git.put("Product", PRODUCT, productKey=PRODUCT_KEY, registration="Auto", modules=modules)
    regions = ("eu", "us", "ap")
    lines = ["name,region,floor", *(f"{n},{regions[i % 3]},{i % 7}" for i, n in enumerate(declared))]
    git.table("fleet.csv", lines)
    git.put("DeviceInventory", "fleet", product=PRODUCT, devicesFrom={"file": "fleet.csv"})
    for number in (2, 3, 4):
        git.package(f"lamp-{number}", f"{number}.0.0")
    git.package("lamp-3-to-4", "4.0.0", type="Delta", sourceVersion="3.0.0")
    git.package("mcu-2", "2.0.0", module="mcu")
    git.package("mcu-3", "3.0.0", module="mcu")
    git.package("radio-2", "2.0.0", module="radio")
    git.put("DeviceGroup", "beta", product=PRODUCT, devicesFrom={"file": "beta.csv"})
    git.table("beta.csv", desk.some(0.04, 3)[: max(1, len(declared) // 30)])
    git.put("DeviceGroup", "europe", product=PRODUCT, selector={"matchTags": {"region": "eu"}})
    floors = [{"key": "floor", "operator": "In", "values": ["1", "2"]}]
    selector = {"matchExpressions": floors, "module": {"name": "default", "version": "3.0.0"}}
    git.put("DeviceGroup", "upstairs", product=PRODUCT, selector=selector)


def _gray(desk: Desk) -> None:
    retry = {"interval": "10m", "limit": 2}
    desk.git.batch(
        "gray-2", "lamp-2", target={"gray": {"percent": 7.5}}, retry=retry, timeout="2h",
        noResponseTimeout="6h", pushRatePerMinute=desk.rate(1000),
    )  # fmt: skip


def _everybody(desk: Desk) -> None:
    desk.git.batch(
        "all-2", "lamp-2", target={"all": {}, "sourceVersions": ["1.0.0", "1.1.0"]}, timeout="3h",
        retry={"interval": "30m", "limit": 1}, noResponseTimeout="12h", pushRatePerMinute=desk.rate(2500),
        onCancel=["Queued", "Unconfirmed", "Notified"],
    )  # fmt: skip


def _behind(desk: Desk) -> None:
    desk.git.batch(
        "beta-mcu", "mcu-2", target={"group": "beta"}, conflict="Wait", noResponseTimeout="8h", timeout="4h"
    )


def _modules(desk: Desk) -> None:
    shared: Spec = {"multiModule": True, "conflict": "Wait", "timeout": "4h", "noResponseTimeout": "8h"}
    desk.git.batch("gray-mcu", "mcu-2", target={"gray": {"percent": 8}}, **shared)
    desk.git.batch("gray-radio", "radio-2", target={"gray": {"percent": 8}}, **shared)


def _slower(desk: Desk) -> None:
    desk.git.edit("Batch", "all-2", pushRatePerMinute=desk.rate(240))


def _faster(desk: Desk) -> None:
    desk.git.edit(
        "Batch",
        "all-2",
        pushRatePerMinute=desk.rate(2500),
        timeout="90m",
        retry={"interval": "10m", "limit": 2},
    )


def _dynamic(desk: Desk) -> None:
    target = {"all": {}, "sourceVersions": ["1.0.0"]}
    desk.git.batch(
        "dyn-2",
        "lamp-2",
        pushRatePerMinute=desk.rate(2000),
        strategy="Dynamic",
        target=target,
        timeout="5h",
        noResponseTimeout="20h",
    )


def _verified(desk: Desk) -> None:
    """A package with a trial, and two batches that wait for it: one for its schedule, too."""
    trial = {"devices": desk.some(0.01, 7)[:6], "timeout": "8h"}
    desk.git.package("lamp-3v", "3.1.0", verification=trial, customInfo="tried")
    desk.git.batch(
        "planned-3", "lamp-3v", target={"gray": {"percent": 25}, "sourceVersions": ["2.0.0"]},
        schedule=desk.schedule(0.5, 30),
        retry={"interval": "1h", "limit": 1}, timeout="5h", noResponseTimeout="16h", pushRatePerMinute=desk.rate(2500),
    )  # fmt: skip
    desk.git.batch("tried-3", "lamp-3v", target={"devices": desk.some(0.02, 11)[:100]}, conflict="Wait")


def _try_again(desk: Desk) -> None:
    trial = {"devices": desk.some(0.01, 8)[:2], "timeout": "6h", "attempt": 2}
    desk.git.package("lamp-3v", "3.1.0", verification=trial, customInfo="tried")


def _overwrite(desk: Desk) -> None:
    desk.git.batch(
        "over-3", "lamp-3", target={"gray": {"percent": 15}}, conflict="Overwrite", timeout="2h",
        retry={"interval": "0s", "limit": 5}, noResponseTimeout="10h", pushRatePerMinute=desk.rate(1000),
    )  # fmt: skip


def _cancel_all(desk: Desk) -> None:
    desk.git.edit("Batch", "all-2", state="Canceled")


def _activate_all(desk: Desk) -> None:
    desk.git.edit("Batch", "all-2", state="Active")


def _confirm(desk: Desk) -> None:
    desk.git.batch(
        "asked-3", "lamp-3", target={"devices": desk.some(0.02, 5)[:200]}, confirm=True, conflict="Overwrite",
        noResponseTimeout="10h",
    )  # fmt: skip
    target = {"all": {}, "sourceVersions": ["2.0.0"]}
    desk.git.batch("asked-mcu", "mcu-3", target=target, confirm=True, conflict="Keep", delivery="Pull")


def _confirm_some(desk: Desk) -> None:
    for name in desk.some(0.02, 5)[:3]:
        desk.order("confirm", batch="asked-3", devices=[name])


def _confirm_rest(desk: Desk) -> None:
    desk.order("confirm", batch="asked-3", tasks=True)
    desk.order("confirm", batch="asked-mcu", tasks=True)


def _group(desk: Desk) -> None:
    desk.git.batch(
        "europe-3", "lamp-3", pushRatePerMinute=desk.rate(2000),
        strategy="Dynamic", target={"group": "europe"}, conflict="Keep", timeout="6h",
        noResponseTimeout="20h",
    )  # fmt: skip
    desk.git.batch(
        "upstairs-radio", "radio-2", strategy="Dynamic", target={"group": "upstairs"}, conflict="Wait",
        timeout="6h", noResponseTimeout="20h", newReportsOnly=True,
    )  # fmt: skip


def _suspend(desk: Desk) -> None:
    desk.git.edit("Batch", "europe-3", suspend=True)
    desk.order("suspend", batch="over-3")


def _resume(desk: Desk) -> None:
    desk.git.edit("Batch", "europe-3", suspend=False)
    desk.order("resume", batch="over-3")


def _delete(desk: Desk) -> None:
    desk.git.edit("Batch", "over-3", onCancel=[])
    desk.git.remove("Batch", "gray-2")


def _delete_more(desk: Desk) -> None:
    desk.git.remove("Batch", "over-3")


def _delta(desk: Desk) -> None:
    desk.git.batch(
        "delta-4", "lamp-3-to-4", pushRatePerMinute=desk.rate(2000),
        retry={"interval": "30m", "limit": 2}, timeout="3h", conflict="Wait",
        noResponseTimeout="12h", target={"gray": {"percent": 40}, "sourceVersions": ["3.0.0"]},
    )  # fmt: skip
    desk.git.batch("pull-radio", "radio-2", delivery="Pull", target={"gray": {"percent": 5}}, conflict="Wait")


def _down(desk: Desk) -> None:
    names = desk.some(0.02, 13)[:150]
    desk.git.batch(
        "down-2", "lamp-2", target={"devices": names}, allowDowngrade=True, conflict="Overwrite", timeout="2h",
        noResponseTimeout="9h", schedule=desk.schedule(0.1, 40),
    )  # fmt: skip


def _groups_change(desk: Desk) -> None:
    expressions = [{"key": "region", "operator": "NotIn", "values": ["us"]}]
    desk.git.edit("DeviceGroup", "europe", selector={"matchExpressions": expressions})
    desk.git.edit("Batch", "dyn-2", target={"all": {}, "sourceVersions": ["1.0.0", "1.1.0", "1.2.0"]})


def _last(desk: Desk) -> None:
    desk.git.batch(
        "all-4", "lamp-4", target={"gray": {"percent": 35}}, conflict="Wait", timeout="4h",
        retry={"interval": "10m", "limit": 1}, noResponseTimeout="12h", pushRatePerMinute=desk.rate(2500),
    )  # fmt: skip


def _early_cancel(desk: Desk) -> None:
    """A batch that is cancelled before it started, but for what it has not asked about."""
    desk.git.batch(
        "never-4", "lamp-4", target={"devices": desk.some(0.02, 17)[:60]}, schedule=desk.schedule(1.0),
        conflict="Wait", onCancel=["Unconfirmed"],
    )  # fmt: skip
    desk.git.batch(  # nobody confirms it before it is over
        "unasked-4", "lamp-4", target={"devices": desk.some(0.02, 19)[:40]}, schedule=desk.schedule(0.2, 20),
        conflict="Wait", confirm=True,
    )  # fmt: skip


def _cancel_early(desk: Desk) -> None:
    desk.order("cancel", batch="never-4")


def _longer(desk: Desk) -> None:
    """The fleet is listed anew: some devices leave, and some change their tags."""
    declared = desk.names[: -max(1, len(desk.names) // 20)]
    regions = ("us", "eu", "ap")
    kept = [(i, n) for i, n in enumerate(declared) if i % 97 != 5]
    lines = ["name,region,floor"]
    lines += [f"{n},{regions[i % 3] if i % 11 == 0 else ('eu', 'us', 'ap')[i % 3]},{i % 7}" for i, n in kept]
    desk.git.table("fleet.csv", lines)


def _again(desk: Desk) -> None:
    _gray(desk)  # deleted before: another life of it


def _wake(desk: Desk) -> None:
    """Nobody is kept waiting by people: all are confirmed, nothing is suspended, no trial is left to fail."""
    desk.git.package("lamp-3v", "3.1.0", customInfo="tried")
    _confirm_rest(desk)


STEPS: Sequence[Step] = (
    Step(0.0, _base),
    Step(0.4, _gray),
    Step(1.0, _everybody),
    Step(1.1, _behind),
    Step(1.4, _modules),
    Step(1.002, _slower),
    Step(1.006, _faster),
    Step(2.6, _dynamic),
    Step(3.2, _verified),
    Step(3.6, _try_again),
    Step(4.4, _overwrite),
    Step(4.9, _cancel_all),
    Step(5.0, _activate_all),
    Step(5.6, _confirm),
    Step(5.9, _confirm_some, merges=False),
    Step(6.4, _confirm_rest, merges=False),
    Step(6.6, _group),
    Step(6.62, _suspend),
    Step(6.9, _resume),
    Step(7.5, _delete),
    Step(7.6, _delete_more),
    Step(8.2, _delta),
    Step(8.9, _early_cancel),
    Step(9.2, _cancel_early, merges=False),
    Step(9.4, _down),
    Step(10.0, _groups_change),
    Step(10.5, _longer),
    Step(10.9, _last),
    Step(11.3, _again),
    Step(CALM_AT, _wake),
)

INITIAL: Mapping[str, Sequence[str]] = {
    "default": ("1.0.0", "1.0.0", "1.1.0", "1.2.0", "2.0.0"),
    "mcu": ("1.0.0", "1.0.0", "2.0.0"),
    "radio": ("1.0.0",),
}
"""What devices run at the beginning."""
