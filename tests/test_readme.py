"""The README says what the program says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from veilface_audit.__main__ import build_parser as audit_parser
from veilface_client.cli import build_parser as client_parser
from veilface_server.cli import build_parser as server_parser
from veilface_simulations.cli import build_parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def help_of(
    *commands: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        build_parser().parse_args([*commands, "--help"])
    return capsys.readouterr().out


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="argparse words differ by version")
def test_the_help_text_is_the_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The block in the README is what `veilface-sim run --help` prints."""
    text = help_of("run", monkeypatch=monkeypatch, capsys=capsys)
    block = "".join(f"    {line}".rstrip() + "\n" for line in text.splitlines())
    assert block in README


PARSERS = {
    "veilface-sim": build_parser,
    "veilface": client_parser,
    "veilface-audit": audit_parser,
    "veilface-server": server_parser,
}


def test_every_command_in_the_readme_parses() -> None:
    """An example that the program refuses is a defect."""
    pattern = r"^    (?:\.venv/bin/)?(veilface(?:-[a-z]+)?) (.*)$"
    lines = re.findall(pattern, README, re.MULTILINE)
    assert {command for command, _ in lines} == set(PARSERS)
    assert len(lines) >= 7
    for command, line in lines:
        PARSERS[command]().parse_args(shlex.split(line))


def test_every_command_of_the_demonstration_parses(tmp_path: Path) -> None:
    """Those that `make demo` runs where nothing was made yet, as `make` expands them."""
    makefile = shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".ready").touch()
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(shutil.copy(ROOT / name, tmp_path), (0, 0))
    made = subprocess.run(
        ["make", "-n", "-f", makefile, "demo"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout.replace("\\\n", " ")  # fmt: skip
    lines = re.findall(r"\.venv/bin/(veilface(?:-[a-z]+)?) ([^;|>\n]*)", made)
    assert {command for command, _ in lines} == set(PARSERS) - {"veilface-server"}
    assert len(lines) >= 15
    for command, line in lines:
        PARSERS[command]().parse_args(shlex.split(line))


def test_every_link_leads_somewhere() -> None:
    """Files that the README names are there."""
    for target in re.findall(r"\]\(((?!https?:)[^)#]+)\)", README):
        assert (ROOT / target).exists(), target
