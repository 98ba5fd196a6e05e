"""Models looking at the same probes, clean and perturbed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from veilface_client.alignment import network_input
from veilface_client.images import Pixels
from veilface_client.perturbations.levels import LEVELS, PERTURBATIONS, perturb
from veilface_client.training import embed_views
from veilface_common import bootstrap
from veilface_common.artifact import Manifest, load_model
from veilface_common.errors import DataError
from veilface_simulations.robustness.figures import Resampled, calibrate, measure, scores_of
from veilface_simulations.robustness.record import Cell, Measured
from veilface_simulations.robustness.relative import Conditions, mean_relative_loss
from veilface_simulations.robustness.scenes import Eye, Scenes

RESAMPLES = 200
_BATCH = 128
CLEAN = ("clean", 0)
CONDITIONS = tuple((name, level) for name in PERTURBATIONS for level in range(1, LEVELS + 1))

Templates = NDArray[np.float32]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Looker:
    """A model that is measured."""

    name: str
    manifest: Manifest
    network: nn.Module

    def templates(self, aligned: Sequence[Pixels]) -> Templates:
        """Return the templates of aligned faces [112, 112, 3]: [N, D], unit length."""
        pixels, found = self.manifest.model.pixels, []
        for first in range(0, len(aligned), _BATCH):
            batch = [network_input(face, pixels) for face in aligned[first : first + _BATCH]]
            with torch.inference_mode():
                found.append(embed_views(self.network, torch.from_numpy(np.stack(batch))).numpy())
        dimension = self.manifest.model.dimension
        return np.concatenate(found) if found else np.empty((0, dimension), np.float32)


def open_looker(folder: Path) -> Looker:
    """Return the model in a folder.

    Raises:
        ArtifactError: it is missing, damaged, or not what its manifest says.
    """
    network, manifest = load_model(folder)
    return Looker(name=str(folder), manifest=manifest, network=network.eval())


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What one model did, with the resamples that ratios are made of."""

    measured: Measured
    conditions: Conditions


def measure_all(
    lookers: Sequence[Looker],
    scenes: Scenes,
    eye: Eye,
    *,
    rate: float,
    seed: int,
    progress: Progress,
) -> tuple[Outcome, ...]:
    """Return what each model does; all look at the same perturbed pixels.

    Raises:
        DataError: too few strangers are compared to find a threshold for `rate`.
    """
    references = [eye.align(scene.pixels) for scene in scenes.references]
    enrolled = [looker.templates(references) for looker in lookers]
    people = len(scenes.references)
    draws = bootstrap.draw_people(np.random.default_rng(seed), people, RESAMPLES)
    found: list[dict[tuple[str, int], Resampled]] = [{} for _ in lookers]
    thresholds: list[float] = []
    for done, condition in enumerate((CLEAN, *CONDITIONS), start=1):
        aligned, seen = _perturbed(scenes, eye, condition, seed)
        for number, looker in enumerate(lookers):
            probes = np.zeros((len(seen), enrolled[number].shape[1]), np.float32)
            probes[seen] = looker.templates(aligned)
            scores = scores_of(probes, enrolled[number], seen)
            if condition == CLEAN:
                thresholds.append(calibrate(scores, scenes.people, rate))
            found[number][condition] = measure(
                scores, scenes.people, threshold=thresholds[number], found=seen, draws=draws
            )
        progress(done, 1 + len(CONDITIONS))
    return tuple(_outcome(*given) for given in zip(lookers, thresholds, found, strict=True))


def _perturbed(
    scenes: Scenes, eye: Eye, condition: tuple[str, int], seed: int
) -> tuple[list[Pixels], NDArray[np.bool_]]:
    """Return the aligned faces of the perturbed probes, and in which of them [P] one was found."""
    name, level = condition
    aligned, seen = [], np.zeros(len(scenes.probes), bool)
    for number, scene in enumerate(scenes.probes):
        pixels = scene.pixels
        if level:
            pixels = perturb(pixels, name, level, seed=seed, face=scene.face)
        try:
            aligned.append(eye.align(pixels))
        except DataError:  # no face in it any more, or several
            continue
        seen[number] = True
    return aligned, seen


def _outcome(looker: Looker, threshold: float, found: dict[tuple[str, int], Resampled]) -> Outcome:
    perturbed = {condition: one for condition, one in found.items() if condition != CLEAN}
    loss, intervals = mean_relative_loss(found[CLEAN], perturbed)
    measured = Measured(
        name=looker.name,
        sha256=looker.manifest.sha256,
        network=looker.manifest.model.name,
        threshold=threshold,
        clean=found[CLEAN].rates,
        cells=tuple(
            Cell(perturbation=name, level=level, rates=one.rates)
            for (name, level), one in perturbed.items()
        ),
        mean_relative_loss=loss,
        intervals=intervals,
    )
    return Outcome(measured=measured, conditions=perturbed)
