"""A kind of device: its key on the wire, its modules, how its versions look (platform rules §2)."""

from __future__ import annotations

import enum
import re
from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from reconciler.domain import limits as limit
from reconciler.domain.diagnostics import Code
from reconciler.domain.resources import base, clauses

DEFAULT_MODULE = "default"


class VersionFormat(enum.StrEnum):
    """How the product's versions are written."""

    FREE = "Free"
    NUMERIC = "Numeric"


class Protocol(enum.StrEnum):
    """Whose dialect of the device protocol the devices speak."""

    ALIYUN = "Aliyun"
    SAGOO = "Sagoo"


class Md5Name(enum.StrEnum):
    """How devices are told that a digest is an MD5. The C SDK knows one word only (device protocol §1, trap 2)."""

    CLASSIC = "Md5"
    UPPER = "MD5"


class Registration(enum.StrEnum):
    """Whether a device that nobody declared may appear by reporting."""

    DECLARED = "Declared"
    AUTO = "Auto"


class Module(base.Model):
    """A part of a device that is upgraded by itself."""

    name: base.SentModuleName = Field(
        description="The module's name on the wire, unique ignoring case.", examples=["mcu"]
    )
    alias: Annotated[str, base.Text("an alias", 64)] | None = Field(
        default=None, description="What people call the module.", examples=["Motor controller"]
    )
    description: base.Description = Field(
        default="",
        description="What the module is; at most 100 characters.",
        examples=["STM32 on the power board"],
    )


class KeySource(base.Model):
    """Where a private key is read from; it is never in Git itself."""

    model_config = clauses.rules(clauses.exactly_one("env", "file"))

    env: Annotated[str, base.Text("a variable's name", 255, re.compile(r"[A-Za-z_][A-Za-z0-9_]*"))] | None = (
        Field(
            default=None,
            description="The environment variable that holds the key.",
            examples=["THERMOSTAT_SIGNING_KEY"],
        )
    )
    file: (
        Annotated[
            str,
            base.Text("an absolute path", 4096, re.compile(r"/[^\x00]*"), "an absolute path begins with /"),
        ]
        | None
    ) = Field(
        default=None,
        description="The file on the reconciler's machine that holds the key: its absolute path.",
        examples=["/run/secrets/thermostat-signing-key.pem"],
    )

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise base.problem(
                Code.COMBINATION,
                "privateKeyFrom has exactly one of `env` and `file`",
                remedy="add one of them" if self.env is None else "keep one of them",
                label="env or file",
            )
        return self

    @property
    def reference(self) -> str:
        """The same in one word: `env:NAME` or `file:PATH`."""
        return f"env:{self.env}" if self.env is not None else f"file:{self.file}"


class Signing(base.Model):
    """Secure upgrade: packages are signed with the product's private key."""

    private_key_from: KeySource = Field(
        description="Where the private key is read from: exactly one of env, file."
    )


class ProductSpec(base.Model):
    """What a product is."""

    model_config = clauses.rules(
        clauses.when(
            clauses.given(protocol="Sagoo"),
            clauses.all_of(clauses.given(versionFormat="Numeric"), clauses.none_of("signing")),
        ),
        clauses.when(clauses.given(md5Name="MD5"), clauses.given(protocol="Sagoo")),
    )

    product_key: (
        Annotated[
            str,
            base.Text(
                "a product key",
                64,
                re.compile(r"[A-Za-z0-9_.:@-]+"),
                "a product key has letters, digits and _ . : @ - only",
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="The product's key on the wire. Default: metadata.name.",
        examples=["a1ThermoKey"],
    )
    description: base.Description = Field(
        default="",
        description="What the product is; at most 100 characters.",
        examples=["Wall thermostat, second generation"],
    )
    modules: Annotated[tuple[Module, ...], Field(strict=False)] = Field(
        default=(),
        description="Parts that are upgraded by themselves. `default`, the whole firmware, always exists.",
        json_schema_extra={"maxItems": limit.DEFAULT.modules_per_product + 1},
    )
    version_format: Annotated[VersionFormat, Field(strict=False)] = Field(
        default=VersionFormat.FREE,
        description="Free: letters, digits, `.`, `_`, `-`, 64 at most. Numeric: x.y.z in digits.",
    )
    protocol: Annotated[Protocol, Field(strict=False)] = Field(
        default=Protocol.ALIYUN,
        description="The dialect that the devices speak. Sagoo: SagooIOT's, with Numeric versions.",
    )
    md5_name: Annotated[Md5Name, Field(strict=False)] = Field(
        default=Md5Name.CLASSIC,
        description="How `signMethod: MD5` is written to the devices. MD5 is for SagooIOT devices that ask for it.",
    )
    registration: Annotated[Registration, Field(strict=False)] = Field(
        default=Registration.DECLARED,
        description="Declared: devices are declared before they may report. Auto: they declare themselves.",
    )
    signing: Signing | None = Field(default=None, description="Secure upgrade: sign each package's digest.")

    @pydantic.field_validator("modules")
    @classmethod
    def _modules_unique(
        cls, modules: tuple[Module, ...], info: pydantic.ValidationInfo
    ) -> tuple[Module, ...]:
        seen: dict[str, int] = {}
        found = []
        for place, module in enumerate(modules):
            folded = module.name.lower()
            if seen.setdefault(folded, place) != place or (
                folded == DEFAULT_MODULE and module.name != DEFAULT_MODULE
            ):
                message = f"module `{module.name}` exists already (upper and lower case count as the same)"
                found.append(base.problem(Code.REPEATED, message, at=(place, "name")))
        most = limit.of_context(info.context).modules_per_product
        count = len(seen.keys() - {DEFAULT_MODULE})
        if count > most:
            message = f"a product has at most {most} modules besides `default`, these are {count}"
            found.append(base.problem(Code.RANGE, message))
        base.refuse(found)
        return tuple(sorted(modules, key=lambda module: module.name))

    @pydantic.model_validator(mode="after")
    def _versions_of_sagoo(self) -> Self:
        if self.protocol is Protocol.SAGOO and self.version_format is not VersionFormat.NUMERIC:
            raise base.problem(
                Code.COMBINATION,
                "SagooIOT devices have versions x.y.z in digits",
                remedy="add `versionFormat: Numeric`",
                at=("protocol",),
            )
        return self

    @pydantic.model_validator(mode="after")
    def _signing_of_link_sdks(self) -> Self:
        if self.protocol is Protocol.SAGOO and self.signing is not None:
            raise base.problem(
                Code.COMBINATION,
                "SagooIOT devices know no secure upgrade",
                remedy="remove `signing`",
                at=("signing",),
            )
        return self

    @pydantic.model_validator(mode="after")
    def _digest_names_of_sagoo(self) -> Self:
        if self.protocol is Protocol.ALIYUN and self.md5_name is not Md5Name.CLASSIC:
            raise base.problem(
                Code.COMBINATION,
                "the Link SDKs take no package whose digest is called MD5: they know `Md5` only",
                remedy="remove `md5Name`, or write `protocol: Sagoo`",
                at=("md5Name",),
            )
        return self


class Product(base.Manifest):
    """A kind of device."""

    model_config = clauses.rules(clauses.without("productKey", "spec", clauses.name_of(1, 64)))

    kind: Literal["Product"] = Field(description="What the document declares.")
    spec: ProductSpec = Field(description="What the product is.")

    @pydantic.model_validator(mode="after")
    def _name_fits(self) -> Self:
        """The name is the default of productKey, so one of the two must be a product key."""
        if self.spec.product_key is None and len(self.metadata.name) > 64:
            raise base.problem(
                Code.REQUIRED,
                "the name is too long to be the product key too",
                remedy="add `productKey` (at most 64 characters)",
                at=("spec",),
            )
        return self

    @property
    def product_key(self) -> str:
        """The product's key on the wire."""
        return self.spec.product_key or self.metadata.name

    @property
    def modules(self) -> frozenset[str]:
        """The names of all modules, `default` included."""
        return frozenset(module.name for module in self.spec.modules) | {DEFAULT_MODULE}
