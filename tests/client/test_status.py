"""`veilface status`: light, without a key, and it says what is wrong instead of ending there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.client.door_parts import BUDGET, ask, kinds, organisation, to_train

from veilface_client import spending
from veilface_client.account import LEDGER, open_ledger
from veilface_client.cli import main
from veilface_client.keeper_socket import listening
from veilface_client.overview import overview
from veilface_client.spending import epsilon_spent
from veilface_common.budget.accountant import epsilon
from veilface_common.budget.events import Mechanism
from veilface_common.errors import ConfigError
from veilface_common.files import write_atomically


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return an organisation's folder, in a federation, with an account and a model's manifest."""
    organisation(tmp_path / "training")
    settings = {"schema": 1, "name": "org", "model": "ab" * 32}
    (tmp_path / "home.json").write_text(json.dumps(settings))
    manifest = tmp_path / "models" / ("ab" * 8) / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"schema": 2, "sequence": 7, "federation": "clinics"}))
    return tmp_path


def test_it_says_what_the_ledger_says(home: Path) -> None:
    """Epsilon, rounds, refusals and what is open are those of the ledger; the model, the file's."""
    folder = home / "training"
    door = organisation(folder)
    ask(door, to_train(1))
    ask(door, to_train(3))
    ask(door, to_train(2))  # out of order: a refusal
    found = overview(home, home / "keeper.sock")
    ledger = open_ledger(folder)
    assert ledger is not None
    account = found.account
    assert account is not None
    assert account.epsilon_spent == ledger.spent().charged > 0
    assert account.epsilon_left == BUDGET.epsilon - ledger.spent().charged
    assert (account.rounds, account.runs, account.open_reservations) == (2, 1, 0)
    assert account.refusals == kinds(folder).count("refuse") == 1
    assert "after round 3" in account.newest_refusals[0]
    assert found.model is not None
    assert (found.model.sequence, found.model.federation) == (7, "clinics")
    assert not found.is_keeper_listening
    assert found.problems == ()


def test_a_keeper_that_listens_is_seen(home: Path) -> None:
    """The socket is asked, not looked for: one that was left over is no keeper."""
    socket = home / "keeper.sock"
    with listening(socket, organisation(home / "training")):
        assert overview(home, socket).is_keeper_listening
    socket.touch()
    assert not overview(home, socket).is_keeper_listening


def test_an_altered_ledger_is_a_problem_and_the_rest_is_told(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One damaged file hides nothing but itself."""
    path = home / "training" / LEDGER
    path.write_bytes(path.read_bytes().replace(b'"epsilon":30.0', b'"epsilon":90.0'))
    found = overview(home, home / "keeper.sock")
    assert found.account is None
    assert "altered" in found.problems[0]
    assert main(["--home", str(home), "status"]) == 0
    text = capsys.readouterr().out
    assert "problem     " in text
    assert "release 7 of clinics" in text


def test_others_words_do_not_steer_the_terminal(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Escape sequences in what a coordinator or an error said are shown as blanks."""
    failure = json.dumps({"request": "train 1", "error": "DataError: \x1b[2J\nproblem     none"})
    (home / "training" / "failures.jsonl").write_text(failure + "\n")
    main(["--home", str(home), "status"])
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "\nproblem" not in text


def test_it_needs_neither_passphrase_nor_pytorch(home: Path) -> None:
    """Where epsilon was computed before, nothing that takes seconds is brought in."""
    ask(organisation(home / "training"), to_train(1))
    before = overview(home, home / "keeper.sock").account  # as the keeper does after each request
    program = (
        "import sys, veilface_client.cli as cli; cli.main(sys.argv[1:]); "
        "sys.exit(not {'torch', 'opacus', 'dp_accounting', 'flwr'}.isdisjoint(sys.modules))"
    )
    arguments = [sys.executable, "-c", program, "--home", str(home), "status", "--json"]
    done = subprocess.run(arguments, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    account = json.loads(done.stdout)["account"]
    assert before is not None
    assert account["epsilon_spent"] == before.epsilon_spent


def test_no_folder_is_said_in_one_line(tmp_path: Path) -> None:
    """There is nothing to tell of a folder that is no organisation's."""
    with pytest.raises(ConfigError, match=r"no home\.json"):
        overview(tmp_path, tmp_path / "keeper.sock")


def test_kept_epsilon_is_of_its_charges_alone(tmp_path: Path) -> None:
    """A number that was kept is not taken for one more step, or for another delta."""
    steps = {Mechanism(sample_rate=0.5, noise_multiplier=1.0): 3}
    more = {Mechanism(sample_rate=0.5, noise_multiplier=1.0): 4}
    assert epsilon_spent(tmp_path, steps, 1e-5) == epsilon(steps, 1e-5).charged
    kept = json.loads((tmp_path / spending.FILE).read_text())
    write_atomically(tmp_path / spending.FILE, json.dumps(kept | {"epsilon": 0.5}).encode())
    assert epsilon_spent(tmp_path, steps, 1e-5) == 0.5
    assert epsilon_spent(tmp_path, steps, 1e-6) == epsilon(steps, 1e-6).charged
    assert epsilon_spent(tmp_path, more, 1e-5) == epsilon(more, 1e-5).charged


def test_the_keeper_never_takes_a_kept_epsilon(home: Path) -> None:
    """Whoever writes 0 into the file sees 0, and buys nothing with it."""
    folder = home / "training"
    ask(organisation(folder), to_train(1))
    overview(home, home / "keeper.sock")
    kept = json.loads((folder / spending.FILE).read_text())
    (folder / spending.FILE).write_text(json.dumps(kept | {"epsilon": 0.0}))
    ledger = open_ledger(folder)
    assert ledger is not None
    assert ledger.spent().charged > 0
