"""`veilface node start`: Flower's SuperNode and SuperExec, kept running until somebody ends them.

Whatever keeps the node from being online is said in one line when it begins, and tried again until
it is over: an organisation's machine that was restarted at night must find its way back alone.

    HOME/node/log/flower-*.log    what Flower's programs and the guard printed
    HOME/node/log/node.jsonl      its states, see `events_log`: {"event": "node", "state": ..., ...}
"""

from __future__ import annotations

import os
import secrets
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from veilface_client.federation import AUTHORITY, NODE_KEY, Federation, node_folder
from veilface_client.node.flower import verify_flower
from veilface_client.node.keys import load_public_line
from veilface_client.node.programs import (
    Tail,
    end_leftovers,
    end_programs,
    environment,
    log_of,
    start_program,
    write_programs,
)
from veilface_client.node.reaching import Unreachable, WrongAuthority, verify_clock
from veilface_client.node.signs import Sign, read_sign
from veilface_client.node.status import (
    NodeStatus,
    State,
    age_seconds,
    load_status,
    running,
    save_status,
)
from veilface_common.bundle import bundle_digest
from veilface_common.errors import EngineError, VeilfaceError
from veilface_common.events_log import EventsLog, Level
from veilface_common.files import write_atomically
from veilface_common.invitation import SOFTWARE
from veilface_common.processes import free_port

_SUPERNODE, _SUPEREXEC = "flower-supernode", "flower-superexec"
_AUTHENTICATION = "superexec.secret"
_REMEMBERED_SECONDS = 90.0  # Flower counts a node as online for 60 s after its last heartbeat
_STATUS_SECONDS = 15.0
_LOOK_SECONDS = 0.25
_QUIET_SECONDS = 30.0  # Flower complains every 20 s while it finds nobody
_RETRY_SECONDS: dict[State, float] = {
    "unreachable": 5.0,
    "still-online": 10.0,
    "not-approved": 20.0,
    "clock": 30.0,
    "wrong-authority": 60.0,
    "version": 60.0,
    "ended": 2.0,  # doubled each time, up to a minute
}
_LONGEST_SECONDS = 60.0
_Program = subprocess.Popen[bytes]


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What keeps the node from being online."""

    state: State
    text: str


def run_node(
    home: Path,
    federation: Federation,
    socket: Path,
    say: Callable[[str], None],
    stop: threading.Event,
) -> None:
    """Keep the node running until `stop`. From the main thread alone: see `start_program`.

    Args:
        home: the organisation's folder, which has joined the federation.
        federation: as `load_federation` gives it.
        socket: of the keeper.
        say: takes one line for the operator.
        stop: set by whoever wants the node to end.

    Raises:
        ConfigError: another node of this folder runs.
        EngineError: the installed Flower is another one.
        KeyFileError: the node's key cannot be used.
    """
    folder = node_folder(home)
    verify_flower()
    load_public_line(folder / NODE_KEY)
    for name in ("flower", "log"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    with running(folder):
        end_leftovers(folder)
        write_programs(folder)
        write_atomically(folder / _AUTHENTICATION, secrets.token_hex(32).encode())
        if not socket.exists():
            say(f"no keeper at {socket} yet; requests wait for it (veilface serve)")
        node = _Node(folder=folder, federation=federation, socket=socket, say=say, stop=stop)
        try:
            node.run()
        finally:
            end_leftovers(folder)


class _Node:
    """The loop, and what it remembers from one attempt to the next."""

    def __init__(
        self,
        *,
        folder: Path,
        federation: Federation,
        socket: Path,
        say: Callable[[str], None],
        stop: threading.Event,
    ) -> None:
        self._folder = folder
        self._federation = federation
        self._authority = (folder / AUTHORITY).read_text()
        self._variables = environment(folder, f"unix:{socket.resolve()}")
        self._say = say
        self._stop = stop
        self._events = EventsLog(folder / "log" / "node.jsonl")
        before = load_status(folder)
        was_online = before is not None and before.state == "online"
        age = age_seconds(before.seen, datetime.now(UTC)) if before and was_online else float("inf")
        self._online_at = time.monotonic() - age  # when the coordinator heard of us last
        self._saved_at = 0.0
        self._away_at: float | None = None  # when Flower said last that it finds nobody
        self._has_warned = False
        self._status = NodeStatus(bundle=bundle_digest(), software=SOFTWARE)

    def run(self) -> None:
        """Try, and try again."""
        delay = _RETRY_SECONDS["ended"]
        try:
            while not self._stop.is_set():
                begun = time.monotonic()
                trouble = self._attempt()
                if trouble is None:
                    break
                self._enter(trouble.state, trouble.text)
                was_short = time.monotonic() - begun < _LONGEST_SECONDS
                delay = min(2 * delay, _LONGEST_SECONDS) if was_short else _RETRY_SECONDS["ended"]
                self._stop.wait(
                    delay if trouble.state == "ended" else _RETRY_SECONDS[trouble.state]
                )
        finally:
            self._enter("stopped", "the node has stopped")

    def _attempt(self) -> Trouble | None:
        """Run Flower's programs until they end; return why, or nothing when we were stopped."""
        federation = self._federation
        try:
            warning = verify_clock(federation.address, self._authority)
        except WrongAuthority as error:
            return Trouble(state="wrong-authority", text=_whole(error))
        except Unreachable as error:
            return Trouble(state="unreachable", text=_whole(error))
        except EngineError as error:
            return Trouble(state="clock", text=_whole(error))
        if warning and not self._has_warned:
            self._has_warned = True
            self._say(warning)
        tail = Tail(log_of(self._folder, _SUPERNODE))
        self._away_at = None
        children = self._start()
        self._save(replace(self._status, starts=self._status.starts + 1))
        try:
            return self._watch(children, tail)
        finally:
            end_programs(*children)

    def _start(self) -> tuple[_Program, _Program]:
        runtime = f"127.0.0.1:{free_port()}"
        # What runs tasks must show a secret: another user of this machine cannot take one.
        secret = ["--superexec-auth-secret-file", str(self._folder / _AUTHENTICATION)]
        supernode = [
            "--superlink", self._federation.address,
            "--root-certificates", str(self._folder / AUTHORITY),
            "--auth-supernode-private-key", str(self._folder / NODE_KEY),
            "--isolation", "process",
            "--host", "127.0.0.1", "--port", runtime.rpartition(":")[2], *secret,
        ]  # fmt: skip
        superexec = ["--insecure", "--runtime-api-address", runtime, *secret]
        return (
            start_program(_SUPERNODE, supernode, self._folder, self._variables),
            start_program(_SUPEREXEC, superexec, self._folder, self._variables),
        )

    def _watch(self, children: tuple[_Program, _Program], tail: Tail) -> Trouble | None:
        """Follow the programs until one ends, or the node must."""
        last: Sign | None = None
        while not self._stop.wait(_LOOK_SECONDS):
            has_ended = any(child.poll() is not None for child in children)
            for line in tail.lines():  # the last ones, too, of one that has ended
                sign = read_sign(line)
                if sign is not None:
                    last = sign
                    self._follow(sign)
            self._refresh()
            if has_ended or (last is not None and last.meaning == "broken"):
                return self._trouble(last)
        return None

    def _follow(self, sign: Sign) -> None:
        federation = self._federation
        if sign.meaning == "online":
            self._save(replace(self._status, node_id=sign.detail))
            self._enter("online", f"online in {federation.name} as {federation.organisation}")
        elif sign.meaning == "back":
            self._is_back()
        elif sign.meaning == "away":
            self._away_at = time.monotonic()
            self._enter("unreachable", f"the coordinator at {federation.address} is away; waiting")
        elif sign.meaning == "message":
            self._is_back()
            count = self._status.messages + 1
            self._save(replace(self._status, messages=count, last_message=_now()))

    def _is_back(self) -> None:
        """Take note that the coordinator answers, if it did not."""
        if self._away_at is not None:
            self._away_at = None
            self._enter("online", f"the coordinator at {self._federation.address} is back")

    def _look_whether_back(self) -> None:
        """Ask the coordinator ourselves: Flower may find it and not say so, as seen in drills."""
        if self._away_at is None or time.monotonic() - self._away_at < _QUIET_SECONDS:
            return
        self._away_at = time.monotonic()
        with suppress(VeilfaceError):
            verify_clock(self._federation.address, self._authority)
            self._is_back()

    def _trouble(self, last: Sign | None) -> Trouble:
        """Say why the programs ended, by the last thing that they said."""
        meaning = last.meaning if last else None
        if meaning == "refused" and time.monotonic() - self._online_at < _REMEMBERED_SECONDS:
            return Trouble(
                state="still-online",
                text="the coordinator still counts the node as online, which lasts 60 s after a "
                "crash; waiting",
            )
        if meaning == "refused":
            return Trouble(
                state="not-approved",
                text="the coordinator does not take this node's key: it is not approved yet, or it "
                "was removed; asking again every 20 s (hint: veilface-server approve "
                f"{self._federation.organisation})",
            )
        if meaning == "signed-off":
            self._online_at = float("-inf")  # so it does not count as online any more
            return Trouble(
                state="ended",
                text="the coordinator no longer takes the node's signature: it was removed, or the "
                "clocks differ",
            )
        if meaning == "version":
            return Trouble(
                state="version",
                text="the coordinator runs another Flower (hint: the same release of Veilface on "
                "both sides)",
            )
        if meaning == "authority":
            return Trouble(
                state="wrong-authority",
                text="the coordinator's certificate changed to one that its authority does not "
                "vouch for",
            )
        return Trouble(
            state="ended",
            text=f"Flower's programs ended (hint: {self._folder / 'log'})",
        )

    def _enter(self, state: State, text: str) -> None:
        """Take a new state, and say so; one that lasts is said once."""
        if state == "online":
            self._online_at = time.monotonic()
        if state == self._status.state:
            return
        is_trouble = state not in ("online", "stopped")
        last_error = text if is_trouble else self._status.last_error
        self._save(replace(self._status, state=state, since=_now(), last_error=last_error))
        self._say(text)
        level: Level = "warning" if is_trouble else "info"
        self._events.write(level, "node", {"state": state, "starts": self._status.starts})

    def _refresh(self) -> None:
        if self._status.state == "online":
            self._online_at = time.monotonic()
        self._look_whether_back()
        if time.monotonic() - self._saved_at > _STATUS_SECONDS:
            self._save(self._status)

    def _save(self, status: NodeStatus) -> None:
        self._status = replace(status, seen=_now(), pid=os.getpid())
        self._saved_at = time.monotonic()
        with suppress(OSError):  # a full disk stops no node
            save_status(self._folder, self._status)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _whole(error: VeilfaceError) -> str:
    return f"{error} (hint: {error.hint})" if error.hint else str(error)
