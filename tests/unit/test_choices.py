"""What the settings say together: half of a TLS configuration is no configuration without TLS."""

from __future__ import annotations

import pathlib

import pytest

from reconciler import choices, errors
from reconciler.settings import Settings

FILE = pathlib.Path("some.pem")
BROKER, TLS_BROKER = {"mqtt": "mqtt://broker"}, {"mqtt": "mqtts://broker"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"http_key": FILE}, "--http-key has no effect without --http-certificate"),
        ({"mqtt_certificate": FILE}, "--mqtt-certificate has no effect without --mqtt-tls-bind"),
        ({"mqtt_key": FILE}, "--mqtt-key has no effect without --mqtt-certificate"),
        ({"mqtt_ca": FILE}, "--mqtt-ca has no effect without a broker (--mqtt mqtts://…)"),
        (BROKER | {"mqtt_tls_bind": ":8883"}, "--mqtt-tls-bind has no effect without --mqtt embedded"),
        (BROKER | {"mqtt_certificate": FILE}, "--mqtt-certificate has no effect without --mqtt mqtts://…"),
        (BROKER | {"mqtt_ca": FILE}, "--mqtt-ca has no effect without a broker (--mqtt mqtts://…)"),
        (TLS_BROKER | {"mqtt_key": FILE}, "--mqtt-key has no effect without --mqtt-certificate"),
    ],
)
def test_what_was_given_for_tls_is_never_left_out_without_a_word(given, said):
    with pytest.raises(errors.UsageError) as caught:
        choices.check_tls(Settings(**given))
    assert str(caught.value.message) == said


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"http_certificate": FILE, "http_key": FILE},
        {"http_certificate": FILE},
        {"mqtt_tls_bind": ":8883", "mqtt_certificate": FILE, "mqtt_key": FILE},
        BROKER,
        TLS_BROKER | {"mqtt_ca": FILE, "mqtt_certificate": FILE, "mqtt_key": FILE},
    ],
)
def test_a_whole_configuration_is_fine(given):
    choices.check_tls(Settings(**given))
