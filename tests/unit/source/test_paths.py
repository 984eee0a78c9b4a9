"""A path from a manifest never leaves its root: not by dots, links, NUL, absolute names, nor look-alikes."""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.domain.diagnostics import Code
from reconciler.domain.limits import DEFAULT
from reconciler.source import beside, validate
from reconciler.source.repository import Repository
from reconciler.source.scratch import ScratchRepository
from reconciler.source.tree import FolderTree, UnreadableError

SECRET = b"outside: nobody's firmware"
INSIDE = b"inside"
ALIKE = {
    "one dot leaders": "\N{ONE DOT LEADER}\N{ONE DOT LEADER}/",
    "a two dot leader": "\N{TWO DOT LEADER}/",
    "fullwidth": "\N{FULLWIDTH FULL STOP}\N{FULLWIDTH FULL STOP}\N{FULLWIDTH SOLIDUS}",
    "a division slash": "..\N{DIVISION SLASH}",
    "a fraction slash": "..\N{FRACTION SLASH}",
    "a zero width space": ".\N{ZERO WIDTH SPACE}./",
    "a soft hyphen": ".\N{SOFT HYPHEN}./",
    "an override": "\N{RIGHT-TO-LEFT OVERRIDE}../",
    "percent": "%2e%2e%2f",
    "overlong": "%c0%ae%c0%ae/",
    "a tilde": "~/",
    "a variable": "$HOME/",
    "a space": ".. /",
}
"""What some library, file system or reader takes for `../`, or for the way to somewhere."""
STEPS = ["..", ".", "", "~", "inside", "link", "links", "up", "secret.bin", "in.bin", "a\0b", *ALIKE.values()]
PRODUCT = "apiVersion: ota/v1\nkind: Product\nmetadata: {name: lamp}\nspec: {}\n"


def package(source):
    return (
        "apiVersion: ota/v1\nkind: Package\nmetadata: {name: fw}\nspec:\n  product: lamp\n  version: '1'\n"
        f"  files: [{{name: a.bin, source: {json.dumps(source)}}}]\n"
    )


def group(file):
    return (
        "apiVersion: ota/v1\nkind: DeviceGroup\nmetadata: {name: some-lamps}\nspec:\n  product: lamp\n"
        f"  devicesFrom: {{file: {json.dumps(file)}}}\n"
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A root with a file inside, and every way to a file outside."""
    above = tmp_path_factory.mktemp("above")
    root = above / "root"
    (root / "inside").mkdir(parents=True)
    (root / "inside" / "in.bin").write_bytes(INSIDE)
    for outside in (above / "secret.bin", above / "root-beside" / "secret.bin", above / ".. " / "secret.bin"):
        outside.parent.mkdir(exist_ok=True)
        outside.write_bytes(SECRET)
    (root / "link").symlink_to(above / "secret.bin")
    (root / "link.bin").symlink_to("../secret.bin")
    (root / "links").symlink_to(above)
    (root / "up").symlink_to("..")
    (root / "loop.bin").symlink_to("loop.bin")
    (root / "inner.bin").symlink_to("inside/in.bin")
    os.mkfifo(root / "pipe.bin")
    (root / "folder.bin").mkdir()
    return root


OUTSIDE = [
    "../secret.bin",
    "inside/../../secret.bin",
    "inside/../inside/.././../secret.bin",
    "./../secret.bin",
    "..//secret.bin",
    "../root-beside/secret.bin",
    "..",
    "inside/../..",
    "/etc/passwd",
    "//etc/passwd",
    "/proc/self/environ",
    "link.bin",
    "links/secret.bin",
    "up/secret.bin",
    "up/root/inside/in.bin",
    "loop.bin",
    "inner.bin",
    "link.bin/",
    "inside/../link.bin",
    "secret.bin\0",
    "../secret.bin\0.bin",
    "inside/in.bin\0",
    "\ud800.bin",
    "x" * 5000,
    "../" * 2000 + "etc/passwd",
    *(f"{look}secret.bin" for look in ALIKE.values()),
]


def refuses(tree, path):
    assert tree.size(path) is None
    with pytest.raises(UnreadableError):
        tree.read(path, 1000)
    with pytest.raises(UnreadableError):
        list(tree.chunks(path))


@pytest.mark.parametrize("path", [*OUTSIDE, "pipe.bin", "folder.bin", "pipe.bin/x", "inside", "."])
def test_a_folder_gives_nothing_from_outside_and_waits_for_nothing(root, path):
    refuses(FolderTree(root), path)


@given(path=st.lists(st.sampled_from(STEPS), max_size=8).map("/".join) | st.text(max_size=40))
@example("inside/in.bin")
def test_whatever_the_path_a_folder_gives_only_what_is_inside(root, path):
    tree = FolderTree(root)
    with contextlib.suppress(UnreadableError):
        assert tree.read(path, 1000) == INSIDE
    with contextlib.suppress(UnreadableError):
        assert b"".join(tree.chunks(path)) == INSIDE


@given(
    manifest=st.lists(st.sampled_from(["a", "b c", "..x", "é"]), min_size=1, max_size=4).map("/".join),
    path=st.lists(st.sampled_from([*STEPS, "/", "//"]), max_size=8).map("/".join) | st.text(max_size=40),
)
@example("a/fleet.yaml", "../../x")
@example("a/fleet.yaml", "../x")
@example("fleet.yaml", "/x")
@example("fleet.yaml", "..")
def test_a_path_beside_a_manifest_is_below_the_root_or_nowhere(manifest, path):
    found = beside.resolve(manifest, path)
    if found is None:
        return
    assert "\0" not in found
    assert not posixpath.isabs(found)
    assert ".." not in found.split("/")
    assert posixpath.normpath(f"/root/{found}").startswith("/root")


def test_names_that_only_look_like_steps_are_names(tmp_path):
    for look in ("..x", "...", "a..b", "\N{TWO DOT LEADER}", "%2e%2e"):
        (tmp_path / look).mkdir()
        (tmp_path / look / "in.bin").write_bytes(INSIDE)
        assert beside.resolve("a/fleet.yaml", f"../{look}/in.bin") == f"{look}/in.bin"
        assert FolderTree(tmp_path).read(f"{look}/in.bin", 9) == INSIDE


# --- in a commit: it may hold anything, whoever wrote it ---


def git(folder, *arguments, text=None):
    done = subprocess.run(
        ["git", "-C", folder, *arguments], input=text, capture_output=True, check=True, timeout=60
    )
    return done.stdout.decode().strip()


def planted(folder, entries):
    """A tree that no `git add` makes: each entry is a mode, a name as it is, and an object's id."""
    raw = b"".join(f"{mode} {name}".encode() + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)
    return git(folder, "hash-object", "-t", "tree", "--literally", "-w", "--stdin", text=raw)


@pytest.fixture(scope="module")
def commit(tmp_path_factory, root):
    """A commit with the same ways out, and with names that lead out by themselves."""
    scratch = ScratchRepository(tmp_path_factory.mktemp("git") / "fleet")
    for name in ("link.bin", "links", "up", "loop.bin", "inner.bin"):
        (scratch.folder / name).symlink_to((root / name).readlink())
    (scratch.folder / "inside").mkdir()
    (scratch.folder / "inside" / "in.bin").write_bytes(INSIDE)
    scratch.commit("Ways out")
    top = git(scratch.folder, "rev-parse", "HEAD^{tree}")
    inner = git(scratch.folder, "rev-parse", "HEAD:inside")
    blob = git(scratch.folder, "rev-parse", "HEAD:inside/in.bin")
    rows = [row.split(maxsplit=3) for row in git(scratch.folder, "ls-tree", top).splitlines()]
    listed = [("40000" if kind == "tree" else mode, name, oid) for mode, kind, oid, name in rows]
    evil = [("40000", "..", inner), ("100644", "../../evil.bin", blob), ("40000", "/etc", inner)]
    tree = planted(scratch.folder, [*listed, *evil])
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    made = git(scratch.folder, *identity, "commit-tree", tree, "-m", "Evil")
    git(scratch.folder, "update-ref", "refs/heads/main", made)
    repository = Repository(str(scratch.folder), tmp_path_factory.mktemp("mirror"), "main")
    yield repository.tree(repository.fetch())
    repository.close()


@pytest.mark.parametrize("path", [path for path in OUTSIDE if path != "../secret.bin"])
def test_a_commit_gives_nothing_but_its_own_files(commit, path):
    refuses(commit, path)


def test_names_in_a_commit_that_lead_out_are_names_and_no_way(commit):
    assert commit.read("../in.bin", 9) == INSIDE  # the commit's own bytes, whatever they are called
    refuses(commit, "../secret.bin")
    assert beside.resolve("fleet.yaml", "../in.bin") is None
    assert beside.resolve("../fleet.yaml", "in.bin") is None


# --- as a manifest says it ---


def findings(tree):
    return [(found.code, found.place.path) for found in validate.check(tree, DEFAULT).diagnostics]


@pytest.mark.parametrize("source", [path for path in OUTSIDE if path.endswith(".bin") and path.isprintable()])
def test_a_package_from_outside_is_refused_at_its_line(root, source):
    tree = FolderTree(root, only=(), texts={"p.yaml": PRODUCT.encode(), "a.yaml": package(source).encode()})
    ((code, path),) = findings(tree)
    assert code in {Code.NO_FILE, Code.MALFORMED}
    assert path == "a.yaml"


@pytest.mark.parametrize("file", [path for path in OUTSIDE if len(path) < 4000 and path.isprintable()])
def test_a_list_of_devices_from_outside_is_refused_at_its_line(root, file):
    tree = FolderTree(root, only=(), texts={"p.yaml": PRODUCT.encode(), "a.yaml": group(file).encode()})
    codes = {code for code, path in findings(tree) if path == "a.yaml"}
    assert codes
    assert codes <= {Code.NO_FILE, Code.MALFORMED, Code.FILE}


def test_what_lies_outside_is_never_said_in_a_finding(root):
    tree = FolderTree(root, only=(), texts={"a.yaml": group("link.bin").encode(), "p.yaml": PRODUCT.encode()})
    said = " ".join(str(found) for found in validate.check(tree, DEFAULT).diagnostics)
    assert "nobody" not in said
