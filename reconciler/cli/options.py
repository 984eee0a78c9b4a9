"""Turns the fields of `settings.Settings` into flags: one source for names, types, defaults and help."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from reconciler.settings import PREFIX, Settings, unknown_variables

F = TypeVar("F", bound=Callable[..., Any])

LOOK = ("data_dir", "database", "secret_key")
"""The settings of commands that look at the state, or write a command into it."""
FILES = ("file_root", "source_ca", "allow_private_redirects", "s3_endpoint", "s3_region", "disk_reserve")
"""The settings of commands that fetch files."""
WAYS = ("http_certificate", "public_url")
"""The settings of commands that judge whether devices can download as a batch asks."""
SOURCE = ("repo", "ref")
"""The settings of commands that read a repository."""


def settings(*names: str) -> Callable[[F], F]:
    """Adds flags for some settings (all when none is named), and `--config FILE`."""

    def decorate(function: F) -> F:
        chosen = names or tuple(Settings.model_fields)
        function = click.option(
            "--config",
            type=click.Path(path_type=Path),
            envvar=f"{PREFIX}CONFIG",
            help="Settings in a TOML file.",
        )(function)
        for name in reversed(chosen):
            function = _option(name)(function)
        return function

    return decorate


def _option(name: str) -> Callable[[F], F]:
    field = Settings.model_fields[name]
    flag = f"--{name.replace('_', '-')}"
    text = f"{field.description} [{PREFIX}{name.upper()}]"
    if field.annotation is bool:
        return click.option(flag, name, is_flag=True, default=None, help=text)
    if field.annotation == tuple[Path, ...]:
        return click.option(
            flag,
            name,
            multiple=True,
            metavar="FOLDER",
            help=text,
            callback=lambda _c, _p, given: given or None,
        )
    shown = "" if field.default in ("", None) else f" Default: {field.default}."
    return click.option(flag, name, default=None, metavar="VALUE", help=text + shown)


def load(flags: dict[str, Any]) -> Settings:
    """The settings from a command's flags, the environment and the file.

    Raises:
        UserError: a value is wrong.
    """
    for variable, nearest in unknown_variables(os.environ).items():
        hint = f", did you mean {nearest}?" if nearest else ""
        print(f"warning: {variable} is not a setting{hint}", file=sys.stderr)
    config = flags.pop("config", None)
    return Settings.load(flags, os.environ, config)
