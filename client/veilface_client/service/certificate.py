"""The certificate of TLS: the organisation's own, or one that is made in its folder.

DIR/service.crt, DIR/service.key   ECDSA on P-256, self-signed, for this machine's names alone

A browser cannot know who made it and says so once; whoever trusts it compares the fingerprint with
the one that the service shows when it starts.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
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
from veilface_common.errors import ConfigError

CERTIFICATE, KEY = "service.crt", "service.key"
_DAYS = 397  # the most that browsers take of anybody
_RENEWED = timedelta(days=14)  # before its end


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate and its key, in PEM files that belong together."""

    path: Path
    key: Path
    fingerprint: str  # SHA-256, as browsers show it


def own_certificate(path: Path, key: Path) -> Certificate:
    """Return the organisation's own certificate.

    Raises:
        ConfigError: one of the files cannot be read, or they do not belong together.
    """
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(path, key)
        found = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError):  # an SSLError is an OSError
        raise ConfigError(
            f"expected a certificate in {path} and its key in {key}",
            hint="PEM files; the key without a passphrase, 0600",
        ) from None
    return Certificate(path=path, key=key, fingerprint=_fingerprint(found))


def made_certificate(folder: Path, host: str, now: datetime) -> Certificate:
    """Return the certificate in `folder`, made if there is none for `host` that lasts a while."""
    path, key = folder / CERTIFICATE, folder / KEY
    if serves(path, host, now, _RENEWED):
        try:
            return own_certificate(path, key)
        except ConfigError:
            pass  # without its key it is worth nothing
    secret = ec.generate_private_key(ec.SECP256R1())
    made = _signed(secret, host, now)
    write_key(key, secret)
    write_certificate(path, made)
    return own_certificate(path, key)


def _signed(secret: ec.EllipticCurvePrivateKey, host: str, now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Veilface")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName(names_of(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(secret, hashes.SHA256())
    )


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()
