"""`veilface` at the terminal: what it prints, and with which code it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.client.command_parts import Veilface, runner
from tests.client.recognition.desks import model_folder

from veilface_client.cli import _COMMANDS, _EXAMPLES, build_parser, main


@pytest.fixture
def veilface(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Veilface:
    """Return a function that runs a command of an organisation with a model."""
    run = runner(tmp_path, monkeypatch, capsys)
    model = model_folder(tmp_path / "model")
    assert run("init", "--name", "shop", "--model", str(model), "--detector", "centre")[0] == 0
    return run


def photo(folder: Path, word: str) -> str:
    path = folder / f"{word.replace('/', '-')}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(word)
    return str(path)


def test_a_session(veilface: Veilface, tmp_path: Path) -> None:
    """Enrol, verify, identify, list, forget, check: each says what it did, as text and as JSON."""
    taken = [photo(tmp_path, f"ada/{number}") for number in (1, 2)]
    code, told, _ = veilface("enrol", "ada", *taken, "--consent", "1", "--json")
    assert (code, told["person"], told["photographs"]) == (0, "ada", 2)
    assert "card" not in told
    assert veilface("verify", "ada", photo(tmp_path, "ada/3"), "--json")[1]["match"] is True
    assert veilface("verify", "ada", photo(tmp_path, "eve/3"))[1].startswith("no: below")
    assert veilface("identify", photo(tmp_path, "ada/4"), "--json")[1]["answer"] == "ada"
    assert veilface("identify", photo(tmp_path, "eve/4"), "--json")[1]["answer"] is None
    assert [one["person"] for one in veilface("people", "--json")[1]] == ["ada"]
    receipt = veilface("forget", "ada", "--json")[1]
    assert receipt["epoch_after"] == receipt["epoch_before"] + 1
    assert veilface("people")[1].strip() == "nobody is enrolled"
    code, told, _ = veilface("vault", "check", "--json")
    assert (code, told) == (0, {"verdict": "pass", "findings": []})
    lines = [json.loads(line) for line in veilface("log")[1].splitlines()]
    assert [line["kind"] for line in lines if line["kind"] in ("enrolled", "forgotten")] == [
        "enrolled",
        "forgotten",
    ]


def test_a_folder_of_people(veilface: Veilface, tmp_path: Path) -> None:
    """Who cannot be enrolled is listed with the reason, and the others are; the code says so."""
    for person in ("ada", "bob"):
        photo(tmp_path / "people" / person, f"{person}/1")
    photo(tmp_path / "people" / "cyd", "!none")
    (tmp_path / "people" / "dan").mkdir()
    code, told, _ = veilface("enrol", str(tmp_path / "people"), "--consent", "1", "--json")
    assert code == 3
    assert [one["person"] for one in told["enrolled"]] == ["ada", "bob"]
    assert [one["person"] for one in told["failed"]] == ["cyd", "dan"]


def test_a_card(veilface: Veilface, tmp_path: Path) -> None:
    """A holder's secret is shown once and opens their templates from a file."""
    taken = photo(tmp_path, "ada/1")
    card = veilface("enrol", "ada", taken, "--consent", "1", "--holder", "--json")[1]["card"]
    path = tmp_path / "card.txt"
    path.write_text(card)
    path.chmod(0o600)
    asked = ("verify", "ada", photo(tmp_path, "ada/2"))
    assert veilface(*asked, "--card-file", str(path), "--json")[1]["match"] is True
    code, _, error = veilface(*asked)
    assert (code, error.count("\n")) == (11, 1)
    assert "card" in error


def test_users_and_two_people(veilface: Veilface, tmp_path: Path) -> None:
    """A token does what its role may; exporting everybody takes another person's."""
    assert veilface("enrol", "ada", photo(tmp_path, "ada/1"), "--consent", "1")[0] == 0
    files = {}
    for name, role in (
        ("door", "operator"),
        ("one", "privacy-officer"),
        ("two", "privacy-officer"),
    ):
        token = veilface("users", "add", name, "--role", role, "--json")[1]["token"]
        files[name] = tmp_path / f"{name}.token"
        files[name].write_text(token)
        files[name].chmod(0o600)
    assert "digest" not in str(veilface("users", "list", "--json")[1])
    as_door = ("--token-file", str(files["door"]))
    assert veilface("identify", photo(tmp_path, "ada/2"), *as_door)[0] == 0
    code, _, error = veilface("forget", "ada", *as_door)
    assert (code, "expected somebody who may forget" in error) == (12, True)
    out = ("export-person", "--out", str(tmp_path / "all.json"), "--token-file", str(files["one"]))
    assert veilface(*out)[0] == 12
    assert veilface(*out, "--second-token-file", str(files["one"]))[0] == 12
    assert veilface(*out, "--second-token-file", str(files["two"]))[0] == 0
    exported = json.loads((tmp_path / "all.json").read_text())
    assert [one["record"]["name"] for one in exported] == ["ada"]
    assert (tmp_path / "all.json").stat().st_mode & 0o077 == 0


def test_keys_change_and_are_recovered(veilface: Veilface, tmp_path: Path) -> None:
    """A new passphrase opens and the old one does not; three shares make a third one."""
    assert veilface("enrol", "ada", photo(tmp_path, "ada/1"), "--consent", "1")[0] == 0
    shares = veilface("vault", "shares", "--json")[1]["shares"]
    new = tmp_path / "new.txt"
    new.write_text("another one")
    new.chmod(0o600)
    assert veilface("vault", "rotate", "--new-passphrase-file", str(new))[0] == 0
    code, _, error = veilface("people")
    assert (code, "passphrase" in error) == (11, True)
    assert "ada" in veilface("people", "--passphrase-file", str(new))[1]
    held = tmp_path / "shares.txt"
    held.write_text("\n".join(shares[1:4]))
    held.chmod(0o600)
    third = tmp_path / "third.txt"
    third.write_text("a third one")
    third.chmod(0o600)
    recovered = (
        "vault",
        "recover",
        "--shares-file",
        str(held),
        "--new-passphrase-file",
        str(third),
    )
    assert veilface(*recovered)[0] == 0
    assert "ada" in veilface("people", "--passphrase-file", str(third))[1]
    held.write_text("\n".join(shares[:2]))
    assert veilface(*recovered)[0] == 11


def test_a_backup_and_its_return(veilface: Veilface, tmp_path: Path) -> None:
    """Both parts bring back who was there; a name that is taken is not written over."""
    assert veilface("enrol", "ada", photo(tmp_path, "ada/1"), "--consent", "1")[0] == 0
    parts = (str(tmp_path / "templates.db"), str(tmp_path / "keys.db"))
    assert veilface("vault", "backup", *parts)[0] == 0
    assert veilface("vault", "backup", *parts)[0] == 11
    assert veilface("enrol", "bob", photo(tmp_path, "bob/1"), "--consent", "1")[0] == 0
    code, told, _ = veilface("vault", "restore", *parts, "--json")
    assert (code, told["people"]) == (0, 1)
    assert [one["person"] for one in veilface("people", "--json")[1]] == ["ada"]
    assert veilface("vault", "check")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("--home", "nowhere", "people"), 2, "home.json"),
        (("enrol", "ada", "photo.png"), 2, "--consent"),
        (("enrol", "nobody", "--consent", "1"), 2, "folder"),
        (("enrol", "ada", "missing.png", "--consent", "1"), 3, "missing"),
        (("verify", "nobody", "missing.png"), 3, "missing"),
        (("forget", "nobody"), 3, "enrolled"),
        (("users", "remove", "nobody"), 2, "veilface users list"),
        (("init", "--name", "shop", "--model", "x"), 2, "another --home"),
        (("calibrate", "identify"), 3, "at least 20"),
        (("fly",), 2, "invalid choice"),
    ],
)
def test_errors_are_one_line_with_a_code(
    veilface: Veilface, arguments: tuple[str, ...], code: int, word: str
) -> None:
    """What went wrong, what to do about it, and nothing of Python."""
    got, _, error = veilface(*arguments)
    assert (got, error.count("\n")) == (code, 1), error
    assert word in error
    assert "Traceback" not in error


def test_every_example_parses() -> None:
    """Each command has one, and the program takes it."""
    parser = build_parser()
    assert set(_EXAMPLES) == {name for name, _, _ in _COMMANDS}
    for lines in _EXAMPLES.values():
        for line in lines:
            parser.parse_args(line.split())


def test_completion_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """A shell's script that knows the commands."""
    with pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    assert "identify" in capsys.readouterr().out
