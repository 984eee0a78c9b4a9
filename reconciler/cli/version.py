"""`reconciler version`."""

from __future__ import annotations

import platform

import click

import reconciler


@click.command()
def command() -> None:
    """The version of this program."""
    print(f"reconciler {reconciler.__version__} (Python {platform.python_version()})")
