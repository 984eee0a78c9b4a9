"""`reconciler delta`: the patch from one firmware file to another, and the manifest of the package that it is in.

For a CI job: the manifest goes to standard output, everything else to standard error.
"""

from __future__ import annotations

import pathlib
import re
import shlex
import time
from typing import Any

import click

from reconciler import errors
from reconciler.cli import options
from reconciler.domain import resources
from reconciler.domain.limits import Limits

_MIB = 1 << 20
_LONGEST_NAME = 32
_LONGEST_TITLE = 40
_UNKNOWN = {"product": "<product>", "source": "<source version>", "target": "<version>"}
_FILE = click.Path(path_type=pathlib.Path)


@click.command()
@click.argument("old", type=_FILE)
@click.argument("new", type=_FILE)
@click.option("-o", "--output", "patch", metavar="PATCH", type=_FILE, required=True, help="Where it goes.")
@click.option("--product", help="The product's name, for the manifest.")
@click.option("--module", default=resources.DEFAULT_MODULE, show_default=True, help="Its module.")
@click.option("--from", "source", metavar="VERSION", help="The version that OLD is.")
@click.option("--to", "target", metavar="VERSION", help="The version that NEW is.")
@click.option(
    "--level",
    type=click.IntRange(1, 19),
    default=12,
    show_default=True,
    help="How hard to try; 19 takes a minute for what 12 does in a second or two.",
)
@click.option(
    "--memory",
    metavar="MIB",
    type=click.IntRange(1),
    default=4400,
    show_default=True,
    help="Refuse to use more. A patch needs about as much as both files together, and 512 MiB.",
)
@options.settings("limits")
def command(
    old: pathlib.Path, new: pathlib.Path, patch: pathlib.Path, level: int, memory: int, **flags: Any
) -> None:
    """Make a delta: PATCH leads from the file OLD to the file NEW.

    It is made as `zstd --patch-from` makes it, and applied once, to be sure. The delta package's manifest is printed;
    what it can't know without --product, --from and --to is left to be filled in.
    """
    from reconciler.artifacts import delta

    known = {key: flags.pop(key) or unknown for key, unknown in _UNKNOWN.items()}
    module = flags.pop("module")
    _check_name(patch, options.load(flags).limits)
    began = time.monotonic()
    made = delta.make(old, new, patch, level=level, most_memory=memory * _MIB)
    seconds = time.monotonic() - began
    peak = delta.memory_needed(made.old_size, made.new_size) // _MIB
    click.echo(
        f"{patch}: {made.size:,} bytes, {made.share:.1%} of {new} ({made.new_size:,} bytes); made and checked in "
        f"{seconds:.1f} s, with at most {peak:,} MiB of memory",
        err=True,
    )
    click.echo(f"it is applied with: {_applied(old, new, patch, long=made.needs_long_window)}", err=True)
    if made.size >= made.new_size:
        click.echo("note: it is no smaller than the whole file: a Full package serves better", err=True)
    if set(known.values()) & set(_UNKNOWN.values()):
        click.echo("note: fill in what stands in < > (or give --product, --from and --to)", err=True)
    click.echo(_manifest(known, module, patch.name, made), nl=False)


def _check_name(patch: pathlib.Path, limits: Limits) -> None:
    """A name that no package can have is refused before the work is done."""
    if len(patch.name) > _LONGEST_NAME:
        text = f"the name {patch.name} has more than {_LONGEST_NAME} characters, which no package's file can have"
        raise errors.UsageError(text, remedy="give -o a shorter name")
    if not resources.has_format(patch.name, limits.file_formats):
        text = f"{patch.name} has no format that packages may have"
        raise errors.UsageError(text, remedy=f"let it end in one of {' '.join(limits.file_formats)}")


def _applied(old: pathlib.Path, new: pathlib.Path, patch: pathlib.Path, *, long: bool) -> str:
    """The command line that does what a device does."""
    words = ["zstd", "-d", *(["--long=31"] if long else []), f"--patch-from={old}", str(patch)]
    return shlex.join([*words, "-o", f"{new.name}.restored"])


def _manifest(known: dict[str, str], module: str, name: str, made: Any) -> str:
    """The package as a document. Whatever was given is written so that YAML takes it for text."""
    import orjson

    def quoted(text: str) -> str:
        return orjson.dumps(text).decode()

    product, source, target = (known[key] for key in _UNKNOWN)
    of_module = "" if module == resources.DEFAULT_MODULE else f"{module}-"
    package = _name(f"{product}-{of_module}{source}-to-{target}")
    title = f"{target} from {source}, {product}"[:_LONGEST_TITLE].rstrip()
    lines = [
        "apiVersion: ota/v1",
        "kind: Package",
        "metadata:",
        f"  name: {quoted(package)}",
        "spec:",
        *([f"  title: {quoted(title.replace(',', ''))}"] if len(package) > _LONGEST_TITLE else []),
        f"  product: {quoted(product)}",
        *([f"  module: {quoted(module)}"] if of_module else []),
        "  type: Delta",
        f"  version: {quoted(target)}",
        f"  sourceVersion: {quoted(source)}",
        "  signMethod: SHA256 # MD5 for devices with the Android SDK",
        "  files:",
        f"    - name: {quoted(name)}",
        f"      source: {quoted(name)} # the way to it from this manifest",
        f"      size: {made.size}",
        f"      sha256: {made.sha256}",
    ]
    return "\n".join(lines) + "\n"


def _name(text: str) -> str:
    """A text as an object's name: runs of what can't be in one become a single `.` or `-`."""
    runs = re.compile(r"[^a-z0-9]+")
    return runs.sub(lambda run: "." if "." in run[0] else "-", text.lower()).strip("-.")
