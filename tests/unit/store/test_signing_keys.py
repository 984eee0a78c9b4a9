"""Keys that sign: what OpenSSL verifies, what a microcontroller is given, and what is no key."""

from __future__ import annotations

import base64
import hashlib
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from reconciler import errors
from reconciler.store import signing_keys
from reconciler.store.signing_keys import Type

DIGESTS = [hashlib.sha256(b"firmware").digest(), hashlib.md5(b"firmware").digest()]


@pytest.fixture(scope="module", params=list(Type), ids=str)
def key(request):
    return signing_keys.read(signing_keys.make(request.param).encode(), "here")


@pytest.fixture(scope="module")
def rsa_key():
    return signing_keys.read(signing_keys.make(Type.RSA).encode(), "here")


def openssl(*arguments):
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=False)


def verified(key, digest, signature, folder):
    """Whether OpenSSL, told as docs/devices.md tells it, takes the signature."""
    (folder / "public.pem").write_text(key.public_pem())
    (folder / "digest.bin").write_bytes(digest)
    (folder / "signature.bin").write_bytes(base64.b64decode(signature, validate=True))
    public, sealed = folder / "public.pem", folder / "signature.bin"
    if str(key) == "Ed25519":
        how = ["pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", folder / "digest.bin"]
        return openssl(*how, "-sigfile", sealed).returncode == 0
    return (
        openssl("dgst", "-sha256", "-verify", public, "-signature", sealed, folder / "digest.bin").returncode
        == 0
    )


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("digest", DIGESTS, ids=["SHA256", "MD5"])
def test_openssl_verifies_the_signature_over_the_digests_bytes_and_no_other(key, digest, tmp_path):
    signature = key.sign(digest)
    assert verified(key, digest, signature, tmp_path)
    assert not verified(key, digest[:-1] + bytes([digest[-1] ^ 1]), signature, tmp_path)
    other = signing_keys.read(signing_keys.make(Type(str(key).split(",")[0].lower())).encode(), "there")
    assert not verified(key, digest, other.sign(digest), tmp_path)


def test_a_digest_has_one_signature(key):
    assert key.sign(DIGESTS[0]) == key.sign(DIGESTS[0])
    assert key.sign(DIGESTS[0]) != key.sign(DIGESTS[1])


def test_an_rsa_signature_fits_the_buffer_of_the_updater(rsa_key):
    assert len(base64.b64decode(rsa_key.sign(DIGESTS[0]))) == 256


def test_the_bare_rsa_key_verifies_by_arithmetic_alone(rsa_key):
    """As firmware without a library for formats does it: s^e mod n is the padded SHA-256 of the digest's bytes."""
    modulus, exponent = (int.from_bytes(number) for number in rsa_key.public_numbers())
    sealed = int.from_bytes(base64.b64decode(rsa_key.sign(DIGESTS[0])))
    plain = pow(sealed, exponent, modulus).to_bytes(256)
    prefix = bytes.fromhex("3031300d060960864801650304020105000420")
    ending = prefix + hashlib.sha256(DIGESTS[0]).digest()
    assert plain == b"\x00\x01" + b"\xff" * (256 - 3 - len(ending)) + b"\x00" + ending


def test_the_bare_ed25519_key_is_its_32_bytes():
    key = signing_keys.read(signing_keys.make(Type.ED25519).encode(), "here")
    bare, exponent = key.public_numbers()
    assert (len(bare), exponent) == (32, b"")
    assert key.public_der().endswith(bare)


def test_what_is_shown_is_public_and_the_same_in_every_form(key):
    public = serialization.load_pem_public_key(key.public_pem().encode())
    assert serialization.load_der_public_key(key.public_der()) == public
    assert b"PRIVATE" not in key.public_pem().encode()


def test_a_key_of_openssls_older_format_is_read(rsa_key):
    del rsa_key
    made = rsa.generate_private_key(65537, 2048)
    old = serialization.PrivateFormat.TraditionalOpenSSL
    pem = made.private_bytes(serialization.Encoding.PEM, old, serialization.NoEncryption())
    assert b"BEGIN RSA PRIVATE KEY" in pem
    sealed = base64.b64decode(signing_keys.read(pem, "here").sign(b"x"))
    from cryptography.hazmat.primitives import hashes

    made.public_key().verify(sealed, b"x", padding.PKCS1v15(), hashes.SHA256())


def _pem(key, passphrase=None):
    lock = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)


@pytest.mark.parametrize(
    ("pem", "said", "remedy"),
    [
        (lambda: b"", "no private key in PEM in /k", "keys create"),
        (lambda: b"s3cret", "no private key in PEM in /k", "keys create"),
        (
            lambda: b"-----BEGIN PRIVATE KEY-----\ns3cret\n-----END PRIVATE KEY-----\n",
            "no private key",
            "keys create",
        ),
        (lambda: _pem(ec.generate_private_key(ec.SECP256R1())), "neither RSA nor Ed25519", "keys create"),
        (lambda: _pem(ec.generate_private_key(ec.SECP256R1()), b"pass"), "is encrypted", "passphrase"),
        (lambda: _pem(rsa.generate_private_key(65537, 1024)), "has 1024 bits", "2048"),
    ],
)
def test_what_is_no_usable_key_is_refused_without_telling_what_it_is(pem, said, remedy):
    with pytest.raises(errors.UserError, match=said) as caught:
        signing_keys.read(pem(), "/k")
    assert remedy in caught.value.remedy
    assert "s3cret" not in f"{caught.value.message}{caught.value.remedy}"


def test_a_public_key_is_no_private_one(key):
    with pytest.raises(errors.UserError, match="no private key"):
        signing_keys.read(key.public_pem().encode(), "/k")
