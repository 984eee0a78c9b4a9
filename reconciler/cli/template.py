"""`reconciler template`: CSV files to start from, as `devicesFrom` reads them (platform rules §4, §7)."""

from __future__ import annotations

import click

_TEMPLATES = {
    "devices": "name\ndevice-0001\ndevice-0002\n",
    "group": "name\ndevice-0001\ndevice-0002\n",
    "inventory": "name,region,floor\ndevice-0001,eu,1\ndevice-0002,us,2\n",
}


@click.command()
@click.argument("kind", type=click.Choice(sorted(_TEMPLATES)))
def command(kind: str) -> None:
    """Print a CSV file to start from: a batch's DEVICES, a GROUP, or an INVENTORY with tags.

    Each column of an inventory besides the name is a tag; an empty cell is no tag.
    """
    click.echo(_TEMPLATES[kind], nl=False)
