"""Where things stand in an organisation's folder; importing this costs nothing."""

from __future__ import annotations

from pathlib import Path

TRAINING = "training"
SOCKET = "keeper.sock"  # of the keeper, unless another one is named


def training_folder(home: Path) -> Path:
    """Return where the keeper's side lies: faces, ledger, keys of replies and of coordinators."""
    return home / TRAINING
