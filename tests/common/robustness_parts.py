"""A measurement of robustness as `robustness.json` has it: small, and of no real model."""

from __future__ import annotations

from typing import Any

NAMES = ("darkness", "mask <cloth>")
LEVELS = 5


def rates(tar: float, false_match_rate: float) -> dict[str, Any]:
    """Return rates as the file has them."""
    intervals = {"tar": [0.0, 1.0], "false_match_rate": [0.0, 1.0]}
    told = {"eer": 0.25, "tar": tar, "false_match_rate": false_match_rate, "failures": 0.0}
    return told | {"intervals": intervals}


def measured(sha256: str = "ab" * 32) -> dict[str, Any]:
    """Return what stands in the file: TAR 0.8 falls by 0.1 a level, or by 0.05."""
    cells = [
        {"perturbation": name, "level": level, "rates": rates(0.8 - fall * level, 0.01 * level)}
        for name, fall in zip(NAMES, (0.1, 0.05), strict=True)
        for level in range(1, LEVELS + 1)
    ]
    kinds = [
        {"name": name, "meaning": "of something", "amounts": [0.5, 0.4, 0.3, 0.2, 0.1]}
        for name in NAMES
    ]
    model = {"name": "runs/mine/model", "sha256": sha256, "network": "tiny", "threshold": 0.4}
    return {
        "schema": 1,
        "perturbations": kinds,
        "model": model | {"clean": rates(0.8, 0.01), "cells": cells, "mean_relative_loss": 0.28125},
        "baseline": None,
        "relative": None,
        "data": "lfw:/home/ada/pictures/lfw",
        "detector": "yunet:/home/ada/yunet.onnx",
        "rate": 0.01,
        "people": 120,
        "probes": 300,
        "impostor_pairs": 35700,
    }
