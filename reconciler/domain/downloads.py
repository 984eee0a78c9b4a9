"""Decides in which way devices fetch a file, and which ways a batch may ask for (platform rules §3, §4: `download`).

A guard asks `unconfigured` when a batch is accepted, validation asks `unfit` and `unspoken`, and offers ask `resolve`
for what a device is told. What is configured is the caller's to know; nothing here looks at settings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from reconciler.domain.resources import Download, Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class Ways:
    """Where devices reach the download server. MQTT needs nothing besides: it is the way to the devices itself."""

    https: bool = False
    http: bool = True

    def has(self, way: Download) -> bool:
        """Whether devices can fetch files in this way. Auto is always possible."""
        return {Download.HTTPS: self.https, Download.HTTP: self.http}.get(way, True)


def resolve(wanted: Download, ways: Ways) -> Download:
    """What is meant: never Auto, which is HTTPS where there is HTTPS, else HTTP."""
    if wanted is not Download.AUTO:
        return wanted
    return Download.HTTPS if ways.https else Download.HTTP


def unconfigured(wanted: Download, ways: Ways) -> str:
    """Why devices can't be told to download in this way here, with the remedy; empty when they can."""
    if ways.has(wanted):
        return ""
    other = Download.HTTP if wanted is Download.HTTPS else Download.HTTPS
    return (
        f"asks for downloads over {wanted}, and devices reach this server over {other} only: give --public-url an "
        f"{wanted.lower()}:// URL too, after a comma"
    )


def unfit(wanted: Download, sizes: Sequence[int], most: int) -> str:
    """Why a package can't be downloaded in this way; empty when it can.

    Args:
        wanted: what the batch asks for.
        sizes: the bytes of each of the package's files.
        most: the bytes of the largest file that is sent over MQTT (`Limits.mqtt_file_bytes`).
    """
    if wanted is not Download.MQTT:
        return ""
    if len(sizes) > 1:
        return f"a download over MQTT is of one file, and the package has {len(sizes)}"
    if sizes and sizes[0] > most:
        return f"a download over MQTT has at most {most:,} bytes, and the package's file has {sizes[0]:,}"
    return ""


def unspoken(wanted: Download, protocol: Protocol) -> str:
    """Why devices that speak this protocol can't download in this way; empty when they can (device protocol §4)."""
    if protocol is Protocol.SAGOO and wanted is Download.MQTT:
        return "SagooIOT devices download over HTTP(S) only, not over MQTT"
    return ""
