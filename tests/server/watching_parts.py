"""A run whose rounds are written by hand, signed, for whatever watches it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from tests.server.coordinator_parts import NOW, made_home

from veilface_common.config import FederationConfig, PrivacyConfig, RunConfig, to_flat
from veilface_common.crypto.signing import SigningKey, load_signing_key
from veilface_server.checkpoint import RECORDS, RoundRecord
from veilface_server.home import Home
from veilface_server.runs import create_run, folder_of

RUN = "0123456789abcdef"
PRIVATE = PrivacyConfig(unit="identity", sample_rate=0.1, noise_multiplier=1.5, steps=20)
CONFIG = RunConfig(run=RUN, federation=FederationConfig(rounds=5), privacy=PRIVATE)
PLAIN = RunConfig(run=RUN, federation=FederationConfig(rounds=5))
NAMES = ("ada", "bob & co", "<script>alert(1)</script>")
OTHER = SigningKey.from_seed(b"o" * 32)


def made_run(folder: Path, config: RunConfig = PLAIN, *, rounds: int = 0) -> Home:
    """Return a coordinator's folder with a run of so many rounds, in which everybody took part."""
    home = made_home(folder)
    create_run(home, config, epsilon=8.0, delta=1e-5, now=NOW)
    write(home, *(record(home, number, config=config) for number in range(1, rounds + 1)))
    return home


def record(
    home: Home,
    number: int,
    *,
    config: RunConfig = PLAIN,
    names: tuple[str, ...] = NAMES,
    left_out: Mapping[str, str] | None = None,
    seconds: float = 2.5,
    entry: int | None = None,
    key: SigningKey | None = None,
) -> RoundRecord:
    """Return a round's record; `entry` is the one of each ledger that paid for it."""
    shown: dict[str, int | str] = {"sequence": entry or 10 + number, "hash": "ab" * 32}
    paid = dict.fromkeys(names, shown)
    return RoundRecord(
        round=number,
        accepted=names,
        left_out=left_out or {},
        update_norms={name: 0.5 + 0.1 * index for index, name in enumerate(names)},
        ledger_heads=paid if config.privacy.unit != "none" else {},
        plan=to_flat(config.privacy),
        settings=config.digest,
        model_sha256=f"{number:064x}",
        seconds=seconds,
    ).signed(key or load_signing_key(home.server_key))


def write(home: Home, *records: RoundRecord) -> None:
    """Add records to the run's."""
    with (folder_of(home, RUN) / RECORDS).open("a") as file:
        file.writelines(json.dumps(asdict(entry)) + "\n" for entry in records)
