"""`reconciler delta`: the patch from one firmware file to another, and the manifest of the package that it is in.

For a CI job: the manifest goes to standard output, everything else to standard error.
"""

from __future__ import annotations

import hashlib
import pathlib
import re
import shlex
import time
from collections.abc import Collection, Mapping
from typing import Any

import click

from reconciler import errors
from reconciler.cli import options
from reconciler.domain import resources
from reconciler.domain.limits import Limits

_MIB = 1 << 20
_LONGEST_NAME = 253
_LONGEST_TITLE = 40
_UNKNOWN = {"product": "<product>", "source": "<source version>", "target": "<version>"}
_FIELDS = {
    "product": "spec.product",
    "source": "spec.sourceVersion",
    "target": "spec.version",
    "module": "spec.module",
}
_FLAGS = {
    "spec.product": "--product",
    "spec.sourceVersion": "--from",
    "spec.version": "--to",
    "spec.module": "--module",
    "spec.files[0].name": "-o",
    "spec.files[0].source": "-o",
}
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

    given = {key: flags.pop(key) for key in (*_UNKNOWN, "module")}
    said = {key: _UNKNOWN[key] if text is None else text for key, text in given.items()}
    left_out = {_FIELDS[key] for key, text in given.items() if text is None}
    _check(_manifest(said, patch.name, 1, "f" * 64), left_out, options.load(flags).limits)
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
    if left_out:
        click.echo("note: fill in what stands in < > (or give --product, --from and --to)", err=True)
    click.echo(_manifest(said, patch.name, made.size, made.sha256), nl=False)


def _check(manifest: str, left_out: Collection[str], limits: Limits) -> None:
    """What no package can say is refused before the work is done, in the words that `validate` has for it."""
    from reconciler.source import reading

    file = reading.read(manifest.encode(), limits)
    for found in (*file.diagnostics, *(one for package in file.readings for one in package.diagnostics)):
        if found.field not in left_out:
            flag = _FLAGS.get(found.field)
            raise errors.UsageError(f"{flag}: {found.message}" if flag else found.message, remedy=found.help)


def _applied(old: pathlib.Path, new: pathlib.Path, patch: pathlib.Path, *, long: bool) -> str:
    """The command line that does what a device does."""
    words = ["zstd", "-d", *(["--long=31"] if long else []), f"--patch-from={old}", str(patch)]
    return shlex.join([*words, "-o", f"{new.name}.restored"])


def _manifest(said: Mapping[str, str], name: str, size: int, sha256: str) -> str:
    """The package as a document. Whatever was given is written so that YAML takes it for text."""
    import orjson

    def quoted(text: str) -> str:
        return orjson.dumps(text).decode()

    product, source, target, module = (said[key] for key in (*_UNKNOWN, "module"))
    of_module = "" if module == resources.DEFAULT_MODULE else f"{module}-"
    package = _name(f"{product}-{of_module}{source}-to-{target}")
    title = _title(f"{target} from {source} {of_module}{product}")
    lines = [
        "apiVersion: ota/v1",
        "kind: Package",
        "metadata:",
        f"  name: {quoted(package)}",
        "spec:",
        *([f"  title: {quoted(title)}"] if len(package) > _LONGEST_TITLE else []),
        f"  product: {quoted(product)}",
        *([f"  module: {quoted(module)}"] if of_module else []),
        "  type: Delta",
        f"  version: {quoted(target)}",
        f"  sourceVersion: {quoted(source)}",
        "  signMethod: SHA256 # MD5 for devices with the Android SDK",
        "  files:",
        f"    - name: {quoted(name)}",
        f"      source: {quoted(name)} # the way to it from this manifest",
        f"      size: {size}",
        f"      sha256: {sha256}",
    ]
    return "\n".join(lines) + "\n"


def _title(text: str) -> str:
    """A text as a title. One that has to be cut ends with a digest: titles are as unique as names."""
    if len(text) > _LONGEST_TITLE:
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        text = f"{text[: _LONGEST_TITLE - 9].rstrip()} {digest}"
    return text.lstrip("-_. ")


def _name(text: str) -> str:
    """A text as an object's name: runs of what can't be in one become a single `.` or `-`."""
    runs = re.compile(r"[^a-z0-9]+")
    return runs.sub(lambda run: "." if "." in run[0] else "-", text.lower())[:_LONGEST_NAME].strip("-.")
