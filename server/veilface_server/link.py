"""`veilface-server start`: one process that keeps Flower's SuperLink, its SuperExec and our proxy.

    the world --> proxy (TLS, public port) --> SuperLink (TLS, loopback) <-- SuperExec --> ServerApp

    SERVER/flower/start.lock       held while this runs; its content is the process's number
    SERVER/flower/config.toml      where the SuperLink is now, for `flwr`
    SERVER/flower/superexec.key    without it nobody takes the ServerApp's work from the SuperLink
    SERVER/log/NAME.log            what each of them said

Whatever dies is started again. The SuperLink keeps its state in a database and runs the ServerApp
outside of itself, so that a run outlives it; a ServerApp that dies is `dispatch`'s business. All of
them carry a mark in their environment: what a start that was killed left behind is ended by the
next one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

from veilface_common.address import split_address
from veilface_common.bundle import write_bundle
from veilface_common.command import one_line
from veilface_common.crypto.signing import load_signing_key
from veilface_common.errors import ConfigError, EngineError, VeilfaceError
from veilface_common.files import write_atomically
from veilface_common.invitation import spoken
from veilface_common.locks import is_held, only_one
from veilface_common.processes import end, end_marked, free_port, marked
from veilface_server import flower_command, runs
from veilface_server.authority import LINK, LINK_KEY, renew_link_certificate
from veilface_server.children import Child
from veilface_server.dispatch import Dispatcher
from veilface_server.home import Home, Settings
from veilface_server.proxy_process import listening
from veilface_server.runs import Run

MARK = "VEILFACE_LINK_OF"
FOLDER_VARIABLE = "VEILFACE_SERVER_FOLDER"
_LOCK = "start.lock"
_EXECUTOR_KEY = "superexec.key"
_BUNDLE = "bundle"
_START_SECONDS = 60.0
_MOST_DEATHS = 3  # of one process, before the link was ever ready
_LOOK_SECONDS = 0.2
_STEP_SECONDS = 1.0
_APP_GRACE_SECONDS = 0.5  # all that it did is on disk
_TASK_POLL_SECONDS = "0.5"  # of the SuperExec
Say = Callable[[str], None]


def run_link(home: Home, settings: Settings, say: Say, watch_port: int | None = None) -> None:
    """Keep the link up until SIGTERM or SIGINT, then end all of it. From the main thread alone.

    Args:
        home: the coordinator's folder.
        settings: as it holds them.
        say: takes one line for the operator.
        watch_port: of the loopback, for the page and the figures; see `watching`. None: neither.

    Raises:
        ConfigError: another start holds the folder, or a port is taken.
        EngineError: Flower's SuperLink does not come up.
        KeyFileError: a key is missing or open to others.
    """
    key = load_signing_key(home.server_key)
    with _only_one(home):
        end_marked(MARK, mark_of(home))
        listening(settings.listen).close()  # a clear word before anything is started
        if watch_port is not None:
            listening(f"127.0.0.1:{watch_port}").close()
        renew_link_certificate(home.tls, split_address(settings.address)[0], datetime.now(UTC))
        link = _Link(home=home, settings=settings, say=say, watch_port=watch_port)
        try:
            with _stopped_by_signals(link.stop):
                link.start()
                if link.stop.is_set():
                    return
                say(f"{settings.name}: https://{settings.address} (listens on {settings.listen})")
                say(f"coordinator's key: {spoken(key.public)}")
                link.watch()
        finally:
            link.stop.set()
            end_marked(MARK, mark_of(home))


def environment_of(home: Home) -> dict[str, str]:
    """Return the environment of everything that belongs to the link."""
    own = {
        MARK: mark_of(home),
        FOLDER_VARIABLE: str(home.folder.resolve()),
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": _TASK_POLL_SECONDS,
    }
    return flower_command.flower_environment(home.flower, own)


def mark_of(home: Home) -> str:
    """Return the value of the mark."""
    return str(home.folder.resolve())


def link_pid(home: Home) -> int | None:
    """Return the process of the start that holds the folder, or None where there is none."""
    path = home.flower / _LOCK
    if not is_held(path):
        return None
    text = path.read_text().strip()
    return int(text) if text.isdigit() else 0


def verify_running(home: Home) -> None:
    """Do nothing if the coordinator's process runs. Raises EngineError when it does not."""
    if link_pid(home) is None:
        raise EngineError(
            "expected the coordinator to run, got no process of it",
            hint=f"veilface-server --home {home.folder} start",
        )


@contextlib.contextmanager
def _only_one(home: Home) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            descriptor = stack.enter_context(only_one(home.flower / _LOCK))
        except BlockingIOError:
            raise ConfigError(
                f"expected one start for {home.folder}, got another (process {link_pid(home)})"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield


@contextlib.contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    def stopping(*_: object) -> None:
        stop.set()

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, stopping) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(kw_only=True)
class _Link:
    """The processes, and the thread that looks after runs."""

    home: Home
    settings: Settings
    say: Say
    watch_port: int | None
    stop: threading.Event = field(default_factory=threading.Event)
    address: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    children: tuple[Child, ...] = field(default=(), init=False)

    def start(self) -> None:
        """Start everything and return when it answers."""
        flower_command.write_connection(self.home.flower, self.address, self.home.authority)
        write_atomically(self.home.flower / _EXECUTOR_KEY, secrets.token_bytes(32))
        environment = environment_of(self.home)
        self.children = tuple(
            Child(
                name=name,
                command=command,
                environment=environment,
                log=self.home.log / f"{name}.log",
                clock=time.monotonic,
            )
            for name, command in self._commands(environment).items()
        )
        deadline = time.monotonic() + _START_SECONDS
        while not self.stop.wait(_LOOK_SECONDS):
            self._look()
            worst = max(self.children, key=lambda child: child.deaths)
            if worst.deaths >= _MOST_DEATHS or time.monotonic() > deadline:
                reason = flower_command.reason_in(worst.log)
                raise EngineError(f"{worst.name} does not start: {reason}", hint=f"see {worst.log}")
            if self._answers():
                break

    def watch(self) -> None:
        """Start again what dies, and look after runs, until somebody ends us."""
        flower = _LinkFlower(self.home, environment_of(self.home))
        dispatcher = Dispatcher(home=self.home, flower=flower, clock=time.monotonic, say=self.say)
        thread = threading.Thread(target=self._dispatch, args=(dispatcher,), daemon=True)
        thread.start()
        while not self.stop.wait(_LOOK_SECONDS):
            self._look()

    def _dispatch(self, dispatcher: Dispatcher) -> None:
        while not self.stop.wait(_STEP_SECONDS):
            try:
                if flower_command.is_healthy(self.address, self.home.authority):
                    dispatcher.step()
            except (VeilfaceError, OSError) as error:
                self.say(f"runs cannot be looked after: {one_line(str(error))}")
                self.stop.wait(10 * _STEP_SECONDS)

    def _look(self) -> None:
        for child in self.children:
            line = child.look()
            if line is not None:
                self.say(line)

    def _answers(self) -> bool:
        """Whether the SuperLink answers, and the proxy on the public port."""
        host, port = split_address(self.settings.listen)
        reached = "127.0.0.1" if host == "0.0.0.0" else "::1" if host == "::" else host  # noqa: S104 -- compared
        own = f"[{reached}]:{port}" if ":" in reached else f"{reached}:{port}"
        return flower_command.is_healthy(
            self.address, self.home.authority
        ) and flower_command.is_listening(own)

    def _commands(self, environment: Mapping[str, str]) -> dict[str, list[str]]:
        home = self.home
        host, port = split_address(self.address)
        secret = ["--superexec-auth-secret-file", str(home.flower / _EXECUTOR_KEY)]
        watching = {}
        if self.watch_port is not None:
            program = [sys.executable, "-m", "veilface_server.watching"]
            watching["watching"] = [*program, str(home.folder), str(self.watch_port)]
        return {
            "superlink": [
                flower_command.program("flower-superlink", environment),
                "--host", host, "--port", str(port),
                "--ssl-ca-certfile", str(home.authority),
                "--ssl-certfile", str(home.tls / LINK),
                "--ssl-keyfile", str(home.tls / LINK_KEY),
                "--enable-supernode-auth",
                "--database", str(home.flower / "state.db"),
                "--isolation", "process",
                "--disable-runtime-dependency-installation",
                *secret,
            ],
            "superexec": [
                flower_command.program("flower-superexec", environment),
                "--runtime-api-address", self.address,
                "--root-certificates", str(home.authority),
                *secret,
            ],
            "proxy": [
                sys.executable, "-m", "veilface_server.proxy_process",
                str(home.folder), self.address,
            ],
            **watching,
        }  # fmt: skip


@dataclass(frozen=True)
class _LinkFlower:
    """Flower behind `flwr`, and its ServerApp behind the mark."""

    home: Home
    environment: Mapping[str, str]

    def submit(self, run: Run) -> str:
        """Hand a run over and return Flower's number of it."""
        bundle = self.home.flower / _BUNDLE
        write_bundle(bundle)
        settings = runs.folder_of(self.home, run.id) / runs.SETTINGS
        return flower_command.submit(bundle, ["--run-config", str(settings)], self.environment)

    def stop(self, number: str) -> None:
        """Stop a run, and end its ServerApp."""
        try:
            flower_command.flwr(["stop", number, flower_command.CONNECTION], self.environment)
        finally:
            end(self._apps(), grace_seconds=_APP_GRACE_SECONDS)

    def status(self, number: str) -> str:
        """Return what Flower says of a run."""
        return flower_command.standing_of(number, self.environment).status

    def is_running_app(self) -> bool:
        """Whether a ServerApp of ours is alive."""
        return bool(self._apps())

    def _apps(self) -> list[psutil.Process]:
        found = []
        for process in marked(MARK, mark_of(self.home)):
            with contextlib.suppress(psutil.Error):
                if any(Path(word).name == "flwr-serverapp" for word in process.cmdline()[:3]):
                    found.append(process)
        return found
