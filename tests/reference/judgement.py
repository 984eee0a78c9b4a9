"""Whether a device fits a batch, which devices a group or a gray batch takes: platform-rules.md §4 and §7."""

from __future__ import annotations

import hashlib
import re
from fractions import Fraction

ALREADY, SOURCE, DOWNGRADE = "already", "source-version", "downgrade"
PRIME = 2_147_483_647


def dotted(version):
    """The numbers of a dotted version, or None when it is not one (§4: `where both versions are dotted numbers`)."""
    return [int(part) for part in version.split(".")] if re.fullmatch(r"\d+(\.\d+)+", version) else None


def lower(target, present):
    """Whether the target is a lower dotted number than the present version; a missing part counts as 0."""
    left, right = dotted(target), dotted(present) if present is not None else None
    if left is None or right is None:
        return False
    length = max(len(left), len(right))
    return left + [0] * (length - len(left)) < right + [0] * (length - len(right))


def judge(run, present):
    """Why a device on this version is left out of the run, or None: it fits (§4 `at acceptance and at the start`)."""
    if present == run.package.version:
        return ALREADY
    if run.sources and present not in run.sources:
        return SOURCE
    if not run.spec.allow_downgrade and lower(run.package.version, present):
        return DOWNGRADE
    return None


def selected(group, device):
    """Whether a dynamic group's selector picks the device (§7; as in Kubernetes, NotIn holds for an absent key)."""
    if group.devices is not None or not device.declared or group.product not in (None, device.product):
        return False
    if any(device.tags.get(key) != value for key, value in group.match_tags):
        return False
    if group.module is not None and device.versions.get(group.module[0]) != group.module[1]:
        return False
    return all(_expression(device.tags, *expression) for expression in group.expressions)


def _expression(tags, key, operator, values):
    return {
        "In": key in tags and tags[key] in values,
        "NotIn": key not in tags or tags[key] not in values,
        "Exists": key in tags,
        "DoesNotExist": key not in tags,
    }[operator]


def gray_count(base, percent):
    """§4 target gray: floor of the share, at least 1 (of none: none). `percent` is text: no binary fractions."""
    return max(1, int(base * Fraction(str(percent)) / 100)) if base else 0


def gray_parameters(batch):
    """a and b of the gray key, from SHA-256 of the batch's name: its first and its second four bytes, a never 0."""
    digest = hashlib.sha256(batch.encode()).digest()
    return 1 + int.from_bytes(digest[:4], "big") % (PRIME - 1), int.from_bytes(digest[4:8], "big") % PRIME


def gray_key(device, parameters):
    """What orders the devices of a gray batch: (h31·a + b) mod 2147483647, h31 from SHA-256 of `pk/dn`."""
    digest = hashlib.sha256(f"{device.product}/{device.name}".encode()).digest()
    h31 = int.from_bytes(digest[:4], "big") & 0x7FFFFFFF
    a, b = parameters
    return (h31 * a + b) % PRIME
