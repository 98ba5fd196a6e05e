"""Flower's simulation engine on Ray, through `flwr run`; nothing that it starts outlives it.

    DIR/flower/app/pyproject.toml    the bundle: configuration and no code
    DIR/flower/home/                 Flower's own files (FLWR_HOME)
    DIR/flower/superlink.log         what Flower printed
    DIR/flower/lost-N.log            the same of an attempt that Flower gave up

Every process below carries the run's folder in its environment; that mark finds them all at the
end, whatever session or parent they have by then (Ray's detach themselves).
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from veilface_client import app as client
from veilface_common.bundle import write_bundle
from veilface_common.config import RunConfig
from veilface_common.errors import EngineError
from veilface_common.processes import end_marked, free_port
from veilface_server import app as server
from veilface_server.flower_command import (
    Standing,
    flower_environment,
    is_healthy,
    program,
    reason_in,
    standing_of,
    submit,
    write_connection,
)

MARK = "VEILFACE_ENGINE_OF"
_START_SECONDS = 90.0
_LOG = "superlink.log"
_GLANCE_SECONDS = 0.5
_ASK_SECONDS = 30.0  # Flower itself, where its log does not say that the run has ended
_END = b"Finished task"
# A busy machine: whoever works for a run must give a sign of life within a minute, from a thread
# of the process that trains, by a call that must be answered in 5 s. The run goes on where it was.
_SILENT = "No heartbeat"
_ATTEMPTS = 3


class _LostRunError(EngineError):
    """Flower took a run for dead that only was slow."""


def run_with_flower(
    config: RunConfig, organisations: Path, folder: Path, workers: int, work: Path
) -> None:
    """Run a federation to its end through Flower; `folder` is the coordinator's.

    `organisations` holds a folder for each organisation, `work` gets Flower's files.

    Raises:
        EngineError: Flower did not start, or the run failed.
    """
    count = sum(path.is_dir() for path in organisations.iterdir())
    work.mkdir(parents=True, exist_ok=True)
    write_bundle(work / "app", config)
    for attempt in range(1, _ATTEMPTS + 1):
        end_leftovers(work)
        with _temporary_folder() as temporary:
            environment = _environment(work, organisations, folder, temporary)
            try:
                _run_once(work, environment, count, workers)
            except _LostRunError:
                if attempt == _ATTEMPTS:
                    raise
                (work / _LOG).replace(work / f"lost-{attempt}.log")
            else:
                return
            finally:
                end_leftovers(work)


def _run_once(work: Path, environment: Mapping[str, str], count: int, workers: int) -> None:
    port = free_port()
    # No TLS: loopback, between processes of one user on one machine.
    write_connection(work / "home", f"127.0.0.1:{port}", None)
    superlink = _start_superlink(work, environment, port)
    _wait_for(superlink, port, work)
    _follow(_submit(work, environment, count, workers), superlink, work, environment)


def end_leftovers(work: Path) -> None:
    """End every process of an earlier or this run of the engine, and wait until they are gone."""
    end_marked(MARK, str(work.resolve()))


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Give Ray a folder of its own; a short one, since it keeps sockets there (107 characters)."""
    path = Path(tempfile.mkdtemp(prefix="vf-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _environment(work: Path, organisations: Path, folder: Path, temporary: Path) -> dict[str, str]:
    own = {
        MARK: str(work.resolve()),
        client.KEEPER_VARIABLE: f"simulation:{organisations.resolve()}",
        server.FOLDER_VARIABLE: str(folder.resolve()),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(temporary),
    }
    return flower_environment(work / "home", own)


def _start_superlink(
    work: Path, environment: Mapping[str, str], port: int
) -> subprocess.Popen[bytes]:
    command = [
        "flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess",
        "--host", "127.0.0.1", "--port", str(port),
        "--control-api-address", f"127.0.0.1:{free_port()}",
        "--disable-runtime-dependency-installation",
    ]  # fmt: skip
    with (work / _LOG).open("wb") as log:
        return subprocess.Popen(  # noqa: S603 -- our own command line
            [program(command[0], environment), *command[1:]],
            env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,  # Ctrl-C reaches us alone; we then end it
        )  # fmt: skip


def _wait_for(superlink: subprocess.Popen[bytes], port: int, work: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if superlink.poll() is not None:
            break
        if is_healthy(f"127.0.0.1:{port}", None):
            return
        time.sleep(0.2)
    raise EngineError(
        "Flower's SuperLink did not start",
        hint=f"see {work / _LOG}, or --engine inprocess",
    )


def _submit(work: Path, environment: Mapping[str, str], count: int, workers: int) -> str:
    """Hand the run to Flower and return its number."""
    size = (
        f"num-supernodes={count} client-resources-num-cpus=1 client-resources-num-gpus=0.0 "
        f"init-args-num-cpus={workers} init-args-log-to-driver=false"
    )
    return submit(work / "app", ["--federation-config", size], environment)


def _follow(
    number: str,
    superlink: subprocess.Popen[bytes],
    work: Path,
    environment: Mapping[str, str],
) -> None:
    """Wait for the end of the run. Its progress is seen in the coordinator's folder."""
    log = work / _LOG
    asked = time.monotonic()
    while True:
        time.sleep(_GLANCE_SECONDS)
        lost = superlink.poll() is not None
        if not lost and not _has_ended(log) and time.monotonic() - asked < _ASK_SECONDS:
            continue
        standing = Standing("lost") if lost else standing_of(number, environment)
        asked = time.monotonic()
        if standing.status == "finished:completed":
            return
        if not lost and not standing.status.startswith("finished"):
            continue
        hint = f"see {log}"
        if _SILENT in standing.details:
            raise _LostRunError(
                f"Flower gave the run up {_ATTEMPTS} times: no sign of life for a minute",
                hint=f"less beside it on this machine, or --engine inprocess; {hint}",
            )
        raise EngineError(
            f"Flower's run ended as {standing.status}: {reason_in(log, standing.details)}",
            hint=hint,
        )


def _has_ended(log: Path) -> bool:
    """Whether the SuperLink says so; what became of the run it is then asked."""
    return _END in log.read_bytes()
