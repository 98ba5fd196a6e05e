"""How an organisation stands: what `veilface status` says, without a key, PyTorch or the network.

What cannot be read becomes a line of `problems`; the rest is told all the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from veilface_client.failures import load_failures
from veilface_client.federation import SETTINGS as FEDERATION
from veilface_client.federation import load_federation, node_folder
from veilface_client.home_layout import training_folder
from veilface_client.keeper_probe import is_answered
from veilface_client.node.status import NodeStatus, is_running, load_status
from veilface_client.spending import epsilon_spent
from veilface_common.budget.history import History, read_history
from veilface_common.crypto.signing import load_verify_key, parse_verify_key
from veilface_common.errors import ArtifactError, ConfigError, VeilfaceError
from veilface_common.invitation import spoken

SHOWN = 3  # of what may be many
_HOME = "home.json"
_LEDGER, _LEDGER_KEY = "ledger.db", "ledger.pub"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The federation that the organisation belongs to."""

    name: str
    address: str
    coordinator: str  # its key, as it is read aloud


@dataclass(frozen=True, kw_only=True)
class NodeOverview:
    """The Flower node, as it wrote last."""

    is_running: bool
    state: str
    since: str
    messages: int
    last_message: str
    last_error: str


@dataclass(frozen=True, kw_only=True)
class AccountOverview:
    """What the ledger says, which was verified entry by entry."""

    unit: str
    delta: float
    epsilon_allowed: float
    epsilon_spent: float | None  # None: no accountant gives a finite one
    epsilon_left: float
    open_reservations: int
    rounds: int  # whose update was sent
    runs: int
    figures: int  # times that figures were released
    newest: str  # time of the newest entry
    refusals: int
    newest_refusals: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ModelOverview:
    """The model that home.json names, and what its manifest says; the vault decides, not these."""

    sha256: str
    sequence: int | None  # of a release; None: nobody signed it
    federation: str
    made: str


@dataclass(frozen=True, kw_only=True)
class Overview:
    """All of it; None is for what there is not."""

    organisation: str
    federation: Joined | None
    is_keeper_listening: bool
    node: NodeOverview | None
    account: AccountOverview | None
    model: ModelOverview | None
    failures: int
    newest_failures: tuple[str, ...]  # in our own words: for the organisation's eyes alone
    problems: tuple[str, ...]


def overview(home: Path, socket: Path) -> Overview:
    """Return how the organisation in `home` stands.

    Args:
        home: its folder.
        socket: of its keeper.

    Raises:
        ConfigError: there is no organisation in that folder.
    """
    settings = _settings(home)
    problems: list[str] = []
    failures = load_failures(training_folder(home))
    return Overview(
        organisation=str(settings.get("name", "")),
        federation=_tried(problems, lambda: _federation(home)),
        is_keeper_listening=is_answered(socket),
        node=_node(home),
        account=_tried(problems, lambda: account_overview(training_folder(home))),
        model=_tried(problems, lambda: _model(home, str(settings.get("model", "")))),
        failures=len(failures),
        newest_failures=failures[-SHOWN:],
        problems=tuple(problems),
    )


def account_overview(folder: Path) -> AccountOverview | None:
    """Return what the ledger in `folder` says, or None where there is none.

    Raises:
        LedgerError: it is damaged or altered.
        KeyFileError: its public key is missing or damaged.
    """
    if not (folder / _LEDGER).exists():
        return None
    history = read_history(folder / _LEDGER, load_verify_key(folder / _LEDGER_KEY))
    policy = history.state.policy
    assert policy is not None  # `read_history` sees to it
    spent = epsilon_spent(folder, history.state.steps, policy.delta)
    is_finite = spent != float("inf")
    return AccountOverview(
        unit=policy.unit,
        delta=policy.delta,
        epsilon_allowed=policy.epsilon,
        epsilon_spent=spent if is_finite else None,
        epsilon_left=max(0.0, policy.epsilon - spent),
        open_reservations=len(history.state.unsettled),
        rounds=outcomes(history)["sent"],
        runs=len({charge.run for charge in history.charges}),
        figures=len(history.released),
        newest=history.newest,
        refusals=len(history.refused),
        newest_refusals=tuple(
            f"{refused.time} {refused.reason or 'not recorded'}"
            for refused in history.refused[-SHOWN:]
        ),
    )


def outcomes(history: History) -> Counter[str]:
    """Return what came of reservations: how many were sent, failed, or are open."""
    return Counter(
        (reserved.outcome or "other") if reserved.settled else "open"
        for reserved in history.reserved
    )


def _settings(home: Path) -> dict[str, object]:
    try:
        body = json.loads((home / _HOME).read_bytes())
    except OSError:
        raise ConfigError(
            f"expected an organisation in {home}, got no {_HOME}",
            hint="veilface --home DIR init makes one",
        ) from None
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ConfigError(f"expected settings in {home / _HOME}, got a damaged file")
    return body


def _federation(home: Path) -> Joined | None:
    if not (home / FEDERATION).exists():
        return None
    found = load_federation(home)
    key = parse_verify_key(found.coordinator.encode(), FEDERATION)
    return Joined(name=found.name, address=found.address, coordinator=spoken(key))


def _node(home: Path) -> NodeOverview | None:
    folder = node_folder(home)
    status = load_status(folder)
    if status is None:
        return None
    return _node_of(status, running=is_running(folder))


def _node_of(status: NodeStatus, *, running: bool) -> NodeOverview:
    return NodeOverview(
        is_running=running,
        state=status.state if running else "stopped",
        since=status.since if running else status.seen,
        messages=status.messages,
        last_message=status.last_message,
        last_error=status.last_error,
    )


def _model(home: Path, sha256: str) -> ModelOverview | None:
    if not sha256:
        return None
    path = home / "models" / sha256[:16] / "manifest.json"
    try:
        body = json.loads(path.read_bytes())
        sequence = body.get("sequence")
        return ModelOverview(
            sha256=sha256,
            sequence=sequence if type(sequence) is int else None,
            federation=str(body.get("federation", "")),
            made=str(body.get("made", "")),
        )
    except (OSError, ValueError, AttributeError):
        raise ArtifactError(f"expected the manifest of model {sha256[:16]} in {path}") from None


def _tried(problems: list[str], find: Callable[[], T | None]) -> T | None:
    try:
        return find()
    except VeilfaceError as error:
        hint = f" (hint: {error.hint})" if error.hint else ""
        problems.append(f"{error}{hint}")
        return None
