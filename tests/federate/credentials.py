"""Certificates and keys of one run, as the operator and the local runner will make them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """Signs the server's certificate; its own is what sites trust."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls) -> Authority:
        key = new_key()
        basic = x509.BasicConstraints(ca=True, path_length=0)
        certificate = _builder("authority", "authority", key).add_extension(basic, critical=True)
        return cls(key, certificate.sign(key, hashes.SHA384()))

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def write_server(self, folder: Path) -> None:
        """``server.pem``, ``server.key`` and ``ca.pem``, for loopback."""
        key = new_key()
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = _builder("server", "authority", key).add_extension(names, critical=False)
        signed = certificate.sign(self.key, hashes.SHA384())
        (folder / "ca.pem").write_bytes(self.pem)
        (folder / "server.pem").write_bytes(signed.public_bytes(Encoding.PEM))
        (folder / "server.key").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def write_site_key(key: ec.EllipticCurvePrivateKey, path: Path) -> bytes:
    """The private key as a SuperNode reads it; the public one as it is registered."""
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return public_key_to_bytes(key.public_key())


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
