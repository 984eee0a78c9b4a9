"""The devices of a product and their tags, declared in Git; their secrets never are."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from reconciler.domain.diagnostics import Code
from reconciler.domain.resources import base, clauses


class DeviceEntry(base.Model):
    """One device."""

    name: base.DeviceName = Field(description="The device's name on the wire.", examples=["thermo-0001"])
    tags: dict[base.TagKey, base.TagValue] = Field(
        default={},
        description="What groups select the device by.",
        examples=[{"region": "eu", "floor": "1"}],
    )


class DeviceInventorySpec(base.Model):
    """Which devices there are."""

    model_config = clauses.rules(clauses.exactly_one("devices", "devicesFrom"))

    product: base.Name = Field(description="The product of the devices.", examples=["thermostat"])
    devices: Annotated[tuple[DeviceEntry, ...], Field(strict=False)] | None = Field(
        default=None, description="The devices."
    )
    devices_from: base.DevicesFrom | None = Field(
        default=None, description="A CSV file with the columns name, then one for each tag."
    )

    @pydantic.field_validator("devices")
    @classmethod
    def _unique(cls, devices: tuple[DeviceEntry, ...]) -> tuple[DeviceEntry, ...]:
        seen: dict[str, int] = {}
        base.refuse(
            base.problem(Code.REPEATED, f"device `{device.name}` is listed twice", at=(place, "name"))
            for place, device in enumerate(devices)
            if seen.setdefault(device.name, place) != place
        )
        return tuple(sorted(devices, key=lambda device: device.name))

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.devices is None) == (self.devices_from is None):
            raise base.problem(
                Code.COMBINATION,
                "an inventory has exactly one of devices, devicesFrom",
                remedy="add one of them" if self.devices is None else "keep one of them",
                at=() if self.devices is None else ("devicesFrom",),
            )
        return self


class DeviceInventory(base.Manifest):
    """Devices and their tags."""

    kind: Literal["DeviceInventory"] = Field(description="What the document declares.")
    spec: DeviceInventorySpec = Field(description="Which devices there are.")
