"""Decides which repositories can be followed: what was given as `--repo`, read and taken apart.

`repository` reads it once. Secrets of a URL are kept apart from the part that is shown, at the first moment.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import urllib.parse

from reconciler import errors


@dataclasses.dataclass(frozen=True, slots=True)
class Remote:
    """Where a repository is. `url` never holds a secret and can be shown."""

    url: str
    path: pathlib.Path | None = None
    """Its folder, when it is on this machine."""
    username: str = dataclasses.field(default="", repr=False)
    password: str = dataclasses.field(default="", repr=False)


def parse(url: str) -> Remote:
    """Reads what was given as `--repo`: a folder, file://, https://, ssh:// or user@host:path.

    Raises:
        UsageError: anything else.
    """
    if re.match(r"[A-Za-z0-9._-]+@[A-Za-z0-9._-]+:(?!//)", url):
        return Remote(url)
    scheme, separator, _ = url.partition("://")
    if not separator:
        if not url or "::" in url or "\0" in url:
            raise errors.UsageError(
                f"{url!r} is no repository", remedy="give a folder, or an https:// or ssh:// URL"
            )
        path = pathlib.Path(url).expanduser().absolute()
        return Remote(str(path), path)
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        parts = urllib.parse.urlsplit("")
    if scheme == "file" and parts.path and not parts.netloc:
        path = pathlib.Path(urllib.parse.unquote(parts.path))
        return Remote(str(path), path)
    if scheme == "ssh" and parts.hostname and not parts.password:
        return Remote(url)
    if scheme == "https" and parts.hostname:
        bare = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        user, secret = urllib.parse.unquote(parts.username or ""), urllib.parse.unquote(parts.password or "")
        return Remote(bare, None, user, secret)
    raise errors.UsageError(
        f"repositories at {scheme}:// URLs of this form are not followed",
        remedy="give a folder, or an https:// or ssh:// URL (ssh with a key, not with a password)",
    )
