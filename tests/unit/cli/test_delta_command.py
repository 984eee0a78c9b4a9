"""`reconciler delta`: what it prints is a manifest that `validate` takes, with the patch beside it."""

from __future__ import annotations

import hashlib
import re

import pytest

OLD = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(9000))
NEW = OLD[:50_000] + b"something new" + OLD[60_000:]
KNOWN = ("--product", "lamp", "--from", "1.0.0", "--to", "1.1.0")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.bin").write_bytes(OLD)
    (tmp_path / "new.bin").write_bytes(NEW)
    (tmp_path / "lamp.yaml").write_text(
        "apiVersion: ota/v1\nkind: Product\nmetadata: {name: lamp}\nspec: {modules: [{name: mcu}]}\n"
    )
    return tmp_path


def test_the_manifest_is_printed_and_is_valid_beside_the_patch(reconciler, folder):
    ran = reconciler("delta", "old.bin", "new.bin", "-o", "patch.bin", *KNOWN)
    assert ran.code == 0
    content = (folder / "patch.bin").read_bytes()
    assert ran.out == (
        'apiVersion: ota/v1\nkind: Package\nmetadata:\n  name: "lamp-1.0.0-to-1.1.0"\nspec:\n  product: "lamp"\n'
        '  type: Delta\n  version: "1.1.0"\n  sourceVersion: "1.0.0"\n'
        "  signMethod: SHA256 # MD5 for devices with the Android SDK\n  files:\n"
        '    - name: "patch.bin"\n      source: "patch.bin" # the way to it from this manifest\n'
        f"      size: {len(content)}\n      sha256: {hashlib.sha256(content).hexdigest()}\n"
    )
    (folder / "delta.yaml").write_text(ran.out)
    assert reconciler("validate").out == "2 manifests valid\n"


def test_size_share_time_memory_and_how_to_apply_it_are_said_beside_the_manifest(reconciler, folder):
    said = reconciler("delta", "old.bin", "new.bin", "-o", "patch.bin", *KNOWN).err
    size = (folder / "patch.bin").stat().st_size
    first, second = said.splitlines()
    assert first.startswith(
        f"patch.bin: {size:,} bytes, {size / len(NEW):.1%} of new.bin (278,013 bytes); made"
    )
    assert re.search(r"checked in \d+\.\d s, with at most 512 MiB of memory$", first)
    assert second == "it is applied with: zstd -d --patch-from=old.bin patch.bin -o new.bin.restored"


def test_what_it_was_not_told_is_left_to_be_filled_in_and_not_valid_before(reconciler, folder):
    ran = reconciler("delta", "old.bin", "new.bin", "-o", "patch.bin")
    assert "fill in what stands in < >" in ran.err
    (folder / "delta.yaml").write_text(ran.out)
    found = reconciler("validate", "-o", "concise").out
    for line in ("product", "version", "source version"):
        assert f"<{line}>" in ran.out
        assert f"<{line}>" in found


@pytest.mark.parametrize(
    "known",
    [
        ("--product", "lamp", "--from", "1.0", "--to", "1.1", "--module", "mcu"),
        ("--product", "lamp", "--from", "V_1.0-RC.1", "--to", "V_1.0-RC.2"),
        ("--product", "lamp", "--from", "1" * 64, "--to", "2" * 64),
        ("--product", "lamp", "--from", "yes", "--to", "1.10"),
        ("--product", "lamp", "--from", "1.0-a-very-long-suffix", "--to", "_1.1-a-very-long-suffix"),
    ],
)
def test_the_names_and_the_title_fit_whatever_versions_there_are(reconciler, folder, known):
    (folder / "delta.yaml").write_text(
        reconciler("delta", "old.bin", "new.bin", "-o", "patch.bin", *known).out
    )
    assert reconciler("validate").out == "2 manifests valid\n"


def test_two_packages_whose_titles_have_to_be_cut_have_two_titles(reconciler, folder):
    versions = (
        "--product",
        "lamp",
        "--from",
        "1.4.0-rc.1-build.20260901",
        "--to",
        "1.4.0-rc.2-build.20260902",
    )
    for name, module in (("one", ()), ("two", ("--module", "mcu"))):
        said = reconciler("delta", "old.bin", "new.bin", "-o", "patch.bin", *versions, *module).out
        (folder / f"{name}.yaml").write_text(said)
    assert reconciler("validate").out == "3 manifests valid\n"


def test_a_patch_that_saves_nothing_is_said_to_be_so(reconciler, folder):
    (folder / "new.bin").write_bytes(hashlib.sha256(b"no").digest())
    ran = reconciler("delta", "old.bin", "new.bin", "-o", "patch.bin", *KNOWN)
    assert ran.code == 0
    assert "no smaller than the whole file: a Full package serves better" in ran.err


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("patch.zst", "-o: `patch.zst` has no format that packages may have"),
        (f"{'p' * 30}.bin", "-o: a file's name has at most 32 characters, this has 34"),
        ("a{b.bin", "-o: `a{b.bin` is not a file's name"),
        ("a\x7f.bin", "error: "),
    ],
)
def test_a_name_that_no_package_can_have_is_refused_before_anything_is_done(
    reconciler, folder, name, complaint
):
    ran = reconciler("delta", "none", "none", "-o", name, *KNOWN)
    assert (ran.code, ran.out) == (2, "")
    assert complaint in ran.err
    assert not (folder / name).exists()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (("--module", "a b"), "--module: `a b` is not a module's name\n  help: a module's name has letters,"),
        (("--module", "m" * 65), "--module: a module's name has at most 64 characters, this has 65"),
        (("--module", ""), "--module: a module's name has at least 1 character, this has 0"),
        (("--product", "Lamp"), "--product: `Lamp` is not a name\n  help: lower-case letters,"),
        (("--product", ""), "--product: a name has at least 1 character"),
        (("--from", "1,0"), "--from: `1,0` is not a version\n  help: a version has letters,"),
        (("--to", "v" * 65), "--to: a version has at most 64 characters, this has 65"),
        ((*KNOWN, "--to", "1.0.0"), "--from: the source version is the version of the package itself"),
    ],
)
def test_what_no_manifest_may_say_is_refused_in_its_own_words_before_anything_is_done(
    reconciler, folder, given, complaint
):
    ran = reconciler("delta", "none", "none", "-o", "patch.bin", *given)
    assert (ran.code, ran.out) == (2, "")
    assert complaint in ran.err


def test_the_operators_formats_count(reconciler, folder):
    ran = reconciler(
        "delta", "old.bin", "new.bin", "-o", "p.zst", "--limits", "file-formats=.zst .bin", *KNOWN
    )
    assert ran.code == 0


def test_what_cannot_be_done_is_one_line_and_exit_code_one(reconciler, folder):
    ran = reconciler("delta", "old.bin", "none.bin", "-o", "patch.bin")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: none.bin cannot be read or written: No such file or directory\n"
    ran = reconciler("delta", "old.bin", "new.bin", "-o", "patch.bin", "--memory", "100")
    assert (ran.code, "needs up to 512 MiB of memory" in ran.err, "--memory" in ran.err) == (1, True, True)
