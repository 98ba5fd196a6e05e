"""The networks that find faces in videos."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from veilface_common.models import heatmap
from veilface_common.models.heatmap import HeatmapNetwork, Maps, Name, build_detector, decode

NAMES: list[Name] = ["rnn", "twin", "classic-rnn"]


def frames(count: int, height: int = 64, width: int = 96, batch: int = 1) -> Tensor:
    return torch.rand(batch, count, 3, height, width, generator=torch.Generator().manual_seed(7))


def parts_of(found: Maps | Tensor) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else [found.centres, found.boxes]


@pytest.fixture(params=NAMES)
def network(request: pytest.FixtureRequest) -> torch.nn.Module:
    return build_detector(request.param, seed=3).eval()


@pytest.mark.parametrize(("batch", "count"), [(1, 1), (2, 3), (1, 11)])
def test_any_number_of_frames_has_a_map_each(batch: int, count: int) -> None:
    """[B, T, 3, H, W] gives a logit and a box for each cell of 8 x 8 pixels, and a state."""
    for name in ("rnn", "twin"):
        with torch.inference_mode():
            maps, state = build_detector(name, 0).eval()(frames(count, batch=batch))
        assert maps.centres.shape == (batch, count, 8, 12)
        assert maps.boxes.shape == (batch, count, 4, 8, 12)
        assert state.shape == (batch, 32, 8, 12)


@torch.inference_mode()
def test_a_stream_is_its_frames_at_once(network: torch.nn.Module) -> None:
    """Frame by frame with the state carried on says what the whole clip at once says."""
    clip = frames(5, 96, 96, batch=2)
    at_once, last = network(clip)
    state, said = None, []
    for frame in clip.split(1, dim=1):
        found, state = network(frame, state)
        said.append(parts_of(found))
    for whole, steps in zip(parts_of(at_once), zip(*said, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(state, last, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_only_the_recurrent_ones_remember() -> None:
    """What came before a frame changes what is said of it, except of the twin."""
    clip = frames(2, 96, 96)
    changed = clip.clone()
    changed[:, 0] = 0
    for name, remembers in zip(NAMES, (True, False, True), strict=True):
        network = build_detector(name, 0).eval()
        before, after = (parts_of(network(c)[0])[0][:, 1] for c in (clip, changed))
        assert torch.equal(before, after) is not remembers, name


def test_the_networks_are_small_and_the_twin_is_as_large() -> None:
    """At most half a million weights, and those of the twin within one percent."""
    counts = {n: sum(p.numel() for p in build_detector(n, 0).parameters()) for n in NAMES}
    assert max(counts.values()) <= 500_000
    assert abs(counts["twin"] / counts["rnn"] - 1) < 0.01


def test_the_seed_alone_draws_the_weights() -> None:
    """The same seed gives the same weights, another one others; the global generator rests."""
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, same, other = (build_detector("rnn", s).state_dict() for s in (5, 5, 6))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["cell.candidate.weight"], other["cell.candidate.weight"])
    assert torch.equal(torch.random.get_rng_state(), before)


@torch.inference_mode()
def test_the_state_stays_bounded_however_long_the_stream() -> None:
    """After hundreds of frames of any strength the state is within [-1, 1]."""
    cell = heatmap.Cell(32)
    state = torch.zeros(1, 32, 4, 4)
    for _ in range(300):
        state = cell(100 * torch.randn(1, 32, 4, 4), state)
    assert state.abs().max() <= 1


def test_a_map_made_by_hand_is_decoded() -> None:
    """Cell (row 2, column 3), half a cell right of its middle, 2 x 4 cells large: pixels."""
    centres = torch.full((1, 1, 5, 6), -9.0)
    centres[0, 0, 2, 3] = 2.0
    boxes = torch.zeros(1, 1, 4, 5, 6)
    boxes[0, 0, :, 2, 3] = torch.tensor([0.5, 0.0, 2.0, 4.0])
    boxes[0, 0, 2:, 2, 3] = boxes[0, 0, 2:, 2, 3].log()
    scores, places = decode(Maps(centres, boxes))
    assert scores[0, 0, 2, 3] == pytest.approx(0.8808, abs=1e-4)
    assert (scores < 0.001).sum() == 29
    # Middle at x (3 + 0.5 + 0.5) * 8 = 32 and y (2 + 0.5) * 8 = 20; sides 16 and 32.
    assert places[0, 0, :, 2, 3].tolist() == pytest.approx([24, 4, 16, 32])


def test_absurd_sizes_stay_finite() -> None:
    """A log of a side that no face has is cut, so that no box is infinite."""
    maps = Maps(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 4, 2, 2), 1e6))
    maps.boxes[:, :, :2] = 0
    assert decode(maps)[1].isfinite().all()


def test_sides_that_are_no_multiple_are_refused_by_the_network() -> None:
    """The network does not guess: whoever calls it pads, as the detector does."""
    with pytest.raises(RuntimeError):
        HeatmapNetwork().eval()(frames(1, 72, 96))
