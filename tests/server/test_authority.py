"""The link's certificate: for the right names, by the federation's authority, in time."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from veilface_common.errors import KeyFileError
from veilface_server.authority import (
    CA,
    CA_KEY,
    LINK,
    LINK_KEY,
    make_authority,
    renew_link_certificate,
)

NOW = datetime.now(UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with an authority and a link's certificate for fed.example.org."""
    make_authority(tmp_path, "clinics", NOW)
    renew_link_certificate(tmp_path, "fed.example.org", NOW)
    return tmp_path


def shake_hands(folder: Path, name: str, authority: Path) -> None:
    """Do TLS in memory, as strictly as Python does; an ssl.SSLError where it fails."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / LINK, folder / LINK_KEY)
    client = ssl.create_default_context(cafile=authority)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert sides[0].getpeercert()


@pytest.mark.parametrize("name", ["fed.example.org", "localhost", "127.0.0.1", "::1"])
def test_the_link_shows_itself_under_its_names(folder: Path, name: str) -> None:
    """The public one, and those of this machine, which Flower's own programs use."""
    shake_hands(folder, name, folder / CA)


def test_an_address_is_a_name_too(tmp_path: Path) -> None:
    """An IP address stands in the certificate as one."""
    make_authority(tmp_path, "clinics", NOW)
    renew_link_certificate(tmp_path, "10.0.0.5", NOW)
    shake_hands(tmp_path, "10.0.0.5", tmp_path / CA)


def test_another_name_or_authority_is_refused(folder: Path, tmp_path: Path) -> None:
    """Whoever pinned one federation does not speak with another."""
    with pytest.raises(ssl.SSLError):
        shake_hands(folder, "other.example.org", folder / CA)
    other = tmp_path / "other"
    other.mkdir()
    make_authority(other, "clinics", NOW)
    with pytest.raises(ssl.SSLError):
        shake_hands(folder, "fed.example.org", other / CA)


def test_a_certificate_is_kept_while_it_is_good(folder: Path) -> None:
    """It is made anew for another name, near its end, and where its key is gone; else it stays."""
    first = (folder / LINK).read_bytes()
    renew_link_certificate(folder, "fed.example.org", NOW + timedelta(days=700))
    assert (folder / LINK).read_bytes() == first
    renew_link_certificate(folder, "fed.example.org", NOW + timedelta(days=800))
    second = (folder / LINK).read_bytes()
    assert second != first
    renew_link_certificate(folder, "new.example.org", NOW)
    third = (folder / LINK).read_bytes()
    assert third != second
    (folder / LINK_KEY).unlink()
    renew_link_certificate(folder, "new.example.org", NOW)
    assert (folder / LINK).read_bytes() != third


def test_keys_are_for_their_owner_alone(folder: Path) -> None:
    """The certificates are for everybody."""
    modes = {name: (folder / name).stat().st_mode & 0o777 for name in (CA_KEY, LINK_KEY, CA, LINK)}
    assert modes == {CA_KEY: 0o600, LINK_KEY: 0o600, CA: 0o644, LINK: 0o644}


def test_a_lost_authority_is_not_replaced_in_silence(folder: Path) -> None:
    """Organisations trust the old one; a new one would lock them out without a word."""
    (folder / CA_KEY).unlink()
    with pytest.raises(KeyFileError):
        renew_link_certificate(folder, "new.example.org", NOW)
