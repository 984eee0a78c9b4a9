"""What an operator's order says: the arguments of a row of the `command` table, read before anything is done with them.

Called by `services.operate`. The row was written by a program that may be of another version: what does not fit here
is refused with that remedy, and whoever carries an order out may rely on the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import pydantic

from reconciler import errors
from reconciler.domain.resources import Kind

_Name = Annotated[str, pydantic.Field(min_length=1)]


class Request(pydantic.BaseModel):
    """The arguments of an order."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    @property
    def kind(self) -> Kind:
        """What it is about: a batch, or a package's verification."""
        return Kind.BATCH

    @property
    def name(self) -> str | None:
        """What that is called; None where it is about more than one."""
        return None


class _OfOne(Request):
    """An order about one batch, or about the verification of one package."""

    batch: _Name | None = None
    package: _Name | None = None

    @pydantic.model_validator(mode="after")
    def _is_of_one(self) -> Self:
        if (self.batch is None) == (self.package is None):
            raise ValueError("it is about a batch or about a package")
        return self

    @property
    def kind(self) -> Kind:
        return Kind.BATCH if self.package is None else Kind.PACKAGE

    @property
    def name(self) -> str:
        return self.batch or self.package or ""


class Cancel(_OfOne):
    """All of it, or what one device has of it."""

    device: _Name | None = None


class Retry(_OfOne):
    """One device is upgraded again."""

    device: _Name


class Suspend(_OfOne):
    """Nothing of it is pushed or offered."""


class Resume(_OfOne):
    """The operator's suspension is over."""


class ConfirmTasks(_OfOne):
    """Every task that waits for it. Also how far that is, where it takes more than one transaction."""

    tasks: Literal[True]
    run: int | None = None
    """Whose tasks: the run that was the newest when the first of them was confirmed."""
    confirmed: int = 0
    after: int = 0


class ConfirmDevices(_OfOne):
    """The tasks of some devices."""

    devices: Annotated[tuple[_Name, ...], pydantic.Field(min_length=1)]


class ConfirmCancels(Request):
    """So many cancellations of a commit."""

    cancels: int
    revision: _Name


class ConfirmHeld(Request):
    """Some batches that are held, or all of them."""

    batches: tuple[_Name, ...] | None


_KNOWN: Mapping[str, pydantic.TypeAdapter[Request]] = {
    "cancel": pydantic.TypeAdapter(Cancel),
    "confirm": pydantic.TypeAdapter(ConfirmTasks | ConfirmDevices | ConfirmCancels | ConfirmHeld),
    "resume": pydantic.TypeAdapter(Resume),
    "retry": pydantic.TypeAdapter(Retry),
    "suspend": pydantic.TypeAdapter(Suspend),
}


def read(order: str, arguments: Mapping[str, Any]) -> Request:
    """The arguments of an order, as they were written down.

    Raises:
        UserError: nobody here understands them.
    """
    known = _KNOWN.get(order)
    if known is None:
        raise errors.UserError(
            f"this daemon knows no command {order}: it is older than the program that sent it"
        )
    try:
        return known.validate_python(arguments)
    except pydantic.ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in wrong["loc"])
        raise errors.UserError(
            f"this daemon does not understand the arguments of {order} ({place}: {wrong['msg']}):"
            " the program that sent it is of another version"
        ) from error
