"""Two commits of a checkout, as CI has one."""

from __future__ import annotations

import pytest

from reconciler import errors
from reconciler.source import mirror, remotes
from reconciler.source.git import Git
from reconciler.source.history import History
from reconciler.source.scratch import ScratchRepository


@pytest.fixture
def fleet(tmp_path):
    """Two commits on main, and one on a branch that left main after the first."""
    repository = ScratchRepository(tmp_path / "fleet")
    (repository.folder / "a.yaml").write_text("one")
    repository.first = repository.commit("One")
    repository._git("branch", "side")
    (repository.folder / "a.yaml").write_text("two")
    repository.second = repository.commit("Two\n\nConfirm-Cancel: 3")
    repository._git("switch", "--quiet", "side")
    (repository.folder / "b.yaml").write_text("three")
    repository.side = repository.commit("Three")
    return repository


@pytest.fixture
def here(fleet, tmp_path):
    history = History(str(fleet.folder), tmp_path)
    yield history
    history.close()


def test_a_range_names_two_commits_and_three_dots_begin_where_they_parted(fleet, here):
    assert here.commits("main..side") == (fleet.second, fleet.side)
    assert here.commits("main...side") == (fleet.first, fleet.side)
    assert here.commits("main~1..") == (fleet.first, fleet.side)
    assert here.commits(f"{fleet.first}..refs/heads/main") == (fleet.first, fleet.second)


def test_what_a_commit_lacks_of_another_is_counted_where_the_history_is_whole(fleet, here, tmp_path):
    assert here.lacks(fleet.second, fleet.first) == 0
    assert here.lacks(fleet.side, fleet.second) == 1
    assert here.lacks(fleet.side, "0" * 40) is None
    fleet._git("clone", "--quiet", "--depth=1", "--no-single-branch", f"file://{fleet.folder}", "../cut")
    cut = History(str(tmp_path / "cut"), tmp_path)
    assert cut.lacks(fleet.side, fleet.side) == 0
    assert cut.lacks(fleet.side, fleet.second) is None
    cut.close()


def test_of_a_repository_elsewhere_the_commits_are_got_without_their_files(fleet, tmp_path):
    fleet._git("config", "uploadpack.allowFilter", "true")
    url, folder = f"file://{fleet.folder}", tmp_path / "history.git"
    git = Git(remotes.parse(url), tmp_path / "gitconfig")
    git.configure()
    assert mirror.lacks_there(git, folder, url, fleet.side, fleet.second) == 1
    assert mirror.lacks_there(git, folder, url, fleet.second, fleet.first) == 0
    kinds = git.run("cat-file", "--batch-all-objects", "--batch-check=%(objecttype)", cwd=folder, timeout=9)
    assert set(kinds.split()) == {b"commit"}
    assert mirror.lacks_there(git, folder, url, fleet.second, "0" * 40) is None
    assert not folder.exists()


def test_a_merge_by_a_forge_goes_by_the_words_of_what_it_merges(fleet, here):
    for message, words in ((f"Merge {fleet.side} into {fleet.second}", "Three"), ("Mine", "Mine")):
        fleet._git("switch", "--quiet", "--detach", fleet.second)
        fleet._git(
            "-c", "user.name=A", "-c", "user.email=a@x", "merge", "--quiet", "--no-ff", "-m", message, "side"
        )
        assert here.describe(fleet._git("rev-parse", "HEAD").strip()).subject == words


def test_files_and_words_are_those_of_the_commit_not_of_the_working_tree(fleet, here):
    (fleet.folder / "b.yaml").write_text("changed")
    assert here.tree(fleet.side).read("b.yaml", 10) == b"three"
    assert (here.describe(fleet.second).subject, here.describe(fleet.second).confirmed_cancels) == ("Two", 3)
    assert here.describe(fleet.first).confirmed_cancels is None


def test_another_working_tree_of_it_is_read_too(fleet, tmp_path):
    fleet._git("worktree", "add", "--quiet", str(tmp_path / "other"), "main")
    history = History(str(tmp_path / "other"), tmp_path)
    assert history.commits("HEAD~1..HEAD") == (fleet.first, fleet.second)
    assert list(history.tree(fleet.second).paths()) == ["a.yaml"]
    history.close()


def test_a_commit_that_is_not_here_says_how_to_get_it(here):
    with pytest.raises(errors.UserError, match="has no commit origin/main") as raised:
        here.commits("origin/main..HEAD")
    assert "fetch-depth: 0" in raised.value.remedy


def test_commits_without_a_common_one_have_no_range_of_three_dots(fleet, here):
    fleet._git("switch", "--quiet", "--orphan", "alone")
    fleet.commit("Alone")
    with pytest.raises(errors.UserError, match="main and alone have no commit in common"):
        here.commits("main...alone")


@pytest.mark.parametrize("asked", ["main", "", "--output=x..main", "main..-x"])
def test_what_is_no_range_is_a_wrong_command_line(here, asked):
    with pytest.raises(errors.UsageError):
        here.commits(asked)


@pytest.mark.parametrize("url", ["https://example.com/fleet.git", "git@example.com:fleet.git"])
def test_a_repository_elsewhere_is_refused(tmp_path, url):
    with pytest.raises(errors.UsageError, match="is not on this machine"):
        History(url, tmp_path)


def test_a_folder_that_is_no_repository_is_named(tmp_path):
    (tmp_path / "plain").mkdir()
    with pytest.raises(errors.UserError, match="is not a Git repository"):
        History(str(tmp_path / "plain"), tmp_path)
    with pytest.raises(errors.UserError, match="there is no folder"):
        History(str(tmp_path / "nothing"), tmp_path)


def test_files_that_a_partial_clone_lacks_are_no_reason_to_delete_it(fleet, here):
    blob = fleet._git("rev-parse", f"{fleet.side}:b.yaml").strip()
    (fleet.folder / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(errors.UserError, match="cannot be read") as raised:
        here.tree(fleet.side).read("b.yaml", 10)
    assert "partial clone" in raised.value.remedy
