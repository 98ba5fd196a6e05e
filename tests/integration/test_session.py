"""A new user's session: the commands of the README, as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SECONDS = 120.0


def session() -> list[str]:
    """Return the commands under 'Recognise people'."""
    part = README.split("## Recognise people")[1].split("\n## ")[0]
    return re.findall(r"^    (\S.*)$", part, re.MULTILINE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, small_run: Path) -> Path:
    """Return a folder with a small model where the README has the demonstration's."""
    folder = tmp_path_factory.mktemp("session")
    shutil.copytree(small_run, folder / "runs" / "demo")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    return folder


@contextmanager
def serving(script: str, place: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        ["bash", "-c", f"exec {script}"], cwd=place, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0


def fetch(port: int) -> str:
    """Return the page, once it is there. Its certificate is its own; that it is shown is enough."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    ends = time.monotonic() + SECONDS
    while True:
        try:
            url = f"https://127.0.0.1:{port}/"
            with urllib.request.urlopen(url, context=trusting) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.2)


def test_the_readme_s_session_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin, enrol, verify, a stranger is unknown, forget, prove it, serve, fetch the page."""
    told: dict[str, str] = {}
    *commands, serve = session()
    assert "serve" in serve
    for command in commands:
        if command.startswith("export "):
            for name, value in re.findall(r"(\w+)=(\S+)", command):
                monkeypatch.setenv(name, value)
            continue
        done = subprocess.run(
            ["bash", "-c", command], cwd=place, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (command, done.stderr)
        told[command.removeprefix(".venv/bin/")] = done.stdout
    answers = {
        " ".join(command.split()[1:3]): text for command, text in told.items() if "face " in command
    }
    assert "yes" in answers["verify ada"]
    assert answers["identify people/cyd/photo-0000.png"].startswith("unknown")
    assert answers["identify people/bob/photo-0000.png"].startswith("unknown")
    assert "forgotten" in answers["forget bob"]
    assert answers["vault check"].startswith("pass")
    assert next(text for command, text in told.items() if "audit" in command).startswith("PASS")
    clear = b"".join(p.read_bytes() for p in (place / "shop").rglob("*") if p.is_file())
    assert b"passphrase of your own" not in clear
    receipts = list((place / "shop" / "receipts").glob("*.json"))
    assert len(receipts) == 1
    audit = [".venv/bin/veilface-audit", str(receipts[0]), "--key", "shop/log.pub"]
    audit += ["--log", "shop/log.db"]
    assert subprocess.run(audit, cwd=place, check=False, env=os.environ).returncode == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(serve.replace("8443", str(port)), place):
        assert "<html" in fetch(port)
