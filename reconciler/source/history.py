"""Two commits of a repository on this machine, as CI checked it out: which ones a range names, and their files.

Called by `plan --offline`. The repository is read where it lies: nothing is fetched or written, and no credentials are
needed. That is the difference to `repository`, which follows a ref through a mirror of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re

from reconciler import errors
from reconciler.source import git as gits
from reconciler.source import remotes, repository
from reconciler.source.commits import CommitTree
from reconciler.source.mirror import Mirror, lacks
from reconciler.source.repository import About

_RANGE = re.compile(r"(.*?)(\.{2,3})(.*)")
_FETCH_IT = (
    "Fetch it first: `git fetch origin BRANCH`; in CI, check out the history too "
    "(actions/checkout: `fetch-depth: 0`; GitLab: `GIT_DEPTH: 0`)."
)


class _Place(Mirror):
    """The repository itself, which is somebody else's: it is read, and never thrown away."""

    def damaged(self, why: str) -> errors.ReconcilerError:
        """It is not ours to mend."""
        return errors.UserError(
            f"{self._folder} cannot be read: {why}", remedy="Fetch it whole: a partial clone lacks files."
        )


class History:
    """The commits of a repository on this machine.

    Args:
        url: its folder, as `--repo` takes it.
        scratch: a folder of ours, for git's settings.
        timeout: seconds for one git command.

    Raises:
        UsageError: it is not on this machine.
        UserError: there is no repository.
    """

    def __init__(self, url: str, scratch: pathlib.Path, *, timeout: float = 60.0) -> None:
        remote = remotes.parse(url)
        if remote.path is None:
            raise errors.UsageError(
                f"{remote.url} is not on this machine",
                remedy="Give --repo a folder with a checkout of it: from Git alone nothing is fetched.",
            )
        if not remote.path.is_dir():
            raise errors.UserError(f"there is no folder {remote.path}", remedy="Check --repo.")
        self._git = gits.Git(remote, scratch / "gitconfig")
        self._git.configure()
        self._timeout = timeout
        self.url = remote.url
        """The repository, as it is shown."""
        self._folder = self._git_folder(remote.path)
        self._place = _Place(self._git, self._folder, "sha1", timeout)

    def commits(self, asked: str) -> tuple[str, str]:
        """The ids of the two commits of a range: `BASE..HEAD`, or `BASE...HEAD` from where the two parted.

        An empty side is HEAD, as in git.

        Raises:
            UsageError: it is no range.
            UserError: a commit of it is not here.
        """
        found = _RANGE.fullmatch(asked)
        if found is None:
            raise errors.UsageError(
                f"{asked!r} is no range of commits", remedy="Write BASE..HEAD, such as origin/main...HEAD."
            )
        base, head = self._commit(found[1] or "HEAD"), self._commit(found[3] or "HEAD")
        if found[2] == "...":
            try:
                base = self._run("merge-base", base, head)
            except gits.FailedError as failure:
                text = f"{found[1] or 'HEAD'} and {found[3] or 'HEAD'} have no commit in common in {self.url}"
                raise errors.UserError(text, remedy=_FETCH_IT) from failure
        return base, head

    def _commit(self, name: str) -> str:
        if name.startswith("-"):
            raise errors.UsageError(f"{name!r} names no commit", remedy="Give a branch, a tag or an id.")
        try:
            return self._run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        except gits.FailedError as failure:
            raise errors.UserError(f"{self.url} has no commit {name}", remedy=_FETCH_IT) from failure

    def tree(self, commit: str) -> CommitTree:
        """The files of a commit."""
        return CommitTree(commit, self._place)

    def describe(self, commit: str) -> About:
        """What a commit says of itself.

        A forge's merge of a pull request, made to try it, says only which ids it merges ("Merge <id> into <id>"): its
        subject is that of the commit which it merges.
        """
        about = repository.about(self._place, commit)
        with contextlib.suppress(gits.FailedError):
            merged = self._run("rev-parse", "--verify", "--quiet", f"{commit}^2^{{commit}}")
            if merged in about.subject:
                return dataclasses.replace(about, subject=repository.about(self._place, merged).subject)
        return about

    def lacks(self, commit: str, other: str) -> int | None:
        """How many commits of `other` and its history a commit and its own lack; None where the history is cut off."""
        return lacks(self._git, self._folder, commit, other, self._timeout)

    def close(self) -> None:
        """Ends every git process."""
        self._place.close()
        self._git.close()

    def _run(self, *arguments: str) -> str:
        output = self._git.run("--git-dir=.", *arguments, cwd=self._folder, timeout=self._timeout)
        return output.decode(errors="replace").strip()

    def _git_folder(self, path: pathlib.Path) -> pathlib.Path:
        """Where the repository's own files are: below a checkout, or elsewhere for one of several."""
        try:
            found = self._git.run("rev-parse", "--absolute-git-dir", cwd=path, timeout=self._timeout)
        except gits.FailedError as failure:
            raise self._git.explain(failure) from failure
        return pathlib.Path(found.decode(errors="replace").strip())
