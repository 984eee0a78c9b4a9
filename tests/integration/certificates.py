"""A certificate authority for one test, with a certificate for a server on 127.0.0.1 and one for a client."""

from __future__ import annotations

import dataclasses
import datetime as dt
import ipaddress
import pathlib
import time
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclasses.dataclass(frozen=True)
class Certificates:
    """PEM files."""

    ca: pathlib.Path
    server: pathlib.Path
    server_key: pathlib.Path
    client: pathlib.Path
    client_key: pathlib.Path

    @classmethod
    def make(cls, folder: pathlib.Path) -> Self:
        """Writes them into a folder."""
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca = _certificate("test authority", ca_key, ca_key, "test authority")
        files = {"ca": _written(folder / "ca.pem", _pem(ca))}
        for name in ("server", "client"):
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = _certificate(name, key, ca_key, "test authority")
            files[name] = _written(folder / f"{name}.pem", _pem(certificate))
            files[f"{name}_key"] = _written(
                folder / f"{name}.key",
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                ),
            )
        return cls(**files)


def _certificate(name, key, signed_with, issuer):
    today = dt.datetime.fromtimestamp(time.time(), dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - dt.timedelta(days=2))
        .not_valid_after(today + dt.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
    )
    return builder.sign(signed_with, hashes.SHA256())


def _pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def _written(path, content):
    path.write_bytes(content)
    return path
