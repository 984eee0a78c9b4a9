"""Brings a database's schema to the one this program knows: Alembic, forward only.

Called when a database is opened. A look (`get`, `plan`) beside a running daemon never migrates.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, inspect, text

from reconciler import errors

_SCRIPTS = Path(__file__).parent / "migrations"


def ensure(engine: Engine, *, upgrade: bool) -> None:
    """Makes the schema current, or refuses.

    Args:
        engine: the writer.
        upgrade: migrate an older schema; otherwise refuse it.

    Raises:
        UserError: the schema is newer than this program, or older and may not be migrated here.
    """
    current, newest = _current(engine), head()
    if current == newest:
        return
    if current is not None and current > newest:
        raise errors.UserError(
            f"the database has schema {current}, which this version doesn't know",
            remedy="It was written by a newer version: run that one, or restore the backup from before the upgrade.",
        )
    if not upgrade:
        raise errors.UserError(
            "the database has an older schema than this version",
            remedy="Start the daemon of this version once: it migrates the database.",
        )
    _upgrade(engine)


def head() -> str:
    """The newest schema: revisions are numbered, and their files are named by their numbers."""
    return max(path.name for path in (_SCRIPTS / "versions").glob("[0-9]*.py")).partition("_")[0]


def _current(engine: Engine) -> str | None:
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _upgrade(engine: Engine) -> None:
    import alembic.command  # noqa: PLC0415 - a look at a current database does without, and starts faster
    import alembic.config  # noqa: PLC0415

    config = alembic.config.Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")
