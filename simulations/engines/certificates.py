"""Certificates and keys of a deployment, made on the spot: an authority, a server, nodes.

Whoever makes them holds every node's private key for a moment. Where that is too much, nodes make
their keys themselves and send the public halves: see docs/deployment.md.
"""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Authority:
    """A certificate authority whose key never leaves this object.

    Args:
      folder: where certificates and keys are written, for this user alone; made here.
    """

    def __init__(self, folder: Path, valid_days: int = 30) -> None:
        folder.mkdir(mode=0o700, parents=True)
        self._folder, self._valid = folder, datetime.timedelta(days=valid_days)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedspeech deployment")])
        signing = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
             "key_agreement", "encipher_only", "decipher_only"), False,
        )  # fmt: skip
        builder = (
            self._builder(self._name, self._key.public_key())
            # A path length of 0: what this authority signs cannot sign for others in turn.
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(
                x509.KeyUsage(key_cert_sign=True, crl_sign=True, **signing), critical=True
            )
        )
        self._write("ca.pem", self._signed(builder))

    @property
    def certificate(self) -> Path:
        """The authority's own certificate, which everybody may have."""
        return self._folder / "ca.pem"

    def server(self, address: str = "127.0.0.1") -> tuple[Path, Path]:
        """Makes a server's certificate and key for one IP address; returns their files."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "superlink")])
        names = [x509.IPAddress(ipaddress.ip_address(address)), x509.DNSName("localhost")]
        builder = (
            self._builder(name, key.public_key())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        )
        return self._write("server.pem", self._signed(builder)), self._write(
            "server.key",
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def node(self, name: str) -> tuple[Path, Path]:
        """Makes a node's key pair in OpenSSH's form; returns the files of private and public."""
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        return self._write(name, private), self._write(f"{name}.pub", public)

    def _builder(
        self, name: x509.Name, public: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        """What all certificates have; key identifiers too, which strict readers ask for."""
        now = datetime.datetime.now(datetime.UTC)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            # Where a node's clock is slow, a certificate of this instant is not valid yet.
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + self._valid)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(authority, critical=False)
        )

    def _signed(self, builder: x509.CertificateBuilder) -> bytes:
        certificate = builder.sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM)

    def _write(self, name: str, content: bytes) -> Path:
        """Writes a file that only this user can read."""
        path = self._folder / name
        # Closed to others before the key is in it, and never over a key that is there.
        path.touch(mode=0o600, exist_ok=False)
        path.write_bytes(content)
        return path
