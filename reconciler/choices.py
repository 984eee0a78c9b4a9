"""What the settings choose for a plan and a pass: the rules, the ways to download, the repository.

Called by the composition root, and by commands that need no more than this: they start in less time without the
daemon's parts. Nothing is opened here.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from reconciler import errors
from reconciler.domain import downloads as way
from reconciler.domain import plan
from reconciler.protocol import broker_url, urls
from reconciler.settings import Bootstrap, Settings, flag
from reconciler.source.repository import Repository


def policy_of(settings: Settings) -> plan.Policy:
    """The operator's own rules for plans."""
    hold = settings.bootstrap is Bootstrap.HOLD
    return plan.Policy(hold_first_sight=hold, limits=settings.limits, ways=ways_of(settings))


def ways_of(settings: Settings) -> way.Ways:
    """The ways to download that are configured, as plans need to know.

    Raises:
        UsageError: a public URL is wrong.
    """
    own = "https://localhost" if settings.http_certificate else "http://localhost"
    return urls.check_bases(settings.public_url or own).ways


def check_tls(settings: Settings) -> None:
    """Refuses half of a TLS configuration: what was left out, or misspelt, would publish logins and firmware's URLs.

    Raises:
        UsageError: something was given for TLS that no connection would use.
    """
    embedded = settings.mqtt == "embedded"
    encrypts = not embedded and broker_url.parse(settings.mqtt).tls
    needs = (
        ("http_key", settings.http_certificate, "--http-certificate"),
        ("mqtt_key", settings.mqtt_certificate, "--mqtt-certificate"),
        ("mqtt_tls_bind", embedded, "--mqtt embedded"),
        ("mqtt_certificate", not embedded or settings.mqtt_tls_bind, "--mqtt-tls-bind"),
        ("mqtt_certificate", embedded or encrypts, "--mqtt mqtts://…"),
        ("mqtt_ca", encrypts, "a broker (--mqtt mqtts://…)"),
    )
    for name, is_there, needed in needs:
        if getattr(settings, name) and not is_there:
            raise errors.UsageError(
                f"{flag(name)} has no effect without {needed}",
                remedy="Give both, or neither: half of a TLS configuration protects nothing.",
            )


def settle_of(settings: Settings) -> timedelta:
    """How long a device that came is left alone, so that its own report is heard first."""
    return timedelta(seconds=settings.settle_time)


def repository_of(settings: Settings, folder: Path | None = None, ref: str = "") -> Repository:
    """The repository that is followed, at `ref` (default: its own), by a mirror in `folder` (the data directory's).

    Raises:
        UsageError: none is set, or its URL can't be right.
    """
    if not settings.repo:
        raise errors.UsageError(
            "no repository is set", remedy="Give --repo PATH_OR_URL, or set RECONCILER_REPO."
        )
    return Repository(settings.repo, folder or settings.data_dir / "mirror", ref or settings.ref)
