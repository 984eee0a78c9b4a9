"""Patches: applied by the zstd of others, small where files are alike, and never there when they are not right."""

from __future__ import annotations

import hashlib
import io
import random
import resource
import subprocess

import pytest

from reconciler import errors
from reconciler.artifacts import delta

MUCH = 1 << 40


def image(size, seed=1):
    return random.Random(seed).randbytes(size)


def edited(content, seed=2):
    """What a build changes: a few words here and there, and some places that grew or went."""
    chance, parts, last = random.Random(seed), [], 0
    for at in sorted(chance.sample(range(len(content)), 12)):
        parts += [content[last:at], chance.randbytes(chance.randrange(40))]
        last = min(at + chance.randrange(40), len(content))
    return b"".join([*parts, content[last:]])


@pytest.fixture
def make(tmp_path):
    def made(old, new, *, level=delta.LEVEL, most_memory=MUCH):
        (tmp_path / "old").write_bytes(old)
        (tmp_path / "new").write_bytes(new)
        places = [tmp_path / name for name in ("old", "new", "patch")]
        return delta.make(*places, level=level, most_memory=most_memory)

    return made


OLD = image(300_000)
MAGIC = b"\x37\xa4\x30\xec"  # zstd's own dictionaries begin with it


@pytest.mark.needs("zstd")
@pytest.mark.parametrize("level", [1, delta.LEVEL, 19])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (OLD, edited(OLD)),
        (OLD, OLD + image(900_000, 3)),
        (OLD, OLD[200_000:]),
        (OLD, b"x"),
        (b"8 bytes!", OLD),
        (OLD, MAGIC + OLD),
        (bytes(70_000), bytes(70_001)),
    ],
    ids=["edited", "grown", "cut", "one byte", "from next to nothing", "like a dictionary", "zeros"],
)
def test_the_zstd_program_makes_the_new_file_of_the_old_one(make, tmp_path, old, new, level):
    made = make(old, new, level=level)
    content = (tmp_path / "patch").read_bytes()
    assert (made.size, made.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (made.old_size, made.new_size) == (len(old), len(new))
    command = ["zstd", "-d", "-q", "--patch-from=old", "patch", "-o", "got"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "got").read_bytes() == new


@pytest.mark.needs("zstd")
def test_a_patch_does_not_apply_to_another_file(make, tmp_path):
    make(OLD, edited(OLD))
    (tmp_path / "old").write_bytes(edited(OLD, 5))
    command = ["zstd", "-d", "-q", "--patch-from=old", "patch", "-o", "got"]
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode != 0


def test_only_what_is_new_is_in_a_patch(make):
    made = make(OLD, edited(OLD))
    assert made.size < 1000
    assert made.share == made.size / made.new_size < 0.01


def test_what_moved_from_one_end_of_a_large_image_to_the_other_is_found(make):
    part, rest = image(2 << 20, 4), image(1 << 20, 5) * 66  # over what the tables of a level reach
    assert make(part + rest, rest + part, level=1).size < 300_000


def test_how_the_zstd_program_must_be_called_is_known():
    def patch(old, new):
        return delta.Patch(old, new, 1, "0" * 64)

    assert not patch(1, 128 << 20).needs_long_window
    assert patch(1, (128 << 20) + 1).needs_long_window
    assert not patch(300 << 20, 300 << 20).needs_long_window
    assert patch(300 << 20, (300 << 20) + 1).needs_long_window


# --- what is refused ---


def left(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir())


def test_a_patch_that_needs_more_memory_than_allowed_is_not_begun(make, tmp_path):
    needed = delta.memory_needed(len(OLD), len(OLD) + 1)
    assert make(OLD, OLD + b"x", most_memory=needed).size
    with pytest.raises(errors.UserError, match="more than the 512 MiB allowed") as caught:
        make(OLD, OLD + b"xy", most_memory=needed)
    assert "--memory" in caught.value.remedy
    assert left(tmp_path) == ["new", "old", "patch"]


def test_a_patch_between_equal_files_is_refused_and_an_older_one_stays(make, tmp_path):
    (tmp_path / "patch").write_bytes(b"older")
    with pytest.raises(errors.UserError, match="are the same"):
        make(OLD, OLD)
    assert (tmp_path / "patch").read_bytes() == b"older"
    assert left(tmp_path) == ["new", "old", "patch"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("none", "file", "none cannot be read or written: No such file"),
        ("file", "none", "none cannot be read or written: No such file"),
        ("folder", "file", "folder cannot be read or written: Is a directory"),
        ("short", "file", "short has 7 bytes: a patch is made of 8 to"),
        ("file", "empty", "empty has 0 bytes: a patch is made of 1 to"),
        ("file", "huge", "huge has 2,147,483,648 bytes: a patch is made of 1 to 2,146,435,072"),
        ("magic", "file", "magic begins as dictionaries of zstd do"),
    ],
)
def test_files_that_no_patch_can_be_made_of_are_named(tmp_path, old, new, complaint):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"8 bytes!")
    (tmp_path / "short").write_bytes(b"7 bytes")
    (tmp_path / "magic").write_bytes(MAGIC + OLD)
    (tmp_path / "empty").touch()
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**31)
    before = left(tmp_path)
    with pytest.raises(errors.UserError, match=complaint):
        delta.make(tmp_path / old, tmp_path / new, tmp_path / "patch", level=1, most_memory=MUCH)
    assert left(tmp_path) == before


@pytest.mark.parametrize("patch", ["old", "new", "link"])
def test_a_patch_never_overwrites_what_it_is_made_of(make, tmp_path, patch):
    make(OLD, edited(OLD))
    (tmp_path / "link").symlink_to(tmp_path / "old")
    with pytest.raises(errors.UserError, match="would overwrite"):
        delta.make(tmp_path / "old", tmp_path / "new", tmp_path / patch, level=1, most_memory=MUCH)
    assert (tmp_path / "old").read_bytes() == OLD


def test_a_place_that_cannot_be_written_is_named(make, tmp_path):
    make(OLD, edited(OLD))
    with pytest.raises(errors.UserError, match="nowhere/patch cannot be read or written: No such file"):
        delta.make(
            tmp_path / "old", tmp_path / "new", tmp_path / "nowhere" / "patch", level=1, most_memory=MUCH
        )


def test_a_full_disk_leaves_nothing_behind(make, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    make(OLD, edited(OLD))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(errors.UserError, match=r"the disk of .*other is full"):
            delta.make(tmp_path / "patch", tmp_path / "old", tmp_path / "other", level=1, most_memory=MUCH)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left(tmp_path) == ["new", "old", "patch"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "longer", "replaced"])
def test_a_patch_that_does_not_lead_to_the_new_file_is_never_handed_out(make, tmp_path, damage):
    make(OLD, edited(OLD))
    patch = bytearray((tmp_path / "patch").read_bytes())
    if damage == "cut":
        del patch[-1]
    elif damage == "longer":
        patch += b"x"
    elif damage == "flipped":
        patch[len(patch) // 2] ^= 1
    wanted = hashlib.sha256(OLD if damage == "replaced" else edited(OLD)).hexdigest()
    _, prefix = delta._prefix(tmp_path / "old")
    with pytest.raises(errors.StalledError, match="does not make the new file"):
        delta._check(prefix, io.BytesIO(patch), wanted)


def test_others_may_read_a_patch_as_they_may_read_any_new_file(make, tmp_path):
    make(OLD, edited(OLD))
    assert (tmp_path / "patch").stat().st_mode == (tmp_path / "new").stat().st_mode
