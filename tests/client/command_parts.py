"""`veilface` run within a test: a home of its own, and photographs that are files with a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.client.recognition.desks import PASSPHRASE, WordDesk

from veilface_client.cli import main
from veilface_client.key_providers.passphrase import CHEAPEST, PassphraseProvider
from veilface_client.recognition import desk
from veilface_client.recognition.desk import Desk

Veilface = Callable[..., tuple[int, Any, str]]


def settle(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Desk] = WordDesk) -> None:
    """Let commands find a home in `folder`/shop, quick to unlock, with such a desk."""
    passphrase = folder / "pass.txt"
    passphrase.write_text(PASSPHRASE)
    passphrase.chmod(0o600)
    monkeypatch.setenv("VEILFACE_PASSPHRASE_FILE", str(passphrase))
    monkeypatch.setenv("VEILFACE_HOME", str(folder / "shop"))
    monkeypatch.setattr(desk, "Desk", kind)
    monkeypatch.setattr(
        "veilface_client.key_providers.passphrase.PassphraseProvider",
        lambda text: PassphraseProvider(text, CHEAPEST),
    )


def runner(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Veilface:
    """Return a function that runs a command and gives (exit code, what it printed, errors)."""
    settle(folder, monkeypatch)

    def run(*arguments: str) -> tuple[int, Any, str]:
        code = main(arguments)
        told = capsys.readouterr()
        text: Any = json.loads(told.out) if "--json" in arguments and told.out else told.out
        return code, text, told.err

    return run
