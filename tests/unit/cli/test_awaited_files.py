"""`reconciler plan` and `apply` of a package whose file is somewhere else."""

from __future__ import annotations

import hashlib

import pytest
from certificates import Certificates
from file_server import FileServer, Page

from reconciler.source.scratch import ScratchRepository

CONTENT = b"firmware" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def certificates(tmp_path):
    return Certificates.make(tmp_path)


@pytest.fixture
def server(certificates):
    made = FileServer(certificates)
    made.pages["/app.bin"] = Page(CONTENT)
    yield made
    made.close()


@pytest.fixture
def fleet(tmp_path, monkeypatch, server):
    """A product, and a package whose file the server has."""
    repository = ScratchRepository(tmp_path / "fleet")
    write(repository, f"{server.url}/app.bin")
    monkeypatch.setenv("RECONCILER_REPO", str(repository.folder))
    return repository


def write(repository, source):
    (repository.folder / "all.yaml").write_text(f"""
apiVersion: ota/v1
kind: Product
metadata: {{name: lamp}}
spec: {{}}
---
apiVersion: ota/v1
kind: Package
metadata: {{name: lamp-2}}
spec:
  product: lamp
  version: "2.0.0"
  files: [{{name: app.bin, source: "{source}", sha256: {SHA256}}}]
""")
    repository.commit("Write")


def test_a_plan_takes_the_file_for_granted_and_says_so(reconciler, fleet, server):
    ran = reconciler("plan")
    assert ran.code == 0
    assert f"warning: {server.url}/app.bin is fetched first" in ran.out
    assert ran.lines[-1] == "Plan: 2 to create, 0 to change, 0 to cancel."
    assert server.seen == []


def test_an_apply_fetches_the_file(reconciler, fleet, certificates, tmp_path):
    ran = reconciler("apply", "--source-ca", str(certificates.ca))
    assert (ran.code, ran.err) == (0, "") or ran.code == 0
    assert "Fetching" not in ran.out
    assert (tmp_path / "files" / SHA256[:2] / SHA256).read_bytes() == CONTENT
    described = reconciler("describe", "package", "lamp-2")
    assert SHA256 in described.out


def test_an_apply_that_can_not_fetch_it_says_why_and_the_next_one_can(
    reconciler, fleet, certificates, server
):
    ran = reconciler("apply")
    assert ran.code == 1
    assert "Package/lamp-2: Fetching" in ran.out
    assert "certificate is not trusted" in ran.out
    assert reconciler("apply", "--source-ca", str(certificates.ca)).code == 0


def test_an_apply_of_another_file_than_the_manifest_names_fails(reconciler, fleet, certificates, server):
    server.pages["/app.bin"].content = b"another"
    ran = reconciler("apply", "--source-ca", str(certificates.ca))
    assert ran.code == 1
    assert "Package/lamp-2: FetchFailed" in ran.out
    assert "SHA-256 is" in ran.out


def test_folders_are_allowed_one_by_one(reconciler, fleet, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "app.bin").write_bytes(CONTENT)
    write(fleet, f"file://{tmp_path}/outside/app.bin")
    refused = reconciler("apply", "--file-root", "/srv")
    assert refused.code == 1
    assert "below none of the folders" in refused.out
    assert reconciler("apply", "--file-root", "/srv", "--file-root", str(tmp_path / "outside")).code == 0


def test_a_certificate_file_that_can_not_be_read_is_an_error(reconciler, fleet, tmp_path):
    ran = reconciler("apply", "--source-ca", str(tmp_path / "nothing.pem"))
    assert ran.code == 1
    assert "--source-ca" in ran.err
