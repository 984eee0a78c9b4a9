"""A file over https:// from a real server, whatever that server, the network or the process does meanwhile."""

from __future__ import annotations

import hashlib
import os
import signal
import ssl
import subprocess
import sys
import threading

import pytest
from file_server import Page

from reconciler import errors
from reconciler.artifacts import https
from reconciler.artifacts.fetch import Fetcher, Wanted
from reconciler.artifacts.network import Halt, HaltedError, RefusedError
from reconciler.artifacts.store import FileStore, MismatchError, Stored

CONTENT = os.urandom(999_999) + b"."
SHA256 = hashlib.sha256(CONTENT).hexdigest()
STORED = Stored(SHA256, hashlib.md5(CONTENT).hexdigest(), len(CONTENT))
HALF = 400_000


@pytest.fixture
def page(server):
    server.pages["/app.bin"] = Page(CONTENT)
    return server.pages["/app.bin"]


@pytest.fixture
def fetch(store, server, tls):
    """One attempt; how far it came is in `seen`."""

    def attempt(source="/app.bin", *, size=None, sha256=SHA256, private=False, most=10_000_000):
        origin = https.Https(https.Client(tls), private_redirects=private)
        fetcher = Fetcher(store, {"https": origin}, most)
        wanted = Wanted(server.url + source if source.startswith("/") else source, sha256, size)
        return fetcher.fetch(wanted, Halt(), lambda *far: attempt.seen.append(far))

    attempt.seen = []
    return attempt


def kept(store):
    return sorted(place.name for place in (store.path(SHA256).parents[1] / "partial").iterdir())


def test_a_file_is_fetched_checked_and_stored(fetch, store, server, page):
    assert fetch(size=len(CONTENT)) == STORED
    assert store.found(SHA256)
    assert kept(store) == []
    assert fetch.seen[0] == (0, len(CONTENT))
    assert fetch.seen[-1] == (len(CONTENT), len(CONTENT))
    ((_, headers),) = server.seen
    assert headers["accept-encoding"] == "identity"


def test_a_file_that_is_here_is_not_asked_for_and_one_that_was_altered_is(fetch, store, server, page):
    fetch()
    assert (fetch(size=len(CONTENT)), len(server.seen)) == (STORED, 1)
    store.path(SHA256).write_bytes(CONTENT[:-1] + b"X")
    assert (fetch(), len(server.seen)) == (STORED, 2)
    assert store.found(SHA256) == STORED


def test_a_source_that_vanishes_half_way_is_continued_where_it_ended(fetch, store, server, page):
    page.breaks_after = HALF
    with pytest.raises(errors.TransientError, match=r"400,000 of 1,000,000 bytes"):
        fetch()
    assert not store.holds(SHA256)
    assert fetch() == STORED
    assert server.ranges() == [None, f"bytes={HALF}-"]
    assert kept(store) == []


def test_a_source_that_says_no_costs_nothing_of_what_came_before(fetch, store, server, page):
    page.breaks_after = HALF
    with pytest.raises(errors.TransientError, match="the connection broke"):
        fetch()
    page.status = 404
    with pytest.raises(errors.TransientError, match="404"):
        fetch()
    page.status = 200
    assert fetch() == STORED
    assert server.ranges() == [None, f"bytes={HALF}-", f"bytes={HALF}-"]


def test_another_file_under_the_same_url_is_never_glued_to_the_half_that_came(fetch, store, server, page):
    page.breaks_after = HALF
    page.content = os.urandom(len(CONTENT))
    with pytest.raises(errors.TransientError):
        fetch()
    page.content = CONTENT
    assert fetch() == STORED
    assert len(server.seen) == 2


def test_a_server_that_continues_another_version_all_the_same_costs_one_more_attempt(fetch, page):
    page.etag = '"always the same"'
    page.content, page.breaks_after = os.urandom(len(CONTENT)), HALF
    with pytest.raises(errors.TransientError):
        fetch()
    page.content = CONTENT
    with pytest.raises(errors.TransientError, match="does not fit together"):
        fetch()
    assert fetch() == STORED


@pytest.mark.parametrize("change", [{"etag": ""}, {"etag": 'W/"weak"'}, {"ranges": False}])
def test_without_ranges_or_a_strong_etag_it_starts_over(fetch, server, page, change):
    for name, value in change.items():
        setattr(page, name, value)
    page.breaks_after = HALF
    with pytest.raises(errors.TransientError):
        fetch()
    assert fetch() == STORED


def test_the_time_of_the_last_change_does_where_there_is_no_etag(fetch, server, page):
    page.etag, page.headers = "", {"Last-Modified": "Sun, 01 Nov 2026 12:00:00 GMT"}
    page.breaks_after = HALF
    with pytest.raises(errors.TransientError):
        fetch()
    assert fetch() == STORED
    assert server.ranges() == [None, f"bytes={HALF}-"]


def test_a_server_that_serves_other_parts_than_asked_for_is_asked_for_the_whole(fetch, server, page):
    page.breaks_after, page.wrong_ranges = HALF, True
    with pytest.raises(errors.TransientError):
        fetch()
    with pytest.raises(errors.TransientError, match="no such part"):
        fetch()
    assert fetch() == STORED
    assert server.ranges() == [None, f"bytes={HALF}-", None]


def test_another_digest_is_final_and_nothing_is_kept(fetch, store, page):
    page.content = CONTENT[:-1] + b"X"
    with pytest.raises(MismatchError, match="SHA-256 is"):
        fetch()
    assert kept(store) == []
    assert not store.holds(SHA256)


def test_another_size_is_final_and_not_even_fetched(fetch, store, page):
    with pytest.raises(MismatchError, match="has 1,000,000 bytes, not 999,999"):
        fetch(size=999_999)
    assert fetch.seen == []
    assert kept(store) == []


def test_a_file_without_a_length_ends_at_the_expected_size(fetch, page):
    page.has_length = False
    with pytest.raises(MismatchError, match="more than 999,999"):
        fetch(size=999_999)
    assert fetch(size=len(CONTENT)) == STORED


def test_a_file_that_broke_off_unnoticed_is_no_mismatch(fetch, page):
    page.has_length, page.breaks_after = False, HALF
    with pytest.raises(errors.TransientError):
        fetch()
    assert fetch() == STORED


def test_a_wrong_file_without_a_length_is_final_when_the_manifest_says_the_size(fetch, store, page):
    page.has_length, page.content = False, os.urandom(len(CONTENT))
    with pytest.raises(MismatchError, match="SHA-256 is"):
        fetch(size=len(CONTENT))
    assert kept(store) == []


def test_a_wrong_file_without_any_length_is_final_when_it_comes_the_same_twice(store, server, tls, page):
    origin = https.Https(https.Client(tls), private_redirects=False)
    fetcher = Fetcher(store, {"https": origin}, 10**9)
    wanted = Wanted(f"{server.url}/app.bin", SHA256, None)
    page.has_length = False
    for content in (b"another", b"yet another"):
        page.content = content
        with pytest.raises(errors.TransientError, match="does not say how long it is") as caught:
            fetcher.fetch(wanted, Halt(), lambda *_: None)
        assert "parts" not in caught.value.message
    with pytest.raises(MismatchError, match="SHA-256 is"):
        fetcher.fetch(wanted, Halt(), lambda *_: None)
    assert kept(store) == []


def test_a_file_above_the_limit_is_refused(fetch, store, page):
    with pytest.raises(RefusedError, match="more than 1,000"):
        fetch(most=1000)
    assert kept(store) == []


@pytest.mark.parametrize(
    ("answer", "again"),
    [
        ((404, {}), 60),
        ((403, {}), 60),
        ((503, {}), 5),
        ((500, {}), 5),
        ((429, {"Retry-After": "120"}), 120),
        ((503, {"Retry-After": "9" * 9}), 3600),
    ],
)
def test_a_server_that_says_no_is_asked_again_later(fetch, store, page, answer, again):
    page.status, page.headers = answer
    with pytest.raises(errors.TransientError, match=str(page.status)) as caught:
        fetch()
    assert caught.value.retry_after == again
    assert kept(store) == []


def test_a_redirect_on_the_same_host_is_followed(fetch, server, page):
    server.pages["/latest.bin"] = Page(status=302, headers={"Location": "/app.bin?key=secret"})
    assert fetch("/latest.bin") == STORED


def test_a_redirect_to_a_private_address_is_not_followed_unless_allowed(fetch, server, other_server, page):
    other_server.pages["/app.bin"] = Page(CONTENT)
    server.pages["/away.bin"] = Page(status=307, headers={"Location": f"{other_server.url}/app.bin"})
    with pytest.raises(RefusedError, match=r"private address \(127.0.0.1\)") as caught:
        fetch("/away.bin")
    assert other_server.seen == []
    assert "--allow-private-redirects" in caught.value.remedy
    assert fetch("/away.bin", private=True) == STORED


def test_the_manifests_own_host_may_be_spelt_otherwise_in_a_redirect(fetch, server, page, tls):
    tls.check_hostname = False
    url = f"https://LocalHost:{server.port}"
    server.pages["/latest.bin"] = Page(status=302, headers={"Location": f"{url.swapcase()}/app.bin"})
    assert fetch(f"{url}/latest.bin") == STORED


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("https://fw.example/a", "https://FW.example:443/b", True),
        ("https://fw.example/a", "https://fw.example:8443/b", False),
        ("https://fw.example/a", "https://other.example/b", False),
    ],
)
def test_a_host_is_the_same_with_its_usual_port_and_without(one, other, is_same):
    assert (https.server_of(one) == https.server_of(other)) is is_same


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1/app.bin", "file:///etc/passwd", "https://a:b@c/app.bin", "https://[c/app.bin", ""],
)
def test_a_redirect_leads_to_nothing_but_https(fetch, server, target):
    server.pages["/away.bin"] = Page(status=301, headers={"Location": target or "ftp://x/"})
    with pytest.raises(RefusedError, match="https:// only"):
        fetch("/away.bin")


def test_letters_outside_of_ascii_are_asked_for_as_browsers_do(fetch, store, server):
    asked = "/%E5%9B%BA%E4%BB%B6/a%20b.bin"
    server.pages[asked] = Page(CONTENT)
    server.pages["/away.bin"] = Page(
        status=302, headers={"Location": "/固件/a%20b.bin".encode().decode("latin-1")}
    )
    assert fetch("/固件/a%20b.bin?v=é") == STORED
    store.path(SHA256).unlink()
    assert fetch("/away.bin") == STORED
    assert [path for path, _ in server.seen] == [f"{asked}?v=%C3%A9", "/away.bin", asked]


def test_redirects_have_an_end(fetch, server):
    server.pages["/round.bin"] = Page(status=302, headers={"Location": "/round.bin"})
    with pytest.raises(errors.TransientError, match="more than 5 redirects"):
        fetch("/round.bin")
    assert len(server.seen) == 6


def test_a_certificate_that_nobody_vouches_for_is_not_accepted(store, server, page):
    origin = https.Https(https.Client(ssl.create_default_context()), private_redirects=False)
    fetcher = Fetcher(store, {"https": origin}, 10**9)
    with pytest.raises(errors.TransientError, match="certificate is not trusted") as caught:
        fetcher.fetch(Wanted(f"{server.url}/app.bin", SHA256, None), Halt(), lambda *_: None)
    assert "--source-ca" in caught.value.remedy


def test_nobody_at_home_is_waited_for(fetch, store, server):
    with pytest.raises(errors.TransientError, match="can't be reached: connection refused"):
        fetch("https://127.0.0.1:1/app.bin")
    with pytest.raises(errors.TransientError, match=r"nowhere\.invalid is not known"):
        fetch("https://nowhere.invalid/app.bin")
    assert kept(store) == []


def test_what_is_no_url_is_refused(fetch):
    with pytest.raises(RefusedError, match="no host"):
        fetch("https:///app.bin")


def test_a_fetch_is_halted_while_it_waits_for_bytes_and_continued_by_the_next(store, server, tls, page):
    page.holds_after = HALF
    halt, far = Halt(), threading.Event()
    fetcher = Fetcher(store, {"https": https.Https(https.Client(tls), private_redirects=False)}, 10**9)
    wanted = Wanted(f"{server.url}/app.bin", SHA256, None)

    def halt_then():
        far.wait(10)
        halt.halt()

    stopping = threading.Thread(target=halt_then)
    stopping.start()
    with pytest.raises(HaltedError):
        fetcher.fetch(wanted, halt, lambda have, _: far.set() if have else None)
    stopping.join()
    page.holds_after = None
    with pytest.raises(HaltedError):
        fetcher.fetch(wanted, halt, lambda *_: None)
    assert fetcher.fetch(wanted, Halt(), lambda *_: None) == STORED
    begun = server.ranges()[1]
    assert begun is not None
    assert 0 < int(begun[6:-1]) <= HALF


def test_a_process_that_is_killed_half_way_is_continued_by_the_next(store, server, certificates, page, fetch):
    page.holds_after = HALF
    program = f"""
import pathlib, ssl
from reconciler.artifacts import https, fetch, network, store
origin = https.Https(https.Client(ssl.create_default_context(cafile={str(certificates.ca)!r})), private_redirects=False)
files = store.FileStore(pathlib.Path({str(store.path(SHA256).parents[1])!r}))
fetch.Fetcher(files, {{"https": origin}}, 10**9).fetch(
    fetch.Wanted({server.url + "/app.bin"!r}, {SHA256!r}, None), network.Halt(),
    lambda have, _: have and print(have, flush=True),
)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        have = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    page.holds_after = None
    store = FileStore(store.path(SHA256).parents[1])
    store.prepare()
    assert not store.holds(SHA256)
    assert fetch() == STORED
    begun = server.ranges()[1]
    assert begun is not None
    assert have <= int(begun[6:-1]) <= HALF


def test_a_file_that_was_whole_when_the_process_was_killed_is_not_fetched_again(fetch, store, server):
    with store.partial(SHA256) as partial:
        partial.restart(f"{server.url}/app.bin", None)
        partial.write(CONTENT)
    assert fetch() == STORED
    assert server.seen == []


def test_a_full_disk_is_waited_for_and_what_came_is_kept(fetch, store, server, page):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, before[1]))
    try:
        with pytest.raises(errors.TransientError, match="full"):
            fetch()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert fetch() == STORED
    assert server.ranges()[1] == f"bytes={HALF}-"


def test_the_half_of_another_source_is_not_continued(fetch, server, page):
    page.breaks_after = HALF
    with pytest.raises(errors.TransientError):
        fetch()
    server.pages["/mirror.bin"] = Page(CONTENT)
    assert fetch("/mirror.bin") == STORED
    assert server.ranges() == [None, None]
