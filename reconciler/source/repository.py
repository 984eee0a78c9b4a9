"""Decides which commit a ref names now, and hands out that commit's files.

The reconcile service calls `fetch` in a thread and reads a commit through `tree`. Commits are followed, never
a working tree. Nothing here knows what the files mean, and the mirror can be deleted at any time.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Mapping

from reconciler import errors
from reconciler.source import git as gits
from reconciler.source import remotes
from reconciler.source.commits import CommitTree
from reconciler.source.mirror import Mirror, lacks, lacks_there

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/]|[/.]$|\.lock$|^$")
_COUNT = re.compile(r"[0-9]{1,9}")
_ASK_TIMEOUT = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class About:
    """What a commit says of itself."""

    subject: str
    author: str
    trailers: Mapping[str, str]

    @property
    def confirmed_cancels(self) -> int | None:
        """How many cancellations its trailer `Confirm-Cancel: <n>` confirms."""
        trailer = self.trailers.get("Confirm-Cancel", "")
        return int(trailer) if _COUNT.fullmatch(trailer) else None


class Repository:
    """A ref of a repository, followed.

    Synchronous; one thread at a time, except `close`, which any thread may call.

    Args:
        url: a folder, file://, https://, ssh:// or user@host:path.
        folder: a folder of ours, for the mirror; it is made when it is missing.
        ref: a branch, a tag, a full name below refs/, HEAD, or a commit's full id; branches before tags.
        timeout: seconds for one exchange with the repository.

    Raises:
        UsageError: the URL or the ref cannot be right.
    """

    def __init__(self, url: str, folder: pathlib.Path, ref: str, *, timeout: float = 600.0) -> None:
        self._remote = remotes.parse(url)
        if _BAD_REF.search(ref):
            raise errors.UsageError(f"{ref!r} names no ref", remedy="give a branch, a tag or a commit")
        self._folder = folder.absolute()
        self._ref = ref
        self._timeout = timeout
        self._git = gits.Git(self._remote, self._folder / "gitconfig")
        self._mirrors = {
            kind: Mirror(self._git, self._folder / f"{kind}.git", kind, timeout)
            for kind in ("sha1", "sha256")
        }
        self._is_prepared = False
        self._commit: str | None = None

    @property
    def url(self) -> str:
        """The repository's URL, without credentials."""
        return self._remote.url

    @property
    def ref(self) -> str:
        """The ref that is followed, as it was given."""
        return self._ref

    @property
    def path(self) -> pathlib.Path | None:
        """The repository's folder when it is on this machine (what `watch.Watch` wants); else None."""
        return self._remote.path

    def revision(self, commit: str) -> str:
        """How a commit is shown: `main@sha1:<id>`."""
        return f"{self._ref}@{_kind(commit)}:{commit}"

    def fetch(self) -> str | None:
        """The id of the commit that the ref names now, to be read by `tree`; None while there is no commit.

        Asks for the ref first and fetches only when it moved; fetches one commit without its history.

        Raises:
            UserError: no such repository or ref, or it does not let us in.
            TransientError: it is away, or slow.
            StalledError: there is no git program, or the mirror's folder cannot be written.
        """
        self._prepare()
        name, commit = (self._ref, self._ref) if _SHA.fullmatch(self._ref) else self._resolve()
        if name is None:
            return None
        if commit != self._commit:
            self._commit = self._mirrors[_kind(commit)].obtain(self.url, name, commit)
        return self._commit

    def tree(self, commit: str) -> CommitTree:
        """The files of a commit that `fetch` returned.

        Raises:
            TransientError: it is not in the mirror (any more).
        """
        return CommitTree(commit, self._mirrors[_kind(commit)])

    def describe(self, commit: str) -> About:
        """What a commit that `fetch` returned says of itself.

        Raises:
            TransientError: it is not in the mirror (any more).
        """
        return about(self._mirrors[_kind(commit)], commit)

    def lacks(self, commit: str, other: str) -> int | None:
        """How many commits of `other` and its history a commit that `fetch` returned lacks; None where unknown.

        The mirror has no history: the repository itself is asked where it is on this machine, else its commits are got.
        """
        if self._remote.path is not None:
            return lacks(self._git, self._remote.path, commit, other, _ASK_TIMEOUT)
        return lacks_there(self._git, self._folder / f"history-{_kind(commit)}.git", self.url, commit, other)

    def close(self) -> None:
        """Ends every git process at once; a `fetch` that runs in another thread fails with TransientError."""
        self._git.close()
        for mirror in self._mirrors.values():
            mirror.close()

    def _prepare(self) -> None:
        """Once: makes the folder, which is ours alone, and clears the locks that a killed process left."""
        if self._is_prepared:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._git.configure()
            for lock in self._folder.rglob("*.lock"):
                lock.unlink(missing_ok=True)
        except OSError as problem:
            text = f"{self._folder} cannot be written: {problem.strerror}"
            raise errors.StalledError(text, remedy="give it to the daemon's user") from problem
        self._is_prepared = True

    def _resolve(self) -> tuple[str | None, str]:
        """The ref's full name there and the id of its commit; (None, "") for an empty repository."""
        ref = self._ref
        is_full = ref == "HEAD" or ref.startswith("refs/")
        names = [ref] if is_full else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
        found = self._ls_remote(*names, *(f"{name}^{{}}" for name in names))
        for name in names:
            if name in found:
                return name, found.get(f"{name}^{{}}", found[name])  # ^{} is the commit of an annotated tag
        everything = self._ls_remote()
        if not everything:
            return None, ""
        heads = sorted(n.removeprefix("refs/heads/") for n in everything if n.startswith("refs/heads/"))
        raise errors.UserError(
            f"{self.url} has no branch or tag {ref!r}",
            remedy=f"its branches are: {', '.join(heads[:10]) or '(none)'}; a commit needs its full id",
        )

    def _ls_remote(self, *names: str) -> dict[str, str]:
        timeout = min(_ASK_TIMEOUT, self._timeout)
        try:
            output = self._git.run(
                "ls-remote", "--quiet", "--", self.url, *names, cwd=self._folder, timeout=timeout
            )
        except gits.FailedError as failure:
            raise self._git.explain(failure) from failure
        rows = (line.split("\t", 1) for line in output.decode(errors="replace").splitlines())
        return {row[1]: row[0] for row in rows if len(row) == 2}


def about(mirror: Mirror, commit: str) -> About:
    """What a commit of a mirror says of itself."""
    text = mirror.message(commit).decode(errors="replace")
    subject, author, trailers = ([*text.rstrip("\n").split("\0"), "", ""])[:3]
    pairs = (line.split(":", 1) for line in trailers.splitlines() if ":" in line)
    return About(subject, author, {key.strip(): value.strip() for key, value in pairs})


def _kind(commit: str) -> str:
    """One mirror for each kind of object id: they cannot be mixed in one repository."""
    return "sha1" if len(commit) == 40 else "sha256"
