"""Makes patches from one file to another, as `zstd --patch-from` makes them, and proves each by applying it.

Called by the `delta` command, on the machine that builds firmware; the daemon never does. It knows files and bytes,
nothing of packages or versions. All calls block.

A patch is one zstd frame with the old file as its prefix. Memory holds the old file, a window as large as the new one,
and tables: `memory_needed` says how much, before anything is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import mmap
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from reconciler import errors

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEVELS = range(1, 20)
LEVEL = 12
"""The highest level that takes seconds for a usual image; 19 takes a minute for what 12 does in one second."""
LARGEST = 2**31 - 2**20
"""Bytes of the largest file: a frame's window ends at 2 GiB."""

_CHUNK_BYTES = 1 << 20
_LEAST_OLD = 8  # zstd takes no shorter prefix
_DICTIONARY = b"\x37\xa4\x30\xec"
_TABLE_BYTES = 512 << 20
# As far as the tables reach. What lies farther apart in larger files is found by the long-distance matcher.
_REACH_BYTES = 32 << 20
_WINDOW_LOGS = range(10, 32)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CHECKED = "the patch does not make the new file of the old one"
_SHIP_WHOLE = "ship the whole file"


@dataclasses.dataclass(frozen=True, slots=True)
class Patch:
    """A patch that was made, and led from the old file to the new one when it was tried."""

    old_size: int
    """Bytes, as all sizes here."""
    new_size: int
    size: int
    sha256: str

    @property
    def share(self) -> float:
        """The patch's size as a part of the new file's."""
        return self.size / self.new_size

    @property
    def needs_long_window(self) -> bool:
        """True when the zstd program takes it only with `--long=31`: it allows windows of 128 MiB, or the old size."""
        return self.new_size > max(128 << 20, self.old_size)


def memory_needed(old_size: int, new_size: int) -> int:
    """At most so many bytes of memory are used to make a patch between files of these sizes."""
    return old_size + new_size + _TABLE_BYTES


def make(old: pathlib.Path, new: pathlib.Path, patch: pathlib.Path, *, level: int, most_memory: int) -> Patch:
    """Writes a patch and applies it. The file `patch` is there when it is right, and otherwise as it was.

    Args:
        old: what devices have.
        new: what they shall have.
        patch: where the patch goes; an older one is replaced.
        level: how hard to try, one of `LEVELS`.
        most_memory: bytes; nothing is done when more would be needed.

    Raises:
        UserError: a file cannot be read or written, is empty or too large, or both are the same.
        StalledError: the patch that was made is wrong.
    """
    old_size, new_size = _size(old, _LEAST_OLD), _size(new, 1)
    for place in (old, new):
        if patch.exists() and patch.samefile(place):
            raise errors.UserError(f"the patch would overwrite {place}", remedy="give it another name")
    needed = memory_needed(old_size, new_size)
    if needed > most_memory:
        text = f"this patch needs up to {needed >> 20:,} MiB of memory, more than the {most_memory >> 20:,} MiB allowed"
        raise errors.UserError(text, remedy=f"raise --memory where there is as much, or {_SHIP_WHOLE}")
    before, prefix = _prefix(old)
    after = hashlib.sha256()
    with _unfinished(patch) as file:
        for piece in _pieces(prefix, new, _options(level, old_size, new_size), after):
            file.write(piece)
        if after.hexdigest() == before:
            raise errors.UserError(f"{old} and {new} are the same", remedy="there is nothing to upgrade")
        size, sha256 = _check(prefix, file, after.hexdigest())
    return Patch(old_size, new_size, size, sha256)


def _size(place: pathlib.Path, least: int) -> int:
    with _explained(place), place.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
    if not least <= size <= LARGEST:
        raise errors.UserError(
            f"{place} has {size:,} bytes: a patch is made of {least:,} to {LARGEST:,}", remedy=_SHIP_WHOLE
        )
    return size


def _prefix(old: pathlib.Path) -> tuple[str, zstd.ZstdDict]:
    """The old file's SHA-256, and the file itself in memory: once."""
    with (
        _explained(old),
        old.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view,
    ):
        if view[:4] == _DICTIONARY:
            text = (
                f"{old} begins as dictionaries of zstd do; the zstd program would take it for one, and fail"
            )
            raise errors.UserError(text, remedy=_SHIP_WHOLE)
        return hashlib.sha256(view).hexdigest(), zstd.ZstdDict(view, is_raw=True)


def _pieces(
    prefix: zstd.ZstdDict, new: pathlib.Path, options: dict[int, int], digest: hashlib._Hash
) -> Iterator[bytes]:
    """The frame; `digest` is of the new file when all of it was made."""
    with _explained(new), new.open("rb") as source:
        compressor = zstd.ZstdCompressor(options=options, zstd_dict=prefix.as_prefix)
        compressor.set_pledged_input_size(os.fstat(source.fileno()).st_size)
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            yield compressor.compress(chunk)
        yield compressor.flush()


def _options(level: int, old_size: int, new_size: int) -> dict[int, int]:
    """The frame's window holds all of the new file: as long as it is not full, the whole prefix can be referred to."""
    window = min(max(new_size.bit_length(), _WINDOW_LOGS[0]), _WINDOW_LOGS[-1])
    name = zstd.CompressionParameter
    return {
        name.compression_level: level,
        name.window_log: window,
        name.checksum_flag: 1,
        name.enable_long_distance_matching: int(max(old_size, new_size) > _REACH_BYTES),
    }


def _check(prefix: zstd.ZstdDict, file: BinaryIO, wanted: str) -> tuple[int, str]:
    """Applies what was written, as it lies on the disk; its size and SHA-256."""
    file.flush()
    file.seek(0)
    written, got = hashlib.sha256(), hashlib.sha256()
    decompressor = zstd.ZstdDecompressor(
        prefix.as_prefix, options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOGS[-1]}
    )
    try:
        while chunk := file.read(_CHUNK_BYTES):
            written.update(chunk)
            got.update(decompressor.decompress(chunk, _CHUNK_BYTES))
            while not (decompressor.eof or decompressor.needs_input):
                got.update(decompressor.decompress(b"", _CHUNK_BYTES))
    except (zstd.ZstdError, EOFError) as problem:
        raise errors.StalledError(_CHECKED, remedy=f"please report it: {problem}") from problem
    if got.hexdigest() != wanted or not decompressor.eof or decompressor.unused_data:
        raise errors.StalledError(_CHECKED, remedy="try again; if it stays so, please report it")
    return file.tell(), written.hexdigest()


@contextlib.contextmanager
def _unfinished(patch: pathlib.Path) -> Iterator[BinaryIO]:
    """A file beside the patch, which takes its name at the end, or is gone."""
    with _explained(patch):
        descriptor, name = tempfile.mkstemp(dir=patch.parent, prefix=f".{patch.name[:64]}.")
        place = pathlib.Path(name)
        try:
            with open(descriptor, "w+b") as file:  # noqa: PTH123 - mkstemp gives a descriptor
                yield file
            place.chmod(0o666 & ~_umask())
            place.replace(patch)
        finally:
            place.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def _explained(place: pathlib.Path) -> Iterator[None]:
    """What the operating system and zstd say, in our words."""
    try:
        yield
    except OSError as problem:
        if problem.errno in _FULL:
            raise errors.UserError(f"the disk of {place} is full", remedy="make room") from problem
        why = problem.strerror or str(problem)
        raise errors.UserError(f"{place} cannot be read or written: {why}") from problem
    except (MemoryError, zstd.ZstdError) as problem:
        text = f"no patch could be made: {str(problem) or 'memory is full'}"
        raise errors.UserError(text, remedy=f"try a machine with more memory, or {_SHIP_WHOLE}") from problem
