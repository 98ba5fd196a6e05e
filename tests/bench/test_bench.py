"""Slow measurements, as ratios within one run: `make bench`. Timings are noisy; read them so."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from veilface_client.augmentation import centre_view
from veilface_client.data import Faces, load_faces, open_faces
from veilface_client.head import CosineMarginHead
from veilface_client.images import canvas_pixels
from veilface_client.keeper import Keeper
from veilface_client.training import choose_precision
from veilface_client.transform import Augmentation
from veilface_common import models, tensors
from veilface_common.config import RunConfig
from veilface_common.models.weights import read_weights
from veilface_common.presets import preset
from veilface_common.protocol import TrainRequest
from veilface_server.checkpoint import load_records
from veilface_simulations import drawn
from veilface_simulations.experiment import Experiment
from veilface_simulations.flower import run_with_flower
from veilface_simulations.inprocess import run_in_process
from veilface_simulations.results import load_result
from veilface_simulations.sources import open_any
from veilface_simulations.world import World, build_world

pytestmark = pytest.mark.bench


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def best(
    work: Callable[[], object], other: Callable[[], object], times: int
) -> tuple[float, float]:
    """Return the best time of each, the two taken in turns so that noise meets both."""
    pairs = [(seconds(work), seconds(other)) for _ in range(times)]
    return min(first for first, _ in pairs), min(second for _, second in pairs)


def world_of(
    folder: Path, cache: Path, data: str, organisations: int, rounds: int
) -> tuple[Experiment, World]:
    config = replace(preset("smoke"), seed=1)
    config = replace(config, federation=replace(config.federation, rounds=rounds, keep_every=0))
    experiment = Experiment(
        data=data, config=config, organisations=organisations, arms=("federated",), preset="smoke"
    )
    folder.mkdir()
    return experiment, build_world(experiment, folder, cache, lambda *_: None)


def in_process(experiment: Experiment, world: World, workers: int) -> None:
    federation = world.federations[0]
    folders = {name: federation.organisations / name for name in federation.members}
    run_in_process(experiment.config, folders, federation.server, workers)


def bare_loop(faces: Faces, config: RunConfig, *, start: bool) -> None:
    """The same recipe as plain PyTorch has it; `start`: with the pass that places the head."""
    network = models.build(config.model, seed=0).to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(0)
    people = len(faces.person_names)
    head = CosineMarginHead(config.head, people, config.model.dimension, generator)
    augment = Augmentation(config.augmentation, config.model.pixels, generator)
    parameters = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05)
    images, labels = torch.from_numpy(faces[:]), torch.from_numpy(faces.people)
    fast = choose_precision(config.precision, torch.device("cpu")) == "bf16"
    if start:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=fast):
            batches = [centre_view(part, config.model.pixels) for part in images.split(128)]
            seen = [network(b.contiguous(memory_format=torch.channels_last)) for b in batches]
        head.start(torch.cat(seen), labels)
    for rows in torch.randperm(len(images)).split(config.training.batch_size):
        batch = augment(images[rows]).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            embeddings = network(batch)
        optimizer.zero_grad()
        head.loss(embeddings, labels[rows]).mean().backward()
        optimizer.step()


def test_keeper_against_a_bare_loop(tmp_path: Path, cache: Path) -> None:
    """Training through the keeper runs at 0.9 of the speed of a bare loop, or better."""
    torch.set_num_threads(1)
    _, world = world_of(tmp_path / "w", cache, "drawn:100x16", 1, 1)
    federation = world.federations[0]
    config = replace(
        preset("demo"), training=replace(preset("demo").training, local_epochs=1, batch_size=64)
    )
    keeper = Keeper.open(federation.organisations / "org-1")
    model = tensors.to_bytes(read_weights(models.build(config.model, seed=0)))
    request = TrainRequest(round=1, config=config, model=model)
    faces = open_faces(world.faces.path).of_people(federation.members["org-1"])
    bare, kept = best(
        lambda: bare_loop(faces, config, start=True), lambda: keeper.train(request), 4
    )
    plain = min(seconds(lambda: bare_loop(faces, config, start=False)) for _ in range(4))
    print(
        f"\nkeeper: {bare / kept:.2f} of a bare loop ({len(faces) / kept:.0f} images/s), "
        f"{plain / kept:.2f} of one that does not place the head by a pass over the faces"
    )
    assert bare / kept > 0.8  # 0.9 on a quiet machine


def test_overhead_of_a_round_in_process(tmp_path: Path, cache: Path) -> None:
    """What a round costs beside the organisations' training: messages, checks, sum, checkpoint."""
    torch.set_num_threads(1)
    experiment, world = world_of(tmp_path / "w", cache, "drawn:200x16", 4, 4)
    federation = world.federations[0]
    total = seconds(lambda: in_process(experiment, world, 1))
    state = {name: Keeper.open(federation.organisations / name) for name in federation.members}
    model = tensors.to_bytes(read_weights(models.build(experiment.config.model, seed=0)))
    request = TrainRequest(round=9, config=experiment.config, model=model)
    training = 4 * seconds(lambda: [keeper.train(request) for keeper in state.values()])
    print(f"\nround in process: {100 * (total / training - 1):.1f}% beside the training")


def test_start_and_rounds_of_both_engines(tmp_path: Path, cache: Path) -> None:
    """Start-up of each engine, and a round's overhead under Flower."""
    rounds = 6
    experiment, world = world_of(tmp_path / "a", cache, "drawn:40x8", 4, rounds)
    process = seconds(lambda: in_process(experiment, world, 2))
    alone = load_records(world.federations[0].server)
    experiment, world = world_of(tmp_path / "b", cache, "drawn:40x8", 4, rounds)
    federation = world.federations[0]
    flower = seconds(
        lambda: run_with_flower(
            experiment.config, federation.organisations, federation.server, 2, tmp_path / "f"
        )
    )
    shipped = load_records(federation.server)
    own = float(np.median([r.seconds for r in alone[1:]]))
    ray = float(np.median([r.seconds for r in shipped[1:]]))
    print(
        f"\nstart and end: in process {process - sum(r.seconds for r in alone):.1f} s, "
        f"Flower {flower - sum(r.seconds for r in shipped):.1f} s; "
        f"a round: {own:.2f} s and {ray:.2f} s"
    )
    assert [r.model_sha256 for r in alone] == [r.model_sha256 for r in shipped]


def test_drawing_and_opening(cache: Path) -> None:
    """Drawn photographs a second on one core; opening a cached set of 10,000."""
    count = 300
    for pixels in (64, canvas_pixels(64)):
        spent = seconds(lambda p=pixels: [drawn.photograph(1, i, 0, p) for i in range(count)])
        print(f"\ndrawing at {pixels} px: {count / spent:.0f} photographs/s")
    source = open_any("drawn:1000x10", seed=1, purpose="train", pixels=canvas_pixels(64))
    first = seconds(lambda: load_faces(source, pixels=canvas_pixels(64), cache=cache))
    again = seconds(lambda: load_faces(source, pixels=canvas_pixels(64), cache=cache))
    print(f"10,000 faces: {first:.1f} s to draw and cache, {again * 1000:.0f} ms to open")
    assert again < 1


def test_drawn_people_can_be_learnt(tmp_path: Path, cache: Path) -> None:
    """`tiny`, trained on 400 drawn people, tells 200 others apart: EER at most 6%."""
    program = Path(sys.executable).parent / "veilface-sim"
    subprocess.run(
        [program, "run", "--data", "drawn:400x12", "--evaluate-on", "drawn:200x6", "--arms",
         "central", "--preset", "demo", "--rounds", "10", "--engine", "inprocess", "--seed", "1",
         "--out", tmp_path / "run", "--cache", cache],
        check=True, capture_output=True,
    )  # fmt: skip
    (arm,) = load_result(tmp_path / "run").arms
    print(f"\ntrained on 400 drawn people: EER {arm.eer:.1%} on 200 others, {arm.seconds:.0f} s")
    assert arm.eer <= 0.06


class Memory:
    """The largest memory of this process and all below it while it is watched."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._stop.wait(0.5):
            total = 0
            for process in (own, *own.children(recursive=True)):
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)


def test_a_hundred_organisations(tmp_path: Path, cache: Path) -> None:
    """100 organisations of 20 drawn people, 3 rounds: time and memory under both engines."""
    sizes = {}
    for count in (10, 100):
        experiment, world = world_of(
            tmp_path / f"p{count}", cache, f"drawn:{25 * count}x4", count, 3
        )
        with Memory() as memory:
            spent = seconds(lambda e=experiment, w=world: in_process(e, w, 2))
        sizes[count] = memory.peak
        each = spent / 3 / count * 1000
        print(f"\nin process, {count}: {each:.0f} ms an organisation and round, "
              f"peak {memory.peak / 2**20:.0f} MiB")  # fmt: skip
    assert sizes[100] < 1.25 * sizes[10]
    experiment, world = world_of(tmp_path / "f100", cache, "drawn:2500x4", 100, 3)
    federation = world.federations[0]
    with Memory() as memory:
        spent = seconds(
            lambda: run_with_flower(
                experiment.config, federation.organisations, federation.server, 2, tmp_path / "fl"
            )
        )
    own = sum(record.seconds for record in load_records(federation.server))
    print(f"Flower, 100: {own / 300 * 1000:.0f} ms an organisation and round, "
          f"{spent - own:.0f} s to start and end, peak {memory.peak / 2**20:.0f} MiB")  # fmt: skip


def test_memory_of_the_command(tmp_path: Path, cache: Path) -> None:
    """Peak memory of a whole small run, all processes of the engine in process."""
    program = Path(sys.executable).parent / "veilface-sim"
    subprocess.run(
        [program, "run", "--data", "drawn:40x8", "--preset", "smoke", "--engine", "inprocess",
         "--out", tmp_path / "run", "--cache", cache],
        check=True, capture_output=True,
    )  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"\na small run in process: peak {peak / 1024:.0f} MiB")
