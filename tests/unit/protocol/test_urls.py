"""Download URLs: short, ours, and of no use once altered or expired."""

from __future__ import annotations

import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import errors
from reconciler.domain import downloads
from reconciler.protocol import urls

KEY = b"k" * 32
NOW = 1_900_000_000
TOKEN = urls.sign(KEY, 7, 42, NOW + 86_400)
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(
    blob=st.integers(0, 2**64 - 1),
    task=st.integers(0, 2**64 - 1),
    expires=st.integers(0, 2**32 - 1),
    key=st.binary(min_size=1),
)
def test_what_was_signed_is_what_is_granted_until_it_expires(blob, task, expires, key):
    token = urls.sign(key, blob, task, expires)
    assert urls.verify(key, token, expires) == urls.Grant(blob, task, expires)
    with pytest.raises(urls.Forbidden, match="expired"):
        urls.verify(key, token, expires + 1)


@given(at=st.integers(0, len(TOKEN) - 1), character=st.sampled_from(CHARACTERS))
def test_a_token_with_one_other_character_opens_nothing(at, character):
    altered = TOKEN[:at] + character + TOKEN[at + 1 :]
    if altered != TOKEN:
        with pytest.raises(urls.Forbidden, match="wrong signature"):
            urls.verify(KEY, altered, NOW)


def test_a_token_of_another_key_opens_nothing():
    with pytest.raises(urls.Forbidden, match="wrong signature"):
        urls.verify(b"another", TOKEN, NOW)


@pytest.mark.parametrize(
    "token", ["", TOKEN[:-1], TOKEN + "A", TOKEN + "\n", TOKEN[:-1] + "=", "é" * len(TOKEN), "../" * 16]
)
def test_what_does_not_even_look_like_a_token_opens_nothing(token):
    with pytest.raises(urls.Forbidden) as caught:
        urls.verify(KEY, token, NOW)
    assert caught.value.reason == "not a token"


@given(token=st.text())
def test_any_text_as_a_token_is_forbidden_and_nothing_worse(token):
    with pytest.raises(urls.Forbidden):
        urls.verify(KEY, token, NOW)


def test_a_url_is_base_token_and_name():
    assert (
        urls.download_url("https://ota.example/", TOKEN, "app.bin")
        == f"https://ota.example/d/{TOKEN}/app.bin"
    )


@given(name=st.text(max_size=300), path=st.text("abc/", max_size=90))
def test_a_url_is_never_longer_than_199_ascii_characters_and_keeps_the_end_of_the_name(name, path):
    url = urls.download_url("http://ota.example.com" + path, TOKEN, name + ".tar.gz")
    assert len(url) <= urls.MAX_URL_LENGTH
    assert url.isascii()
    assert url.endswith("tar.gz")
    parts = urllib.parse.urlsplit(url)
    assert urllib.parse.unquote(parts.path).split("/")[-2] == TOKEN
    assert (parts.query, parts.fragment) == ("", "")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("app 1.4 (beta).bin", "app_1.4_beta_.bin"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("...", "file"),
        ("", "file"),
        ("固件.bin", "_.bin"),
        ("a?b#c%d.bin", "a_b_c_d.bin"),
        (
            "0123456789abcdefghijklmnopqrstuvwxyz.bin",
            "0123456789abcdefopqrstuvwxyz.bin"[:16] + "opqrstuvwxyz.bin",
        ),
    ],
)
def test_a_file_name_is_made_safe_for_a_url(name, safe):
    url = urls.download_url("http://h", TOKEN, name)
    assert url.rsplit("/", 1)[1] == safe
    assert urllib.parse.urlsplit(url).path.count("/") == 3


def test_the_longest_base_that_is_allowed_gives_a_url_of_exactly_199_characters():
    base = "http://" + "h" * (urls.MAX_BASE_LENGTH - 7)
    assert len(urls.download_url(base, TOKEN, "n" * 32)) == 199
    with pytest.raises(errors.UserError, match="too long") as caught:
        urls.check_base(base + "h")
    assert str(urls.MAX_BASE_LENGTH) in caught.value.remedy


@pytest.mark.parametrize("base", ["http://h", "https://h:8443", "http://[::1]:8080/ota", "http://10.0.0.1/"])
def test_bases_that_devices_can_use_are_taken(base):
    assert urls.check_base(base) == base.rstrip("/")


@pytest.mark.parametrize(
    "base",
    [
        "",
        "ota.example",
        "ftp://h",
        "http://",
        "http:///path",
        "http://user:pw@h",
        "http://h?x=1",
        "http://h#x",
        "http://h/a b",
        "http://h/é",
        "http://h/a\nb",
        'http://h/"',
        "http://h:0",
        "http://h:99999",
        "http://[::1",
    ],
)
def test_bases_that_devices_can_not_use_are_refused_with_a_remedy(base):
    with pytest.raises(errors.UserError) as caught:
        urls.check_base(base)
    assert "http://HOST" in caught.value.remedy


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("http://h", urls.PublicUrls(http="http://h")),
        ("https://h/", urls.PublicUrls(https="https://h")),
        ("https://h, http://h:8080/", urls.PublicUrls(https="https://h", http="http://h:8080")),
        ("http://h:8080,https://h", urls.PublicUrls(https="https://h", http="http://h:8080")),
    ],
)
def test_the_setting_names_one_url_or_one_of_each_scheme(setting, expected):
    assert urls.check_bases(setting) == expected
    assert urls.check_bases(setting).ways == downloads.Ways(
        https=expected.https is not None, http=expected.http is not None
    )


def test_two_urls_of_one_scheme_are_refused():
    with pytest.raises(errors.UsageError, match="http://a and http://b are both http://") as caught:
        urls.check_bases("http://a,http://b")
    assert "one https:// and one http://" in caught.value.remedy


@pytest.mark.parametrize(
    "setting", ["", "http://a,", ",http://a", "http://a;https://b", "http://a https://b"]
)
def test_what_is_no_list_of_urls_is_refused(setting):
    with pytest.raises(errors.UsageError):
        urls.check_bases(setting)
