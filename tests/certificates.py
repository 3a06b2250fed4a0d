"""Certificates for tests: an authority of the test's own, and what it signs."""

import ipaddress
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """Two PEM files that belong together."""

    cert: Path
    key: Path

    def settings(self) -> dict[str, str]:
        return {"GW_TLS_CERT": str(self.cert), "GW_TLS_KEY": str(self.key)}

    def replace_by(self, other: "Pair") -> None:
        """Put another pair into these files, as a renewal does."""
        for mine, theirs in ((self.key, other.key), (self.cert, other.cert)):
            new = mine.with_suffix(".new")
            new.write_bytes(theirs.read_bytes())
            new.replace(mine)


@dataclass
class Authority:
    """Signs certificates into a folder; `file` is what clients have to trust."""

    folder: Path
    _key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    _name: x509.Name = field(
        default_factory=lambda: x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, "Authority of the tests")]
        )
    )

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = self.folder / "ca.pem"
        certificate = (
            self._builder(self._name, self._key.public_key(), timedelta(days=10))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        *hosts: str,
        life: timedelta = 90 * _DAY,
        passphrase: bytes | None = None,
    ) -> Pair:
        """Make `name.pem` and `name.key` for these hosts (names or addresses)."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(
                x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
                key.public_key(),
                life,
            )
            .add_extension(
                x509.SubjectAlternativeName([_general(host) for host in hosts or ("127.0.0.1",)]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        pair.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(passphrase)
                if passphrase
                else serialization.NoEncryption(),
            )
        )
        return pair

    def trusting(self) -> ssl.SSLContext:
        """Give a client's context that trusts this authority alone."""
        return ssl.create_default_context(cafile=self.file)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, life: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, now + life) - _DAY)
            .not_valid_after(now + life)
        )


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
