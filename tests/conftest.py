"""What tests of every kind share: a real database in a file of their own, and the programs that some of them run.

A test that needs a program which is missing fails. Only with `--leave-out-missing`, which `make test` gives outside of
CI, is it left out instead, and the last lines say so: on a bare machine the other tests are worth running.
"""

from __future__ import annotations

import shutil

import hypothesis
import pytest
import sqlalchemy

from reconciler.store.database import Database

# How long an example takes depends on who else uses the machine; a test that hangs is ended by its timeout.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


class _Compiled(dict):
    """Statements are compiled once for all databases of a run: they differ by nothing but their file."""

    def get(self, key, default=None):
        return super().get((key[0].name, *key[1:]), default)

    def __setitem__(self, key, value):
        super().__setitem__((key[0].name, *key[1:]), value)


_COMPILED = _Compiled()


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "engine_connect")
def _share_compiled(connection):
    connection.execution_options(compiled_cache=_COMPILED)


@pytest.fixture
def database_url(tmp_path):
    return f"sqlite:///{tmp_path / 'state.db'}"


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A database file that is migrated and closed, to be copied: a migration takes as long as most tests."""
    place = tmp_path_factory.mktemp("empty") / "state.db"
    Database.open(f"sqlite:///{place}", upgrade=True).close()
    return place


@pytest.fixture
def database(empty_database, database_url, tmp_path):
    shutil.copy(empty_database, tmp_path / "state.db")
    opened = Database(database_url)
    yield opened
    opened.close()


_PACKAGES = {
    "mosquitto": "mosquitto mosquitto-clients",
    "curl": "curl",
    "openssl": "openssl",
    "wget": "wget",
    "zstd": "zstd",
    "aria2c": "aria2",
    "nginx": "nginx-light",
    "node": "nodejs",
    "npm": "npm",
}
_PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/bin:/opt/homebrew/bin:/opt/homebrew/sbin"
_left_out = pytest.StashKey[dict[str, int]]()


def pytest_addoption(parser):
    parser.addoption(
        "--leave-out-missing",
        action="store_true",
        help="leave out tests whose programs are not installed, and say so",
    )


def pytest_collection_modifyitems(config, items):
    missing = {
        name for name in _PACKAGES if shutil.which(name) is None and shutil.which(name, path=_PLACES) is None
    }
    left_out = {name: [item for item in items if name in _needs(item)] for name in missing}
    if config.getoption("--leave-out-missing") and any(left_out.values()):
        gone = {id(item) for found in left_out.values() for item in found}
        config.hook.pytest_deselected(items=[item for item in items if id(item) in gone])
        items[:] = [item for item in items if id(item) not in gone]
        config.stash[_left_out] = {name: len(found) for name, found in left_out.items() if found}


def _needs(item):
    """The programs of a test: those it is marked with, and the broker of its fixtures or parameters."""
    named = {name for marker in item.iter_markers("needs") for name in marker.args}
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    if "mosquitto" in getattr(item, "fixturenames", ()) or "mosquitto" in [
        p for p in parameters if isinstance(p, str)
    ]:
        named.add("mosquitto")
    return named


def pytest_terminal_summary(terminalreporter, config):
    for name, count in config.stash.get(_left_out, {}).items():
        line = f"LEFT OUT: {count} tests that need {name}. To run them: apt-get install {_PACKAGES[name]}"
        terminalreporter.write_line(line, yellow=True, bold=True)
