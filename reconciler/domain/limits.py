"""Every number of the rules that an operator's settings may change, with the rule's default.

The settings build one `Limits`; validation carries it as pydantic's context, plan and engine take it as an
argument. It holds numbers, and knows which of them make sense together.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta

MEGABYTE = 1_000_000
"""The platform rules count in MB, not MiB."""

LONGEST_NAME = 64
"""Of a device, whatever the operator says: that is what the database and the log have room for."""
LARGEST_BLOCK = 128 * 1024
"""Bytes of a file that a device gets over MQTT in one message (device protocol §2). Larger ones would come near the
256 KiB that the endpoint lets wait for one device before it takes it for dead."""
_ORDERED = (
    ("device_name_shortest", "device_name_longest"),
    ("push_rate_lowest", "push_rate_highest"),
    ("schedule_lead_shortest", "schedule_lead_longest"),
)
_MAY_BE_NONE = frozenset({
    "modules_per_product",
    "schedule_lead_shortest",
    "endpoint_connections",
    "endpoint_messages_per_second",
    "endpoint_logins_per_second",
})  # fmt: skip
_LEAST = {
    "mqtt_blocks_bytes": (LARGEST_BLOCK, "the largest block"),
    "endpoint_buffer_bytes": (2 * LARGEST_BLOCK, "two of the largest blocks"),
    "endpoint_keepalive_percent": (100, "what devices promise"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Numbers marked ⚙ in the platform rules, or of the device protocol and engine; the comment is their paragraph.

    The settle time (§5) is a setting of its own.
    """

    modules_per_product: int = 10  # §2, besides `default`
    device_name_shortest: int = 4  # §2
    device_name_longest: int = 32  # §2
    packages: int = 500  # §3
    file_bytes: int = 2_000 * MEGABYTE  # §3
    mqtt_file_bytes: int = 16 * MEGABYTE  # §3
    mqtt_blocks_waiting: int = 16  # protocol §2, questions of one device that wait for their answers
    mqtt_blocks_bytes: int = 32 << 20  # protocol §2, what is on its way to all devices
    file_formats: tuple[str, ...] = (  # §3
        ".bin",
        ".dav",
        ".tar",
        ".gz",
        ".tar.gz",
        ".tar.xz",
        ".zip",
        ".gzip",
        ".apk",
        ".pack",
    )
    verification_timeout: timedelta = timedelta(hours=24)  # §3
    devices_per_manifest: int = 200  # §4, target: devices
    devices_per_file: int = 1_000_000  # §4, target: devicesFrom
    device_file_bytes: int = 64 * MEGABYTE  # §4
    schedule_lead_shortest: timedelta = timedelta(minutes=5)  # §4
    schedule_lead_longest: timedelta = timedelta(days=7)  # §4
    push_rate_lowest: int = 10  # §4, devices a minute
    push_rate_highest: int = 10_000  # §4
    dynamic_packages_per_group: int = 5  # §4, dynamic batches
    matches_per_device: int = 10  # §4, dynamic batches
    push_repeat_interval: timedelta = timedelta(minutes=1)  # §5
    devices_per_group: int = 20_000  # §7
    groups_per_device: int = 10  # §7
    groups: int = 1_000  # §7
    endpoint_connections: int = 0  # engine §1; 0: what the process may open, less a reserve
    endpoint_packet_bytes: int = 256 * 1024  # engine §1, of a device that has logged in
    endpoint_buffer_bytes: int = 256 * 1024  # engine §1, what waits for a client that doesn't read
    endpoint_connect_time: timedelta = timedelta(seconds=10)  # engine §1, to the last byte of CONNECT
    endpoint_keepalive_percent: int = 150  # engine §1, silent for so much of its keepalive: gone
    endpoint_idle_time: timedelta = timedelta(minutes=30)  # engine §1, the same without a keepalive
    endpoint_push_time: timedelta = timedelta(seconds=30)  # engine §1, until a push is acknowledged
    endpoint_pushes: int = 16  # engine §1, unacknowledged, of a device
    endpoint_messages_per_second: int = 30  # engine §1, of a device; 0: no limit
    endpoint_messages_at_once: int = 60  # engine §1, before that begins
    endpoint_logins_per_second: int = 1_000  # engine §1; 0: no limit
    endpoint_logins_at_once: int = 32  # engine §1

    def problem(self) -> str:
        """What makes no sense, in words; empty when all does."""
        for low, high in _ORDERED:
            if getattr(self, low) > getattr(self, high):
                return f"{_words(low)} has to be at most {_words(high)}"
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in _MAY_BE_NONE and not value:
                return f"{_words(field.name)} has to be more than 0"
        if self.device_name_longest > LONGEST_NAME:
            return f"device-name-longest has to be at most {LONGEST_NAME}"
        for name, (least, why) in _LEAST.items():
            if getattr(self, name) < least:
                return f"{_words(name)} has to be at least {least}, {why}"
        return ""


DEFAULT = Limits()


def _words(field: str) -> str:
    return field.replace("_", "-")


def of_context(context: object) -> Limits:
    """The limits that pydantic's validation context carries; the defaults when it carries none."""
    found = context.get("limits") if isinstance(context, dict) else None
    return found if isinstance(found, Limits) else DEFAULT
