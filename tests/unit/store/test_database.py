"""The schema that migrations make, what it refuses by itself, and databases that can't be used."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys

import pytest
import seed
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import insert, text, update

from reconciler import errors
from reconciler.domain import lifecycle
from reconciler.store import events, migrate, tables
from reconciler.store.database import Database


def test_migrations_make_the_tables_that_the_code_describes(database):
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


def _described(connection):
    """What comparing tables does not see: checks, partial indexes, tables without row numbers."""
    query = text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'alembic_version'")
    found = {}
    for name, sql in connection.execute(query):
        flat = re.sub(r"\s+", " ", sql).strip()
        if flat.startswith("CREATE TABLE"):
            checks = sorted(re.findall(r"CONSTRAINT (\w+) CHECK \((.*?)\)(?:,|\s*\))", flat))
            found[name] = (checks, flat.endswith("WITHOUT ROWID"))
        elif flat.startswith("CREATE") and "INDEX" in flat:
            found[name] = flat
    return found


def test_migrations_make_every_check_and_every_partial_index_too(database):
    memory = sqlalchemy.create_engine("sqlite://")
    with memory.begin() as described, database.reading() as migrated:
        tables.metadata.create_all(described)
        expected = _described(described)
        assert expected["ix_task_slot"].endswith("WHERE holds = 1")
        assert [name for name, _ in expected["task"][0]] == [
            "ck_task_ended_has_time",
            "ck_task_ended_holds_nothing",
            "ck_task_hold",
            "ck_task_status",
        ]
        assert _described(migrated) == expected
    memory.dispose()


def test_opening_a_current_database_again_changes_nothing(database, database_url):
    with database.writing() as connection:
        seed.revision(connection)
    again = Database.open(database_url, upgrade=False)
    with again.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM revision")).scalar_one() == 1
    again.close()


def test_a_line_of_the_event_log_cannot_be_changed(database):
    with database.writing() as connection:
        events.append(connection, seed.NOW, [events.Event(type=events.Type.STARTED)])
    with pytest.raises(sqlalchemy.exc.IntegrityError, match="append-only"), database.writing() as connection:
        connection.execute(update(tables.event).values(message="it was different"))


def test_a_device_has_one_unfinished_task_whatever_the_code_does(database):
    seed.world(database, ["dev-1"])
    with database.writing() as connection:
        other = seed.batch(connection, "another")
    row = {
        "run_id": other, "device_id": 1, "module": "default", "revision_id": 1, "status": "QUEUED",
        "holds": True, "created_at": seed.NOW,
    }  # fmt: skip
    with pytest.raises(sqlalchemy.exc.IntegrityError), database.writing() as connection:
        connection.execute(insert(tables.task).values(**row))


@pytest.mark.parametrize(
    "broken",
    [
        {"status": "LOST"},
        {"status": "FAILED"},
        {"ended_at": seed.NOW},
        {"status": "QUEUED", "match_no": None},
    ],
)
def test_a_task_that_cannot_be_is_refused_by_the_database(database, broken):
    seed.world(database, ["dev-1"])
    with pytest.raises(sqlalchemy.exc.IntegrityError), database.writing() as connection:
        connection.execute(update(tables.task).values(**broken))


def test_every_status_of_a_task_can_be_stored(database):
    seed.world(database, ["dev-1"])
    for status in lifecycle.Status:
        ended = status in lifecycle.ENDED
        with database.writing() as connection:
            values = {"status": status, "ended_at": seed.NOW if ended else None, "holds": not ended}
            connection.execute(update(tables.task).values(**values))


def test_what_a_failed_transaction_did_is_gone(database):
    def work():
        with database.writing() as connection:
            seed.revision(connection)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        work()
    with database.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM revision")).scalar_one() == 0


def test_a_reader_cannot_write(database):
    with pytest.raises(errors.StalledError, match="readonly"), database.reading() as connection:
        seed.revision(connection)


def test_a_look_at_a_database_that_is_not_there_makes_none(tmp_path):
    file = tmp_path / "nowhere.db"
    with pytest.raises(errors.UserError, match="there is no database") as caught:
        Database.open(f"sqlite:///{file}", upgrade=False)
    assert "reconciler run" in caught.value.remedy
    assert not file.exists()


def test_a_look_never_migrates(tmp_path):
    file = tmp_path / "empty.db"
    file.touch()
    with pytest.raises(errors.UserError, match="older schema"):
        Database.open(f"sqlite:///{file}", upgrade=False)


def test_a_database_of_a_newer_version_is_left_alone(database, database_url):
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(errors.UserError, match="schema 9999"):
        Database.open(database_url, upgrade=True)


@pytest.mark.parametrize("upgrade", [True, False])
def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path, upgrade):
    file = tmp_path / "notes.db"
    file.write_text("these are my notes, and they are long enough to be a header" * 100)
    with pytest.raises(errors.StalledError, match="not a database"):
        Database.open(f"sqlite:///{file}", upgrade=upgrade)


@pytest.mark.parametrize(
    ("url", "said"), [("nonsense", "not a database URL"), ("mysql://host/name", "not supported yet")]
)
def test_a_database_that_we_do_not_know_is_refused(url, said):
    with pytest.raises(errors.UserError, match=said):
        Database.open(url, upgrade=True)


def test_a_database_that_stays_locked_is_away_for_now(database, database_url, monkeypatch):
    monkeypatch.setattr("reconciler.store.database._BUSY_SECONDS", 0.05)
    impatient = Database.open(database_url, upgrade=True)
    holder = sqlite3.connect(database_url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(errors.TransientError, match="away"), impatient.writing():
        pass
    holder.close()
    impatient.close()


async def test_statements_run_on_threads_of_their_own(database):
    await database.write(seed.revision)
    assert await database.read(lambda c: c.execute(text("SELECT count(*) FROM revision")).scalar_one()) == 1


def test_the_newest_schema_is_known_without_asking_the_migrations():
    import alembic.config
    import alembic.script

    config = alembic.config.Config()
    config.set_main_option("script_location", str(migrate._SCRIPTS))
    assert migrate.head() == alembic.script.ScriptDirectory.from_config(config).get_current_head()


def test_a_look_at_a_current_database_needs_no_migrations(database, database_url):
    program = f"""
import sys
from reconciler.store.database import Database
Database.open({database_url!r}, upgrade=False).close()
assert "alembic" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
