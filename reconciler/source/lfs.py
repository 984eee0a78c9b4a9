"""Which files of a working folder Git LFS keeps: they lie here whole, and a commit has only a pointer to each.

Asked by `validate` alone, which looks at a folder. The daemon reads commits, and sees the pointers themselves.
"""

from __future__ import annotations

import pathlib
import tempfile

from reconciler import errors
from reconciler.source.git import FailedError, Git
from reconciler.source.remotes import Remote

_ALL = ("--cached", "--others", "--exclude-standard")
_SECONDS = 60.0


def kept(folder: pathlib.Path) -> frozenset[str]:
    """Those below a folder, relative to it, as its `.gitattributes` have it; none where there is no repository."""
    with tempfile.TemporaryDirectory(prefix="reconciler-lfs-") as scratch:
        git = Git(Remote(str(folder), folder), pathlib.Path(scratch, "gitconfig"))
        git.configure()
        try:
            names = git.run("ls-files", "-z", *_ALL, cwd=folder, timeout=_SECONDS)
            said = git.run("check-attr", "-z", "--stdin", "filter", cwd=folder, timeout=_SECONDS, told=names)
        except (FailedError, errors.ReconcilerError):
            return frozenset()  # no repository, or no git: then there is no commit, either
    words = said.decode(errors="surrogateescape").split("\0")
    return frozenset(name for name, kind in zip(words[::3], words[2::3], strict=False) if kind == "lfs")
