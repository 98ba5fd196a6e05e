"""Flower's simulation engine on Ray, through `flwr run`; nothing that it starts outlives it.

    DIR/flower/app/pyproject.toml    the bundle: configuration and no code
    DIR/flower/home/                 Flower's own files (FLWR_HOME)
    DIR/flower/*.log                 what Flower printed

Every process below carries the run's folder in its environment; that mark finds them all at the
end, whatever session or parent they have by then (Ray's detach themselves).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from veilface_client import app as client
from veilface_common.config import RunConfig, Scalar, to_flat
from veilface_common.errors import EngineError
from veilface_server import app as server

MARK = "VEILFACE_ENGINE_OF"
_START_SECONDS = 90.0
_POLL_SECONDS = 3.0
_LOCAL_ONLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


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
    end_leftovers(work)
    with _temporary_folder() as temporary:
        environment = _environment(work, organisations, folder, temporary)
        port = _free_port()
        _write_app(work / "app", config)
        _write_home(work / "home", port)
        superlink = _start_superlink(work, environment, port)
        try:
            _wait_for(superlink, port, work)
            _follow(_submit(work, environment, count, workers), superlink, work, environment)
        finally:
            end_leftovers(work)


def end_leftovers(work: Path) -> None:
    """End every process of an earlier or this run of the engine, and wait until they are gone."""
    marked = [process for process in psutil.process_iter() if _is_marked(process, work)]
    for process in marked:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(marked, timeout=5)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=5)


def _is_marked(process: psutil.Process, work: Path) -> bool:
    try:
        mark = str(process.environ().get(MARK))
        return process.pid != os.getpid() and mark == str(work.resolve())
    except (psutil.Error, OSError):
        return False


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Give Ray a folder of its own; a short one, since it keeps sockets there (107 characters)."""
    path = Path(tempfile.mkdtemp(prefix="vf-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _environment(work: Path, organisations: Path, folder: Path, temporary: Path) -> dict[str, str]:
    programs = str(Path(sys.executable).parent)
    return os.environ | {
        MARK: str(work.resolve()),
        client.KEEPER_VARIABLE: f"simulation:{organisations.resolve()}",
        server.FOLDER_VARIABLE: str(folder.resolve()),
        "FLWR_HOME": str((work / "home").resolve()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(temporary),
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
        # `python -m` and console scripts must find Flower's programs without an activated venv.
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", "")]),
    }


def _write_app(folder: Path, config: RunConfig) -> None:
    """Write the bundle: the apps come from the installed packages, the bundle brings settings."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = "\n".join(f"{_key(name)} = {_toml(v)}" for name, v in to_flat(config).items())
    (folder / "pyproject.toml").write_text(
        "[build-system]\n"
        'requires = ["hatchling"]\n'
        'build-backend = "hatchling.build"\n'
        "[project]\n"
        'name = "veilface-federation"\n'
        'version = "1.0.0"\n'
        'description = "Settings of a federation; the code is the installed Veilface."\n'
        'license = "Apache-2.0"\n'
        "dependencies = []\n"
        "[tool.flwr.app]\n"
        'publisher = "veilface"\n'
        "[tool.flwr.app.components]\n"
        'serverapp = "veilface_server.app:app"\n'
        'clientapp = "veilface_client.app:app"\n'
        f"[tool.flwr.app.config]\n{settings}\n"
    )


def _key(name: str) -> str:
    return ".".join(f'"{part}"' for part in name.split("."))


def _toml(value: Scalar) -> str:
    """Return a scalar as TOML writes it; JSON agrees for every scalar that a setting may hold."""
    return json.dumps(value)


def _write_home(folder: Path, port: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(
        "[superlink]\n"
        'default = "here"\n'
        "[superlink.here]\n"
        f'address = "127.0.0.1:{port}"\n'
        "insecure = true\n"  # loopback, between processes of one user on one machine
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start_superlink(
    work: Path, environment: Mapping[str, str], port: int
) -> subprocess.Popen[bytes]:
    command = [
        "flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess",
        "--host", "127.0.0.1", "--port", str(port),
        "--control-api-address", f"127.0.0.1:{_free_port()}",
        "--disable-runtime-dependency-installation",
    ]  # fmt: skip
    with (work / "superlink.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 -- our own command line
            [_program(command[0], environment), *command[1:]],
            env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,  # Ctrl-C reaches us alone; we then end it
        )  # fmt: skip


def _wait_for(superlink: subprocess.Popen[bytes], port: int, work: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if superlink.poll() is not None:
            break
        if _answers(port):
            return
        time.sleep(0.2)
    raise EngineError(
        "Flower's SuperLink did not start",
        hint=f"see {work / 'superlink.log'}, or --engine inprocess",
    )


def _answers(port: int) -> bool:
    try:
        with _LOCAL_ONLY.open(f"http://127.0.0.1:{port}/health", timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _submit(work: Path, environment: Mapping[str, str], count: int, workers: int) -> str:
    """Hand the run to Flower and return its number."""
    size = (
        f"num-supernodes={count} client-resources-num-cpus=1 client-resources-num-gpus=0.0 "
        f"init-args-num-cpus={workers} init-args-log-to-driver=false"
    )
    answer = _flwr(
        ["run", str(work / "app"), "here", "--federation-config", size, "--format", "json"],
        environment,
    )
    number = answer.get("run-id")
    if not number:
        raise EngineError("Flower did not accept the run", hint=f"see {work / 'superlink.log'}")
    return str(number)


def _follow(
    number: str,
    superlink: subprocess.Popen[bytes],
    work: Path,
    environment: Mapping[str, str],
) -> None:
    """Wait for the end of the run. Its progress is seen in the coordinator's folder."""
    while True:
        status = _status(_flwr(["ls", "here", "--run-id", number, "--format", "json"], environment))
        if status == "finished:completed":
            return
        if status.startswith("finished") or superlink.poll() is not None:
            raise EngineError(
                f"Flower's run ended as {status or 'lost'}: {_reason(work)}",
                hint=f"see {work / 'superlink.log'}",
            )
        time.sleep(_POLL_SECONDS)


def _status(answer: Mapping[str, object]) -> str:
    runs = answer.get("runs")
    first = runs[0] if isinstance(runs, list) and runs else {}
    return str(first.get("status", "")) if isinstance(first, dict) else ""


def _reason(work: Path) -> str:
    """Return the line of Flower's log that names our error, or the last one."""
    lines = (work / "superlink.log").read_text(errors="replace").splitlines()
    ours = [line.strip() for line in lines if "veilface_common.errors." in line]
    rest = [line.strip() for line in lines if line.strip()] or ["no output"]
    return (ours or rest)[-1].removeprefix("veilface_common.errors.")


def _flwr(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, object]:
    """Run Flower's command line and return the JSON that it prints after its other lines."""
    try:
        done = subprocess.run(  # noqa: S603 -- our own command line
            [_program("flwr", environment), *arguments],
            env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_START_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"flwr {arguments[0]} took over {_START_SECONDS:g} s") from error
    start = done.stdout.find("{")
    try:
        answer = json.loads(done.stdout[start:]) if start >= 0 else None
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        text = (done.stderr or done.stdout).strip().splitlines()
        raise EngineError(f"flwr {arguments[0]} failed: {text[-1] if text else 'no output'}")
    return answer


def _program(name: str, environment: Mapping[str, str]) -> str:
    path = shutil.which(name, path=environment["PATH"])
    if path is None:
        raise EngineError(f"expected Flower's program {name!r}, got none", hint="make setup")
    return path
