"""A package of several files, from the commit to what its devices are told, and back to the files themselves."""

from __future__ import annotations

import contextlib
import hashlib
import ssl

import pytest
from certificates import Certificates
from file_server import FileServer, Page
from rig import base, batch, document
from sqlalchemy import select

from reconciler.artifacts import https
from reconciler.artifacts.fetch import Fetcher
from reconciler.domain.plan import Reason
from reconciler.protocol import urls
from reconciler.services.fetching import Fetching
from reconciler.store import granted, tables

ONE = "dev-1"
FILES = {"app.bin": b"firmware", "music.tar.gz": b"la la la", "web.zip": b"<html>"}


def several(*names: str, **spec: object) -> dict[str, bytes]:
    """The package that everything here is about, of these files."""
    listed = [{"name": name, "source": f"parts/{name}"} for name in names]
    text = document("Package", "lamp-2", **{"product": "lamp", "version": "2.0.0", "files": listed, **spec})
    return {"package.yaml": text} | {f"parts/{name}": content for name, content in FILES.items()}


def stored(rig) -> list[tuple[int, str, str]]:
    """Number, name and SHA-256 of each file of each package."""
    file, blob = tables.package_file, tables.blob
    query = select(file.c.number, file.c.name, blob.c.sha256).join(blob, blob.c.id == file.c.blob_id)
    return [tuple(row) for row in rig.rows(query.order_by(file.c.package_id, file.c.number))]


def as_listed(*names: str) -> list[tuple[int, str, str]]:
    return [
        (number, name, hashlib.sha256(FILES[name]).hexdigest()) for number, name in enumerate(names, start=1)
    ]


def download(rig, url: str) -> bytes:
    """What the download server would send for a URL."""
    token = url.removeprefix("http://download.example/d/").split("/")[0]
    grant = urls.verify(b"k" * 32, token, int(rig.clock.now().timestamp()))
    with rig.database.reading() as connection:
        found = granted.find(connection, grant.blob_id, grant.task_id)
    return rig.files.path(found.sha256).read_bytes()


@pytest.mark.parametrize("method", ["SHA256", "MD5"])
async def test_a_device_is_told_of_all_the_files_in_their_order_and_gets_just_those(rig, method):
    await rig.commit(base(ONE), several("web.zip", "app.bin", "music.tar.gz", signMethod=method), batch())
    await rig.arrive(ONE)
    assert await rig.push() == 1
    rig.ask(ONE)
    await rig.hear()
    pushed, answered = rig.pushed(ONE)
    assert pushed["data"] == answered["data"]
    assert [file["fileName"] for file in pushed["data"]["files"]] == ["web.zip", "app.bin", "music.tar.gz"]
    for file in pushed["data"]["files"]:
        content = FILES[file["fileName"]]
        assert download(rig, file["fileUrl"]) == content
        assert file["fileSize"] == len(content)
        assert file["fileSign"] == hashlib.new(method, content).hexdigest()


async def test_one_file_comes_from_the_repository_and_one_from_elsewhere_and_both_are_waited_for(
    rig, tmp_path
):
    made = Certificates.make(tmp_path)
    client = https.Client(ssl.create_default_context(cafile=made.ca))
    fetcher = Fetcher(rig.files, {"https": https.Https(client, private_redirects=False)}, 1000)
    fetching = Fetching(rig.database, fetcher, rig.clock, lambda: None)
    with contextlib.closing(FileServer(made)) as server:
        server.pages["/music.tar.gz"] = Page(FILES["music.tar.gz"])
        here = {"name": "app.bin", "source": "parts/app.bin"}
        there = {"name": "music.tar.gz", "source": f"{server.url}/music.tar.gz"}
        there["sha256"] = hashlib.sha256(FILES["music.tar.gz"]).hexdigest()
        parts = base(ONE), several("app.bin", files=[here, there]), batch()
        await rig.commit(*parts)
        await rig.arrive(ONE)
        assert (rig.object("lamp-2").reason, await rig.push()) == ("Fetching", 0)
        assert await fetching.once() == 1
    await rig.commit(*parts)
    assert await rig.push() == 1
    (pushed,) = rig.pushed(ONE)
    got = {file["fileName"]: download(rig, file["fileUrl"]) for file in pushed["data"]["files"]}
    assert got == {name: FILES[name] for name in ("app.bin", "music.tar.gz")}
    assert stored(rig) == as_listed("app.bin", "music.tar.gz")


async def test_two_files_of_the_same_content_are_stored_once_and_told_twice(rig):
    twice = {"parts/app.bin": b"same", "parts/web.zip": b"same"}
    await rig.commit(base(ONE), several("app.bin", "web.zip"), twice, batch())
    await rig.arrive(ONE)
    await rig.push()
    assert len(rig.rows(select(tables.blob))) == 1
    (pushed,) = rig.pushed(ONE)
    assert [download(rig, file["fileUrl"]) for file in pushed["data"]["files"]] == [b"same", b"same"]


async def test_the_files_stay_as_they_are_when_something_else_of_their_package_changes(rig):
    await rig.commit(base(ONE), several("app.bin", "web.zip"))
    await rig.commit(base(ONE), several("app.bin", "web.zip", title="Lamp 2"))
    assert rig.object("lamp-2").spec["title"] == "Lamp 2"
    assert stored(rig) == as_listed("app.bin", "web.zip")


@pytest.mark.parametrize(
    "names", [["app.bin"], ["web.zip", "app.bin"], ["app.bin", "web.zip", "music.tar.gz"]]
)
async def test_no_file_of_a_package_comes_goes_or_changes_its_place(rig, names):
    await rig.commit(base(ONE), several("app.bin", "web.zip"))
    applied = await rig.commit(base(ONE), several(*names))
    assert [(verdict.key.name, verdict.reason) for verdict in applied.plan.verdicts] == [
        ("lamp-2", Reason.IMMUTABLE)
    ]
    assert stored(rig) == as_listed("app.bin", "web.zip")


async def test_a_package_that_left_comes_back_with_the_files_that_it_had(rig):
    await rig.commit(base(ONE), several("app.bin", "web.zip"))
    without = base(ONE)
    del without["package.yaml"]
    await rig.commit(without)
    applied = await rig.commit(base(ONE), several("web.zip", "music.tar.gz"))
    assert [verdict.reason for verdict in applied.plan.verdicts] == [Reason.IMMUTABLE]
    await rig.commit(base(ONE), several("app.bin", "web.zip"), batch())
    assert stored(rig) == as_listed("app.bin", "web.zip")
    assert rig.run().target_version == "2.0.0"
