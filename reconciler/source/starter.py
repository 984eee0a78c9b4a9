"""What a new fleet repository holds, and how it gets onto the disk: for `init`, and for the demo, which plays it.

The manifests are those of an example; what surrounds them (CI, CODEOWNERS, compose file …) lies in `_fleet` as it is
written, but for four words with `__` around them. The schemas are this version's. Nothing that exists is overwritten.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping

import reconciler
from reconciler import errors
from reconciler.source import schemas
from reconciler.source.scratch import example

HOME = "https://github.com/OWNER/reconciler"
"""Where CI gets this program from, until somebody says it."""
SCHEMAS = ".schemas"
_EXAMPLE = "01-minimal"
_SCHEMAS_OF_EXAMPLES = "../../schemas/v1"
_HOME = re.compile(
    r"https://(?P<host>[A-Za-z0-9.-]+(?::[0-9]+)?)/(?P<project>[\w.-]+(?:/[\w.-]+)+)", re.ASCII
)


def files(home: str = HOME) -> dict[str, bytes]:
    """Every file of a fleet repository to start from, by its path.

    Args:
        home: the Git repository of this program that CI, pre-commit and the compose file get it from.

    Raises:
        UserError: that is no such URL, or the package is not whole.
    """
    words = _words(home)
    made = {f"{SCHEMAS}/{name}": text.encode() for name, text in schemas.generate().items()}
    for name, content in _below(pathlib.Path(reconciler.__file__).parent / "_fleet"):
        made[name] = _replaced(content, words)
    for name, content in _below(example(_EXAMPLE)):
        if name.endswith(".yaml"):
            made[name] = _replaced(content, {_SCHEMAS_OF_EXAMPLES: SCHEMAS})
        else:
            made.setdefault(name, content)
    return dict(sorted(made.items()))


def existing(folder: pathlib.Path, names: Iterable[str]) -> list[str]:
    """Those names that a folder has already, whatever is there."""
    return [name for name in names if os.path.lexists(folder / name)]


def write(folder: pathlib.Path, content: Mapping[str, bytes]) -> None:
    """Writes files into a folder, which is made.

    Raises:
        UserError: one of them exists already, or can't be written; those before it were.
    """
    for name, data in content.items():
        place = folder / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as file:
                file.write(data)
        except OSError as problem:
            raise errors.UserError(
                f"{place} cannot be written: {problem.strerror}", remedy="Name a new folder."
            ) from problem


def begin(folder: pathlib.Path, names: Iterable[str]) -> bool:
    """Makes a folder a Git repository, with these files as its first commit, unless it is in one already.

    The commit is made as the user would make it: with their name, hooks and signature.

    Returns:
        whether it was made one.

    Raises:
        UserError: git can't do it; the files stay.
    """
    place = folder.resolve()
    if any((above / ".git").exists() for above in (place, *place.parents)):
        return False
    _git(folder, "init", "--quiet", "--initial-branch=main")
    _git(folder, "add", "--", *names)
    _git(folder, "commit", "--quiet", "--message=A fleet to start from")
    return True


def _git(folder: pathlib.Path, *arguments: str) -> None:
    away = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}  # set where a hook of another repository runs us
    environment = {name: value for name, value in os.environ.items() if name not in away}
    try:
        subprocess.run(  # noqa: S603 - an argv list of our own words
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - git is found on the user's PATH
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    except FileNotFoundError as problem:
        raise errors.UserError(
            f"the files are in {folder}, but there is no git program", remedy="Install git, and commit them."
        ) from problem
    except subprocess.CalledProcessError as problem:
        said = (problem.stderr.strip() or problem.stdout.strip()).splitlines() or ["no reason"]
        raise errors.UserError(
            f"the files are in {folder}, but git {arguments[0]} failed: {said[-1]}",
            remedy=f"Finish it yourself: git -C {folder} add --all && git -C {folder} commit",
        ) from problem


def _words(home: str) -> dict[str, str]:
    """What stands for the words in the files of `_fleet`."""
    plain = home.removesuffix("/").removesuffix(".git")
    found = _HOME.fullmatch(plain)
    if found is None:
        raise errors.UsageError(
            f"{home} is not the URL of a Git repository", remedy=f"Such as {HOME}, over https."
        )
    version = f"v{reconciler.__version__}"
    raw = f"{plain}/-/raw/{version}"
    if found["host"] == "github.com":
        raw = f"https://raw.githubusercontent.com/{found['project']}/{version}"
    return {
        "__HOME__": plain,
        "__PROJECT__": found["project"],
        "__TEMPLATE__": f"{raw}/deploy/ci/gitlab.yml",
        "__VERSION__": version,
    }


def _replaced(content: bytes, words: Mapping[str, str]) -> bytes:
    for word, meant in words.items():
        content = content.replace(word.encode(), meant.encode())
    return content


def _below(folder: pathlib.Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes()
