"""Servers of files, and a store that they are fetched into."""

from __future__ import annotations

import ssl

import pytest
from certificates import Certificates
from file_server import FileServer

from reconciler.artifacts.store import FileStore


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tls(certificates):
    return ssl.create_default_context(cafile=certificates.ca)


@pytest.fixture
def server(certificates):
    made = FileServer(certificates)
    yield made
    made.close()


@pytest.fixture
def other_server(certificates):
    made = FileServer(certificates)
    yield made
    made.close()


@pytest.fixture
def store(tmp_path):
    opened = FileStore(tmp_path / "files")
    opened.prepare()
    return opened
