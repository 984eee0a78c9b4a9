"""How a commit is written wherever people or machines read one (conventions "Status")."""

from __future__ import annotations


def text(sha: str, ref: str) -> str:
    """`main@sha1:<sha>`."""
    return f"{ref.removeprefix('refs/heads/')}@sha1:{sha}"
