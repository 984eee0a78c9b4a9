"""Decides which topics a device may use: those that carry its own names, nothing else (device protocol §3).

Called by `connection` for each topic that is new to it, and by whoever writes access rules for a broker.
Where the product key and the device name stand depends on the topic's family (device protocol §2)::

    /sys/{pk}/{dn}/…      /ota/device/{word}/{pk}/{dn}      /ext/{word}/{pk}/{dn}/…      /{pk}/{dn}/…
    /ext/rrpc/{message}/… before any of these: a call that is answered
"""

from __future__ import annotations

from reconciler.protocol.mqtt311.packets import Will
from reconciler.protocol.topics import Address

_NAMES_BEGIN = {"sys": 2, "ota": 4, "ext": 3, "shadow": 3}
"""At which level the product key stands, by the first word; in a product's own topics it is that word."""


def may_publish(address: Address, topic: str) -> bool:
    """True when the topic is in the device's own namespace, whether the platform listens to it or not."""
    return _is_own(address, topic.split("/"))


def may_subscribe(address: Address, topic_filter: str) -> bool:
    """True when all that the filter can match is in the device's own namespace.

    Wildcards are fine beside the names, as the Node SDK uses them (trap 13), never in their place.
    """
    levels = topic_filter.split("/")
    if not _is_own(address, levels):
        return False
    misplaced = "#" in "".join(levels[:-1]) or (levels[-1] != "#" and "#" in levels[-1])
    return not misplaced and all(level == "+" or "+" not in level for level in levels)


def may_leave(address: Address, will: Will | None) -> bool:
    """True when there is no will, or one that the device could have published itself."""
    return will is None or (will.qos < 2 and not will.retain and may_publish(address, will.topic))


def _is_own(address: Address, levels: list[str]) -> bool:
    if levels[:3] == ["", "ext", "rrpc"]:
        levels = ["", *levels[4:]]
    if len(levels) < 3 or levels[0]:
        return False
    begin = _NAMES_BEGIN.get(levels[1], 1)
    return levels[begin : begin + 2] == [address.product_key, address.device_name]
