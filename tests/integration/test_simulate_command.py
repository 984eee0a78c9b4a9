"""`reconciler simulate`, as somebody types it, against a real broker."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from reconciler import errors
from reconciler.cli import simulate


def run(*arguments: str):
    return CliRunner().invoke(simulate.command, arguments, catch_exceptions=False)


def test_it_stops_when_all_devices_run_the_version_and_prints_the_summary_as_json(mosquitto):
    result = run(
        *("--product", "pk", "--count", "3", "--broker", mosquitto.url),
        *("--versions", "1.0.0", "--until-version", "1.0.0", "-o", "json"),
    )
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert (summary["devices"], summary["versions"], summary["most_flashes"]) == (3, {"1.0.0": 3}, 0)


def test_it_fails_when_the_version_is_not_reached_in_time(mosquitto):
    arguments = ("--product", "pk", "--broker", mosquitto.url, "--until-version", "9", "--duration", "0.3")
    result = run(*arguments, "--count", "4")
    assert result.exit_code == 1
    assert result.stdout == "4 devices: 4 idle | 1.3.0: 2, 1.3.1: 2 | 0 downloads\n"
    assert result.stderr.startswith("     0s  4 devices: 4 offline")


def test_devices_that_connected_are_enough_where_no_version_is_asked_for(mosquitto):
    result = run("--product", "pk", "--count", "2", "--broker", mosquitto.url, "--duration", "0.3")
    assert result.exit_code == 0


def test_a_broker_that_is_away_is_waited_for_and_that_nobody_connected_is_a_failure():
    result = run("--product", "pk", "--count", "2", "--broker", "mqtt://127.0.0.1:9", "--duration", "0.2")
    assert result.exit_code == 1
    assert "2 offline" in result.stdout
    assert "2 can't connect: " in result.stdout


@pytest.mark.parametrize(("written", "seconds"), [("1h30m", 5400.0), ("90s", 90.0), ("0.5", 0.5), ("0", 0.0)])
def test_times_are_written_as_in_settings_and_manifests(written, seconds):
    assert simulate._SECONDS.convert(written, None, None) == seconds


@pytest.mark.parametrize("written", ["10x", "-1", "nan", "inf", ""])
def test_what_is_no_time_is_refused_with_what_is_one(written):
    result = run("--product", "pk", "--count", "2", "--broker", "mqtt://127.0.0.1:9", "--duration", written)
    assert result.exit_code == 2
    assert f"{written!r} is not a time: write 30s, 5m, or a number of seconds" in result.stderr


def test_names_are_made_of_prefix_start_and_width_and_take_versions_in_turn():
    specs = simulate._specs(
        {
            "product": "pk",
            "prefix": "d-",
            "width": 4,
            "start": 9,
            "count": 3,
            "versions": "1, 2",
            "secret": "s",
            "secrets_file": None,
        }
    )
    assert [(spec.name, spec.version, spec.secret) for spec in specs] == [
        ("d-0009", "1", "s"),
        ("d-0010", "2", "s"),
        ("d-0011", "1", "s"),
    ]


def test_a_secrets_file_names_the_devices(tmp_path, mosquitto):
    file = tmp_path / "secrets.csv"
    file.write_text("name,secret\nhall-1,aa\nhall-2,bb\n")
    result = run(
        "--product", "pk", "--broker", mosquitto.url, "--secrets-file", str(file), "--duration", "0.2"
    )
    assert result.stdout.startswith("2 devices")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"hall-1,aa\n", "header"),
        (b"name,secret\nhall-1,\n", "secrets.csv:2"),
        (b"", "header"),
        (b"name,secret\n", "no device"),
        (b"name,secret\n\xff,\n", "can't be read"),
    ],
)
def test_a_secrets_file_that_cannot_be_used_is_refused_with_its_line(tmp_path, content, says):
    file = tmp_path / "secrets.csv"
    file.write_bytes(content)
    with pytest.raises(errors.UserError, match=says):
        run("--product", "pk", "--secrets-file", str(file))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--versions", " , "),
        ("--broker", "http://x"),
        ("--prefix", "!"),
    ],
)
def test_flags_that_make_no_sense_are_refused(arguments):
    with pytest.raises(errors.UserError):
        run("--product", "pk", *arguments)


def test_a_rate_over_one_is_refused_as_a_usage_error():
    assert run("--product", "pk", "--silent", "2").exit_code == 2


def test_ctrl_c_ends_it_with_130_and_a_summary(mosquitto):
    # A shell that runs the tests in the background ignores SIGINT, and so would its children.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from reconciler.cli.simulate import command; command()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, "--product", "pk", "--count", "2", "--broker", mosquitto.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            process.stderr.readline()
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130
    assert stdout.startswith("2 devices")
    assert "Traceback" not in stderr
