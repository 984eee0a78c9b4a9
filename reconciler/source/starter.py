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

OWNER = "YOUR_OWNER"
"""Stands for a login until somebody says it. GitHub's have no underscore: it can never be a stranger's."""
HOME = f"https://github.com/{OWNER}/reconciler"
"""Where CI gets this program from, until somebody says it."""
WORKFLOW = ".github/workflows/fleet.yml"
"""Only where the program's home is github.com: what a workflow uses is looked for there, whoever's it may be."""
AT_THE_ROOT = (".github", ".gitlab-ci.yml", ".pre-commit-config.yaml", "CODEOWNERS")
"""What is read at the root of a repository, and nowhere below."""
SCHEMAS = ".schemas"
_GITHUB = "https://github.com/"
_EXAMPLE = "01-minimal"
_SCHEMAS_OF_EXAMPLES = "../../schemas/v1"
_HOME = re.compile(
    r"https://(?P<host>[A-Za-z0-9.-]+(?::[0-9]+)?)/(?P<project>NAME(?:/NAME)+)".replace(
        "NAME",
        r"(?!\.\.?(?:/|$))[\w.-]+",  # neither `.` nor `..`, which lead elsewhere
    ),
    re.ASCII,
)


def files(home: str = HOME) -> dict[str, bytes]:
    """Every file of a fleet repository to start from, by its path; the workflow only if GitHub has the program.

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
    if not words["__HOME__"].startswith(_GITHUB):
        del made[WORKFLOW]
    return dict(sorted(made.items()))


def existing(folder: pathlib.Path, names: Iterable[str]) -> list[str]:
    """Those names that a folder has already, whatever is there."""
    return [name for name in names if os.path.lexists(folder / name)]


def same(folder: pathlib.Path, content: Mapping[str, bytes]) -> list[str]:
    """Those names that a folder has with just this content."""
    return [name for name, data in content.items() if _holds(folder / name, data)]


def _holds(place: pathlib.Path, data: bytes) -> bool:
    try:
        return place.is_file() and place.read_bytes() == data
    except OSError:
        return False


def write(folder: pathlib.Path, content: Mapping[str, bytes]) -> None:
    """Writes files into a folder, which is made.

    Raises:
        UserError: a link there leads out of it, and nothing is written; or one of the files exists already, or can't
            be written: those before it were.
    """
    real = pathlib.Path(os.path.realpath(folder))
    for parent in sorted({(folder / name).parent for name in content}):
        if not pathlib.Path(os.path.realpath(parent)).is_relative_to(real):
            raise errors.UserError(
                f"{parent} leads out of {folder}, and nothing is written elsewhere",
                remedy="Make it a folder, or name a new one.",
            )
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


def root(folder: pathlib.Path) -> pathlib.Path | None:
    """The root of the Git repository that a folder is in."""
    place = folder.resolve()
    return next((above for above in (place, *place.parents) if (above / ".git").exists()), None)


def has_commit(folder: pathlib.Path) -> bool:
    """Whether the Git repository that a folder is the root of has a commit.

    Raises:
        UserError: there is no git.
    """
    return _run(folder, "rev-parse", "--quiet", "--verify", "HEAD").returncode == 0


def begin(folder: pathlib.Path, names: Iterable[str]) -> None:
    """Makes a folder a Git repository, unless it is one, and these files its first commit.

    The commit is made as the user would make it: with their name, hooks and signature.

    Raises:
        UserError: git can't do it; the files stay.
    """
    if not (folder / ".git").exists():
        _git(folder, "init", "--quiet", "--initial-branch=main")
    _git(folder, "add", "--", *names)
    for who in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
        if _run(folder, "var", who).returncode:
            raise errors.UserError(
                f"the files are in {folder}, but git does not know who you are, and commits nothing",
                remedy="`git config --global user.name NAME` and `git config --global user.email ADDRESS`, "
                "then the same command again with --keep.",
            )
    _git(folder, "commit", "--quiet", "--message=A fleet to start from", "--", *names)


def _git(folder: pathlib.Path, *arguments: str) -> None:
    done = _run(folder, *arguments)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no reason"]
        raise errors.UserError(
            f"the files are in {folder}, but git {arguments[0]} failed: {said[-1]}",
            remedy=f"Finish it yourself: git -C {folder} add --all && git -C {folder} commit",
        )


def _run(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    away = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}  # set where a hook of another repository runs us
    environment = {name: value for name, value in os.environ.items() if name not in away}
    try:
        return subprocess.run(  # noqa: S603 - an argv list of our own words
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - git is found on the user's PATH
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as problem:
        raise errors.UserError(
            f"the files are in {folder}, but there is no git program", remedy="Install git, and commit them."
        ) from problem


def _words(home: str) -> dict[str, str]:
    """What stands for the words in the files of `_fleet`."""
    plain = home.removesuffix("/").removesuffix(".git")
    found = _HOME.fullmatch(plain)
    github = found is not None and found["host"].lower() == "github.com"
    if found is None or (github and found["project"].count("/") > 1):  # github.com has no groups in groups
        raise errors.UsageError(
            f"{home} is not the URL of a Git repository", remedy=f"Such as {HOME}, over https."
        )
    version = f"v{reconciler.__version__}"
    raw = f"{plain}/-/raw/{version}"
    if github:
        plain = f"{_GITHUB}{found['project']}"
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
