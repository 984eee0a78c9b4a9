"""The manifests as frozen models: every field, every default, and every rule that one document can check.

`parse` makes a model of the plain data of a document; `source.validate` calls it and explains what it
refuses. `normalised` and `digest` say when two specs mean the same. Nothing here reads a file or knows
another object.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from reconciler.domain import limits as limit
from reconciler.domain.resources.base import (
    API_VERSION,
    NUMERIC_VERSION,
    DevicesFrom,
    Location,
    Manifest,
    Metadata,
    Model,
    device_name_problem,
    duration,
    format_duration,
)
from reconciler.domain.resources.batch import (
    DEFAULT_ON_CANCEL,
    Batch,
    BatchDevicesFrom,
    BatchSpec,
    CancelScope,
    Conflict,
    Delivery,
    Download,
    Gray,
    How,
    Retry,
    Schedule,
    State,
    Strategy,
    Target,
)
from reconciler.domain.resources.group import DeviceGroup, DeviceGroupSpec, Expression, Operator, Selector
from reconciler.domain.resources.inventory import DeviceEntry, DeviceInventory, DeviceInventorySpec
from reconciler.domain.resources.package import (
    MOST_FILES,
    Package,
    PackageFile,
    PackageSpec,
    PackageType,
    SignMethod,
    Verification,
    has_format,
    is_path,
)
from reconciler.domain.resources.product import (
    DEFAULT_MODULE,
    Md5Name,
    Module,
    Product,
    ProductSpec,
    Protocol,
    Registration,
    VersionFormat,
)

__all__ = [
    "API_VERSION",
    "DEFAULT_MODULE",
    "DEFAULT_ON_CANCEL",
    "MODELS",
    "MOST_FILES",
    "NUMERIC_VERSION",
    "Batch",
    "BatchDevicesFrom",
    "BatchSpec",
    "CancelScope",
    "Conflict",
    "Delivery",
    "DeviceEntry",
    "DeviceGroup",
    "DeviceGroupSpec",
    "DeviceInventory",
    "DeviceInventorySpec",
    "DevicesFrom",
    "Download",
    "Expression",
    "Gray",
    "How",
    "Kind",
    "Location",
    "Manifest",
    "Md5Name",
    "Metadata",
    "Model",
    "Module",
    "Operator",
    "Package",
    "PackageFile",
    "PackageSpec",
    "PackageType",
    "Product",
    "ProductSpec",
    "Protocol",
    "Registration",
    "Resource",
    "Retry",
    "Schedule",
    "Selector",
    "SignMethod",
    "State",
    "Strategy",
    "Target",
    "Verification",
    "VersionFormat",
    "device_name_problem",
    "digest",
    "duration",
    "format_duration",
    "has_format",
    "is_path",
    "normalised",
    "parse",
]

Resource = Product | Package | Batch | DeviceGroup | DeviceInventory


class Kind(enum.StrEnum):
    """The five kinds, in the order in which they refer to each other."""

    PRODUCT = "Product"
    PACKAGE = "Package"
    DEVICE_INVENTORY = "DeviceInventory"
    DEVICE_GROUP = "DeviceGroup"
    BATCH = "Batch"


MODELS: Mapping[Kind, type[Resource]] = {
    Kind.PRODUCT: Product,
    Kind.PACKAGE: Package,
    Kind.DEVICE_INVENTORY: DeviceInventory,
    Kind.DEVICE_GROUP: DeviceGroup,
    Kind.BATCH: Batch,
}


def parse(kind: Kind, data: object, limits: limit.Limits = limit.DEFAULT) -> Resource:
    """The model of a whole document, given as plain data with the manifest's own camelCase keys.

    Raises:
        pydantic.ValidationError: with every broken rule; those of our own carry code, message, remedy and
            place in their `ctx` (`base.problem`).
    """
    return MODELS[kind].model_validate(data, context={"limits": limits})


def normalised(resource: Resource) -> dict[str, Any]:
    """The spec as JSON data in one form: defaults left out, times in UTC, sets sorted.

    Specs that mean the same give the same data, and a field that a later release adds changes no old spec.
    """
    return resource.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def digest(data: Mapping[str, Any]) -> str:
    """The SHA-256 in hex of JSON data in canonical form."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
