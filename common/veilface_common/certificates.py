"""Certificates that we make ourselves (X.509): whom they are for, and until when they serve."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from veilface_common.files import PUBLIC, write_atomically

SKEW = timedelta(hours=1)  # by which other machines' clocks may be slow
_ALWAYS = ("localhost", "127.0.0.1", "::1")


def names_of(host: str) -> list[x509.GeneralName]:
    """Return what a certificate of `host` is for; an address of `any` (0.0.0.0) is no name."""
    found: list[x509.GeneralName] = []
    for name in dict.fromkeys((*_ALWAYS, host)):
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            found.append(x509.DNSName(name))
            continue
        if not address.is_unspecified:
            found.append(x509.IPAddress(address))
    return found


def usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Return what a key may do: sign certificates, or show a server, and never both."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def serves(path: Path, host: str, now: datetime, spare: timedelta) -> bool:
    """Whether a certificate is for `host`, in force, and will be for `spare` more."""
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    in_time = found.not_valid_before_utc <= now < found.not_valid_after_utc - spare
    return in_time and set(names_of(host)) <= set(names)


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write the private half for its owner alone."""
    content = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_atomically(path, content)


def write_certificate(path: Path, certificate: x509.Certificate) -> None:
    """Write what everybody may see."""
    write_atomically(path, certificate.public_bytes(serialization.Encoding.PEM), mode=PUBLIC)
