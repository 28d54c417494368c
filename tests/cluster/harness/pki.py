"""Keys and certificates of a control plane, with openssl; good for a day."""

from __future__ import annotations

import subprocess
from pathlib import Path

_CURVE = ("-pkeyopt", "ec_paramgen_curve:P-256")


class Authority:
    """A certificate authority of its own, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        self.certificate = folder / "ca.crt"
        self._key = folder / "ca.key"
        self._openssl(
            *(
                "req",
                "-x509",
                "-newkey",
                "ec",
                *_CURVE,
                "-nodes",
                "-days",
                "1",
                "-subj",
                "/CN=tests",
            ),
            *("-keyout", self._key, "-out", self.certificate),
        )

    def issue(
        self, name: str, user: str, groups: tuple[str, ...] = (), addresses: tuple[str, ...] = ()
    ) -> tuple[Path, Path]:
        """Certificate and key of a user, or of a server at the addresses (`IP:…`, `DNS:…`)."""
        paths = {kind: self._folder / f"{name}.{kind}" for kind in ("crt", "key", "csr", "ext")}
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
        self._openssl(
            *("req", "-newkey", "ec", *_CURVE, "-nodes", "-subj", subject),
            *("-keyout", paths["key"], "-out", paths["csr"]),
        )
        usage = "extendedKeyUsage=" + ("serverAuth" if addresses else "clientAuth")
        names = f"\nsubjectAltName={','.join(addresses)}" if addresses else ""
        paths["ext"].write_text(f"{usage}{names}\n")
        self._openssl(
            *("x509", "-req", "-in", paths["csr"], "-CA", self.certificate, "-CAkey", self._key),
            *("-CAcreateserial", "-days", "1", "-extfile", paths["ext"], "-out", paths["crt"]),
        )
        return paths["crt"], paths["key"]

    def make_key(self, name: str) -> Path:
        """A key alone, such as that which signs the tokens of service accounts."""
        key = self._folder / f"{name}.key"
        # This form is the one that the API server reads as public key too.
        self._openssl("ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out", key)
        return key

    def _openssl(self, *arguments: object) -> None:
        command = ["openssl", *map(str, arguments)]
        finished = subprocess.run(command, capture_output=True, text=True)
        assert finished.returncode == 0, f"{' '.join(command)}:\n{finished.stderr}"
