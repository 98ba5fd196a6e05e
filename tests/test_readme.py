"""The README says what the program says."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

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


def test_every_command_in_the_readme_parses() -> None:
    """An example that the program refuses is a defect."""
    lines = re.findall(r"^    (?:\.venv/bin/)?veilface-sim (.*)$", README, re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        build_parser().parse_args(shlex.split(line))


def test_every_link_leads_somewhere() -> None:
    """Files that the README names are there."""
    for target in re.findall(r"\]\(((?!https?:)[^)#]+)\)", README):
        assert (ROOT / target).exists(), target
