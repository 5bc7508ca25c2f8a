"""A CA for one run, and a certificate of it for this machine's loopback address."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from system import Certificate, write_secret


def make_certificate(folder: Path) -> Certificate:
    certificate = Certificate(ca=folder / "ca.pem", chain=folder / "server.pem", key=folder / "server-key.pem")
    ca_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a CA for one run")])
    ca = builder(ca_name, ca_name, ca_key.public_key(), ca_key.public_key())
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    ca = ca.add_extension(usage(key_cert_sign=True), critical=True)
    server = builder(x509.Name([]), ca_name, server_key.public_key(), ca_key.public_key())
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    server = server.add_extension(x509.SubjectAlternativeName([loopback]), critical=True)
    server = server.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    for path, unsigned in ((certificate.ca, ca), (certificate.chain, server)):
        path.write_bytes(unsigned.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM))
    key = server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_secret(certificate.key, key.decode())
    return certificate


def builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, issuer_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    of_issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)
    return (
        x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(of_issuer, critical=False)
    )


def usage(**allowed: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    names += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})
