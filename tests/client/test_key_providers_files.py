"""Secrets come from files for their owner alone or from a terminal, and are refused otherwise."""

from __future__ import annotations

import base64
import getpass
import os
import stat
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from veilface_client.key_providers.key_file import create_key_file, load_key_file
from veilface_client.key_providers.passphrase import VARIABLE, read_passphrase
from veilface_common.errors import ConfigError, KeyFileError

KEY = bytes(range(32))
OPEN_MODES = [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o777]


def private(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def nobody_asks(_: str) -> str:
    raise AssertionError("asked")


@pytest.mark.parametrize("mode", OPEN_MODES)
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    """Read, written or run by group or others; the hint says how to close it."""
    path = private(tmp_path / "secret", KEY.hex().encode(), mode)
    for use in (load_key_file, read_passphrase):
        with pytest.raises(KeyFileError, match="owner alone") as caught:
            use(path)
        assert caught.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_for_its_owner_alone_is_read(tmp_path: Path, mode: int) -> None:
    """0600 or stricter."""
    path = private(tmp_path / "secret", KEY.hex().encode(), mode)
    assert load_key_file(path).unwrap(load_key_file(path).wrap(KEY)) == KEY
    assert read_passphrase(path, {}) == KEY.hex()


@pytest.mark.parametrize("mode", [0o440, 0o400])
def test_a_credential_of_systemd_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """Its access list shows as bits of the group; nobody else enters that folder."""
    path = private(tmp_path / "passphrase", b"of the service\n", mode)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_passphrase(path, {}) == "of the service"


def test_a_credentials_folder_vouches_for_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for a file elsewhere, and not for one that the group may write or others may read."""
    elsewhere = private(tmp_path / "secret", b"of somebody", 0o440)
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    for path in (
        elsewhere,
        folder / ".." / "secret",
        private(folder / "written", b"by the group", 0o460),
        private(folder / "read", b"by others", 0o444),
    ):
        with pytest.raises(KeyFileError, match="owner alone"):
            read_passphrase(path, {})


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"a" * 5000])
def test_a_missing_or_foreign_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """No file, no text, no end."""
    path = tmp_path / "secret"
    if content is not None:
        private(path, content)
    for use in (load_key_file, read_passphrase):
        with pytest.raises(KeyFileError):
            use(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """As a KeyFileError, not as a traceback."""
    with pytest.raises(KeyFileError):
        read_passphrase(tmp_path)


def test_a_created_key_is_new_private_and_readable(tmp_path: Path) -> None:
    """32 random bytes in hex, mode 0600, and nothing left beside it."""
    one, two = tmp_path / "one.key", tmp_path / "two.key"
    create_key_file(one)
    create_key_file(two)
    assert stat.S_IMODE(one.stat().st_mode) == 0o600
    assert len(bytes.fromhex(one.read_text())) == 32
    assert one.read_text() != two.read_text()
    load_key_file(one)
    assert sorted(tmp_path.iterdir()) == [one, two]


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    """The vault of the old key would be lost."""
    path = tmp_path / "vault.key"
    create_key_file(path)
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match="no file"):
        create_key_file(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "text",
    [KEY.hex(), KEY.hex().upper() + "\n", base64.b64encode(KEY).decode() + "\n"],
)
def test_a_key_is_hex_or_base64(tmp_path: Path, text: str) -> None:
    """All of them the same key."""
    expected = load_key_file(private(tmp_path / "hex.key", KEY.hex().encode()))
    found = load_key_file(private(tmp_path / "vault.key", text.encode()))
    assert found.unwrap(expected.wrap(KEY)) == KEY


@pytest.mark.parametrize(
    "text", ["", KEY.hex()[:-2], KEY.hex() + "00", "x" * 64, base64.b64encode(KEY[:31]).decode()]
)
def test_a_key_of_another_form_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    """Too short, too long, no digits."""
    with pytest.raises(KeyFileError) as caught:
        load_key_file(private(tmp_path / "vault.key", text.encode()))
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_one_line_end_is_no_part_of_a_passphrase(tmp_path: Path, end: str) -> None:
    """Editors add one; spaces belong to the passphrase."""
    path = private(tmp_path / "secret", f" a b {end}".encode())
    assert read_passphrase(path, {}) == " a b "


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n"])
def test_an_empty_passphrase_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """It would open to everybody."""
    with pytest.raises(KeyFileError, match="empty"):
        read_passphrase(private(tmp_path / "secret", content), {})


def test_the_variable_names_a_file_and_the_argument_goes_first(tmp_path: Path) -> None:
    """The variable holds a path, never the passphrase."""
    one = private(tmp_path / "one", b"first")
    two = private(tmp_path / "two", b"second")
    assert read_passphrase(None, {VARIABLE: str(two)}, nobody_asks) == "second"
    assert read_passphrase(one, {VARIABLE: str(two)}, nobody_asks) == "first"
    with pytest.raises(KeyFileError) as caught:
        read_passphrase(None, {VARIABLE: str(tmp_path / "three")}, nobody_asks)
    assert "three" in str(caught.value)


def test_a_pipe_serves_as_a_passphrase_file() -> None:
    """As `--passphrase-file <(pass show veilface)` gives it."""
    reader, writer = os.pipe()
    thread = threading.Thread(target=lambda: (os.write(writer, b"piped\n"), os.close(writer)))
    thread.start()
    assert read_passphrase(Path(f"/dev/fd/{reader}"), {}) == "piped"
    thread.join()
    os.close(reader)


def test_without_a_file_somebody_is_asked() -> None:
    """Once to open, twice for a new one."""
    asked = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "typed"

    assert read_passphrase(None, {}, ask) == "typed"
    assert len(asked) == 1
    assert read_passphrase(None, {VARIABLE: ""}, ask, new=True) == "typed"
    assert len(asked) == 3


def test_a_mistyped_or_empty_new_passphrase_is_refused() -> None:
    """A vault that nobody can open is worse than asking again."""
    answers = iter(["typed", "typde"])
    with pytest.raises(ConfigError, match="twice"):
        read_passphrase(None, {}, lambda _: next(answers), new=True)
    with pytest.raises(ConfigError, match="empty"):
        read_passphrase(None, {}, lambda _: "")


def test_nothing_is_asked_without_a_terminal() -> None:
    """`getpass` would show what is typed, and take it from a pipe that belongs to another."""

    def ask(_: str) -> str:
        warnings.warn("echo", getpass.GetPassWarning, stacklevel=1)
        return "shown"

    def ended(_: str) -> str:
        raise EOFError

    for nobody in (ask, ended):
        with pytest.raises(ConfigError, match="nobody") as caught:
            read_passphrase(None, {}, nobody)
        assert "--passphrase-file" in str(caught.value.hint)


def test_a_service_without_a_terminal_ends_with_a_clear_error() -> None:
    """The real `getpass`, in a session of its own, with a pipe for its input."""
    program = (
        "from veilface_client.key_providers.passphrase import read_passphrase\n"
        "from veilface_common.errors import ConfigError\n"
        "try: read_passphrase(None, {})\n"
        "except ConfigError: print('refused')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        input="from a pipe\n",
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,
    )
    assert ended.stdout == "refused\n"
