"""What a download URL opens: the file that it names, in the name of its task's batch."""

from __future__ import annotations

import pytest
from rows import Rows

from reconciler.store import granted, tables
from reconciler.store.granted import File

UNFINISHED = ("CONFIRM", "QUEUED", "NOTIFIED", "IN_PROGRESS")


@pytest.fixture
def rows(database):
    with database.writing() as connection:
        made = Rows(connection)
        made.world()
        yield made


@pytest.mark.parametrize("status", [*UNFINISHED, "SUCCEEDED", "FAILED"])
def test_a_url_opens_its_file_in_the_name_of_the_batch_for_as_long_as_it_is_valid(rows, status):
    task = rows.task(rows.run(batch="spring"), rows.device("dev-1"), status)
    assert granted.find(rows.connection, 1, task) == File("s" * 64, 2048, "spring")


def test_a_url_of_a_cancelled_task_opens_nothing(rows):
    task = rows.task(rows.run(), rows.device("dev-1"), "CANCELED")
    assert granted.find(rows.connection, 1, task) is None


def test_a_url_of_another_database_opens_nothing(rows):
    task = rows.task(rows.run(), rows.device("dev-1"), "QUEUED")
    other = rows.add(tables.blob, sha256="t" * 64, md5="m" * 32, size=9, created_at=rows.now)
    assert granted.find(rows.connection, other, task) is None
    assert granted.find(rows.connection, 99, task) is None
    assert granted.find(rows.connection, 1, task + 1) is None


def test_a_file_that_is_not_here_any_more_is_not_opened(rows):
    task = rows.task(rows.run(), rows.device("dev-1"), "QUEUED")
    rows.connection.execute(tables.blob.update().values(stored=False))
    assert granted.find(rows.connection, 1, task) is None
