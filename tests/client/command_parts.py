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

Veilface = Callable[..., tuple[int, Any, str]]


def runner(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Veilface:
    """Return a function that runs a command and gives (exit code, what it printed, errors).

    The organisation's home is `folder`/shop.
    """
    passphrase = folder / "pass.txt"
    passphrase.write_text(PASSPHRASE)
    passphrase.chmod(0o600)
    monkeypatch.setenv("VEILFACE_PASSPHRASE_FILE", str(passphrase))
    monkeypatch.setenv("VEILFACE_HOME", str(folder / "shop"))
    monkeypatch.setattr(desk, "Desk", WordDesk)
    monkeypatch.setattr(
        "veilface_client.key_providers.passphrase.PassphraseProvider",
        lambda text: PassphraseProvider(text, CHEAPEST),
    )

    def run(*arguments: str) -> tuple[int, Any, str]:
        code = main(arguments)
        told = capsys.readouterr()
        text: Any = json.loads(told.out) if "--json" in arguments and told.out else told.out
        return code, text, told.err

    return run
