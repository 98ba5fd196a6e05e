"""`veilface-server` at a terminal: one line for what is wrong, and what to do about it."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.server.coordinator_parts import asks_to_join

from veilface_common.invitation import parse_invitation, spoken
from veilface_server.cli import main
from veilface_server.commands import training
from veilface_server.home import Home
from veilface_server.register import Member, change, joined, load_members


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return the folder that `init` makes."""
    folder = tmp_path / "federation"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    init = ["init", "--name", "clinics", "--address", address, "--listen", address]
    assert run(folder, *init) == 0
    return folder


def run(folder: Path, *words: str) -> int:
    return main(["--home", str(folder), *words])


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line on standard error."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_init_makes_secrets_for_the_owner_alone(home: Path) -> None:
    """Files 0600, the folder 0700; only what is public may be read by others."""
    assert home.stat().st_mode & 0o777 == 0o700
    files = [path for path in home.rglob("*") if path.is_file()]
    public = {path.name for path in files if path.stat().st_mode & 0o077}
    assert public == {"server.pub", "ca.crt"}
    assert (home / "storage.key").stat().st_size == 32


def test_init_never_replaces_a_federation(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its keys would be lost."""
    before = (home / "server.key").read_bytes()
    assert run(home, "init", "--name", "x", "--address", "h:1") == 2
    assert "already" in complaint(capsys)
    assert (home / "server.key").read_bytes() == before


def test_init_mends_a_folder_that_lost_its_settings(home: Path) -> None:
    """Settings are written again; keys, on which all members and checkpoints hang, never are."""
    names = ("server.key", "storage.key", "tls/ca.key", "tls/ca.crt")
    before = [(home / name).read_bytes() for name in names]
    for lost in ("server.json", "server.pub"):
        (home / lost).unlink()
    assert run(home, "init", "--name", "clinics", "--address", "fed.example.org:8443") == 0
    assert [(home / name).read_bytes() for name in names] == before
    assert (home / "server.pub").exists()


@pytest.mark.parametrize(
    "address",
    ["fed", "fed:", "fed:0", "fed:99999", "a b:1", "fed:1/x", "-a:1", "", "fed:" + "1" * 5000],
)
def test_an_address_is_host_and_port(tmp_path: Path, address: str) -> None:
    """It stands in invitations and certificates."""
    assert run(tmp_path / "new", "init", "--name", "x", "--address", address) == 2
    assert not (tmp_path / "new" / "server.json").exists()


def test_start_without_init(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line says which command comes first."""
    assert run(tmp_path, "start") == 2
    assert "init --name" in complaint(capsys)


def test_start_with_an_open_key(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A key that others may read is not used."""
    (home / "server.key").chmod(0o644)
    assert run(home, "start") == 4
    assert "chmod 600" in complaint(capsys)


def test_start_in_a_folder_that_others_may_write(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They could put their own key into its place."""
    home.chmod(0o770)
    assert run(home, "start") == 2
    assert "chmod 700" in complaint(capsys)


def test_start_on_a_taken_port(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said before anything is started."""
    host, port = json.loads((home / "server.json").read_text())["listen"].split(":")
    with socket.socket() as other:
        other.bind((host, int(port)))
        other.listen()
        assert run(home, "start") == 2
    assert "Address already in use" in complaint(capsys)
    assert not list((home / "log").iterdir())


def test_an_invitation_says_the_same_on_both_sides(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the coordinator reads aloud is what the organisation finds in the file."""
    file = tmp_path / "ada.invitation"
    assert run(home, "invite", "ada", "--out", str(file)) == 0
    said = capsys.readouterr().err
    assert file.stat().st_mode & 0o777 == 0o600
    found = parse_invitation(file.read_text())
    assert spoken(found.coordinator_key) in said
    assert found.ca == (home / "tls" / "ca.crt").read_text()
    request = asks_to_join("ada", found.token)
    now = datetime.now(UTC)
    change(Home(home), "ada", lambda known: joined(known, request, now))
    assert run(home, "members") == 0
    assert spoken(request.organisation_key) in capsys.readouterr().out


def test_an_invitation_that_cannot_be_written_replaces_none(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one that was sent before still stands."""
    assert run(home, "invite", "ada") == 0
    before = load_members(home)
    capsys.readouterr()
    assert run(home, "invite", "ada", "--out", str(home / "nowhere" / "ada.txt")) == 2
    assert "nowhere" in complaint(capsys)
    assert load_members(home) == before


def test_approving_needs_somebody_who_waits_and_a_coordinator_that_runs(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is its own line."""
    assert run(home, "approve", "ada") == 2
    assert "members: none" in complaint(capsys)
    run(home, "invite", "ada")
    found = parse_invitation(capsys.readouterr().out)
    assert run(home, "approve", "ada") == 2
    assert "has not answered" in complaint(capsys)
    request = asks_to_join("ada", found.token)
    now = datetime.now(UTC)
    change(Home(home), "ada", lambda known: joined(known, request, now))
    assert run(home, "approve", "ada") == 7
    assert "start" in complaint(capsys)
    assert load_members(home)["ada"].status == "waiting"


def test_training_needs_a_coordinator_that_runs(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And writes nothing where there is none."""
    assert run(home, "train") == 7
    assert "start" in complaint(capsys)
    assert not list((home / "runs").glob("*/run.json"))


@pytest.fixture
def running(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A federation with one member, whose coordinator seems to run and takes every run."""
    monkeypatch.setattr(training, "verify_running", lambda _: None)
    monkeypatch.setattr(training, "_handed_over", lambda *_: None)
    change(Home(home), "ada", lambda _: Member(name="ada", status="member"))
    return home


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (("--rounds", "0"), 2),
        (("--min-organisations", "0"), 2),
        (("--delta", "2"), 9),
        (("--epsilon", "nan"), 9),
        (("--set", "privacy.unit=none"), 2),
        ((), 6),  # one member is too few, unless one says so
    ],
)
def test_a_plan_that_makes_no_sense_is_no_run(
    running: Path, capsys: pytest.CaptureFixture[str], wrong: tuple[str, ...], code: int
) -> None:
    """One line, and nothing is written."""
    least = ("--min-organisations", "1") if wrong and wrong[0] != "--min-organisations" else ()
    assert run(running, "train", *least, *wrong) == code
    assert "expected" in complaint(capsys)
    assert not list((running / "runs").iterdir())


def test_no_run_takes_the_place_of_another(running: Path) -> None:
    """Its name is drawn, whatever --set says."""
    words = ("train", "--min-organisations", "1", "--rounds", "1", "--set", "run=" + "0" * 16)
    assert run(running, *words) == 0
    (folder,) = (running / "runs").glob("*/run.json")
    assert folder.parent.name != "0" * 16


def test_status_of_a_federation_that_rests(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without asking Flower, which is not there."""
    assert run(home, "status", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["process"], found["runs"]) == ("clinics", None, [])
