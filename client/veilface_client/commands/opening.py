"""What every command of an organisation shares: its folder, what unlocks it, and who asks."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from veilface_client.key_providers import KeyProvider
from veilface_client.key_providers.private_files import read_private
from veilface_client.process import keep_memory_private
from veilface_client.roles import TERMINAL, Actor
from veilface_common.errors import ConfigError

if TYPE_CHECKING:  # they bring PyTorch with them, which takes seconds
    from veilface_client.home import KeySource
    from veilface_client.recognition.desk import Desk

HOME_VARIABLE = "VEILFACE_HOME"
_KEY_LABEL = "veilface"  # of the key inside a token


@dataclass(frozen=True, kw_only=True)
class Asking:
    """An unlocked organisation, and who asks it for something."""

    desk: Desk
    actor: Actor
    second: Actor | None


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def add_unlocking(parser: argparse.ArgumentParser) -> None:
    """Add what unlocks the vault, and whose token is used."""
    parser.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="else $VEILFACE_PASSPHRASE_FILE, else you are asked",
    )
    parser.add_argument("--pin-file", type=Path, metavar="FILE", help="of a PKCS #11 token")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="act as the user whose token this is"
    )
    parser.add_argument(
        "--second-token-file", type=Path, metavar="FILE", help="of a second person, who consents"
    )


def home_of(arguments: argparse.Namespace) -> Path:
    """Return the organisation's folder.

    Raises:
        ConfigError: none is named.
    """
    named = arguments.home or os.environ.get(HOME_VARIABLE)
    if not named:
        raise ConfigError(
            "expected an organisation's folder, got none",
            hint=f"veilface --home DIR, or the variable {HOME_VARIABLE}",
        )
    return Path(named)


def provider_of(arguments: argparse.Namespace, key: KeySource, *, new: bool = False) -> KeyProvider:
    """Return what unlocks the vault.

    Raises:
        ConfigError: the kind is unknown, or nobody is there to ask.
        KeyFileError: a file with a secret is missing, or open to others.
    """
    if key.kind == "key-file":
        from veilface_client.key_providers.key_file import load_key_file  # noqa: PLC0415 -- one of three

        return load_key_file(Path(key.path))
    if key.kind == "pkcs11":
        return _token(arguments, key)
    if key.kind == "passphrase":
        from veilface_client.key_providers.passphrase import (  # noqa: PLC0415 -- one of three
            PassphraseProvider,
            read_passphrase,
        )

        return PassphraseProvider(read_passphrase(arguments.passphrase_file, new=new))
    raise ConfigError(
        f"expected a key of kind passphrase, key-file or pkcs11, got {key.kind!r}",
        hint="in home.json",
    )


@contextmanager
def opened(
    arguments: argparse.Namespace, *, provider: KeyProvider | None = None, verify: bool = True
) -> Iterator[Asking]:
    """Unlock the organisation for as long as a command takes.

    Args:
        arguments: of the command.
        provider: what unlocks the vault, where it is not what every day does.
        verify: refuse a vault that was altered or rolled back; False is for its check alone.

    Raises:
        ConfigError, WrongKey, VaultError, LogError, ArtifactError: as `Desk` does.
        AccessDenied: a token is not in force.
    """
    from veilface_client.home import load_settings  # noqa: PLC0415 -- brings PyTorch
    from veilface_client.recognition.desk import Desk  # noqa: PLC0415 -- the same

    keep_memory_private()
    folder = home_of(arguments)
    provider = provider or provider_of(arguments, load_settings(folder).key)
    with Desk(folder, provider, verify=verify) as desk:
        yield Asking(
            desk=desk,
            actor=_actor(desk, arguments.token_file) or TERMINAL,
            second=_actor(desk, arguments.second_token_file),
        )


def say(arguments: argparse.Namespace, content: object, text: str) -> None:
    """Print an answer: as JSON where that was asked for, else as text."""
    print(json.dumps(content, indent=2, ensure_ascii=False) if arguments.json else text)


def progress(what: str, done: int, total: int) -> None:
    """Show how far something is, where somebody looks."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{what}: {done} of {total}", end=end, file=sys.stderr, flush=True)


def _actor(desk: Desk, path: Path | None) -> Actor | None:
    if path is None:
        return None
    return desk.actor(read_private(path, "a token").strip())


def make_token_key(arguments: argparse.Namespace, key: KeySource) -> None:
    """Make the vault's wrapping key inside a token.

    Raises:
        ConfigError: no PIN is named, or the token's library cannot be loaded.
        WrongKey, VaultError: the token refuses, or has a key of ours already.
    """
    from veilface_client.key_providers.pkcs11 import (  # noqa: PLC0415 -- an optional extra
        Token,
        create_token_key,
    )

    token = Token(module=Path(key.path), label=key.label, key_label=_KEY_LABEL)
    create_token_key(token, _pin(arguments))


def _token(arguments: argparse.Namespace, key: KeySource) -> KeyProvider:
    from veilface_client.key_providers.pkcs11 import (  # noqa: PLC0415 -- an optional extra
        Pkcs11Provider,
        Token,
    )

    token = Token(module=Path(key.path), label=key.label, key_label=_KEY_LABEL)
    return Pkcs11Provider(token, _pin(arguments))


def _pin(arguments: argparse.Namespace) -> str:
    from veilface_client.key_providers.pkcs11 import read_pin  # noqa: PLC0415 -- as above

    if arguments.pin_file is None:
        raise ConfigError("expected the token's PIN", hint="--pin-file FILE")
    return read_pin(arguments.pin_file)
