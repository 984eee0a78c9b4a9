"""What Git says in a reference run, as the files that the engine reads: the model's values become manifests."""

from __future__ import annotations

import json
from datetime import timedelta

from rig import START, document

PRODUCT = "p"
MODULES = ("mcu", "radio")


def files(desired):
    """The whole tree: products, their devices, and the packages, groups and batches that are declared now."""
    products = sorted({PRODUCT} | {_product(key) for key in desired.devices} | _products(desired.packages))
    found = {"app.bin": b"firmware " * 10}
    for name in products:
        modules = [{"name": module} for module in MODULES]
        registration = "Auto" if name in desired.open_products else "Declared"
        more = {"modules": modules, "registration": registration}
        found[f"product-{name}.yaml"] = document("Product", name, productKey=name, **more)
        found[f"inventory-{name}.yaml"] = _inventory(name, desired.devices)
    for kind, made, declared in (
        ("Package", _package, desired.packages),
        ("DeviceGroup", _group, desired.groups),
        ("Batch", _batch, desired.batches),
    ):
        for name, value in declared.items():
            found[f"{kind}-{name}.yaml".lower()] = document(kind, name, **_said(made(value)))
    return found


def _said(fields):
    return json.loads(json.dumps({name: value for name, value in fields.items() if value is not None}))


def _product(key):
    return key.partition("/")[0]


def _products(packages):
    return {package.product for package in packages.values()}


def _inventory(product, devices):
    listed = [
        {"name": key.partition("/")[2], "tags": tags}
        for key, tags in sorted(devices.items())
        if _product(key) == product
    ]
    return document("DeviceInventory", f"fleet-{product}", product=product, devices=listed)


def _package(package):
    return {
        "product": package.product,
        "module": package.module,
        "version": package.version,
        "title": f"{package.module} {package.version} {package.name}"[:40],
        "type": "Delta" if package.source else "Full",
        "sourceVersion": package.source,
        "files": [{"name": "app.bin", "source": "app.bin"}],
        "verification": _trial(package.verification),
    }


def _trial(verification):
    if verification is None:
        return None
    return {
        "devices": verification.devices,
        "sourceVersions": verification.sources,
        "timeout": span(verification.timeout),
        "attempt": verification.attempt,
    }


def _group(group):
    if group.devices is not None:
        return {"product": group.product, "devices": group.devices}
    expressions = [
        {"key": key, "operator": operator, **({"values": values} if values else {})}
        for key, operator, values in group.expressions
    ]
    module = {"name": group.module[0], "version": group.module[1]} if group.module else None
    selector = {"matchTags": dict(group.match_tags), "matchExpressions": expressions, "module": module}
    return {"product": group.product, "selector": _said(selector)}


def _batch(spec):
    return {
        "package": spec.package,
        "strategy": spec.strategy,
        "target": _target(spec.target, spec.sources),
        "schedule": _schedule(spec),
        "pushRatePerMinute": spec.rate,
        "retry": {"interval": span(spec.retry[0]), "limit": spec.retry[1]} if spec.retry else None,
        "timeout": spec.timeout and span(spec.timeout),
        "noResponseTimeout": spec.no_response and span(spec.no_response),
        "conflict": spec.conflict,
        "delivery": spec.delivery,
        "confirm": spec.confirm,
        "allowDowngrade": spec.allow_downgrade,
        "newReportsOnly": spec.new_reports_only,
        "multiModule": spec.multi_module,
        "tags": dict(spec.tags),
        "suspend": spec.suspend,
        "state": spec.state,
        "onCancel": spec.on_cancel,
    }


def _target(target, sources):
    kind, *rest = target
    said = {
        "all": lambda: {"all": {}},
        "devices": lambda: {"devices": rest},
        "gray": lambda: {"gray": {"percent": float(rest[0])}},
        "group": lambda: {"group": rest[0]},
    }[kind]()
    return said | ({"sourceVersions": sources} if sources else {})


def _schedule(spec):
    if spec.start is None and spec.end is None:
        return None
    return _said({"start": _moment(spec.start), "end": _moment(spec.end)})


def _moment(seconds):
    return None if seconds is None else (START + timedelta(seconds=seconds)).isoformat()


def span(seconds):
    """A duration as manifests write it."""
    return f"{seconds // 60}m" if seconds and seconds % 60 == 0 else f"{seconds}s"
