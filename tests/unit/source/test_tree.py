from __future__ import annotations

import pytest

from reconciler.source.tree import CHUNK_BYTES, FolderTree, UnreadableError


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "fleet"
    (root / "a" / ".hidden").mkdir(parents=True)
    (root / "a" / "x.yaml").write_bytes(b"x")
    (root / "a" / ".hidden" / "y.yaml").write_bytes(b"y")
    (root / "b.bin").write_bytes(b"b" * (CHUNK_BYTES + 1))
    (tmp_path / "outside.yaml").write_bytes(b"secret")
    (root / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    (root / "linked").symlink_to(tmp_path)
    return root


def test_a_folder_lists_its_regular_files_and_no_hidden_folders(folder):
    assert sorted(FolderTree(folder).paths()) == ["a/x.yaml", "b.bin"]


def test_a_folder_names_its_links_which_are_not_read(folder):
    assert sorted(FolderTree(folder).unread()) == ["link.yaml", "linked"]
    assert list(FolderTree(folder, only=["a"]).unread()) == []
    with pytest.raises(UnreadableError, match="is a symbolic link"):
        FolderTree(folder).read("link.yaml", 9)


def test_chosen_parts_and_texts_are_listed_alone_but_all_can_be_read(folder):
    tree = FolderTree(folder, only=["a"], texts={"-": b"text"})
    assert list(tree.paths()) == ["-", "a/x.yaml"]
    assert (tree.size("-"), tree.read("-", 10), list(tree.chunks("-"))) == (4, b"text", [b"text"])
    assert tree.size("b.bin") == CHUNK_BYTES + 1
    assert [len(chunk) for chunk in tree.chunks("b.bin")] == [CHUNK_BYTES, 1]
    assert tree.oid("b.bin") is None


@pytest.mark.parametrize(
    "path",
    ["../outside.yaml", "link.yaml", "linked/outside.yaml", "a", "none", "/etc/passwd", "a\0b", "x" * 5000],
)
def test_nothing_but_regular_files_inside_the_root_can_be_read(folder, path):
    tree = FolderTree(folder)
    assert tree.size(path) is None
    with pytest.raises(UnreadableError):
        tree.read(path, 100)
    with pytest.raises(UnreadableError):
        list(tree.chunks(path))


def test_a_file_over_the_limit_is_not_read(folder):
    with pytest.raises(UnreadableError, match="larger than 10 bytes"):
        FolderTree(folder).read("b.bin", 10)
