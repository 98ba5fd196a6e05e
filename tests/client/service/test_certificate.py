"""The certificate of TLS: made once, for this machine alone, and made anew before it ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from veilface_client.service.certificate import made_certificate, own_certificate
from veilface_common.errors import ConfigError

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_it_is_kept_until_it_nearly_ends(tmp_path: Path) -> None:
    """The fingerprint that people compared stays for a year, and for names it already has."""
    first = made_certificate(tmp_path, "127.0.0.1", NOW)
    for host, day in (("localhost", 0), ("0.0.0.0", 100), ("127.0.0.1", 380)):  # noqa: S104 -- a name
        again = made_certificate(tmp_path, host, NOW + timedelta(days=day))
        assert again.fingerprint == first.fingerprint
    renewed = made_certificate(tmp_path, "localhost", NOW + timedelta(days=390))
    assert renewed.fingerprint != first.fingerprint


def test_it_names_the_host_and_can_sign_nothing_else(tmp_path: Path) -> None:
    """P-256, for servers, not an authority: trusting it trusts this service alone."""
    made_certificate(tmp_path, "127.0.0.1", NOW)
    found = made_certificate(tmp_path, "door.example", NOW)
    read = x509.load_pem_x509_certificate(found.path.read_bytes())
    names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "door.example"]
    assert isinstance(read.public_key(), ec.EllipticCurvePublicKey)
    assert not read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert found.key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damaged", ["service.crt", "service.key"])
def test_a_damaged_one_is_made_anew(tmp_path: Path, damaged: str) -> None:
    """A file that was cut off does not keep the service from starting."""
    first = made_certificate(tmp_path, "localhost", NOW)
    (tmp_path / damaged).write_text("")
    assert made_certificate(tmp_path, "localhost", NOW).fingerprint != first.fingerprint


def test_an_own_one_must_fit_its_key(tmp_path: Path) -> None:
    """A foreign key, or a file that is none, is told before anything listens."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made_certificate(tmp_path / name, "localhost", NOW)
    with pytest.raises(ConfigError, match="expected a certificate"):
        own_certificate(tmp_path / "a" / "service.crt", tmp_path / "b" / "service.key")
    with pytest.raises(ConfigError, match="expected a certificate"):
        own_certificate(tmp_path / "none", tmp_path / "a" / "service.key")
