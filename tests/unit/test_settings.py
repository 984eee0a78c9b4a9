"""Settings: where they come from, and what is said about wrong ones."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler import errors
from reconciler.domain.limits import Limits
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
    ("written", "size"),
    [("500kB", 500_000), ("20 MB", 20_000_000), ("1GB", 10**9), ("70B", 70), ("64000", 64_000), (5, 5)],
)
def test_a_rate_is_written_in_units_or_in_bytes(written, size):
    assert Settings.load({"download_rate": written}, {}).download_rate == size


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            {"batch_download_rate": "fast"},
            "--batch-download-rate is wrong: 'fast' is no size: write 500kB, 20MB, or a number of bytes",
        ),
        (
            {"download_rate": "20mb"},
            "--download-rate is wrong: '20mb' is no size: write 500kB, 20MB, or a number of bytes",
        ),
        ({"downloads_at_once": "-1"}, "--downloads-at-once is wrong: it is at least 0"),
        (
            {"batch_downloads_at_once": "many"},
            "--batch-downloads-at-once is wrong: 'many' is not a whole number",
        ),
        ({"interval": "-1"}, "--interval is wrong: it is at least 0.1"),
        (
            {"interval": "2d"},
            "--interval is wrong: '2d' is not a time: write 30s, 5m, or a number of seconds",
        ),
        ({"settle_time": "2h"}, "--settle-time is wrong: it is at most 3600"),
        ({"limits": "packages=many"}, "--limits is wrong: packages is a whole number, not 'many'"),
        ({"limits": "packages"}, "--limits is wrong: packages is a whole number, not ''"),
        ({"limits": "packages=0"}, "--limits is wrong: packages has to be more than 0"),
        ({"limits": "package=9"}, "--limits is wrong: there is no limit package, did you mean packages?"),
        ({"limits": "speed=9"}, "--limits is wrong: there is no limit speed"),
        (
            {"limits": "schedule-lead-longest=7"},
            "--limits is wrong: schedule-lead-longest is a time such as 90s, 10m or 168h, not '7'",
        ),
        ({"limits": "file-formats="}, "--limits is wrong: file-formats is words with spaces between, not ''"),
        (
            {"limits": "push-rate-lowest=20000"},
            "--limits is wrong: push-rate-lowest has to be at most push-rate-highest",
        ),
        ({"limits": "device-name-longest=65"}, "--limits is wrong: device-name-longest has to be at most 64"),
        ({"limits": 5}, "--limits is wrong: write NAME=VALUE, with commas between several"),
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


def test_every_limit_can_be_changed_by_its_name():
    changed = {"file_formats": (".img", ".swu"), "modules_per_product": 0}
    for field in dataclasses.fields(Limits):
        default = getattr(Limits(), field.name)
        if isinstance(default, timedelta):
            changed[field.name] = default + timedelta(minutes=1)
        elif isinstance(default, int) and field.name != "modules_per_product":
            changed[field.name] = default + 1
    written = ", ".join(f"{name.replace('_', '-')}={_text(value)}" for name, value in changed.items())
    for settings in (
        Settings.load({"limits": written}, {}),
        Settings.load({}, {"RECONCILER_LIMITS": written}),
    ):
        assert settings.limits == Limits(**changed)


def _text(value: object) -> str:
    if isinstance(value, timedelta):
        return f"{value // timedelta(seconds=1)}s"
    return " ".join(value) if isinstance(value, tuple) else str(value)


def test_without_a_word_the_limits_are_those_of_the_rules():
    assert Settings.load({}, {}).limits == Settings.load({"limits": ""}, {}).limits == Limits()


def test_in_a_file_limits_are_a_table(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text(
        '[limits]\npackages = 600\nfile-formats = [".IMG", ".bin"]\nschedule-lead-longest = "240h"\n'
    )
    assert Settings.load({}, {}, file).limits == Limits(
        packages=600, file_formats=(".img", ".bin"), schedule_lead_longest=timedelta(days=10)
    )


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


def test_folders_are_written_one_by_one_or_with_colons():
    both = (Path("/srv/firmware"), Path("/mnt/builds"))
    assert Settings.load({"file_root": ("/srv/firmware", "/mnt/builds")}, {}).file_root == both
    assert Settings.load({}, {"RECONCILER_FILE_ROOT": "/srv/firmware:/mnt/builds"}).file_root == both
    assert Settings.load({}, {}).file_root == ()
