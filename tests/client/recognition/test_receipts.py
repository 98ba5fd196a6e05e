"""Receipts of people who were forgotten, verified by a program that knows nothing of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.client.recognition.desks import open_desk

from veilface_audit.__main__ import main
from veilface_client.recognition import enrolment, leaving
from veilface_client.roles import TERMINAL


@pytest.fixture
def receipt(tmp_path: Path) -> Path:
    with open_desk(tmp_path / "shop") as desk:
        for name in ("ada", "bob"):
            consent = enrolment.Consent(version="1")
            enrolment.enrol(desk, TERMINAL, name, [f"{name}/1".encode()], consent)
        done = leaving.forget(desk, TERMINAL, "ada")
    return tmp_path / "shop" / "receipts" / f"{done.pseudonym}.json"


def audit(receipt: Path, *, log: bool = True) -> int:
    home = receipt.parents[1]
    with_log = ["--log", str(home / "log.db")] if log else []
    return main([str(receipt), "--key", str(home / "log.pub"), *with_log])


def test_a_receipt_passes_with_and_without_its_log(
    receipt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As JSON too."""
    assert audit(receipt) == audit(receipt, log=False) == 0
    key = str(receipt.parents[1] / "log.pub")
    capsys.readouterr()
    assert main([str(receipt), "--key", key, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["pseudonym"]) == ("pass", receipt.stem)


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told | {"time": "2020-01-01T00:00:00+00:00"},
        lambda told: told | {"pseudonym": "0" * 32},
        lambda told: told | {"holds_not": ""},
        lambda told: told | {"note": "all copies are gone"},
        lambda told: {name: value for name, value in told.items() if name != "root"},
        lambda told: told | {"signature": "00" * 64},
    ],
)
def test_a_receipt_that_was_altered_fails(
    receipt: Path, change: Callable[[dict[str, object]], dict[str, object]]
) -> None:
    """Whatever is changed, added or taken away."""
    receipt.write_text(json.dumps(change(json.loads(receipt.read_text()))))
    assert audit(receipt, log=False) == 1


def test_a_receipt_of_another_log_fails(receipt: Path, tmp_path: Path) -> None:
    """The log must hold what the receipt says of it."""
    other = tmp_path / "other"
    other.mkdir()
    with open_desk(other / "shop"):
        pass
    home = receipt.parents[1]
    (home / "log.db").unlink()
    (home / "log.db").write_bytes((other / "shop" / "log.db").read_bytes())
    assert audit(receipt, log=False) == 0
    assert audit(receipt) == 1
