"""A certificate is renewed by replacing its files, also one after the other; handshakes are real, in memory."""

from __future__ import annotations

import contextlib
import os
import ssl

import pytest
from certificates import Certificates

from reconciler import certificates, errors


class Site:
    """A server's context, and what a client sees of it."""

    def __init__(self, folder):
        self.folder = folder
        self.now = 0.0
        self.first = self.write("first")
        self.context = certificates.FreshContext.of(
            folder / "cert.pem", folder / "key.pem", now=lambda: self.now
        )

    def make(self, name):
        (self.folder / name).mkdir()
        return Certificates.make(self.folder / name)

    def write(self, name):
        made = self.make(name)
        (self.folder / "cert.pem").write_bytes(made.server.read_bytes())
        (self.folder / "key.pem").write_bytes(made.server_key.read_bytes())
        return made

    def shows(self, made):
        """Whether a client that trusts an authority is content; other clients hear of a certificate, too."""
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        trusting = ssl.create_default_context(cafile=made.ca)
        client = trusting.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
        server = self.context.wrap_bio(to_server, to_client, server_side=True)
        try:
            for _ in range(4):
                for side in (client, server):
                    with contextlib.suppress(ssl.SSLWantReadError):
                        side.do_handshake()
        except ssl.SSLCertVerificationError:
            return False
        return True


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_connections_after_a_renewal_get_the_new_certificate(site):
    assert site.shows(site.first)
    second = site.write("second")
    assert site.shows(site.first)  # nobody looked again yet
    site.now += 5
    assert site.shows(second)
    assert not site.shows(site.first)


def test_half_a_renewal_and_a_broken_one_leave_the_last_good_certificate(site, caplog):
    second = site.make("second")
    for file, content in (
        ("cert.pem", second.server.read_bytes()),
        ("cert.pem", second.server.read_bytes()[:100]),
        ("key.pem", b""),
    ):
        (site.folder / file).write_bytes(content)
        site.now += 5
        assert site.shows(site.first)
        site.now += 5
        assert site.shows(site.first)
    (site.folder / "key.pem").unlink()
    site.now += 5
    assert site.shows(site.first)
    assert len(caplog.records) == 4  # each of them once
    assert "connections still get the last good one" in caplog.text
    (site.folder / "cert.pem").write_bytes(second.server.read_bytes())
    (site.folder / "key.pem").write_bytes(second.server_key.read_bytes())
    site.now += 5
    assert site.shows(second)


def test_what_could_not_be_used_is_looked_at_again_when_only_its_owner_or_its_mode_was_mended(site):
    """A hook that brings the key first and its permissions a moment later: neither time nor size say so."""
    second, key = site.make("second"), site.folder / "key.pem"
    (site.folder / "cert.pem").write_bytes(second.server.read_bytes())
    right = second.server_key.read_bytes()
    key.write_bytes(b"x" * len(right))  # as good as no permission to read it, which root always has
    before = key.stat()
    site.now += 5
    assert site.shows(site.first)
    key.write_bytes(right)
    os.utime(key, ns=(before.st_atime_ns, before.st_mtime_ns))
    site.now += 5
    assert site.shows(second)


def test_links_that_lead_elsewhere_are_a_renewal(tmp_path):
    names = {}
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        names[name] = Certificates.make(tmp_path / name)
    for file in ("server.pem", "server.key"):
        (tmp_path / file).symlink_to(tmp_path / "first" / file)
    site = Site.__new__(Site)
    site.now = 0.0
    site.context = certificates.FreshContext.of(
        tmp_path / "server.pem", tmp_path / "server.key", now=lambda: site.now
    )
    assert site.shows(names["first"])
    for file in ("server.pem", "server.key"):
        (tmp_path / file).unlink()
        (tmp_path / file).symlink_to(tmp_path / "second" / file)
    site.now += 5
    assert site.shows(names["second"])


def test_at_the_start_what_can_not_be_used_is_refused_with_its_remedy(site):
    (site.folder / "key.pem").write_bytes(b"nonsense")
    with pytest.raises(errors.UserError, match=r"cert\.pem .*key\.pem.* cannot be used") as caught:
        certificates.FreshContext.of(site.folder / "cert.pem", site.folder / "key.pem")
    assert "without a password" in caught.value.remedy
