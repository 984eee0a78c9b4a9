"""What is sound of a manifest that is wrong somewhere: so that every rule is judged whose own fields are right.

Made by `source.reading` of what a model refused: pydantic tries no rule between fields once one is wrong, and no
second one once one is broken. Rules are the models' own and see the part as if it were the whole. One that reads what
is not sound ends there (`Unsound`), and has nothing to say. Nothing is judged here that no model judges.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import pydantic
from pydantic_core import PydanticCustomError

from reconciler.domain.limits import Limits
from reconciler.domain.resources.base import Location, Model

_UNKNOWN = "extra_forbidden"


class Unsound(Exception):  # noqa: N818 - no error: what was asked for is reported as wrong already
    """A rule reads something that is wrong itself, or that may be missing only because it is misspelt."""


class Partial:
    """A model's sound fields, its properties and its methods, by the names that they have in the model.

    Args:
        model: what the data is to be.
        data: a mapping of the document.
        at: where in the document it is.
        wrong: the places of all that is wrong in the document, and of what holds it; shared by its parts.
        exactly: the places alone of what is wrong.
        doubtful: some field of the document is unknown: any that is absent may be what was meant.
        limits: the operator's numbers.
    """

    __slots__ = ("_at", "_data", "_doubtful", "_exactly", "_limits", "_model", "_wrong")

    def __init__(
        self,
        model: type[Model],
        data: Mapping[str, Any],
        at: Location,
        *,
        wrong: set[Location],
        exactly: set[Location],
        doubtful: bool,
        limits: Limits,
    ) -> None:
        self._model, self._data, self._at = model, data, at
        self._wrong, self._exactly, self._doubtful, self._limits = wrong, exactly, doubtful, limits

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # copying and pickling ask for such
        field = self._model.model_fields.get(name)
        if field is None:
            return self._member(name)
        alias = str(field.alias)
        at = (*self._at, alias)
        if alias not in self._data:
            if self._doubtful or field.is_required():
                raise Unsound
            return field.get_default()
        below = _model_in(field.annotation)
        if below is not None and (at in self._wrong or self._doubtful):
            return self._below(below, self._data[alias], at, listed=_is_list(field.annotation))
        if at in self._wrong:
            raise Unsound
        return _adapter(self._model, name).validate_python(
            self._data[alias], context={"limits": self._limits}
        )

    def _member(self, name: str) -> Any:
        """A property or method of the model; what breaks a rule of its own may mislead those."""
        if self._at in self._exactly:
            raise Unsound
        member = getattr(self._model, name)
        if isinstance(member, property):
            return member.__get__(self)
        return functools.partial(member, self)

    def _below(self, model: type[Model], value: Any, at: Location, *, listed: bool) -> Any:
        """A part, or a list of parts."""
        if not listed:
            return self._part(model, value, at)
        if not isinstance(value, list) or at in self._exactly:
            raise Unsound
        return tuple(self._part(model, entry, (*at, index)) for index, entry in enumerate(value))

    def _part(self, model: type[Model], data: Any, at: Location) -> Partial:
        if not isinstance(data, dict):
            raise Unsound
        shared = {"wrong": self._wrong, "exactly": self._exactly}
        return Partial(model, data, at, **shared, doubtful=self._doubtful, limits=self._limits)

    def broken_rules(self) -> Iterator[dict[str, Any]]:
        """The rules between sound fields that are broken, as pydantic's own complaints; some are among those."""
        for at in sorted(
            self._wrong, key=len, reverse=True
        ):  # what is within first: rules ask whether it is right
            model, data = _model_at(self._model, at), _data_at(self._data, at)
            if model is None or not isinstance(data, dict):
                continue
            part = self._part(model, data, at)
            for rule in model.__pydantic_decorators__.model_validators.values():
                for problem in _broken(rule.func, part):
                    self._exactly.add(at)
                    yield {"type": "rule", "loc": at, "ctx": problem}


def of(model: type[Model], data: Mapping[str, Any], complaints: Iterable[Any], limits: Limits) -> Partial:
    """What is sound of a whole document that a model refused.

    Args:
        model: the document's.
        data: the document's.
        complaints: pydantic's.
        limits: the operator's numbers.
    """
    listed = list(complaints)
    exactly = {tuple(complaint["loc"]) for complaint in listed}
    wrong = {at[:length] for at in exactly for length in range(len(at) + 1)}
    doubtful = any(complaint["type"] == _UNKNOWN for complaint in listed)
    return Partial(model, data, (), wrong=wrong, exactly=exactly, doubtful=doubtful, limits=limits)


def _broken(rule: Callable[[Any], object], part: Partial) -> list[Any]:
    """What a rule finds, as the contexts of `base.problem`."""
    try:
        rule(part)
    except Unsound:
        pass
    except PydanticCustomError as problem:
        return [problem.context]
    except pydantic.ValidationError as problems:
        return [problem["ctx"] for problem in problems.errors()]
    return []


@functools.cache
def _adapter(model: type[Model], name: str) -> pydantic.TypeAdapter[Any]:
    field = model.model_fields[name]
    kind: Any = Annotated[field.annotation, pydantic.Strict(strict=False), *field.metadata]
    return pydantic.TypeAdapter(kind)


def _model_in(annotation: Any) -> type[Model] | None:
    """The model in `X`, `X | None` or `tuple[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    found = (_model_in(argument) for argument in typing.get_args(annotation))
    return next((model for model in found if model is not None), None)


def _is_list(annotation: Any) -> bool:
    return typing.get_origin(annotation) is tuple or any(map(_is_list, typing.get_args(annotation)))


def _model_at(model: type[Model] | None, location: Location) -> type[Model] | None:
    for step in location:
        if isinstance(step, int):
            continue  # a list is of what its entries are
        fields = () if model is None else model.model_fields.values()
        model = next((_model_in(field.annotation) for field in fields if field.alias == step), None)
    return model


def _data_at(data: Any, location: Sequence[int | str]) -> Any:
    for step in location:
        try:
            data = data[step]
        except (LookupError, TypeError):
            return None
    return data
