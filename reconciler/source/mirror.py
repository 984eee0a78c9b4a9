"""Decides how commits get into our bare mirror, and how their blobs come out of it again.

`repository` says which commit, `commits` which blobs. The mirror is a cache nobody else writes to: when it
turns out to be damaged it is thrown away and made anew. A small blob comes from one long-lived process, a big
one from a process of its own, so that its reader may stop half-way.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator

from reconciler import errors
from reconciler.source import git as gits
from reconciler.source.tree import CHUNK_BYTES

_HEAD = "refs/reconciler/head"
_HISTORY_SECONDS = 20.0
_FETCH = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
_NO_SUCH = re.compile(r"not our ref|couldn't find remote ref|unadvertised object|no such ref", re.IGNORECASE)


def lacks(git: gits.Git, folder: pathlib.Path, commit: str, other: str, timeout: float) -> int | None:
    """How many commits of `other` and its history a commit and its own lack; None where that can't be known.

    A history that is cut off (a shallow clone) can say of what is there that it is there, but not what is missing.
    """
    try:
        count = int(git.run("rev-list", "--count", f"{commit}..{other}", "--", cwd=folder, timeout=timeout))
        if not count:
            return 0
        shallow = git.run("rev-parse", "--is-shallow-repository", cwd=folder, timeout=timeout)
    except (gits.FailedError, errors.TransientError):
        return None
    return count if shallow.strip() == b"false" else None


def lacks_there(git: gits.Git, folder: pathlib.Path, url: str, commit: str, other: str) -> int | None:
    """As `lacks`, of a repository elsewhere: its commits are fetched into a folder of ours, without any file.

    A server that can't leave the files away has a short time to send all; when it takes longer, nothing is known.
    """
    try:
        if not (folder / "HEAD").exists():
            folder.mkdir(parents=True, exist_ok=True)
            kind = "sha1" if len(commit) == 40 else "sha256"
            arguments = "init", "--quiet", "--bare", "--template=", f"--object-format={kind}"
            git.run("--git-dir=.", *arguments, cwd=folder, timeout=_HISTORY_SECONDS)
        what = (
            "--filter=tree:0",
            "--",
            url,
            f"+{commit}:refs/reconciler/planned",
            f"+{other}:refs/reconciler/applied",
        )
        git.run("--git-dir=.", *_FETCH, *what, cwd=folder, timeout=_HISTORY_SECONDS)
    except (gits.FailedError, errors.TransientError, OSError):
        shutil.rmtree(folder, ignore_errors=True)  # what came of a fetch that was ended would only pile up
        return None
    return lacks(git, folder, commit, other, _HISTORY_SECONDS)


class Mirror:
    """A bare repository for one kind of object ids.

    Args:
        git: how to run git.
        folder: the repository's folder; it is made when a commit is first obtained.
        object_format: `sha1` or `sha256`.
        timeout: seconds for one exchange.
    """

    def __init__(self, git: gits.Git, folder: pathlib.Path, object_format: str, timeout: float) -> None:
        self._git = git
        self._folder = folder
        self._object_format = object_format
        self._timeout = timeout
        self._lock = threading.Lock()
        self._batch: subprocess.Popen[bytes] | None = None

    def obtain(self, url: str, name: str, commit: str) -> str:
        """Gets a commit without its history, unless it is here already; returns the id of what came.

        Args:
            url: where from.
            name: the full name of the ref, or a commit's id.
            commit: what the ref is believed to name. It may have moved since: what comes is what counts.

        Raises:
            UserError: there is no such commit.
            TransientError: it could not be fetched just now.
        """
        for is_last in (False, True):
            try:
                return self._obtain(url, name, commit)
            except gits.FailedError as failure:
                if is_last or self._is_sound():
                    raise self._why(url, name, failure) from failure
                self.close()
                shutil.rmtree(self._folder, ignore_errors=True)
        raise AssertionError  # the second round returns or raises

    def _obtain(self, url: str, name: str, commit: str) -> str:
        if not (self._folder / "HEAD").exists():
            self._folder.mkdir(exist_ok=True)
            self._run("init", "--quiet", "--bare", "--template=", f"--object-format={self._object_format}")
        with contextlib.suppress(gits.FailedError):  # after a restart, or a revert
            self._run("rev-list", "--objects", "--quiet", "--max-count=1", f"{commit}^{{commit}}", "--")
            self._run("update-ref", _HEAD, commit)
            return commit
        target = ("--", url, f"+{name}:{_HEAD}")
        try:
            self._fetch("--depth=1", *target)
        except gits.FailedError as failure:
            if "shallow" not in failure.complaint:
                raise
            self._fetch(*target)  # plain file servers know no shallow fetch
        return self._run("rev-parse", "--verify", "--quiet", f"{_HEAD}^{{commit}}").decode().strip()

    def _fetch(self, *arguments: str) -> None:
        try:
            self._run(*_FETCH, *arguments)
        except (gits.FailedError, errors.TransientError):
            # What git leaves of it would keep a full disk full, for the database, too.
            for left in (self._folder / "objects").rglob("tmp_*"):
                with contextlib.suppress(OSError):
                    left.unlink()
            raise

    def _is_sound(self) -> bool:
        try:
            self._run("fsck", "--connectivity-only", "--no-dangling")
        except gits.FailedError:
            return False
        return True

    def _why(self, url: str, name: str, failure: gits.FailedError) -> errors.ReconcilerError:
        if _NO_SUCH.search(failure.complaint):
            return errors.UserError(f"{url} has no commit {name}", remedy="check the id; was it pushed?")
        if "expected commit type" in failure.complaint:
            return errors.UserError(f"{name} of {url} does not name a commit", remedy="give a branch")
        if "No space left" in failure.complaint:
            text = f"the disk of {self._folder} is full"
            return errors.TransientError(text, remedy="make room", retry_after=60.0)
        return self._git.explain(failure)

    def message(self, commit: str) -> bytes:
        """A commit's subject, author and trailers, apart by NUL."""
        pretty = "--format=%s%x00%an <%ae>%x00%(trailers:only,unfold)"
        return self._run("log", "-1", "--no-show-signature", pretty, commit)

    def listing(self, commit: str) -> bytes:
        """Everything in a commit, as `git ls-tree -r -z -l` writes it.

        Raises:
            TransientError: the commit is not here (any more).
        """
        try:
            return self._run("ls-tree", "-r", "-z", "-l", "--full-tree", commit)
        except gits.FailedError as failure:
            raise self.damaged(failure.line) from failure

    def read(self, oid: str) -> bytes:
        """A whole blob; for small ones.

        Raises:
            TransientError: it is not here.
        """
        with self._lock:
            for _ in range(2):  # its process may have been killed since the last time
                with contextlib.suppress(OSError):
                    content = self._ask(oid)
                    if content is not None:
                        return content
                self._end_batch()
        raise self.damaged(f"object {oid} cannot be read")

    def _ask(self, oid: str) -> bytes | None:
        if self._batch is None:
            self._batch = self._start("cat-file", "--batch", stdin=subprocess.PIPE)
        asked, answered = self._batch.stdin, self._batch.stdout
        assert asked is not None
        assert answered is not None
        asked.write(oid.encode() + b"\n")
        asked.flush()
        header = answered.readline().split()
        if len(header) != 3 or header[1] != b"blob":
            return None
        size = int(header[2])
        content = answered.read(size + 1)
        return content[:-1] if len(content) == size + 1 else None

    def stream(self, oid: str, size: int) -> Iterator[bytes]:
        """A blob in pieces of at most `CHUNK_BYTES`.

        Raises:
            TransientError: it is not here, or is cut short.
        """
        process = self._start("cat-file", "blob", oid)
        assert process.stdout is not None
        try:
            while chunk := process.stdout.read(CHUNK_BYTES):
                size -= len(chunk)
                yield chunk
        finally:
            self._git.stop(process)
        if size:
            raise self.damaged(f"object {oid} cannot be read")

    def close(self) -> None:
        """Ends the long-lived process; reading starts a new one."""
        with self._lock:
            self._end_batch()

    def _end_batch(self) -> None:
        if self._batch is not None:
            self._git.stop(self._batch)
            self._batch = None

    def _run(self, *arguments: str) -> bytes:
        return self._git.run("--git-dir=.", *arguments, cwd=self._folder, timeout=self._timeout)

    def _start(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        return self._git.start("--git-dir=.", *arguments, cwd=self._folder, stdin=stdin)

    def damaged(self, why: str) -> errors.ReconcilerError:
        """What it means that something is missing here which must be there."""
        return errors.TransientError(
            f"the mirror {self._folder} is damaged: {why}", remedy="delete it: it is made anew"
        )
