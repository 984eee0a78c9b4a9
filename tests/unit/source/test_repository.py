"""Following a ref of real repositories, through the real git program."""

from __future__ import annotations

import os
import pathlib
import resource
import signal
import socket
import subprocess
import threading

import pytest

from reconciler import errors
from reconciler.source import git as gits
from reconciler.source import remotes
from reconciler.source.repository import Repository
from reconciler.source.tree import UnreadableError

WHO = (
    "-c",
    "user.name=T",
    "-c",
    "user.email=t@example.com",
    "-c",
    "commit.gpgsign=false",
    "-c",
    "tag.gpgsign=false",
)


class Source:
    """A repository as a team has it."""

    def __init__(self, path: pathlib.Path, *init: str) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main", *init)

    def git(self, *arguments: str) -> str:
        env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
        ran = subprocess.run(
            ["git", *WHO, *arguments], cwd=self.path, env=env, check=True, capture_output=True, text=True
        )
        return ran.stdout.strip()

    def commit(self, **files: str | bytes) -> str:
        for name, content in files.items():
            place = self.path / name.replace("__", "/").replace("_dot_", ".")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=change")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def source(tmp_path):
    return Source(tmp_path / "fleet")


@pytest.fixture
def follow(tmp_path):
    opened = []

    def open_(url, ref="main", **options):
        opened.append(Repository(str(url), tmp_path / "data" / "mirror", ref, **options))
        return opened[-1]

    yield open_
    for repository in opened:
        repository.close()


# --- which commit ---


def test_a_branch_is_followed_from_commit_to_commit(source, follow):
    first = source.commit(a="1")
    repository = follow(source.path)
    assert repository.fetch() == first
    assert repository.fetch() == first
    second = source.commit(a="2")
    assert repository.fetch() == second
    assert repository.tree(second).read("a", 10) == b"2"
    assert repository.tree(first).read("a", 10) == b"1"
    assert repository.revision(second) == f"main@sha1:{second}"
    assert repository.url == str(source.path)
    assert repository.path == source.path


def test_the_working_tree_does_not_count(source, follow):
    commit = source.commit(a="committed")
    (source.path / "a").write_text("edited")
    (source.path / "b").write_text("new")
    repository = follow(source.path)
    assert repository.fetch() == commit
    tree = repository.tree(commit)
    assert (tree.read("a", 100), tree.size("b")) == (b"committed", None)


@pytest.mark.parametrize(
    "ref", ["dev", "refs/heads/dev", "v1", "refs/tags/v1", "light", "refs/tags/light", "HEAD", "group/x.y-z"]
)
def test_a_ref_is_a_branch_a_tag_or_a_full_name(source, follow, ref):
    commit = source.commit(a="1")
    for command in (
        ["branch", "dev"],
        ["branch", "group/x.y-z"],
        ["tag", "light"],
        ["tag", "-a", "-m", "x", "v1"],
    ):
        source.git(*command)
    assert follow(source.path, ref).fetch() == commit


def test_a_branch_comes_before_a_tag_of_the_same_name(source, follow):
    source.commit(a="1")
    source.git("tag", "same")
    later = source.commit(a="2")
    source.git("branch", "same")
    assert follow(source.path, "same").fetch() == later


def test_a_branch_is_not_mistaken_for_one_whose_name_ends_alike(source, follow):
    wanted = source.commit(a="1")
    source.git("checkout", "--quiet", "-b", "team/main")
    source.commit(a="2")
    assert follow(source.path, "main").fetch() == wanted


def test_a_commit_id_is_followed_also_when_no_branch_names_it_any_more(source, follow):
    first = source.commit(a="1")
    source.commit(a="2")
    repository = follow(source.path, first)
    assert repository.fetch() == first
    assert repository.tree(first).read("a", 10) == b"1"


def test_a_tag_of_something_that_is_no_commit_is_refused(source, follow):
    source.commit(a="1")
    source.git("tag", "blob", "HEAD:a")
    with pytest.raises(errors.UserError, match="does not name a commit"):
        follow(source.path, "blob").fetch()


def test_a_moved_and_reverted_branch_is_followed_backwards_too(source, follow):
    first = source.commit(a="1")
    repository = follow(source.path)
    second = source.commit(a="2")
    assert repository.fetch() == second
    source.git("reset", "--quiet", "--hard", first)
    assert repository.fetch() == first
    source.git("reset", "--quiet", "--hard", second)
    assert repository.fetch() == second


def test_a_repository_without_commits_has_no_commit_and_that_is_no_error(source, follow):
    repository = follow(source.path)
    assert repository.fetch() is None
    commit = source.commit(a="1")
    assert repository.fetch() == commit


def test_bare_repositories_file_urls_and_worktrees_are_followed(source, follow, tmp_path):
    commit = source.commit(a="1")
    subprocess.run(["git", "clone", "--quiet", "--bare", source.path, tmp_path / "bare.git"], check=True)
    source.git("worktree", "add", "--quiet", "-b", "side", str(tmp_path / "worktree"))
    assert follow(tmp_path / "bare.git").fetch() == commit
    assert follow(f"file://{source.path}").fetch() == commit
    assert follow(tmp_path / "worktree", "side").fetch() == commit


def test_a_shallow_clone_is_followed(source, follow, tmp_path):
    source.commit(a="1")
    commit = source.commit(a="2")
    url = f"file://{source.path}"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", url, tmp_path / "shallow"], check=True)
    assert follow(tmp_path / "shallow").fetch() == commit


def test_a_repository_with_sha256_ids_is_followed(tmp_path, follow):
    source = Source(tmp_path / "new", "--object-format=sha256")
    commit = source.commit(a="1")
    repository = follow(source.path)
    assert len(commit) == 64
    assert repository.fetch() == commit
    assert repository.tree(commit).read("a", 10) == b"1"
    assert repository.revision(commit) == f"main@sha256:{commit}"


def test_only_one_commit_is_fetched_without_its_history(source, follow, tmp_path):
    for number in range(5):
        source.commit(a=str(number))
    repository = follow(source.path)
    commit = repository.fetch()
    mirror = tmp_path / "data/mirror/sha1.git"
    count = subprocess.check_output(["git", "--git-dir", mirror, "rev-list", "--count", commit], text=True)
    assert count.strip() == "1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_repository_of_another_user_is_followed(source, follow):
    commit = source.commit(a="1")
    for place in (source.path, *source.path.rglob("*")):
        os.lchown(place, 12345, 12345)
    assert follow(source.path).fetch() == commit


# --- the mirror ---


def test_a_new_process_finds_the_commit_in_the_mirror_without_fetching_it_again(source, follow, tmp_path):
    commit = source.commit(a="1")
    follow(source.path).fetch()
    again = follow(source.path)
    pack_or_objects = sorted((tmp_path / "data/mirror/sha1.git/objects").rglob("*"))
    assert again.fetch() == commit
    assert sorted((tmp_path / "data/mirror/sha1.git/objects").rglob("*")) == pack_or_objects


def test_locks_that_a_killed_process_left_do_not_matter(source, follow, tmp_path):
    source.commit(a="1")
    follow(source.path).fetch()
    commit = source.commit(a="2")
    mirror = tmp_path / "data/mirror/sha1.git"
    for name in ("shallow.lock", "refs/reconciler/head.lock", "config.lock", "HEAD.lock"):
        (mirror / name).write_text("")
    assert follow(source.path).fetch() == commit


@pytest.mark.parametrize("damage", ["HEAD", "config", "objects", "commit"])
def test_a_damaged_mirror_is_made_anew(source, follow, tmp_path, damage):
    old = source.commit(a="1")
    follow(source.path).fetch()
    commit = source.commit(b="2")
    mirror = tmp_path / "data/mirror/sha1.git"
    if damage == "objects":
        subprocess.run(["rm", "-r", mirror / "objects"], check=True)
    elif damage == "commit":
        place = mirror / "objects" / old[:2] / old[2:]
        place.chmod(0o600)
        place.write_bytes(b"")
    else:
        (mirror / damage).write_text("nonsense")
    repository = follow(source.path)
    assert repository.fetch() == commit
    assert repository.tree(commit).read("a", 10) == b"1"


def test_a_repository_around_the_mirror_is_left_alone(source, follow, tmp_path):
    outer = Source(tmp_path / "outer")
    outer.git("config", "url./nonexistent/.insteadOf", str(source.path))
    commit = source.commit(a="1")
    repository = Repository(str(source.path), outer.path / "data" / "mirror", "main")
    assert repository.fetch() == commit
    (outer.path / "data/mirror/sha1.git/HEAD").unlink()
    second = source.commit(a="2")
    assert repository.fetch() == second
    assert outer.git("for-each-ref") == ""
    repository.close()


def test_a_mirror_that_can_not_be_written_stalls_with_a_remedy(source, tmp_path):
    (tmp_path / "file").write_text("")
    repository = Repository(str(source.path), tmp_path / "file" / "mirror", "main")
    with pytest.raises(errors.StalledError, match="cannot be written") as caught:
        repository.fetch()
    assert caught.value.remedy


# --- what goes wrong at the source ---


def test_a_ref_that_does_not_exist_names_those_that_do(source, follow):
    source.commit(a="1")
    with pytest.raises(errors.UserError, match="no branch or tag 'mian'") as caught:
        follow(source.path, "mian").fetch()
    assert "main" in caught.value.remedy


def test_a_commit_that_does_not_exist_is_said_so(source, follow):
    source.commit(a="1")
    with pytest.raises(errors.UserError, match="has no commit 1111"):
        follow(source.path, "1" * 40).fetch()


def test_a_folder_that_is_no_repository_is_said_so(tmp_path, follow):
    (tmp_path / "plain").mkdir()
    for path in (tmp_path / "plain", tmp_path / "missing"):
        with pytest.raises(errors.UserError, match="is not a Git repository") as caught:
            follow(path).fetch()
        assert caught.value.remedy


def test_a_folder_inside_a_repository_is_told_the_root(source, follow):
    source.commit(sub__a="1")
    with pytest.raises(errors.UserError) as caught:
        follow(source.path / "sub").fetch()
    assert str(source.path) in caught.value.remedy


def test_a_repository_that_comes_back_is_followed_again(source, follow, tmp_path):
    source.commit(a="1")
    repository = follow(source.path)
    repository.fetch()
    source.path.rename(tmp_path / "away")
    with pytest.raises(errors.UserError):
        repository.fetch()
    (tmp_path / "away").rename(source.path)
    commit = source.commit(a="2")
    assert repository.fetch() == commit


def test_a_host_that_refuses_is_away_and_the_secret_is_shown_nowhere(tmp_path, follow):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        repository = follow(f"https://bot:s3cr3t%21@127.0.0.1:{port}/fleet.git")
        with pytest.raises(errors.TransientError) as caught:
            repository.fetch()
    shown = f"{caught.value} {caught.value.remedy} {caught.value.__cause__!r} {repository.url} {repository.__dict__}"
    assert "s3cr3t" not in shown
    assert f"https://127.0.0.1:{port}/fleet.git" in str(caught.value)
    assert not [
        file for file in (tmp_path / "data").rglob("*") if file.is_file() and b"s3cr3t" in file.read_bytes()
    ]


@pytest.mark.parametrize(("host", "is_known"), [("h:8443", True), ("other", False)])
def test_git_is_told_the_credentials_for_their_own_host_only(tmp_path, host, is_known):
    git = gits.Git(
        remotes.parse("https://bot:it's%20%22s3cr3t%22%25s@h:8443/fleet.git"), tmp_path / "gitconfig"
    )
    git.configure()
    process = git.start("credential", "fill", cwd=tmp_path, stdin=subprocess.PIPE)
    answer, _ = process.communicate(f"protocol=https\nhost={host}\n\n".encode(), timeout=10)
    git.stop(process)
    told = b'username=bot\npassword=it\'s "s3cr3t"%s\n'
    assert (told in answer) is is_known
    assert "s3cr3t" not in (tmp_path / "gitconfig").read_text()


def test_a_host_that_never_answers_is_given_up_and_its_processes_are_ended(follow):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        repository = follow(f"https://127.0.0.1:{silent.getsockname()[1]}/x.git", timeout=0.5)
        with pytest.raises(errors.TransientError, match="did not answer"):
            repository.fetch()
        connection, _ = silent.accept()
        with connection:
            while connection.recv(4096):  # ends only when git's helper is gone
                pass


def test_closing_ends_a_fetch_that_runs_in_another_thread(follow):
    outcome = []

    def fetch():
        try:
            repository.fetch()
        except errors.TransientError as error:
            outcome.append(error)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        repository = follow(f"https://127.0.0.1:{silent.getsockname()[1]}/x.git")
        thread = threading.Thread(target=fetch)
        thread.start()
        connection, _ = silent.accept()
        with connection:
            repository.close()
            thread.join(10)
    assert len(outcome) == 1
    with pytest.raises(errors.TransientError, match="being closed"):
        repository.fetch()


def test_without_the_git_program_it_stalls_and_says_what_to_install(source, follow, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(errors.StalledError, match="git program") as caught:
        follow("/x").fetch()
    assert "install git" in caught.value.remedy


def test_variables_of_a_surrounding_git_command_do_not_leak_in(source, follow, monkeypatch):
    commit = source.commit(a="1")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, "/nonexistent")
    assert follow(source.path).fetch() == commit


def test_hooks_are_not_run(source, follow, tmp_path):
    source.commit(a="1")
    follow(source.path).fetch()
    hooks = tmp_path / "data/mirror/sha1.git/hooks"
    hooks.mkdir()
    (hooks / "reference-transaction").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (hooks / "reference-transaction").chmod(0o755)
    source.commit(a="2")
    follow(source.path).fetch()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ext::sh -c touch% /tmp/x",
        "http://h/x",
        "git://h/x",
        "ftp://h/x",
        "ssh://u:pw@h/x",
        "https:///x",
        "https://[x",
        "file://h/x",
    ],
)
def test_urls_that_are_not_followed_are_refused_without_being_run(url, follow):
    with pytest.raises(errors.UserError) as caught:
        follow(url)
    assert "https://" in caught.value.remedy
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    "ref",
    ["", "-x", "--upload-pack=x", "a b", "a..b", "a:b", "a^", "a*", "a.lock", "/a", "a/", "a\n", "@{u}"],
)
def test_names_that_no_ref_can_have_are_refused(ref, follow):
    with pytest.raises(errors.UserError, match="names no ref"):
        follow("/x", ref)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://h/x", remotes.Remote("https://h/x")),
        ("https://tok@h:8443/x", remotes.Remote("https://h:8443/x", None, "tok", "")),
        ("https://u:p%40ss@h/x", remotes.Remote("https://h/x", None, "u", "p@ss")),
        ("ssh://git@h/x", remotes.Remote("ssh://git@h/x")),
        ("git@h:team/x.git", remotes.Remote("git@h:team/x.git")),
        ("file:///srv/a%20b", remotes.Remote("/srv/a b", pathlib.Path("/srv/a b"))),
        ("/srv/x", remotes.Remote("/srv/x", pathlib.Path("/srv/x"))),
    ],
)
def test_a_remote_is_taken_apart_so_that_its_url_can_be_shown(given, expected):
    assert remotes.parse(given) == expected
    assert "p@ss" not in repr(remotes.parse(given))


# --- the files of a commit ---


def test_a_tree_lists_and_reads_regular_files(source, follow):
    commit = source.commit(a="1", folder__b_dot_yaml="two", empty="", _dot_github__ci="x")
    repository = follow(source.path)
    repository.fetch()
    tree = repository.tree(commit)
    assert tree.commit == commit
    assert set(tree.paths()) == {"a", "folder/b.yaml", "empty"}
    assert (tree.size("folder/b.yaml"), tree.size("folder"), tree.size("empty")) == (3, None, 0)
    assert tree.read("folder/b.yaml", 3) == b"two"
    assert tree.read(".github/ci", 3) == b"x"
    assert (list(tree.chunks("empty")), list(tree.chunks("a"))) == ([], [b"1"])
    assert tree.oid("a") == source.git("rev-parse", "HEAD:a")
    assert tree.oid("nothing") is None


def test_a_file_over_the_limit_or_missing_is_unreadable(source, follow):
    source.commit(a="12345")
    repository = follow(source.path)
    tree = repository.tree(repository.fetch())
    with pytest.raises(UnreadableError, match="larger than 4 bytes"):
        tree.read("a", 4)
    for path in ("b", "", "..", "../a", "a/b", "/a", "\0"):
        with pytest.raises(UnreadableError, match="no file"):
            tree.read(path, 4)
    with pytest.raises(UnreadableError, match="no file"):
        list(tree.chunks("b"))


def test_symbolic_links_and_submodules_are_absent_with_a_reason(source, follow, tmp_path):
    source.commit(real="1")
    (source.path / "link").symlink_to("real")
    (source.path / "folder").symlink_to("/etc")
    source.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
    source.commit()
    source.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
    source.git("commit", "--quiet", "--message=sub")
    repository = follow(source.path)
    tree = repository.tree(repository.fetch())
    assert set(tree.paths()) == {"real"}
    assert set(tree.unread()) == {"link", "folder", "sub"}
    assert (tree.size("link"), tree.oid("sub")) == (None, None)
    with pytest.raises(UnreadableError, match="link is a symbolic link"):
        tree.read("link", 9)
    with pytest.raises(UnreadableError, match="folder is a symbolic link"):
        tree.read("folder/passwd", 9)
    with pytest.raises(UnreadableError, match="sub is a submodule"):
        tree.read("sub/x.yaml", 9)


def test_names_that_are_not_utf8_or_hold_odd_characters_can_be_read(source, follow):
    (source.path / os.fsdecode(b"caf\xe9.yaml")).write_text("latin")
    (source.path / 'tab\t"quote"\n.yaml').write_text("odd")
    (source.path / "固件.yaml").write_text("han")
    source.commit()
    repository = follow(source.path)
    tree = repository.tree(repository.fetch())
    assert {tree.read(path, 9) for path in tree.paths()} == {b"latin", b"odd", b"han"}
    assert all(path.encode() for path in tree.paths())


def test_a_big_file_comes_in_pieces_and_may_be_left_half_read(source, follow):
    content = os.urandom(3_500_000)
    source.commit(big=content, small="s")
    repository = follow(source.path)
    tree = repository.tree(repository.fetch())
    pieces = tree.chunks("big")
    assert content.startswith(next(pieces))
    pieces.close()
    chunks = list(tree.chunks("big"))
    assert b"".join(chunks) == content
    assert max(map(len, chunks)) <= 1 << 20
    assert tree.read("small", 9) == b"s"


def test_reading_goes_on_after_its_process_was_killed(source, follow):
    source.commit(a="1", b="2")
    repository = follow(source.path)
    tree = repository.tree(repository.fetch())
    assert tree.read("a", 9) == b"1"
    os.kill(tree._mirror._batch.pid, signal.SIGKILL)
    assert tree.read("b", 9) == b"2"


def test_many_threads_may_read_at_once(source, follow):
    source.commit(**{f"f{number}": f"{number}" * 1000 for number in range(20)})
    repository = follow(source.path)
    tree = repository.tree(repository.fetch())
    seen = {}

    def read(number):
        seen[number] = {tree.read(f"f{number}", 1 << 20) for _ in range(20)}

    threads = [threading.Thread(target=read, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {number: {f"{number}".encode() * 1000} for number in range(20)}


def test_a_commit_that_is_not_in_the_mirror_is_said_to_be_missing(source, follow):
    source.commit(a="1")
    repository = follow(source.path)
    repository.fetch()
    with pytest.raises(errors.TransientError, match="damaged"):
        repository.tree("1" * 40)


def test_what_git_leaves_of_a_commit_that_does_not_fit_on_the_disk_is_removed(source, follow, tmp_path):
    source.commit(small="1")
    followed = follow(source.path)
    followed.fetch()
    newest = source.commit(large=os.urandom(300_000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(errors.ReconcilerError):
            followed.fetch()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "data").rglob("tmp_*")) == []
    assert followed.fetch() == newest
