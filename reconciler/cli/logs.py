"""How the process logs: to standard error, JSON unless it is a terminal."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

LEVELS = ["debug", "info", "warning", "error"]
NOISY = ("uvicorn.error", "uvicorn.access", "watchfiles", "alembic", "asyncio")
"""Loggers of libraries that say nothing for operators below a warning."""
_TEXT = "%(asctime)s %(levelname)-7s %(message)s"


FORMATS = ["auto", "text", "json"]
F = TypeVar("F", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What the global flags say about logging."""

    level: str = "info"
    format: str = "auto"


def flags(function: F) -> F:
    """Takes `--log-level` and `--log-format` after the command, too; there they beat those before it."""
    level = click.option(
        "--log-level",
        type=click.Choice(LEVELS),
        callback=_keep,
        expose_value=False,
        help="Least that is logged.",
    )
    form = click.option(
        "--log-format",
        type=click.Choice(FORMATS),
        callback=_keep,
        expose_value=False,
        help="Text, or JSON lines.",
    )
    return level(form(function))


def _keep(context: click.Context, option: click.Parameter, value: str | None) -> None:
    if value is not None and option.name is not None:
        context.obj = dataclasses.replace(context.obj, **{option.name.removeprefix("log_"): value})


class Text(logging.Formatter):
    """Lines for people. What servers and devices wrote into one moves no cursor, and begins no line of its own."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """The line, on one line."""
        return _escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """A traceback, on its own lines."""
        return "\n".join(map(_escaped, super().formatException(ei).split("\n")))


def _escaped(text: str) -> str:
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


class _Json(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": at,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(options: Options) -> None:
    """Sets logging up; called by commands that run services."""
    as_json = options.format == "json" or (options.format == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if as_json else Text())
    logging.basicConfig(level=options.level.upper(), handlers=[handler], force=True)
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
