"""Settings: where they come from, and what is said about wrong ones."""

from __future__ import annotations

import pytest

from reconciler import errors
from reconciler.settings import Settings, address, unknown_variables


def wrong(**flags: object) -> str:
    with pytest.raises(errors.UsageError) as caught:
        Settings.load(flags, {})
    return caught.value.message


@pytest.mark.parametrize(
    ("written", "seconds"), [("30s", 30.0), ("5m", 300.0), ("1m30s", 90.0), ("0.5", 0.5), ("45", 45.0)]
)
def test_a_time_is_written_as_in_manifests_or_in_seconds(written, seconds):
    assert Settings.load({"interval": written}, {}).interval == seconds
    assert Settings.load({}, {"RECONCILER_SETTLE_TIME": written}).settle_time == seconds


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"interval": "-1"}, "--interval is wrong: it is at least 0.1"),
        (
            {"interval": "2d"},
            "--interval is wrong: '2d' is not a time: write 30s, 5m, or a number of seconds",
        ),
        ({"settle_time": "2h"}, "--settle-time is wrong: it is at most 3600"),
        ({"max_push_rate": "many"}, "--max-push-rate is wrong: 'many' is not a whole number"),
        ({"bootstrap": "maybe"}, "--bootstrap is wrong: 'maybe' is none of hold, start"),
        (
            {"allow_anonymous_devices": "si"},
            "--allow-anonymous-devices is wrong: 'si' is neither true nor false",
        ),
        ({"mqtt_client_id": ""}, "--mqtt-client-id is wrong: it can't be empty"),
        ({"repo": 5}, "--repo is wrong: it must be a text in quotes"),
    ],
)
def test_a_wrong_value_is_explained_in_our_own_words(flags, said):
    assert wrong(**flags) == said


def test_a_complaint_never_repeats_what_may_be_secret(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("secret-key = 123456789\n")
    with pytest.raises(errors.UsageError) as caught:
        Settings.load({}, {}, file)
    assert "123456789" not in caught.value.message + caught.value.remedy


def test_a_setting_that_does_not_exist_is_named_with_its_nearest(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('intervall = "30s"\n')
    with pytest.raises(errors.UsageError, match="there is no setting intervall") as caught:
        Settings.load({}, {}, file)
    assert caught.value.remedy == "Did you mean interval?"


def test_a_file_that_is_not_there_is_said_without_numbers_of_the_system(tmp_path):
    with pytest.raises(errors.UserError) as caught:
        Settings.load({}, {}, tmp_path / "none.toml")
    assert caught.value.message == f"{tmp_path / 'none.toml'} can't be read: no such file or directory"


def test_an_address_that_is_none_is_refused_with_an_example():
    with pytest.raises(errors.UsageError, match="--http-bind is wrong: 'foo:bar' is no address") as caught:
        address("foo:bar", "http_bind")
    assert "127.0.0.1:8080" in caught.value.remedy


def test_a_name_is_only_suggested_for_one_that_is_near():
    found = unknown_variables({"RECONCILER_FOO": "1", "RECONCILER_INTERVALL": "1", "HOME": "/"})
    assert found == {"RECONCILER_FOO": "", "RECONCILER_INTERVALL": "RECONCILER_INTERVAL"}
