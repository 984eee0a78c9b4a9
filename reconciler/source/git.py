"""Decides how the git program is run: with which environment, for how long, and what its failures mean.

All git commands run through a `Git`. Nothing of the user's settings, hooks or variables gets in.
Credentials of the URL go to git through its credential protocol, so that no argument list, log line or error
can hold them. Commands are argument lists, never text for a shell.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import threading
import urllib.parse

from reconciler import errors
from reconciler.source.remotes import Remote

_KEPT_VARIABLES = (
    "PATH HOME USER LOGNAME TMPDIR SSH_AUTH_SOCK GIT_SSH_COMMAND GIT_SSL_CAINFO SSL_CERT_FILE SSL_CERT_DIR "
    "http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY all_proxy"
)
_SCRUBBED = {
    "LC_ALL": "C",
    "GIT_ALLOW_PROTOCOL": "file:https:ssh",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
}
_CONFIG = """\
[core]
	hooksPath = /dev/null
	fsmonitor = false
	bigFileThreshold = 16m
[gc]
	autoDetach = false
[http]
	lowSpeedLimit = 1000
	lowSpeedTime = 60
[protocol]
	version = 2
[credential]
	helper =
"""
_ANY_OWNER = """\
[safe]
	directory = *
"""
_WARY_CONFIG = """\
[safe]
	bareRepository = explicit
"""
_WARY_OPTIONS = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
"""On the command line: a repository's own configuration goes before what is in the file."""
_WARY_VARIABLES = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"}
"""What a partial clone lacks is fetched from its remote, by the program that the remote's settings name."""
_CREDENTIALS = """\
[credential "{scope}"]
	helper = "!f() {{ test \\"$1\\" = get && printf 'username=%s\\\\npassword=%s\\\\n' \
\\"$RECONCILER_GIT_USERNAME\\" \\"$RECONCILER_GIT_PASSWORD\\"; }}; f"
"""
_DENIED = re.compile(
    r"authentication failed|could not read (username|password)|permission denied|access denied|"
    r"returned error: 40[13]|host key verification failed|invalid credentials",
    re.IGNORECASE,
)
_NO_REPOSITORY = re.compile(
    r"does not appear to be a git repository|not a git repository|repository ('.*' )?not found|"
    r"no such file or directory|does not exist",
    re.IGNORECASE,
)


class Git:
    """The git program, for one remote.

    Args:
        at: the remote.
        config: the file that this object writes and that replaces all of the user's Git settings.
        wary: for commands inside a repository that may be a stranger's: git refuses one of another user, and runs
            no program that one's configuration names. Nothing can be fetched.
    """

    def __init__(self, at: Remote, config: pathlib.Path, *, wary: bool = False) -> None:
        self._remote = at
        self._config = config
        self._wary = wary
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def configure(self) -> None:
        """Writes the settings. Unless we are wary, any owner will do: the named repository's, and our mirror's."""
        text = _CONFIG + (_WARY_CONFIG if self._wary else _ANY_OWNER)
        if self._remote.username or self._remote.password:
            text += _CREDENTIALS.format(scope=f"https://{urllib.parse.urlsplit(self._remote.url).netloc}")
        self._config.write_text(text)

    def start(
        self,
        *arguments: str,
        cwd: pathlib.Path,
        stdin: int = subprocess.DEVNULL,
        stderr: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Starts a command whose output is read by the caller, who also ends it (`stop`).

        Raises:
            StalledError: there is no git program.
            TransientError: this object is closed, or the process could not be started.
        """
        with self._lock:
            if self._closed:
                raise errors.TransientError("the repository is being closed")
            try:
                process = subprocess.Popen(  # noqa: S603 - a list of arguments; the URL is checked by `remote`
                    ["git", *(_WARY_OPTIONS if self._wary else ()), *arguments],  # noqa: S607 - git is found on the operator's PATH
                    cwd=cwd,
                    env=self._environment(),
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    start_new_session=True,  # its helpers (ssh, https) can be ended together with it
                )
            except FileNotFoundError as problem:
                if problem.filename != "git":
                    raise errors.TransientError(f"{cwd} is missing") from problem
                raise errors.StalledError(
                    "the git program is not installed", remedy="install git"
                ) from problem
            except OSError as problem:
                raise errors.TransientError(f"git could not be started: {problem.strerror}") from problem
            self._running.add(process)
        return process

    def run(self, *arguments: str, cwd: pathlib.Path, timeout: float, told: bytes = b"") -> bytes:
        """Runs a command to its end and returns what it printed.

        Args:
            arguments: without the program's name.
            cwd: the folder to run in.
            timeout: seconds after which it and its helpers are killed.
            told: what it reads from its standard input.

        Raises:
            FailedError: it said no; the text is git's last line.
            TransientError: it took too long, or could not be started.
            StalledError: there is no git program.
        """
        stdin = subprocess.PIPE if told else subprocess.DEVNULL
        process = self.start(*arguments, cwd=cwd, stdin=stdin, stderr=subprocess.PIPE)
        try:
            output, complaint = process.communicate(told or None, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise errors.TransientError(
                f"{self._remote.url} did not answer within {timeout:g} s",
                remedy="check the network, or raise the timeout",
            ) from None
        finally:
            self.stop(process)
        if process.returncode != 0:
            raise FailedError(complaint.decode(errors="replace"))
        return output

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Ends a process and its helpers, if they still live, and frees its pipes."""
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait()
        with self._lock:
            self._running.discard(process)

    def close(self) -> None:
        """Kills what still runs, from any thread; nothing can be started afterwards."""
        with self._lock:
            self._closed = True
            for process in self._running:
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)

    def explain(self, failure: FailedError) -> errors.ReconcilerError:
        """What the remote's answer means for whoever runs us: their mistake, or something to wait for."""
        url = self._remote.url
        if "cannot run ssh" in failure.complaint:
            return errors.StalledError("the ssh program is not installed", remedy="install OpenSSH's client")
        if _DENIED.search(failure.complaint):
            return errors.UserError(
                f"{url} does not let us in: {failure.line}",
                remedy="check the token in the URL, or the SSH key and known_hosts of the daemon's user",
            )
        if _NO_REPOSITORY.search(failure.complaint):
            return errors.UserError(f"{url} is not a Git repository: {failure.line}", remedy=self._hint())
        return errors.TransientError(
            f"{url} cannot be read: {failure.line}", remedy="check the network and the host"
        )

    def _hint(self) -> str:
        if self._remote.path is not None:
            for parent in self._remote.path.parents:
                if (parent / ".git").exists():
                    return f"it lies inside a repository: give its root, {parent}"
            return "check the path; `git init` and a first commit make it one"
        return "check the URL"

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES.split() if name in os.environ}
        return {
            "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=15",
            **kept,
            **_SCRUBBED,
            **(_WARY_VARIABLES if self._wary else {}),
            # a repository around our folder is not ours
            "GIT_CEILING_DIRECTORIES": str(self._config.parent.parent),
            "GIT_CONFIG_GLOBAL": str(self._config),
            "RECONCILER_GIT_USERNAME": self._remote.username,
            "RECONCILER_GIT_PASSWORD": self._remote.password,
        }


class FailedError(Exception):
    """Git ended with an error. `repository` turns it into one of ours.

    Args:
        complaint: what it wrote on standard error.
    """

    def __init__(self, complaint: str) -> None:
        super().__init__(complaint)
        self.complaint = complaint
        clean = "".join(c if c.isprintable() or c == "\n" else " " for c in complaint)
        lines = [line.strip() for line in clean.splitlines() if line.strip()]
        fatal = [
            line for line in lines if re.match("fatal:|error:", line) and "Could not read from" not in line
        ]
        line = (fatal or lines or ["git said nothing"])[0]
        self.line = line.removeprefix("fatal: ").removeprefix("error: ")[:300]
        """The line that says most, fit to be printed."""
