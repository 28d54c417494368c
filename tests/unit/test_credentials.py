"""Credentials of a run: each role has its own, and nobody another's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_address
from itertools import count

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
    load_ssh_private_key,
)
from green_operator.objects.credentials import make_credentials

from tests.unit.factories import T0

HOSTS = ["shrink.team-a.svc", "127.0.0.1"]


def seeded(seed: str) -> Callable[[int], bytes]:
    numbers = count()

    def entropy(size: int) -> bytes:
        return hashlib.shake_256(f"{seed}/{next(numbers)}".encode()).digest(size)

    return entropy


def test_the_same_randomness_gives_the_same_credentials_and_other_one_others() -> None:
    made = make_credentials(["a", "b"], HOSTS, T0, seeded("x"))
    again = make_credentials(["a", "b"], HOSTS, T0, seeded("x"))
    others = make_credentials(["a", "b"], HOSTS, T0, seeded("y"))
    # OpenSSH's format of a private key holds a random check number; the key is the same.
    assert {r: {f: d for f, d in b.items() if f != "site.key"} for r, b in made.items()} == {
        r: {f: d for f, d in b.items() if f != "site.key"} for r, b in again.items()
    }
    assert all(made[role][file] != others[role][file] for role in made for file in made[role])


def test_the_servers_certificate_is_for_its_hosts_and_signed_by_what_the_sites_trust() -> None:
    made = make_credentials(["a"], HOSTS, T0, seeded("x"))
    (authority,) = x509.load_pem_x509_certificates(made["a"]["ca.pem"])
    (certificate,) = x509.load_pem_x509_certificates(made["server"]["server.pem"])
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["shrink.team-a.svc"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("127.0.0.1")]
    assert certificate.not_valid_before_utc < T0
    assert certificate.not_valid_after_utc > T0 + timedelta(days=3000)
    key = load_pem_private_key(made["server"]["server.key"], None)
    assert key.public_key() == certificate.public_key()


def test_a_role_has_its_own_keys_and_no_other_ones() -> None:
    made = make_credentials(["a", "b"], HOSTS, T0, seeded("x"))
    assert set(made) == {"server", "a", "b"}
    assert set(made["server"]) == {"ca.pem", "server.pem", "server.key", "secret", "a.pub", "b.pub"}
    assert set(made["a"]) == {"ca.pem", "site.key", "secret"}
    assert len({made[role]["secret"] for role in made}) == 3
    for site in ("a", "b"):
        key = load_ssh_private_key(made[site]["site.key"], None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.curve.name == "secp384r1"
        public = load_pem_public_key(made["server"][f"{site}.pub"])
        form = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        assert key.public_key().public_bytes(*form) == public.public_bytes(*form)
