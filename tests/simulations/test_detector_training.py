"""Detectors trained on clips: what they are to say, how they learn it, what is written."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from veilface_client.detectors.recurrent import Recurrent
from veilface_common.errors import ArtifactError, ConfigError
from veilface_common.models.heatmap import Maps, build_detector, cell_middles, decode
from veilface_simulations.clips.clip import Clip, ClipConfig
from veilface_simulations.detecting import training
from veilface_simulations.detecting.export import Step, export, verify_same
from veilface_simulations.detecting.targets import classic_loss, focal, loss_of, targets_of
from veilface_simulations.detecting.training import Plan, batch_of, read_plan, train

NONE = np.zeros(0, bool)
FACE = np.array([[20.0, 12.0, 24.0, 40.0]])  # middle (32, 32): cell row 4, column 4 of 8 x 8
SEEN, HIDDEN = np.array([False]), np.array([True])


class Squares:
    """Clips of a bright square on black: as easy a face as there is."""

    name = "squares"

    def clip(self, config: ClipConfig, seed: int, number: int) -> Clip:
        draw = np.random.default_rng((seed, number))
        left, top = draw.integers(0, config.width - 24, 2).tolist()
        frames = np.zeros((config.frames, config.height, config.width, 3), np.uint8)
        frames[:, top : top + 24, left : left + 24] = 255
        return Clip(
            frames=frames,
            boxes=(np.array([[left, top, 24.0, 24.0]]),) * config.frames,
            people=(np.zeros(1, np.int64),) * config.frames,
            ignored=(SEEN,) * config.frames,
            corrupted=np.zeros(config.frames, bool),
        )


def test_the_focal_loss_is_what_the_paper_prints() -> None:
    """Law & Deng 2018, eq. 1, cell by cell."""
    logits, wanted = torch.tensor([-2.0, 0.3, 1.5, 4.0]), torch.tensor([1.0, 0.0, 0.6, 1.0])
    for value, y, found in zip(logits, wanted, focal(logits, wanted), strict=True):
        p = 1 / (1 + math.exp(-float(value)))
        if y == 1:
            expected = -((1 - p) ** 2) * math.log(p)
        else:
            expected = -((1 - float(y)) ** 4) * p**2 * math.log(1 - p)
        assert float(found) == pytest.approx(expected, rel=1e-4)


def test_what_is_asked_for_decodes_to_the_faces() -> None:
    """A network that said exactly what it should would give each face's box, and no loss."""
    faces = np.concatenate((FACE, [[100.0, 60.0, 16.0, 20.0]]))
    targets = targets_of([faces], [np.array([False, False])], 96, 128)
    middles, sides = targets.boxes.split(2, dim=1)
    offsets = middles - cell_middles(targets.centres)
    logits = torch.where(targets.centres == 1, 20.0, -20.0)
    maps = Maps(logits[None], torch.cat((offsets, sides.log()), 1)[None])
    scores, boxes = decode(maps)
    found = boxes[0, 0, :, scores[0, 0] > 0.5].T.numpy()
    assert np.allclose(np.unique(found.round(2), axis=0), faces, atol=0.01)
    assert all(float(loss) < 1e-6 for loss in loss_of(maps, targets))
    wrong = Maps(-logits[None], maps.boxes + 1)
    assert all(float(loss) > 1 for loss in loss_of(wrong, targets))


def test_every_cell_close_to_a_middle_is_a_centre() -> None:
    """By a fifth of the side, at most by a cell; of the smallest face the cell that it is in."""
    large, small = np.array([30.0, 40.0, 80.0, 100.0]), np.array([145.0, 20.0, 9.0, 9.0])
    targets = targets_of([np.stack((large, small))], [np.zeros(2, bool)], 192, 192)
    tops = {(int(row), int(column)) for row, column in (targets.centres[0] == 1).nonzero()}
    # Middle (70, 90), so x from 62 to 78 and y from 82 to 98; middles of cells lie at 4, 12, ...
    assert tops == {(row, column) for row in (10, 11) for column in (8, 9)} | {(3, 18)}
    near = np.concatenate((FACE, FACE + np.array([9.0, 0, 0, 0])))  # each its own cell
    both = targets_of([near], [np.zeros(2, bool)], 64, 64)
    assert [float(both.boxes[0, 0, 4, column]) for column in (4, 5)] == [4.0, 5.125]


def test_a_face_to_be_ignored_is_neither_right_nor_wrong() -> None:
    """Saying that it is there, or that it is not, costs nothing; elsewhere a wrong word costs."""
    targets = targets_of([FACE], [HIDDEN], 64, 64)
    here, elsewhere = (torch.full((1, 1, 8, 8), -20.0) for _ in range(2))
    here[0, 0, 4, 4] = 3.0
    elsewhere[0, 0, 0, 0] = 3.0
    boxes = torch.zeros(1, 1, 4, 8, 8)
    assert float(loss_of(Maps(here, boxes), targets)[0]) < 1e-6
    assert float(loss_of(Maps(elsewhere, boxes), targets)[0]) > 1


def test_the_classic_network_is_asked_for_the_largest_face() -> None:
    """Of two faces the larger one; where there is none only the score counts."""
    small = np.array([[0.0, 0.0, 10.0, 10.0]])
    right = torch.tensor([9.0, 0.5, 0.5, math.log(24 / 64), math.log(40 / 64)])
    answers = torch.stack((right, right * torch.tensor([-1, 1, 1, 1, 1])))[None]  # [1, 2, 5]
    boxes, ignored = [np.concatenate((small, FACE)), FACE[:0]], [np.zeros(2, bool), NONE]
    assert all(float(loss) < 1e-3 for loss in classic_loss(answers, boxes, ignored, 64))
    wrong = [np.concatenate((small * 9, FACE)), FACE]
    assert all(float(loss) > 0.5 for loss in classic_loss(answers, wrong, [*ignored[:1], SEEN], 64))


@pytest.mark.parametrize("name", ["rnn", "twin", "classic-rnn"])
def test_a_few_steps_find_a_square(name: str) -> None:
    """The loss of each network falls to a fraction within seconds."""
    torch.set_num_threads(1)
    plan = Plan(data="squares", networks=(name,), steps=60, clips=2, frames=2, pixels=64)
    device = torch.device("cpu")
    learner = training._learner(name, plan, device)
    losses = []
    for step in range(plan.steps):
        batch = batch_of([Squares()], plan, step)
        losses.append(sum(training._step(learner, batch, 3e-3, device)))
    assert np.mean(losses[-5:]) < 0.4 * np.mean(losses[:5])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Three steps on single frames, three on clips, a checkpoint every second; no export."""
    torch.set_num_threads(1)
    monkeypatch.setattr(training, "open_clips", lambda *_: Squares())
    monkeypatch.setattr(training, "EACH", 2)
    monkeypatch.setattr(training, "export", lambda *_, **__: b"")
    return Plan(data="wider:/home/ada", networks=("rnn", "twin"), steps=6, frames=2, pixels=64)


@pytest.mark.parametrize(
    ("stopped", "left"), [(1, [1, 2, 3, 4, 5, 6]), (3, [3, 4, 5, 6]), (5, [5, 6])]
)
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(
    tmp_path: Path, quick: Plan, stopped: int, left: list[int]
) -> None:
    """Stopped before the first checkpoint, in either part: equal weights."""

    def stop(done: int, _: int) -> None:
        if done == stopped:
            raise KeyboardInterrupt

    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    train(quick, tmp_path / "whole", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        train(quick, tmp_path / "parts", stop)
    assert read_plan(tmp_path / "parts") == quick
    done: list[int] = []
    train(quick, tmp_path / "parts", lambda step, _: done.append(step))
    assert done == left
    for name in quick.networks:
        whole, parts = (load_file(tmp_path / f / f"{name}.safetensors") for f in ("whole", "parts"))
        assert all(torch.equal(whole[key], parts[key]) for key in whole)
    record = json.loads((tmp_path / "parts" / "training.json").read_text())
    assert [entry[0] for entry in record["losses"]["rnn"]] == [2, 4, 6]


def test_clips_do_not_change_the_statistics_of_a_batch(tmp_path: Path, quick: Plan) -> None:
    """Those of single frames stay; in both networks, so that memory alone makes the difference."""
    train(quick, tmp_path, lambda *_: None)
    for name in ("rnn", "twin"):
        weights = load_file(tmp_path / f"{name}.safetensors")
        counted = {int(n) for key, n in weights.items() if key.endswith("num_batches_tracked")}
        assert counted == {quick.still_steps}


def test_no_clip_is_seen_twice_and_networks_see_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quick: Plan
) -> None:
    """Single frames and clips have numbers of their own, one after the other; so sources agree."""
    asked: list[tuple[int, int]] = []

    class Watched(Squares):
        def clip(self, config: ClipConfig, seed: int, number: int) -> Clip:
            asked.append((config.frames, number))
            return super().clip(config, seed, number)

    monkeypatch.setattr(training, "open_clips", lambda *_: Watched())
    train(quick, tmp_path, lambda *_: None)
    assert [number for _, number in asked] == list(range(3 * 8 + 3 * 4))
    assert [frames for frames, _ in asked] == [1] * 24 + [2] * 12


def test_a_training_starts_from_another_s_weights(tmp_path: Path, quick: Plan) -> None:
    """With a rate of nought they stay as they were; a folder without them is refused."""
    for folder in ("first", "second", "third"):
        (tmp_path / folder).mkdir()
    train(quick, tmp_path / "first", lambda *_: None)
    onwards = replace(quick, start=str(tmp_path / "first"), seed=9, learning_rate=0.0)
    train(onwards, tmp_path / "second", lambda *_: None)
    before, after = (load_file(tmp_path / f / "rnn.safetensors") for f in ("first", "second"))
    same = [
        torch.equal(before[name], after[name])
        for name in before
        if name.endswith(("weight", "bias"))
    ]
    assert all(same)
    with pytest.raises(ArtifactError, match="weights to start from"):
        train(replace(quick, start=str(tmp_path / "third")), tmp_path / "third", lambda *_: None)


def test_another_plan_s_checkpoint_is_refused(tmp_path: Path, quick: Plan) -> None:
    """Going on with other settings would be neither training; a damaged file is none."""
    train(quick, tmp_path, lambda *_: None)
    other = Plan(data=quick.data, networks=quick.networks, steps=7, frames=2, pixels=64)
    with pytest.raises(ArtifactError, match="another's"):
        train(other, tmp_path, lambda *_: None)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="got none"):
        read_plan(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 0},
        {"networks": ()},
        {"networks": ("rnn", "rnn")},
        {"pixels": 100},
        {"clips": 0},
        {"seed": -1},
    ],
    ids=str,
)
def test_plans_that_cannot_be_are_refused(settings: dict[str, object]) -> None:
    """Each setting is judged before the first clip is drawn."""
    with pytest.raises(ConfigError):
        Plan(data="drawn", **settings)  # type: ignore[arg-type]


def test_the_file_says_what_the_network_says_and_what_it_is(tmp_path: Path) -> None:
    """An exported network is verified over a stream; one whose weights changed since is refused."""
    network = build_detector("rnn", seed=2).eval()
    content = export(network, "rnn", data="drawn", seed=2, steps=7, weights="ab" * 32)
    (tmp_path / "rnn.onnx").write_bytes(content)
    assert len(content) < 1_000_000
    notes = Recurrent(tmp_path / "rnn.onnx").notes
    assert (notes.network, notes.data, notes.steps) == ("rnn", "drawn", 7)
    assert (notes.licence, notes.weights) == ("Apache-2.0", "ab" * 32)
    with torch.no_grad():
        network.cell.candidate.weight.mul_(1.5)
    with pytest.raises(ArtifactError, match="expected PyTorch's detections"):
        verify_same(content, Step(network).eval(), classic=False)


def test_weights_of_photographs_carry_no_licence_of_ours(tmp_path: Path) -> None:
    """What was trained on somebody's photographs is not ours to license; the classic one too."""
    network = build_detector("classic-rnn", seed=2).eval()
    content = export(network, "classic-rnn", data="wider", seed=0, steps=1, weights="0" * 64)
    (tmp_path / "m.onnx").write_bytes(content)
    detector = Recurrent(tmp_path / "m.onnx", score=0.001)
    assert "photographs" in detector.notes.licence
    assert len(detector.detect(np.full((120, 300, 3), 99, np.uint8))) <= 1
