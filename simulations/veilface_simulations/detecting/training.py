"""Detectors trained on generated clips: several of them side by side, on the very same frames.

First on single frames, for the frames of a clip are too much alike to learn from them what faces
look like; then on clips, to remember. There batch normalisation keeps the statistics that it had:
those of a few clips, a third of them black or noise, are nothing to go by.

DIR/checkpoint.safetensors   NETWORK/weights/NAME, NETWORK/optimizer/NUMBER/NAME; the plan, the step
                             and the losses so far in its metadata
DIR/NETWORK.safetensors      the weights at the end
DIR/NETWORK.onnx             the same as a program for ONNX Runtime, see `export`
DIR/training.json            the plan, and the losses on the way

The clips of a step follow from (seed, step), so a training that was stopped goes on as if it had
not been: the same seed, device and number of threads give the same weights.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from veilface_client.edge.export import load_onnx
from veilface_client.training import autocast, choose_device, choose_precision
from veilface_common import typed_json
from veilface_common.budget.entries import canonical
from veilface_common.errors import ArtifactError, ConfigError, TrainingDiverged
from veilface_common.files import PUBLIC, write_atomically
from veilface_common.models.heatmap import MULTIPLE, ClassicRecurrent, HeatmapNetwork, Name
from veilface_common.models.heatmap import build_detector as build
from veilface_simulations.clips.clip import Boxes, ClipConfig, ClipSource, Flags
from veilface_simulations.clips.opening import open_clips
from veilface_simulations.detecting.export import export
from veilface_simulations.detecting.targets import (
    classic_frames,
    classic_loss,
    loss_of,
    targets_of,
)

CHECKPOINT = "checkpoint.safetensors"
RECORD = "training.json"
WARM_UP = 100  # steps until the learning rate is reached
EACH = 50  # steps between checkpoints, and between figures
STILLS = 0.5  # of the steps are on single frames
SPOILT_STILLS = 0.1  # of the single frames: without memory there is little to learn from them
LARGEST_GRADIENT = 5.0
Progress = Callable[[int, int], None]  # steps done, of how many


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained, on what, for how long."""

    data: str  # sources of clips, separated by commas: they take turns
    networks: tuple[Name, ...] = ("rnn",)
    steps: int = 4000
    seed: int = 0
    clips: int = 4  # of a step; or as many single frames as they have
    frames: int = 8  # of a clip: gradients go back through all of them
    pixels: int = 192  # side of a frame
    corrupted_share: float = 0.3  # of the frames of a clip
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    start: str = ""  # a folder of another training, whose weights are begun with where they fit

    def __post_init__(self) -> None:
        if not self.networks or len(set(self.networks)) < len(self.networks):
            raise ConfigError(f"expected each network once, got {','.join(self.networks)!r}")
        if min(self.steps, self.clips, self.frames) < 1 or self.seed < 0:
            got = (self.steps, self.clips, self.frames, self.seed)
            raise ConfigError(f"expected steps, clips and frames from 1, a seed from 0, got {got}")
        if self.pixels < MULTIPLE or self.pixels % MULTIPLE:
            raise ConfigError(f"expected a multiple of {MULTIPLE} pixels, got {self.pixels}")

    @property
    def still_steps(self) -> int:
        """How many steps are on single frames."""
        return round(STILLS * self.steps)

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step: up in `WARM_UP` steps, down along a half cosine.

        Both parts of the training have that.
        """
        done, steps = step, self.still_steps
        if step >= self.still_steps:
            done, steps = step - self.still_steps, self.steps - self.still_steps
        up = min(1.0, (done + 1) / WARM_UP)
        return self.learning_rate * up * (1 + math.cos(math.pi * done / steps)) / 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Frames, and the faces in them."""

    frames: Tensor  # [B, T, 3, S, S] in [0, 1]
    boxes: list[Boxes]  # B T of them, in pixels of the frame
    ignored: list[Flags]


@dataclass(kw_only=True, eq=False)
class Learner:
    """A network on its way."""

    name: Name
    network: HeatmapNetwork | ClassicRecurrent
    optimizer: torch.optim.Optimizer
    # (step, mean losses since the one before: of centres, of boxes)
    losses: list[tuple[int, float, float]] = field(default_factory=list)


def train(plan: Plan, folder: Path, progress: Progress) -> None:
    """Train every network of the plan to its end, from the folder's checkpoint if there is one.

    Raises:
        ConfigError: there are no such clips.
        ArtifactError: the checkpoint is damaged or of another plan.
        TrainingDiverged: a loss is not finite.
    """
    sources = [open_clips(text, "train") for text in plan.data.split(",")]
    device = choose_device("auto")
    load_onnx()  # missing, it is told of now, not after the last step
    learners = [_learner(name, plan, device) for name in plan.networks]
    first = _restore(plan, learners, folder / CHECKPOINT)
    if not first:
        for learner in learners:
            _begin(learner, plan.start)
        _save(plan, learners, 0, folder / CHECKPOINT)
    sums, counted = torch.zeros(len(learners), 2), 0
    for step in range(first, plan.steps):
        batch = batch_of(sources, plan, step)
        if step >= plan.still_steps:
            for learner in learners:
                _keep_statistics(learner.network)
        sums += torch.tensor([_step(one, batch, plan.rate_at(step), device) for one in learners])
        done, counted = step + 1, counted + 1
        if done % EACH == 0 or done == plan.steps:
            for learner, (centres, boxes) in zip(learners, (sums / counted).tolist(), strict=True):
                learner.losses.append((done, round(centres, 4), round(boxes, 4)))
            sums, counted = torch.zeros_like(sums), 0
            _save(plan, learners, done, folder / CHECKPOINT)
        progress(done, plan.steps)
    for learner in learners:
        _finish(plan, learner, folder)
    record = {
        "plan": typed_json.to_json(plan),
        "losses": {one.name: one.losses for one in learners},
    }
    write_atomically(folder / RECORD, json.dumps(record, indent=1).encode(), mode=PUBLIC)


def batch_of(sources: list[ClipSource], plan: Plan, step: int) -> Batch:
    """Return the clips of a step, or single frames; the sources take turns."""
    stills = step < plan.still_steps
    count = plan.clips * plan.frames if stills else plan.clips
    config = ClipConfig(
        frames=1 if stills else plan.frames,
        height=plan.pixels,
        width=plan.pixels,
        corrupted_share=SPOILT_STILLS if stills else plan.corrupted_share,
    )
    # No number twice: single frames have up to that of the last of them, clips go on from there.
    before = plan.clips * (
        plan.frames * min(step, plan.still_steps) + max(0, step - plan.still_steps)
    )
    numbers = range(before, before + count)
    clips = [sources[n % len(sources)].clip(config, plan.seed, n) for n in numbers]
    pixels = torch.from_numpy(np.stack([clip.frames for clip in clips]))  # [B, T, S, S, 3]
    return Batch(
        frames=pixels.permute(0, 1, 4, 2, 3).float() / 255,
        boxes=[boxes for clip in clips for boxes in clip.boxes],
        ignored=[flags for clip in clips for flags in clip.ignored],
    )


def _learner(name: Name, plan: Plan, device: torch.device) -> Learner:
    network = build(name, plan.seed)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=plan.weight_decay)
    return Learner(name=name, network=network, optimizer=optimizer)


def _begin(learner: Learner, start: str) -> None:
    """Begin with the weights that another training gave this network, as far as they fit."""
    if not start:
        return
    path = Path(start) / f"{learner.name}.safetensors"
    try:
        known = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"expected the weights to start from in {path}, got none") from error
    own = learner.network.state_dict()
    fitting = {k: v for k, v in known.items() if k in own and v.shape == own[k].shape}
    if not fitting:
        raise ArtifactError(f"expected weights of {learner.name} in {path}, got others")
    learner.network.load_state_dict(own | fitting)


def _keep_statistics(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def _step(learner: Learner, batch: Batch, rate: float, device: torch.device) -> tuple[float, float]:
    """Take one step and return the losses of centres and of boxes before it."""
    precision = choose_precision("auto", device)
    with autocast(device, precision):
        centres, boxes = _losses(learner.network, batch, device)
    if not bool(torch.isfinite(centres + boxes)):
        raise TrainingDiverged(
            f"expected a finite loss of {learner.name}, got none", hint="a lower learning rate"
        )
    for group in learner.optimizer.param_groups:
        group["lr"] = rate
    learner.optimizer.zero_grad()
    (centres + boxes).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(learner.network.parameters(), LARGEST_GRADIENT)
    learner.optimizer.step()
    return float(centres.detach()), float(boxes.detach())


def _losses(
    network: HeatmapNetwork | ClassicRecurrent, batch: Batch, device: torch.device
) -> tuple[Tensor, Tensor]:
    frames = batch.frames.to(device)
    pixels = frames.shape[-1]
    if isinstance(network, ClassicRecurrent):
        answers, _ = network(classic_frames(frames))
        return classic_loss(answers, batch.boxes, batch.ignored, pixels)
    maps, _ = network(frames)
    return loss_of(maps, targets_of(batch.boxes, batch.ignored, pixels, pixels).to(device))


def _finish(plan: Plan, learner: Learner, folder: Path) -> None:
    network = learner.network.cpu().eval()
    content = save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
    write_atomically(folder / f"{learner.name}.safetensors", content, mode=PUBLIC)
    exported = export(
        network,
        learner.name,
        data=",".join(text.partition(":")[0] for text in plan.data.split(",")),
        seed=plan.seed,
        steps=plan.steps,
        weights=hashlib.sha256(content).hexdigest(),
    )
    write_atomically(folder / f"{learner.name}.onnx", exported, mode=PUBLIC)


def _save(plan: Plan, learners: list[Learner], step: int, path: Path) -> None:
    tensors = dict[str, Tensor]()
    for learner in learners:
        for name, value in learner.network.state_dict().items():
            tensors[f"{learner.name}/weights/{name}"] = value.contiguous()
        for number, state in learner.optimizer.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"{learner.name}/optimizer/{number}/{name}"] = value.contiguous()
    about = {
        "plan": canonical(typed_json.to_json(plan)),
        "step": str(step),
        "losses": json.dumps({one.name: one.losses for one in learners}),
    }
    write_atomically(path, save(tensors, metadata=about))


def _restore(plan: Plan, learners: list[Learner], path: Path) -> int:
    """Put learners where the checkpoint has them, if there is one; return the steps done."""
    if not path.exists():
        return 0
    about, tensors = _read(path)
    if typed_json.from_json(Plan, json.loads(about["plan"]), str(path)) != plan:
        raise ArtifactError(f"expected a checkpoint of this training in {path}, got another's")
    losses = json.loads(about["losses"])
    for learner in learners:
        learner.losses = [tuple(entry) for entry in losses[learner.name]]
        weights, states = dict[str, Tensor](), dict[int, dict[str, Tensor]]()
        for name, value in tensors.items():
            whose, what, rest = name.split("/", 2)
            if whose == learner.name and what == "weights":
                weights[rest] = value
            elif whose == learner.name:
                number, _, part = rest.partition("/")
                states.setdefault(int(number), {})[part] = value
        learner.network.load_state_dict(weights)
        groups = learner.optimizer.state_dict()["param_groups"]
        learner.optimizer.load_state_dict({"state": states, "param_groups": groups})
    return int(about["step"])


def read_plan(folder: Path) -> Plan:
    """Return the plan of a training that was started in a folder.

    Raises:
        ArtifactError: there is none, or it is damaged.
    """
    about, _ = _read(folder / CHECKPOINT)
    return typed_json.from_json(Plan, json.loads(about["plan"]), str(folder / CHECKPOINT))


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- no dict
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"expected a detector's training in {path}, got none") from error
    if not {"plan", "step", "losses"} <= about.keys():
        raise ArtifactError(f"expected a detector's training in {path}, got other tensors")
    return about, tensors
