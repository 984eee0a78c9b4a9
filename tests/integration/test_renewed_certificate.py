"""A device sees the endpoint's certificate that is in the files now: sockets and TLS are real, the time is not."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl

import pytest
from certificates import Certificates
from endpoints import PRODUCT, Raw, device, hello

from reconciler import bootstrap, errors
from reconciler.protocol.mqtt311 import packets
from reconciler.services.clock import SystemClock
from reconciler.settings import Settings
from reconciler.transport.base import Intake


class Clock(SystemClock):
    """Stands still, but for what a test adds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


def settings(folder, **more) -> Settings:
    return Settings(
        data_dir=folder / "data",
        mqtt_bind="",
        mqtt_tls_bind="127.0.0.1:0",
        mqtt_certificate=folder / "cert.pem",
        allow_anonymous_devices=True,
        **more,
    )


@contextlib.asynccontextmanager
async def listening(folder, clock):
    """The way to the devices as a daemon makes it; its port."""
    with bootstrap.opened(settings(folder, mqtt_key=folder / "key.pem")) as base:
        endpoint = bootstrap.transport_of(base, clock)
        endpoint.set_products(frozenset({PRODUCT}))
        serving = asyncio.create_task(endpoint.serve(Intake()))
        try:
            await endpoint.listening()
            yield endpoint.bound_port
        finally:
            serving.cancel()
            await asyncio.wait([serving])


def install(folder, name) -> Certificates:
    """A certificate of another authority takes the place of what is there."""
    (folder / name).mkdir()
    made = Certificates.make(folder / name)
    shutil.copy(made.server, folder / "cert.pem")
    shutil.copy(made.server_key, folder / "key.pem")
    return made


async def come(port, number, trusted) -> Raw:
    """A device that trusts one authority is let in."""
    context = ssl.create_default_context(cafile=trusted.ca)
    raw = Raw(*await asyncio.open_connection("127.0.0.1", port, ssl=context))
    raw.send(hello(device(number)))
    assert await raw.read() == packets.Connack(0)
    return raw


async def test_a_device_that_comes_after_a_renewal_sees_the_new_certificate_and_none_is_cut_off(tmp_path):
    clock, first = Clock(), install(tmp_path, "first")
    async with listening(tmp_path, clock) as port:
        earlier = await come(port, 1, first)
        second = install(tmp_path, "second")
        clock.seconds += 5
        later = await come(port, 2, second)
        with pytest.raises(ssl.SSLCertVerificationError):
            await come(port, 3, first)
        for raw in (earlier, later):
            raw.send(packets.Pingreq())
            assert await raw.read() == packets.Pingresp()
            await raw.leave()


@pytest.mark.parametrize(("key", "complaint"), [("none.pem", "none.pem.* cannot be used"), ("", "cert.pem")])
def test_a_certificate_that_cannot_be_used_keeps_the_daemon_from_starting(tmp_path, key, complaint):
    install(tmp_path, "first")
    given = settings(tmp_path, mqtt_key=tmp_path / key if key else None)
    with bootstrap.opened(given) as base, pytest.raises(errors.UserError, match=complaint):
        bootstrap.transport_of(base, Clock())


def test_tls_without_a_certificate_says_which_settings_it_needs(tmp_path):
    given = Settings(data_dir=tmp_path / "data", mqtt_tls_bind="127.0.0.1:0")
    with bootstrap.opened(given) as base, pytest.raises(errors.UserError) as caught:
        bootstrap.transport_of(base, Clock())
    assert caught.value.remedy == "Give --mqtt-certificate and --mqtt-key."
