"""SagooIOT devices: their dialect on the topics of all devices, and their two paths over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import urllib.error
import urllib.parse
import urllib.request

import pytest
from rig import PRODUCT_KEY, SOURCE, TARGET, BrokerWire, Rig, base, batch, document, turn
from sqlalchemy import select

from reconciler.protocol import sagoo, topics
from reconciler.services.sagoo_channel import SagooChannel
from reconciler.store import tables
from reconciler.web import app, server
from reconciler.web.sagoo import Keys, SagooPaths

DEV = "dev-1"
SAGOO = {"protocol": "Sagoo", "versionFormat": "Numeric"}


def fleet(*names: str, **product: object) -> dict[str, bytes]:
    return base(*(names or (DEV,)), **{**SAGOO, **product})


async def order(rig, **spec: object) -> int:
    """A batch for the fleet; its number, as devices are told it."""
    await rig.commit(fleet(), batch(**spec))
    return int(rig.run().id)


def report(rig, step: int, strategy: object, name: str = DEV) -> None:
    rig.say(name, topics.progress, {"id": "1", "params": {"step": str(step), "strategy": strategy}})


# --- topics ---


async def test_a_sagoo_device_is_pushed_in_its_own_words_and_upgraded(rig):
    await rig.commit(fleet())
    await rig.arrive(DEV)
    number = await order(rig, tags={"site": "berlin"})
    assert await rig.push() == 1
    (pushed,) = rig.pushed(DEV)
    assert (pushed["code"], pushed["message"]) == ("200", "success")
    assert pushed["data"]["extData"] == {"strategy": number, "site": "berlin"}
    assert "md5" not in pushed["data"]
    report(rig, 50, str(number))
    await rig.hear()
    assert (rig.status(DEV), rig.task(DEV).step) == ("IN_PROGRESS", 50)
    rig.inform(DEV, TARGET)
    await rig.hear()
    assert rig.status(DEV) == "SUCCEEDED"


async def test_it_is_answered_in_its_own_words_also_when_there_is_nothing_to_do(rig):
    await rig.commit(fleet())
    await rig.arrive(DEV)
    rig.ask(DEV, "17")
    await rig.hear()
    number = await order(rig, delivery="Pull")
    rig.ask(DEV, 18)
    await rig.hear()
    nothing, something = rig.pushed(DEV)
    assert nothing == {"id": "17", "code": "200", "data": {}}
    assert (something["id"], something["code"]) == (18, "200")
    assert something["data"]["extData"] == {"strategy": number}


async def test_md5_is_called_what_the_product_says(rig):
    parts = {**fleet(md5Name="MD5"), **document_of_package(signMethod="MD5")}
    await rig.commit(parts)
    await rig.arrive(DEV)
    await rig.commit(parts, batch())
    await rig.push()
    (pushed,) = rig.pushed(DEV)
    assert pushed["data"]["signMethod"] == "MD5"


def document_of_package(**spec: object) -> dict[str, bytes]:
    files = [{"name": "app.bin", "source": "app.bin"}]
    text = document("Package", "lamp-2", product="lamp", version=TARGET, files=files, **spec)
    return {"package.yaml": text}


async def test_progress_of_another_batch_is_counted_and_changes_nothing(rig):
    await rig.commit(fleet())
    await rig.arrive(DEV)
    number = await order(rig)
    await rig.push()
    for other in (number + 1, str(number + 1), "nonsense"):
        report(rig, -1, other)
    await rig.hear()
    assert rig.status(DEV) == "NOTIFIED"
    assert rig.ingest.counted[topics.Route.PROGRESS, "another_batch"] == 3
    report(rig, 10, number)
    await rig.hear()
    assert rig.status(DEV) == "IN_PROGRESS"


async def test_progress_without_a_batch_is_of_the_newest_upgrade(rig):
    await rig.commit(fleet())
    await rig.arrive(DEV)
    await order(rig)
    await rig.push()
    rig.progress(DEV, 10)
    await rig.hear()
    assert rig.status(DEV) == "IN_PROGRESS"


async def test_late_progress_is_noted_at_the_upgrade_that_it_is_of(rig):
    await rig.commit(fleet())
    await rig.arrive(DEV)
    report(rig, 10, 99)  # no upgrade at all: there is nothing to confuse it with
    await rig.hear()
    number = await order(rig)
    await rig.push()
    rig.inform(DEV, TARGET)
    await rig.hear()
    report(rig, 100, number)
    report(rig, 100, number + 1)
    await rig.hear()
    assert rig.status(DEV) == "SUCCEEDED"
    assert rig.ingest.counted[topics.Route.PROGRESS, "another_batch"] == 1


async def test_devices_of_link_sdks_are_not_asked_for_the_batch(rig):
    await rig.commit(base(DEV))
    await rig.arrive(DEV)
    await rig.commit(base(DEV), batch())
    await rig.push()
    report(rig, 10, 4711)
    await rig.hear()
    assert rig.status(DEV) == "IN_PROGRESS"
    assert "extData" not in rig.pushed(DEV)[0]["data"]


# --- HTTP ---


class Site:
    """The two paths on a real socket; ingest works while somebody waits for it."""

    def __init__(self, rig: Rig, keys: Keys | None = None, patience: float = 10.0) -> None:
        self._rig = rig
        paths = SagooPaths(SagooChannel(rig.database, rig.intake, patience), rig.clock, keys)
        self._server = server.HttpServer(application(paths), "127.0.0.1", 0)
        self.hears = True

    @contextlib.asynccontextmanager
    async def running(self):
        self.port = self._server.bind()
        self._at = f"http://127.0.0.1:{self.port}"
        serving = asyncio.create_task(self._server.serve())
        try:
            yield self
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def get(self, **query: str) -> tuple[int, dict]:
        return await self._say(f"{sagoo.GET_INFO}?{urllib.parse.urlencode(query)}", None)

    async def post(self, body: bytes | None = None, /, **params: object) -> tuple[int, dict]:
        text = json.dumps({"params": params}).encode() if body is None else body
        return await self._say(sagoo.WRITE_INFO, text)

    async def _say(self, path: str, body: bytes | None) -> tuple[int, dict]:
        said = asyncio.create_task(asyncio.to_thread(_fetch, self._at + path, body))
        while not said.done():
            if self.hears:
                await self._rig.hear()
            await asyncio.sleep(0.001)
        return await said


def application(paths: SagooPaths | None):
    async def nothing(scope, receive, send):
        raise NotImplementedError

    return app.create(
        nothing, heartbeat_age=lambda: 0.0, checks=list, metrics=lambda: ("text/plain", b""), sagoo=paths
    )


def _fetch(url: str, body: bytes | None) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(url, body, timeout=20) as answer:
            assert answer.headers["Content-Type"] == "application/json"
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.loads(refused.read())


@pytest.fixture
async def site(rig):
    await rig.commit(fleet())
    async with Site(rig).running() as running:
        yield running


async def test_a_device_that_only_speaks_http_is_upgraded(rig, site):
    assert await site.get(deviceKey=DEV, version=SOURCE, module="default") == (
        200,
        {"code": 0, "message": "", "data": {}},
    )
    number = await order(rig)
    assert await rig.wait(15) == 0  # it is not connected: nobody pushes it
    status, told = await site.get(deviceKey=DEV, version=SOURCE, module="default")
    assert (status, told["code"]) == (200, 0)
    data = told["data"]
    assert data["url"].startswith("http://download.example/d/")
    assert (data["version"], data["module"], data["signMethod"]) == (TARGET, "default", "sha256")
    assert data["extData"] == {"strategy": number}
    assert rig.status(DEV) == "NOTIFIED"
    assert await site.post(deviceKey=DEV, step="40", strategy=str(number)) == (
        200,
        {"code": 0, "message": ""},
    )
    assert (rig.status(DEV), rig.task(DEV).step) == ("IN_PROGRESS", 40)
    assert (await site.get(deviceKey=DEV, version=TARGET, module="default"))[1]["data"] == {}
    assert rig.status(DEV) == "SUCCEEDED"
    rig.check()


async def test_a_failure_is_reported_over_http(rig, site):
    number = await order(rig)
    await site.get(deviceKey=DEV, version=SOURCE)
    await site.post(deviceKey=DEV, step="-3", strategy=number + 1)
    assert rig.status(DEV) == "NOTIFIED"
    await site.post(deviceKey=DEV, step="-3", strategy=number)
    assert rig.status(DEV) == "FAILED verify-failed"


async def test_a_report_is_about_the_module_of_its_batch(rig):
    parts = {**fleet(modules=[{"name": "mcu"}]), **document_of_package(module="mcu")}
    await rig.commit(parts, batch())
    async with Site(rig).running() as site:
        await site.get(deviceKey=DEV, version=SOURCE, module="mcu")
        await site.post(deviceKey=DEV, step="40", strategy=str(rig.run().id))
    assert rig.status(DEV) == "IN_PROGRESS"


async def test_where_presence_is_assumed_who_asks_over_http_is_not_taken_to_be_connected(tmp_path, database):
    rig = Rig(tmp_path, database, BrokerWire())
    await rig.boot()
    await rig.commit(fleet())
    async with Site(rig).running() as site:
        await site.get(deviceKey=DEV, version=SOURCE)
        await order(rig)
        assert await rig.wait(15) == 0
        assert rig.rows(select(tables.device.c.online_epoch)) == [(None,)]
        assert rig.rows(select(tables.device.c.last_seen_at)) != [(None,)]
    await rig.kill()


@pytest.mark.parametrize(
    ("query", "status", "why"),
    [
        ({}, 400, "deviceKey"),
        ({"deviceKey": DEV, "version": "beta"}, 400, "x.y.z"),
        ({"deviceKey": "nobody"}, 404, "no product of SagooIOT devices has a device nobody"),
        ({"deviceKey": DEV, "module": "mcu"}, 404, "has no module mcu"),
        ({"deviceKey": DEV, "productKey": "other"}, 404, "no product"),
    ],
)
async def test_a_question_that_cannot_be_answered_says_why_and_changes_nothing(rig, site, query, status, why):
    before = rig.dump("seen_message", "device")
    got, told = await site.get(**query)
    assert (got, told["code"]) == (status, status)
    assert why in told["message"]
    assert rig.dump("seen_message", "device") == before


async def test_nobody_registers_himself_without_a_login(rig):
    await rig.commit(fleet(registration="Auto"))
    async with Site(rig).running() as site:
        assert (await site.get(deviceKey="stranger", version=SOURCE))[0] == 404
    assert len(rig.rows(select(tables.device))) == 1


async def test_a_device_of_a_product_that_is_not_sagoos_is_not_known_here(rig):
    await rig.commit(base(DEV))
    async with Site(rig).running() as site:
        assert (await site.get(deviceKey=DEV, version=SOURCE))[0] == 404


async def test_a_name_that_two_products_have_needs_the_product_key(rig, site):
    other = document("Product", "fan", productKey="fankey", **SAGOO)
    listed = document("DeviceInventory", "fans", product="fan", devices=[{"name": DEV}])
    await rig.commit(fleet(), {"fan.yaml": other, "fans.yaml": listed})
    status, told = await site.get(deviceKey=DEV, version=SOURCE)
    assert (status, told["message"]) == (404, f"2 products have a device {DEV}: give productKey, too")
    assert (await site.get(deviceKey=DEV, version=SOURCE, productKey=PRODUCT_KEY))[0] == 200
    (known,) = rig.rows(select(tables.device_version.c.product_id))
    assert (
        known.product_id == rig.rows(select(tables.product.c.id).where(tables.product.c.name == "lamp"))[0].id
    )


@pytest.mark.parametrize(("body", "status"), [(b"nonsense", 400), (b" " * 20_000, 413)])
async def test_a_report_that_means_nothing_is_refused(site, body, status):
    got, told = await site.post(body)
    assert (got, told["code"]) == (status, status)


async def test_a_report_that_breaks_off_has_no_effect_and_costs_nothing(site, caplog):
    _, writer = await asyncio.open_connection("127.0.0.1", site.port)
    head = f"POST {sagoo.WRITE_INFO} HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\n"
    writer.write(head.encode() + b'{"params":')
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await site.get(deviceKey=DEV, version=SOURCE))[0] == 200
    assert [record for record in caplog.records if record.exc_info] == []


async def test_while_the_database_is_away_a_device_is_told_to_come_again(rig):
    await rig.commit(fleet())
    async with Site(rig, patience=0.01).running() as site:
        site.hears = False
        status, told = await site.get(deviceKey=DEV, version=SOURCE)
        assert (status, told["message"]) == (503, "the database is away")
        await rig.hear()
        assert rig.rows(select(tables.device_version.c.version)) == [(SOURCE,)]  # what it said is not lost


async def test_while_too_much_waits_nothing_more_is_taken_in(rig):
    await rig.commit(fleet())
    rig.intake.capacity = 1
    async with Site(rig, patience=0.01).running() as site:
        site.hears = False
        await site.get(deviceKey=DEV, version=SOURCE)
        waiting = len(rig.intake)
        status, told = await site.get(deviceKey=DEV, version=SOURCE)
        assert (status, told["message"], len(rig.intake)) == (503, "too many messages wait", waiting)


async def test_with_keys_only_signed_requests_are_answered(rig):
    await rig.commit(fleet())
    sign = hmac.new(b"sk", b"ak=ak&time=1640494526", hashlib.sha256).hexdigest()
    async with Site(rig, Keys("ak", "sk")).running() as site:
        assert (await site.get(deviceKey=DEV, version=SOURCE))[0] == 403
        assert (await site.post(deviceKey=DEV, step="1"))[0] == 403
        signed = {"ak": "ak", "time": "1640494526", "sign": sign, "appId": "app"}
        assert (await site.get(deviceKey=DEV, version=SOURCE, **signed))[0] == 200


async def test_a_device_that_is_gone_before_its_answer_disturbs_nobody(rig):
    await rig.commit(fleet())
    channel = SagooChannel(rig.database, rig.intake)
    asking = asyncio.create_task(channel.ask(sagoo.Question(DEV, SOURCE)))
    taken = await rig.intake.take(2)
    asking.cancel()
    await turn()
    await rig.ingest.process(taken)
    assert rig.rows(select(tables.device_version.c.version)) == [(SOURCE,)]


async def test_paths_that_are_not_turned_on_are_not_there(rig):
    running = server.HttpServer(application(None), "127.0.0.1", 0)
    port = running.bind()
    serving = asyncio.create_task(running.serve())

    def ask():
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{sagoo.GET_INFO}", timeout=20)
        with refused.value:
            return refused.value.code

    assert await asyncio.to_thread(ask) == 404
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
