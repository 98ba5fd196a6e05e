"""Commands that are given something wrong: nothing half written, nothing that steers a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from veilface_client.cli import main
from veilface_client.home import Settings, save_settings

POLICY = 'unit = "identity"\nepsilon = 8.0\ndelta = 1e-5\n'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An organisation's folder, as far as these commands look."""
    folder = tmp_path / "shop"
    folder.mkdir()
    save_settings(folder, Settings(name="shop", model=""))
    return folder


@pytest.mark.parametrize(
    ("policy", "code"), [(POLICY, 3), (POLICY + '[requests]\nhourz = "1"\n', 2)]
)
def test_an_account_that_was_not_opened_leaves_nothing(
    home: Path, capsys: pytest.CaptureFixture[str], policy: str, code: int
) -> None:
    """Photographs that are not there, a slip in the policy: no rules are in force afterwards."""
    (home.parent / "policy.toml").write_text(policy)
    words = ["account", "open", f"folder:{home}/none", "--policy", f"{home.parent}/policy.toml"]
    declared = ["--people-declared", "2", "--photos-declared", "3"]
    assert main(["--home", str(home), *words, *declared]) == code
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not [path for path in home.rglob("training/*") if path.is_file()]


def test_a_strangers_manifest_is_shown_without_tricks(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Anybody may have written it; what it says is shown, and nothing else happens."""
    told = {"schema": 2, "licence": "free\x1b[2J\x1b]0;signed by: you\x07"}
    (home / "manifest.json").write_text(json.dumps(told))
    assert main(["--home", str(home), "model", "show", str(home)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("signed by: nobody")
    assert out.replace("\n", "").isprintable()
