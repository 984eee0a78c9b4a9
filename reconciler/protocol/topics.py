"""Decides which topic means what, for whom, and who may use it (device protocol §2).

Called by both transports, by dispatch (where to push) and by the simulator. It knows names only: no payloads,
no connections.
"""

from __future__ import annotations

import enum
import functools
import re
from typing import NamedTuple

DEVICE_NAME = re.compile(r"[A-Za-z0-9_.:@-]{1,64}")
"""What may stand in a topic; how long the names of the operator's devices are is looked at when they get theirs."""
PRODUCT_KEY = re.compile(r"[A-Za-z0-9_.:@-]{1,64}")


class Address(NamedTuple):
    """A device as the wire names it: product key and device name. A tuple, as one is made for each message."""

    product_key: str
    device_name: str

    def __str__(self) -> str:
        """The form that logs use: `productKey/deviceName`."""
        return f"{self.product_key}/{self.device_name}"


class Route(enum.StrEnum):
    """What a topic that a device publishes to is for."""

    INFORM = "inform"
    PROGRESS = "progress"
    REQUEST = "request"
    FIRMWARE_GET = "firmware_get"
    FILE_DOWNLOAD = "file_download"


_OTA_ROUTES = {"inform": Route.INFORM, "progress": Route.PROGRESS, "request": Route.REQUEST}
_SYS_ROUTES = {
    "thing/ota/firmware/get": Route.FIRMWARE_GET,
    "thing/file/download": Route.FILE_DOWNLOAD,
}


def parse(topic: str) -> tuple[Route, Address] | None:
    """The route and the device of a topic that devices publish to; None when it is none of ours.

    Only the shape is looked at here. Whether the names are well formed is `is_well_formed`'s business, so that a
    malformed name can be counted as such instead of as a foreign topic.
    """
    parts = topic.split("/")
    if len(parts) == 6 and parts[:3] == ["", "ota", "device"] and parts[3] in _OTA_ROUTES:
        return _OTA_ROUTES[parts[3]], Address(parts[4], parts[5])
    if len(parts) > 4 and parts[:2] == ["", "sys"]:
        route = _SYS_ROUTES.get("/".join(parts[4:]))
        if route is not None:
            return route, Address(parts[2], parts[3])
    return None


@functools.lru_cache(
    maxsize=16_384
)  # asked for with each message; most come from devices that said something before
def is_well_formed(address: Address) -> bool:
    """True when both names can be those of a product and a device (platform rules §2)."""
    return bool(PRODUCT_KEY.fullmatch(address.product_key) and DEVICE_NAME.fullmatch(address.device_name))


def inform(address: Address) -> str:
    """Where a device reports a module's version."""
    return f"/ota/device/inform/{address.product_key}/{address.device_name}"


def progress(address: Address) -> str:
    """Where a device reports the progress of an upgrade."""
    return f"/ota/device/progress/{address.product_key}/{address.device_name}"


def upgrade(address: Address) -> str:
    """Where a device is pushed its package."""
    return f"/ota/device/upgrade/{address.product_key}/{address.device_name}"


def firmware_get(address: Address) -> str:
    """Where a device asks for its package."""
    return f"/sys/{address.product_key}/{address.device_name}/thing/ota/firmware/get"


def firmware_get_reply(address: Address) -> str:
    """Where a device that asked for its package is answered."""
    return f"/sys/{address.product_key}/{address.device_name}/thing/ota/firmware/get_reply"


def file_download(address: Address) -> str:
    """Where a device asks for a block of a file."""
    return f"/sys/{address.product_key}/{address.device_name}/thing/file/download"


def file_download_reply(address: Address) -> str:
    """Where a device that asked for a block gets it."""
    return f"/sys/{address.product_key}/{address.device_name}/thing/file/download_reply"


def uplinks(product_key: str) -> tuple[str, ...]:
    """The filters that a broker client subscribes to, to hear every device of one product."""
    return (
        f"/ota/device/inform/{product_key}/+",
        f"/ota/device/progress/{product_key}/+",
        f"/ota/device/request/{product_key}/+",
        f"/sys/{product_key}/+/thing/ota/firmware/get",
        f"/sys/{product_key}/+/thing/file/download",
    )
