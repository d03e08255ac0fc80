"""Certificates as operators make them, with the openssl command."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

NEEDS_OPENSSL = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
KIND = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Authority:
    """Signs what is asked for, into its folder: NAME.pem and NAME.key."""

    folder: Path
    name: str = "ca"

    def __post_init__(self) -> None:
        openssl(
            "req", "-x509", *KIND, "-days", "30", "-subj", f"/CN={self.name}",
            "-keyout", str(self.key), "-out", str(self.certificate),
        )  # fmt: skip

    @property
    def certificate(self) -> Path:
        return self.folder / f"{self.name}.pem"

    @property
    def key(self) -> Path:
        return self.folder / f"{self.name}.key"

    def sign(self, name: str, days: int = 20, more: str = "") -> tuple[str, str]:
        """Paths of a certificate for localhost and 127.0.0.1, and of its key."""
        certificate, key, asked = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        for_names = self.folder / "names"
        for_names.write_text(f"subjectAltName=DNS:localhost,IP:127.0.0.1\n{more}")
        openssl("req", *KIND, "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(asked))
        openssl(
            "x509", "-req", "-in", str(asked), "-CA", str(self.certificate), "-CAkey",
            str(self.key), "-days", str(days), "-extfile", str(for_names), "-out", str(certificate),
        )  # fmt: skip
        return str(certificate), str(key)


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=20)
