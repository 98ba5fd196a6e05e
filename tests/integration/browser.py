"""The page in a real browser: a service in a thread, Chromium without a window, a camera of a file.

Chromium is looked for in $VEILFACE_CHROMIUM and on the PATH. Nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import uvicorn
from PIL import Image
from tests.client.recognition.desks import provider
from tests.client.service.parts import STAFF, as_jpeg, drawn_photo, picture_home

from veilface_client.recognition.desk import Desk
from veilface_client.recognition.upkeep import add_user
from veilface_client.roles import TERMINAL
from veilface_client.service.certificate import made_certificate
from veilface_client.service.running import _settings

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
SHOTS = os.environ.get("VEILFACE_SCREENSHOTS")


def chromium() -> tuple[str, dict[str, str]]:
    """Return (the program, its environment); the test is skipped where there is none."""
    named = os.environ.get("VEILFACE_CHROMIUM")
    found = named or shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        pytest.skip("no Chromium: install it, or name it in VEILFACE_CHROMIUM")
    return found, dict(os.environ)


def camera_file(path: Path, person: int) -> Path:
    """Write a film of a drawn person who stands still, 640 x 480, as Chromium's camera takes it."""
    frame = Image.new("RGB", (640, 480), (90, 100, 110))
    frame.paste(drawn_photo(person, pixels=480), (80, 0))
    path.write_bytes(as_jpeg(frame) * 10)
    return path


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, dict[str, str], Desk]]:
    """Yield (address, {role: token}, desk) of a service that answers over TLS."""
    picture_home(folder)
    with Desk(folder, provider()) as desk, closing(socket.socket()) as listening:
        tokens = {role: add_user(desk, TERMINAL, role, role, days=90) for role in STAFF}
        listening.bind(("127.0.0.1", 0))
        certificate = made_certificate(folder, "127.0.0.1", desk.clock())
        server = uvicorn.Server(_settings(desk, certificate, is_own=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        address = f"https://127.0.0.1:{listening.getsockname()[1]}"
        listening.listen()
        thread.start()
        try:
            yield address, tokens, desk
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def browser(camera: Path) -> Iterator[playwright.Browser]:
    """Yield a Chromium whose camera shows a film."""
    program, environment = chromium()
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(
            executable_path=program,
            env=environment,
            args=[
                "--no-sandbox",  # the tests may run as root
                "--disable-gpu",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-video-capture={camera}",
            ],
        )
