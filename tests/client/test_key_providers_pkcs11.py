"""A key in a token wraps and unwraps, and never comes out. The token is SoftHSM2's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from veilface_common.errors import ConfigError, KeyFileError, VaultError, WrongKey

pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 is an extra: veilface[pkcs11]")

from veilface_client.key_providers import pkcs11 as provider_module  # noqa: E402
from veilface_client.key_providers import provider_kind  # noqa: E402 -- after the skip
from veilface_client.key_providers.key_file import KeyFileProvider  # noqa: E402
from veilface_client.key_providers.pkcs11 import (  # noqa: E402
    Pkcs11Provider,
    Token,
    create_token_key,
    read_pin,
)

KEY = bytes(range(100, 132))
PIN = "271828"
# Where Debian's libsofthsm2 puts it, and where the variable says that it was unpacked.
USUAL = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
)


@pytest.fixture(scope="session")
def module() -> Path:
    named = os.environ.get("SOFTHSM2_MODULE")
    for path in map(Path, [named] if named else USUAL):
        if path.is_file():
            return path
    pytest.skip("no SoftHSM2 library: apt install softhsm2, or set SOFTHSM2_MODULE")


@pytest.fixture(scope="session")
def tokens(module: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Token, Token]:
    """Return two tokens with a key each, in a folder of their own."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")  # read when the library loads
    labels = ("hall", "gate")
    for label in labels:
        initialise(module, label)
    hall, gate = (Token(module=module, label=label) for label in labels)
    create_token_key(hall, PIN)
    create_token_key(gate, PIN)
    return hall, gate


def initialise(module: Path, label: str) -> None:
    beside = [parent / "bin" / "softhsm2-util" for parent in module.parents]
    tool = next((str(path) for path in beside if path.is_file()), shutil.which("softhsm2-util"))
    if tool is None:
        pytest.skip("no softhsm2-util: apt install softhsm2")
    settings = ["--label", label, "--pin", PIN, "--so-pin", "314159"]
    subprocess.run(
        [tool, "--module", str(module), "--init-token", "--free", *settings],
        check=True,
        capture_output=True,
    )


@pytest.fixture
def hall(tokens: tuple[Token, Token]) -> Pkcs11Provider:
    return Pkcs11Provider(tokens[0], PIN)


def test_a_key_comes_back(hall: Pkcs11Provider, tokens: tuple[Token, Token]) -> None:
    """Also through a second session, as after a restart."""
    wrapped = hall.wrap(KEY)
    assert Pkcs11Provider(tokens[0], PIN).unwrap(wrapped) == KEY
    assert provider_kind(wrapped) == "pkcs11"
    assert json.loads(wrapped)["parameters"] == {"key": "veilface", "token": "hall"}
    assert KEY not in wrapped
    assert KEY.hex().encode() not in wrapped


def test_the_key_in_the_token_never_comes_out(tokens: tuple[Token, Token]) -> None:
    """Neither read nor wrapped for export, with the right PIN."""
    with provider_module._wrapping_key(tokens[0], PIN) as key:
        with pytest.raises(pkcs11.AttributeSensitive):
            key[pkcs11.Attribute.VALUE]
        assert key[pkcs11.Attribute.EXTRACTABLE] is False
        assert key[pkcs11.Attribute.NEVER_EXTRACTABLE] is True
        assert key[pkcs11.Attribute.ALWAYS_SENSITIVE] is True
        assert len(key.id) == 16


def test_each_altered_byte_is_refused(hall: Pkcs11Provider) -> None:
    """Nonce, ciphertext, tag, id and names."""
    wrapped = hall.wrap(KEY)
    for place in range(len(wrapped)):
        other = bytearray(wrapped)
        other[place] ^= 1
        with pytest.raises(VaultError):
            hall.unwrap(bytes(other))
    assert hall.unwrap(wrapped) == KEY  # the token still works after so many failures


def test_another_token_is_a_wrong_key_and_is_not_asked_to_decrypt(
    hall: Pkcs11Provider, tokens: tuple[Token, Token], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id is compared before."""
    wrapped = hall.wrap(KEY)

    def fail(*_: object) -> bytes:
        raise AssertionError("decrypted")

    monkeypatch.setattr(provider_module._TokenCipher, "unseal", fail)
    with pytest.raises(WrongKey, match="pkcs11"):
        Pkcs11Provider(tokens[1], PIN).unwrap(wrapped)
    with pytest.raises(AssertionError, match="decrypted"):  # the guard itself works
        hall.unwrap(wrapped)


def test_a_wrong_pin_is_a_wrong_key_and_warns(tokens: tuple[Token, Token]) -> None:
    """Tokens lock themselves; the right PIN works afterwards, and no message shows either."""
    good = Pkcs11Provider(tokens[0], PIN)
    wrapped = good.wrap(KEY)
    for pin in ("161803", "1", "x" * 300):
        with pytest.raises(WrongKey) as caught:
            Pkcs11Provider(tokens[0], pin).unwrap(wrapped)
        assert "lock" in str(caught.value.hint)
        assert pin == "1" or pin not in str(caught.value)
        assert good.unwrap(wrapped) == KEY


def test_a_token_or_key_that_is_not_there_is_named(tokens: tuple[Token, Token]) -> None:
    """Unplugged, or made for something else."""
    module = tokens[0].module
    with pytest.raises(VaultError, match="expected token cellar, got none"):
        Pkcs11Provider(Token(module=module, label="cellar"), PIN).wrap(KEY)
    with pytest.raises(VaultError, match="expected key other in token hall"):
        Pkcs11Provider(Token(module=module, label="hall", key_label="other"), PIN).wrap(KEY)


def test_a_key_is_never_made_twice(hall: Pkcs11Provider, tokens: tuple[Token, Token]) -> None:
    """Two of one label could not be told apart."""
    wrapped = hall.wrap(KEY)
    with pytest.raises(VaultError, match="got one"):
        create_token_key(tokens[0], PIN)
    assert hall.unwrap(wrapped) == KEY


def test_a_key_without_an_id_of_its_own_is_refused(tokens: tuple[Token, Token]) -> None:
    """A key that another tool made might share its id with many."""
    other = Token(module=tokens[0].module, label="hall", key_label="by hand")
    with provider_module._session(other, PIN, writable=True) as session:
        session.generate_key(pkcs11.KeyType.AES, 256, id=b"\1", label="by hand", store=True)
    with pytest.raises(VaultError, match="id of 16 bytes, got 1"):
        Pkcs11Provider(other, PIN).wrap(KEY)


def test_another_providers_key_is_named(hall: Pkcs11Provider) -> None:
    """Before the token is asked for anything."""
    with pytest.raises(VaultError, match="wrapped by pkcs11, got one wrapped by 'key-file'"):
        hall.unwrap(KeyFileProvider(bytes(32)).wrap(KEY))
    with pytest.raises(VaultError, match="got one wrapped by 'pkcs11'"):
        KeyFileProvider(bytes(32)).unwrap(hall.wrap(KEY))


def test_a_key_of_another_length_is_a_slip(hall: Pkcs11Provider) -> None:
    """As with every provider."""
    with pytest.raises(ValueError, match="32 bytes"):
        hall.wrap(KEY[:16])


def test_the_pin_is_not_shown(hall: Pkcs11Provider) -> None:
    """The token's names are."""
    assert PIN not in repr(hall)
    assert "hall" in repr(hall)


@pytest.mark.parametrize("content", [None, b"no library"])
def test_a_library_that_is_none_is_a_setting_that_cannot_be_used(
    tmp_path: Path, content: bytes | None
) -> None:
    """Missing, or something else."""
    path = tmp_path / "library.so"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="library"):
        Pkcs11Provider(Token(module=path, label="hall"), PIN).wrap(KEY)


def test_a_pin_comes_from_a_private_file(tmp_path: Path) -> None:
    """0600, not empty; the line end is no part of it."""
    path = tmp_path / "pin"
    path.write_text(f"{PIN}\n")
    path.chmod(0o600)
    assert read_pin(path) == PIN
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="owner alone"):
        read_pin(path)
    path.write_text("\n")
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="empty"):
        read_pin(path)


def test_without_the_extra_the_error_says_what_to_install() -> None:
    """And not that a module of some name is missing."""
    program = (
        "import sys; sys.modules['pkcs11'] = None\n"
        "from veilface_common.errors import ConfigError\n"
        "try: import veilface_client.key_providers.pkcs11\n"
        "except ConfigError as error: print(error.hint)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "pip install 'veilface[pkcs11]'\n"
