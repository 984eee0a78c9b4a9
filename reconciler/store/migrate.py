"""Brings a database's schema to the one this program knows: Alembic, forward only.

Called when a database is opened. A look (`get`, `plan`) beside a running daemon never migrates.
"""

from __future__ import annotations

from pathlib import Path

import alembic.command
import alembic.config
import alembic.script
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine

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
    config = alembic.config.Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    scripts = alembic.script.ScriptDirectory.from_config(config)
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current == scripts.get_current_head():
        return
    if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
        raise errors.UserError(
            f"the database has schema {current}, which this version doesn't know",
            remedy="It was written by a newer version: run that one, or restore the backup from before the upgrade.",
        )
    if not upgrade:
        raise errors.UserError(
            "the database has an older schema than this version",
            remedy="Start the daemon of this version once: it migrates the database.",
        )
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")
