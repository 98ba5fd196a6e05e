"""The federation's certificate authority, and the one certificate that it makes: the link's.

SERVER/tls/ca.key, ca.crt       ECDSA on P-256, ten years; ca.crt comes with an invitation
SERVER/tls/link.key, link.crt   ECDSA on P-256, for the public address and for the loopback

The loopback stands in it because Flower's SuperLink shows the same certificate to the proxy and to
its own programs. A public authority is not needed: organisations trust ca.crt alone.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from veilface_common.certificates import (
    SKEW,
    names_of,
    serves,
    usage,
    write_certificate,
    write_key,
)
from veilface_common.errors import KeyFileError

CA_KEY, CA = "ca.key", "ca.crt"
LINK_KEY, LINK = "link.key", "link.crt"
_CA_LIFE = timedelta(days=3652)
_LINK_LIFE = timedelta(days=825)
_RENEWED = timedelta(days=60)  # before its end


def make_authority(folder: Path, name: str, now: datetime) -> None:
    """Make the authority of a federation in `folder`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Veilface: {name}"[:64])])
    certificate = (
        _builder(subject, subject, key.public_key(), now, _CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_key(folder / CA_KEY, key)
    write_certificate(folder / CA, certificate)


def renew_link_certificate(folder: Path, host: str, now: datetime) -> None:
    """Make the link's certificate where there is none for `host` that lasts two months more.

    Raises:
        KeyFileError: the authority's files are missing or damaged.
    """
    if serves(folder / LINK, host, now, _RENEWED) and (folder / LINK_KEY).exists():
        return
    authority_key, authority = _load_authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Veilface link")])
    certificate = (
        _builder(subject, authority.subject, key.public_key(), now, _LINK_LIFE)
        .add_extension(x509.SubjectAlternativeName(names_of(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    # A crash in between leaves a key without its certificate, which is then made again.
    (folder / LINK).unlink(missing_ok=True)
    write_key(folder / LINK_KEY, key)
    write_certificate(folder / LINK, certificate)


def _load_authority(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    try:
        key = serialization.load_pem_private_key((folder / CA_KEY).read_bytes(), password=None)
        certificate = x509.load_pem_x509_certificate((folder / CA).read_bytes())
    except (OSError, ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyFileError(
            f"expected the certificate authority in {folder}, got no usable {CA_KEY} and {CA}",
            hint="put them back from a copy; organisations trust no other",
        )
    return key, certificate


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + life)
    )
