"""Keys and certificates of one run of a federated job: an authority, and what each role is given.

All of them are made anew for each run and used by nobody else. Pure: randomness is passed in, and
signatures are deterministic (RFC 6979), so that the same bytes give the same credentials.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID
from green_api.federate import SERVER

Entropy = Callable[[int], bytes]
"""So many unpredictable bytes."""
Bundle = dict[str, bytes]
"""By file's name, what a role finds in its folder of credentials."""

CA_FILE: Final = "ca.pem"
SECRET_FILE: Final = "secret"  # noqa: S105 - a name
SITE_KEY_FILE: Final = "site.key"
SERVER_CERTIFICATE_FILE: Final = "server.pem"
SERVER_KEY_FILE: Final = "server.key"
PUBLIC_KEY_SUFFIX: Final = ".pub"

# Flower takes keys of this curve alone (SuperNode authentication).
_CURVE: Final = ec.SECP384R1()
# The order of its group: FIPS 186-5, SP 800-186, P-384.
_ORDER: Final = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffff"
    "c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)
# Over so many bits more than the order's, a remainder is as good as uniform (FIPS 186-5, A.2.1).
_KEY_BYTES: Final = 56
_SERIAL_BYTES: Final = 16
_SECRET_BYTES: Final = 32
# A run may be suspended for long; its keys end with it in any case.
_VALID: Final = timedelta(days=3650)
_SKEW: Final = timedelta(days=1)


@dataclass(frozen=True)
class _Authority:
    """Signs the server's certificate; its own is what the sites trust."""

    key: ec.EllipticCurvePrivateKey
    now: datetime
    entropy: Entropy

    def own(self) -> x509.Certificate:
        basic = x509.BasicConstraints(ca=True, path_length=0)
        return self._sign(
            self._builder("authority", self.key.public_key()).add_extension(basic, critical=True)
        )

    def server(self, key: ec.EllipticCurvePublicKey, hosts: Sequence[str]) -> x509.Certificate:
        names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
        return self._sign(self._builder(SERVER, key).add_extension(names, critical=False))

    def _builder(self, subject: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name("authority"))
            .public_key(key)
            # Positive, and of 20 bytes at most (RFC 5280).
            .serial_number(1 + int.from_bytes(self.entropy(_SERIAL_BYTES), "big"))
            .not_valid_before(self.now - _SKEW)
            .not_valid_after(self.now + _VALID)
        )

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(self.key, hashes.SHA384(), ecdsa_deterministic=True)


def make_credentials(
    sites: Sequence[str], hosts: Sequence[str], now: datetime, entropy: Entropy
) -> dict[str, Bundle]:
    """What each role of one run is given, by role.

    The server's bundle holds no site's private key, a site's no other's.

    Args:
        sites: their names.
        hosts: names and addresses that the sites and the server itself reach the server by.
        now: the moment; certificates are valid from a day before it for ten years.
        entropy: randomness, such as ``secrets.token_bytes``.

    """
    authority = _Authority(_new_key(entropy), now, entropy)
    server = _new_key(entropy)
    keys = {site: _new_key(entropy) for site in sites}
    ca = authority.own().public_bytes(Encoding.PEM)
    certificate = authority.server(server.public_key(), hosts).public_bytes(Encoding.PEM)
    public = {f"{site}{PUBLIC_KEY_SUFFIX}": _public(key) for site, key in keys.items()}
    bundles: dict[str, Bundle] = {
        SERVER: {
            CA_FILE: ca,
            SERVER_CERTIFICATE_FILE: certificate,
            SERVER_KEY_FILE: _private(server, PrivateFormat.PKCS8),
            SECRET_FILE: _secret(entropy),
            **public,
        }
    }
    for site, key in keys.items():
        bundles[site] = {
            CA_FILE: ca,
            # The form that a SuperNode reads.
            SITE_KEY_FILE: _private(key, PrivateFormat.OpenSSH),
            SECRET_FILE: _secret(entropy),
        }
    return bundles


def _new_key(entropy: Entropy) -> ec.EllipticCurvePrivateKey:
    value = int.from_bytes(entropy(_KEY_BYTES), "big") % (_ORDER - 1) + 1
    return ec.derive_private_key(value, _CURVE)


def _secret(entropy: Entropy) -> bytes:
    return entropy(_SECRET_BYTES).hex().encode()


def _private(key: ec.EllipticCurvePrivateKey, form: PrivateFormat) -> bytes:
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
