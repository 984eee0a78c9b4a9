"""How a broker's address is written."""

from __future__ import annotations

import pytest

from reconciler import errors
from reconciler.protocol import broker_url
from reconciler.protocol.broker_url import BrokerUrl


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mqtt://broker", BrokerUrl("broker", 1883, tls=False)),
        ("mqtts://broker", BrokerUrl("broker", 8883, tls=True)),
        ("mqtt://broker:1884/", BrokerUrl("broker", 1884, tls=False)),
        ("mqtt://me@broker", BrokerUrl("broker", 1883, tls=False, username="me")),
        (
            "mqtts://me%40site:p%2Fw%40@[::1]:8884",
            BrokerUrl("::1", 8884, tls=True, username="me@site", password="p/w@"),
        ),
    ],
)
def test_an_address_is_read_into_its_parts(text, expected):
    assert broker_url.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "broker:1883",
        "http://broker",
        "mqtt://",
        "mqtt://b:no",
        "mqtt://b:99999",
        "mqtt://[b",
        "mqtt://b/x",
        "mqtt://b?x",
        "mqtt://b#x",
    ],
)
def test_anything_else_is_refused_with_a_remedy(text):
    with pytest.raises(errors.UserError) as caught:
        broker_url.parse(text)
    assert "mqtt://" in caught.value.remedy


def test_a_password_is_never_shown():
    url = broker_url.parse("mqtts://me:hush@[::1]:8884")
    assert str(url) == "mqtts://me@[::1]:8884"
    assert "hush" not in repr(url)
    assert str(broker_url.parse("mqtt://broker")) == "mqtt://broker:1883"


def test_a_refused_address_is_not_repeated_because_it_may_hold_a_password():
    with pytest.raises(errors.UserError) as caught:
        broker_url.parse("http://me:hush@broker")
    assert "hush" not in str(caught.value)
