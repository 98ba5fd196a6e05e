"""The service as a process of its own, on a free port, over TLS."""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PROGRAM = """
import sys
from pathlib import Path
from tests.client.recognition.desks import provider
from veilface_client.recognition.desk import Desk
from veilface_client.service import run_service

with Desk(Path(sys.argv[1]), provider()) as desk:
    run_service(
        desk, host="127.0.0.1", port=0, certificate=None, key=None,
        on_ready=lambda line: print(line, flush=True),
    )
print("closed", flush=True)
"""


@dataclass
class Serving:
    """A service that answers."""

    process: subprocess.Popen[str]
    address: str
    fingerprint: str
    certificate: Path
    said: list[str] = field(default_factory=list)  # everything it wrote

    def trusting(self) -> ssl.SSLContext:
        """Return a client's settings that trust this service's certificate and no other."""
        return ssl.create_default_context(cafile=self.certificate)


@contextmanager
def serving(folder: Path) -> Iterator[Serving]:
    """Start the service of the organisation in `folder`; it is stopped if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line)
            if line.startswith("certificate, SHA-256: "):
                break
        else:
            raise AssertionError("".join(lines))
        found = Serving(
            process=process,
            address=next(line.split()[-1] for line in lines if "https://" in line).rstrip("/"),
            fingerprint=lines[-1].split()[-1],
            certificate=folder / "service.crt",
            said=lines,
        )
        reader = threading.Thread(target=lines.extend, args=(process.stdout,))
        reader.start()
        yield found
    finally:
        process.terminate()
        process.wait(60)
    reader.join()
