"""Files that nothing needs leave after a while; those that anything could still ask for never do."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from rig import base, batch, document
from sqlalchemy import select

from reconciler import errors
from reconciler.services.collecting import Collecting
from reconciler.store import tables

ONE = "dev-1"
GRACE = timedelta(days=7)
DAY = 86_400
LEFT = {"product.yaml": base()["product.yaml"]}
"""A commit in which the package is no more."""


@pytest.fixture
def collecting(rig):
    return Collecting(rig.database, rig.files, rig.clock, GRACE)


def blob(rig):
    (row,) = rig.rows(select(tables.blob))
    return row


async def collected(rig, collecting, days):
    """What goes now, or in so many days."""
    gone = await collecting.round()
    rig.clock.advance(days * DAY)
    return gone + await collecting.round()


async def test_a_file_leaves_when_its_package_has_been_gone_for_the_grace_period(rig, collecting):
    await rig.commit(base(ONE))
    sha256 = blob(rig).sha256
    assert await collected(rig, collecting, 20) == []
    await rig.commit(LEFT)
    assert await collected(rig, collecting, 6) == []
    assert await collected(rig, collecting, 2) == [sha256]
    assert not rig.files.holds(sha256)
    assert not blob(rig).stored


async def test_a_package_that_comes_back_in_time_keeps_its_file(rig, collecting):
    await rig.commit(base(ONE))
    await rig.commit(LEFT)
    await collected(rig, collecting, 6)
    await rig.commit(base(ONE))
    assert blob(rig).unused_since is None
    assert await collected(rig, collecting, 20) == []


async def test_a_package_that_comes_back_later_brings_its_file_again(rig, collecting):
    await rig.commit(base(ONE))
    sha256 = blob(rig).sha256
    await rig.commit(LEFT)
    assert await collected(rig, collecting, 9) == [sha256]
    await rig.commit(base(ONE), batch())
    assert rig.files.found(sha256)
    assert blob(rig).stored
    await rig.arrive(ONE)
    assert await rig.push() == 1


async def test_no_file_leaves_that_a_task_could_still_ask_for(rig, collecting):
    await rig.commit(base(ONE), batch(onCancel=["Unconfirmed"]))
    await rig.arrive(ONE)
    await rig.push()
    await rig.commit(base(ONE))  # the batch is cancelled, its task drains
    assert rig.status(ONE) == "NOTIFIED"
    with rig.database.writing() as connection:  # whatever the rules of removal say: the task alone is enough
        connection.execute(tables.package.update().values(removed=True))
    assert await collected(rig, collecting, 30) == []
    rig.inform(ONE, "2.0.0")
    await rig.hear()
    assert rig.status(ONE) == "SUCCEEDED"
    assert len(await collected(rig, collecting, 9)) == 1


async def test_a_file_that_git_names_stays_though_its_package_is_refused(rig, collecting):
    await rig.commit(base(ONE))
    sha256 = blob(rig).sha256
    await rig.commit(LEFT)
    files = [{"name": "app.bin", "source": "https://x.example/app.bin", "sha256": sha256, "size": 5}]
    await rig.commit({"p.yaml": document("Product", "lamp", productKey="lampkey"),
                      "q.yaml": document("Package", "lamp-9", product="lamp", version="9", files=files)})  # fmt: skip
    assert rig.object("lamp-9").reason == "FetchFailed"
    assert await collected(rig, collecting, 20) == []


async def test_what_was_just_asked_for_stays(rig, collecting):
    await rig.commit(base(ONE))
    await rig.commit(LEFT)
    await collected(rig, collecting, 6)
    rig.clock.advance(3 * DAY)
    assert rig.files.holds(blob(rig).sha256)  # the next pass is about to need it
    assert await collecting.round() == []


async def test_files_that_were_staged_for_something_that_never_came_leave_too(rig, collecting):
    stored = rig.files.put([b"staged"])
    assert await collecting.round() == []
    rig.clock.advance(DAY)
    assert await collecting.round() == [stored.sha256]


async def test_halves_of_files_that_nobody_wants_are_removed(rig, collecting):
    with rig.files.partial("ab" * 32) as partial:
        partial.restart("https://x.example/app.bin", None)
        partial.write(b"half")
        place = partial.place
    await collecting.round()
    assert place.exists()
    for part in place.parent.iterdir():
        os.utime(part, (0, 0))
    await collecting.round()
    assert list(place.parent.iterdir()) == []


async def test_what_vanishes_while_it_is_looked_at_is_gone_and_what_can_not_be_read_is_collected_later(
    rig, collecting
):
    with rig.files.partial("ab" * 32) as partial:
        partial.write(b"half")
        folder = partial.place.parent
    (folder / "vanished").symlink_to("nowhere")  # as it looks to who listed it before
    (folder.parent / "ab").symlink_to("nowhere")
    for part in folder.iterdir():
        os.utime(part, (0, 0), follow_symlinks=False)
    assert await collecting.round() == []
    assert [part.name for part in folder.iterdir()] == ["vanished"]
    (folder.parent / "cd").write_text("no folder")
    with pytest.raises(errors.StalledError, match="can"):
        await collecting.round()


async def test_a_download_url_of_a_collected_file_opens_nothing(rig, collecting):
    from reconciler.store import granted

    await rig.commit(base(ONE), batch())
    task, found = rig.task(ONE), blob(rig)
    assert await rig.database.read(granted.find, found.id, task.id) is not None
    with rig.database.writing() as connection:
        connection.execute(tables.blob.update().values(stored=False))
    assert await rig.database.read(granted.find, found.id, task.id) is None
