"""A real Git repository made out of an example, commit by commit: what the demo and the tests play with."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import reconciler
from reconciler import errors

_IDENTITY = ("-c", "user.name=Demo", "-c", "user.email=demo@example.com", "-c", "commit.gpgsign=false")


def example(name: str) -> pathlib.Path:
    """The folder of an example, in a checkout or in an installed package.

    Raises:
        UserError: there is no such example.
    """
    package = pathlib.Path(reconciler.__file__).parent
    for folder in (package / "_examples", package.parent / "examples"):
        if (folder / name).is_dir():
            return folder / name
    raise errors.UserError(
        f"there is no example {name}", remedy="Install the package whole, or run in a checkout."
    )


class ScratchRepository:
    """A repository whose commits we make.

    Args:
        folder: where; it is made.
        branch: the branch that is committed to.

    Raises:
        UserError: the folder exists already.
        StalledError: there is no git program.
    """

    def __init__(self, folder: pathlib.Path, branch: str = "main") -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise errors.UserError(
                f"{folder} can't be made: {error.strerror}", remedy="Name a new folder."
            ) from error
        self._git("init", "--quiet", f"--initial-branch={branch}")

    def copy(self, source: pathlib.Path, *parts: str) -> None:
        """Copies parts of a folder (files or folders, by name) into the working tree."""
        for part in parts:
            place = source / part
            target = self.folder / part
            if place.is_dir():
                shutil.copytree(place, target, dirs_exist_ok=True)
            else:
                shutil.copyfile(place, target)

    def commit(self, message: str) -> str:
        """Commits everything as it lies in the working tree; the commit's id."""
        self._git("add", "--all")
        self._git(*_IDENTITY, "commit", "--quiet", "--allow-empty", f"--message={message}")
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str) -> str:
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
            environment.pop(name, None)
        command = ["git", "-C", str(self.folder), *arguments]
        try:
            done = subprocess.run(  # noqa: S603 - an argv list of our own words
                command, env=environment, capture_output=True, text=True, timeout=60, check=True
            )
        except FileNotFoundError as error:
            raise errors.StalledError("there is no git program", remedy="Install git.") from error
        except subprocess.CalledProcessError as error:
            raise errors.StalledError(f"git {arguments[0]} failed: {error.stderr.strip()}") from error
        return done.stdout
