"""A named set of devices: listed, or found by a selector (platform rules §7)."""

from __future__ import annotations

import enum
from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from reconciler.domain.diagnostics import Code
from reconciler.domain.resources import base, clauses


class Operator(enum.StrEnum):
    """How an expression compares a tag."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Expression(base.Model):
    """A condition on one tag."""

    model_config = clauses.rules(
        clauses.when(
            {"required": ["operator"], "properties": {"operator": {"enum": ["In", "NotIn"]}}},
            clauses.filled("values"),
            {"properties": {"values": {"maxItems": 0}}},
        )
    )

    key: base.TagKey = Field(description="The tag.", examples=["floor"])
    operator: Annotated[Operator, Field(strict=False)] = Field(
        description="How it is compared: with `values` (In, NotIn), or whether it is there at all."
    )
    values: Annotated[tuple[base.TagValue, ...], Field(strict=False), base.Unique("value")] = Field(
        default=(),
        description="In, NotIn: the values; Exists, DoesNotExist: none. Quote them.",
        examples=[["1", "2"]],
    )

    @pydantic.model_validator(mode="after")
    def _values_fit(self) -> Self:
        wants = self.operator in {Operator.IN, Operator.NOT_IN}
        if wants != bool(self.values):
            need = "needs `values`" if wants else "has no `values`"
            raise base.problem(
                Code.COMBINATION,
                f"operator {self.operator} {need}",
                remedy="add them" if wants else "remove them",
                at=("operator",) if wants else ("values",),
            )
        return self


class ModuleVersion(base.Model):
    """A condition on a module's reported version."""

    name: base.ModuleName = Field(description="The module.", examples=["default"])
    version: base.Version = Field(description="The version that it reports. Quote it.", examples=["1.3.0"])


class Selector(base.Model):
    """Conditions that all hold for the members of a dynamic group."""

    model_config = clauses.rules(
        clauses.any_of(
            clauses.filled("matchTags", "minProperties"),
            clauses.filled("matchExpressions"),
            clauses.given("module"),
        )
    )

    match_tags: dict[base.TagKey, base.TagValue] = Field(
        default={},
        description="Tags and the values that they have.",
        examples=[{"region": "eu"}],
    )
    match_expressions: Annotated[tuple[Expression, ...], Field(strict=False)] = Field(
        default=(), description="Conditions on tags."
    )
    module: ModuleVersion | None = Field(
        default=None, description="A module and the version that it reports."
    )

    @pydantic.model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.match_tags or self.match_expressions or self.module):
            raise base.problem(
                Code.COMBINATION,
                "a selector has at least one of matchTags, matchExpressions, module",
                remedy="add one of them",
            )
        return self


class DeviceGroupSpec(base.Model):
    """Who is in the group."""

    model_config = clauses.rules(
        clauses.exactly_one("devices", "devicesFrom", "selector"),
        clauses.when({"not": clauses.given("selector")}, clauses.given("product")),
    )

    title: Annotated[str, base.Text("a group's title", 30, shortest=4)] | None = Field(
        default=None,
        description="What people call it; 4 to 30 characters. Default: metadata.name.",
        examples=["Beta testers"],
    )
    product: base.Name | None = Field(
        default=None,
        description="The product of its devices; only a selector may do without: then over all products.",
        examples=["thermostat"],
    )
    devices: (
        Annotated[
            tuple[base.DeviceName, ...],
            Field(strict=False),
            base.Unique("device", most_of="devices_per_group"),
        ]
        | None
    ) = Field(
        default=None,
        description="Static: names of devices; at most 20,000.",
        examples=[["thermo-0001", "thermo-0002"]],
    )
    devices_from: base.DevicesFrom | None = Field(default=None, description="Static: a CSV file with names.")
    selector: Selector | None = Field(default=None, description="Dynamic: conditions on tags and versions.")

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> Self:
        said = {"devices": self.devices, "devicesFrom": self.devices_from, "selector": self.selector}
        ways = [name for name, value in said.items() if value is not None]
        if len(ways) != 1:
            given = f"has {' and '.join(ways)}" if ways else "has none of them"
            raise base.problem(
                Code.COMBINATION,
                f"a group has exactly one of devices, devicesFrom, selector; this {given}",
                remedy="keep one of them" if ways else "add one of them",
                at=(ways[1],) if ways else (),
            )
        return self

    @pydantic.model_validator(mode="after")
    def _product_of_a_list(self) -> Self:
        lists = self.devices is not None or self.devices_from is not None
        if lists and self.product is None:
            raise base.problem(
                Code.REQUIRED, "a group that lists its devices needs `product`", remedy="add `product:`"
            )
        return self


class DeviceGroup(base.Manifest):
    """A named set of devices."""

    model_config = clauses.rules(clauses.without("title", "spec", clauses.name_of(4, 30)))

    kind: Literal["DeviceGroup"] = Field(description="What the document declares.")
    spec: DeviceGroupSpec = Field(description="Who is in the group.")

    @pydantic.model_validator(mode="after")
    def _name_fits(self) -> Self:
        """The name is the default of the title, so one of the two must be a title."""
        if self.spec.title is None and not 4 <= len(self.metadata.name) <= 30:
            raise base.problem(
                Code.REQUIRED,
                "the name is no title (4 to 30 characters)",
                remedy="add a `title`",
                at=("spec",),
            )
        return self

    @property
    def title(self) -> str:
        """What people call the group."""
        return self.spec.title or self.metadata.name
