"""The whole error tree. Families differ by what must happen next, which is all that a caller can act on.

    ReconcilerError
    ├── UserError            somebody mends a file, a flag or a setting      (exit 1, no traceback)
    │   └── UsageError       the command line itself is wrong                (exit 2)
    ├── TransientError       we retry by ourselves, after `retry_after`      (not ready, never dead)
    └── StalledError         an operator must act; retrying changes nothing  (exit 1, says what to do)

Anything else that is raised is a bug (exit 3, with a traceback). Exceptions of foreign libraries are wrapped
where we call them. Bad manifests are not exceptions but lists of `domain.diagnostics.Diagnostic`.
"""

from __future__ import annotations


class ReconcilerError(Exception):
    """Base of every error that this project raises on purpose.

    Args:
        message: what is wrong, in words for the person who reads it.
        remedy: what to do about it; printed on its own line.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class UserError(ReconcilerError):
    """Somebody's file, flag or setting is wrong: they mend it, nothing else is lost."""


class UsageError(UserError):
    """The command line does not make sense."""


class TransientError(ReconcilerError):
    """Something we depend on is away: we try again by ourselves.

    Args:
        message: what is away.
        remedy: what to do if it stays so.
        retry_after: seconds until the next try makes sense.
    """

    def __init__(self, message: str, *, remedy: str = "", retry_after: float = 5.0) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after


class StalledError(ReconcilerError):
    """Only an operator can get this going again."""
