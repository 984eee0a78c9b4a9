"""What can be checked of the container without an engine to build it: names, settings, and the wheel inside."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest
from ruamel.yaml import YAML

from reconciler import __version__, settings
from reconciler.web import app, server

ROOT = pathlib.Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
INSTRUCTIONS = [
    line.split(None, 1)
    for line in re.sub(r"\\\n", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines()
    if line.strip()
]
COMPOSE = YAML(typ="safe").load((ROOT / "deploy" / "compose.yaml").read_text())


def values_of(instruction):
    return [value for name, value in INSTRUCTIONS if name == instruction]


def environment():
    return dict(pair.split("=", 1) for value in values_of("ENV") for pair in value.split())


def health_command():
    command = values_of("HEALTHCHECK")[0].partition(" CMD ")[2]
    return json.loads(command)


def test_what_the_dockerfile_copies_exists_and_is_not_ignored():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [name for value in values_of("COPY") if "--from" not in value for name in value.split()[:-1]]
    assert copied
    for name in copied:
        assert (ROOT / name).exists()
        assert name in allowed


def test_the_image_runs_the_daemon_as_nobody_in_particular():
    assert values_of("USER") == ["65532:65532"]
    assert values_of("VOLUME") == ["/data"]
    assert [json.loads(value) for value in values_of("ENTRYPOINT") + values_of("CMD")] == [
        ["reconciler"],
        ["run"],
    ]


def test_every_setting_that_the_image_and_compose_make_exists():
    variables = {**environment(), **COMPOSE["services"]["reconciler"]["environment"]}
    assert [name for name in variables if name.startswith("RECONCILER_")]
    assert settings.unknown_variables(variables) == {}
    loaded = settings.Settings.load({}, environment())
    assert (str(loaded.data_dir), loaded.http_bind, loaded.mqtt_bind) == (
        "/data",
        "0.0.0.0:8080",
        "0.0.0.0:1883",
    )


def test_compose_hardens_the_daemon_and_mounts_files_that_exist():
    daemon = COMPOSE["services"]["reconciler"]
    assert daemon["read_only"] is True
    assert daemon["cap_drop"] == ["ALL"]
    assert daemon["security_opt"] == ["no-new-privileges:true"]
    assert (ROOT / "deploy" / daemon["build"] / "Dockerfile").exists()
    for service in COMPOSE["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / "deploy" / source).is_file()


async def test_the_health_command_tells_a_live_daemon_from_a_dead_one():
    age = 0.0
    application = app.create(
        lambda *_: None, heartbeat_age=lambda: age, checks=list, metrics=lambda: ("text/plain", b"")
    )
    running = server.HttpServer(application, "127.0.0.1", 0)
    variables = {**os.environ, "RECONCILER_HTTP_BIND": f"0.0.0.0:{running.bind()}"}
    serving = asyncio.create_task(running.serve())

    async def health():
        program, *arguments = health_command()
        assert program == "python"
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, env=variables, stderr=subprocess.DEVNULL
        )
        return await process.wait()

    assert await health() == 0
    age = 61.0
    assert await health() != 0
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert await health() != 0


@pytest.mark.timeout(600)
def test_the_wheel_installs_into_a_clean_environment_and_its_entry_point_runs(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT], check=True, env=clean)
    (wheel,) = tmp_path.glob("reconciler-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "reconciler/_schemas/v1/",
        "reconciler/_examples/01-minimal/",
        "reconciler/_fleet/.github/workflows/",
        "reconciler/store/migrations/",
    ):
        assert any(name.startswith(needed) for name in names), needed
    assert not [name for name in names if name.startswith(("tests/", "bench/"))]

    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True, env=clean)
    install = [
        venv / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--quiet",
        "--no-compile",  # one start is not worth compiling what it never imports
        wheel,
    ]
    subprocess.run(install, check=True, env=clean, cwd=tmp_path)
    said = subprocess.check_output(
        [venv / "bin" / "reconciler", "version"], text=True, env=clean, cwd=tmp_path
    )
    assert __version__ in said
