"""The gradients of many units from one pass equal those from a pass for each."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.client.private_parts import (
    CONFIG,
    SECRET,
    configurations,
    head_of,
    length,
    one_at_a_time,
    sized,
    some_faces,
)
from torch import Tensor, nn

from veilface_client import unit_gradients as fast
from veilface_client.private_heads import BankHead, LeaveOneOutHead, UnitHead
from veilface_client.private_plan import freeze_but
from veilface_client.unit_gradients import unit_gradients
from veilface_client.units import Coins, Seen, Views, units_of
from veilface_common.config import Precision, RunConfig, TrainedPart
from veilface_common.models import build


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def named(config: RunConfig) -> str:
    return f"{config.privacy.unit}-{config.privacy.head}-{config.model.name}"


def parts(config: RunConfig) -> list[Seen]:
    """Return everybody of some people of noise, in the parts that a step makes."""
    faces = sized(config, some_faces())
    units = units_of("image" if config.privacy.unit == "image" else "identity", faces)
    views = Views(units, config, Coins(SECRET), torch.device("cpu"))
    return [views.of(part, 0) for part in views.chunks(range(len(units.names)))]


def network_of(
    config: RunConfig, part: TrainedPart = "all"
) -> tuple[nn.Module, UnitHead, list[nn.Parameter]]:
    network = build(config.model, seed=1).to(memory_format=torch.channels_last)
    head, _ = head_of(config, network)
    of_head = [parameter for parameter in head.parameters() if parameter.requires_grad]
    return network, head, [*freeze_but(network, part), *of_head]


def furthest(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest distance of a unit's gradient from the slow one, as a share of it."""
    distances = []
    for unit in range(len(found[0])):
        slow = [gradient[unit] for gradient in expected]
        far = [gradient[unit] - own for gradient, own in zip(found, slow, strict=True)]
        distances.append(length(far) / length(slow))
    return max(distances)


def by_one_pass(
    network: nn.Module, head: UnitHead, seen: Seen, weights: list[nn.Parameter]
) -> list[Tensor]:
    """Return autograd's gradients of each unit's loss, from one pass over all of them."""
    flat = seen.faces.flatten(0, 2).contiguous(memory_format=torch.channels_last)
    embeddings = network(flat).view(*seen.faces.shape[:3], -1)
    rows = [
        torch.autograd.grad(head.loss(own, name), weights, retain_graph=True)
        for own, name in zip(embeddings, seen.names, strict=True)
    ]
    return [torch.stack(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("config", list(configurations()), ids=named)
def test_gradients_equal_those_of_each_loss_alone(config: RunConfig) -> None:
    """Every unit, head and model: to 1e-6 of a gradient's length, in fp32.

    Of the same embeddings: those of a batch differ from those of an image alone in the last bits,
    and a person's photographs may look nearly the same way, from which autograd's own gradients
    differ by up to 1e-5.
    """
    network, head, weights = network_of(config)
    for seen in parts(config):
        _, found = unit_gradients(network, head, seen, weights, config)
        assert furthest(found, by_one_pass(network, head, seen, weights)) <= 1e-6


@pytest.mark.parametrize("config", list(configurations()), ids=named)
def test_gradients_equal_those_of_one_unit_at_a_time(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every unit, head and model, each unit in a pass of its own: to the rounding of float64."""
    network, head, weights = network_of(config)
    # What asks for 32 bits gets 64, so that rounding hides nothing.
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    network.double()
    if isinstance(head, LeaveOneOutHead):
        rows = head.public_rows().double()
        head.public_rows = lambda: rows
    elif isinstance(head, BankHead):
        head.double()
    for part in parts(config):
        seen = replace(part, faces=part.faces.double())
        losses, found = unit_gradients(network, head, seen, weights, config)
        expected_losses, expected = one_at_a_time(network, head, seen, weights)
        torch.testing.assert_close(losses, expected_losses)
        assert {gradient.dtype for gradient in found} == {torch.float64}
        assert furthest(found, expected) <= 1e-11


@pytest.mark.parametrize("part", ["scales", "projection"])
def test_gradients_of_a_part_equal_those_of_each_loss_alone(part: TrainedPart) -> None:
    """Where only a part is trained, the same of it."""
    network, head, weights = network_of(CONFIG, part)
    for seen in parts(CONFIG):
        _, found = unit_gradients(network, head, seen, weights, CONFIG)
        assert furthest(found, by_one_pass(network, head, seen, weights)) <= 1e-6


@pytest.mark.parametrize("many", [0, 1_000_000])
def test_both_ways_through_a_convolution_are_exact(
    many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the library's kernel for all layers, or by patches for all."""
    monkeypatch.setattr(fast, "MANY_PLACES", many)
    network, head, weights = network_of(CONFIG)
    for seen in parts(CONFIG):
        _, found = unit_gradients(network, head, seen, weights, CONFIG)
        assert furthest(found, by_one_pass(network, head, seen, weights)) <= 1e-6


def test_filters_of_any_length_are_pulled_back() -> None:
    """Far from their start, where weights have other lengths and means, gradients still agree."""
    network, head, weights = network_of(CONFIG)
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.dim() == 4:
                weight.mul_(3 * torch.rand(len(weight), 1, 1, 1, generator=generator)).add_(0.1)
    for seen in parts(CONFIG):
        _, found = unit_gradients(network, head, seen, weights, CONFIG)
        assert furthest(found, by_one_pass(network, head, seen, weights)) <= 1e-5


def test_a_unit_that_is_not_finite_spoils_no_other() -> None:
    """A broken photograph's gradient is not finite; those beside it are what they were."""
    config = replace(CONFIG, privacy=replace(CONFIG.privacy, head="fixed"))
    network, head, weights = network_of(config)
    seen = next(seen for seen in parts(config) if len(seen.names) > 1)
    _, expected = unit_gradients(network, head, seen, weights, config)
    broken = replace(seen, faces=seen.faces.clone())
    broken.faces[0, 0, 0, 1, 30, 30] = float("nan")
    _, found = unit_gradients(network, head, broken, weights, config)
    assert not all(gradient[0].isfinite().all() for gradient in found)
    for gradient, before in zip(found, expected, strict=True):
        assert torch.equal(gradient[1:], before[1:])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("config", list(configurations()), ids=named)
def test_a_gradient_is_the_same_in_any_company(config: RunConfig, precision: Precision) -> None:
    """Whoever comes or goes beside a unit: not a bit of its gradient tells."""
    config = replace(config, precision=precision)
    network, head, weights = network_of(config)
    seen = max(parts(config), key=lambda part: len(part.names))
    losses, together = unit_gradients(network, head, seen, weights, config)
    for first, last in ((0, 1), (1, len(seen.names)), (0, len(seen.names) - 1)):
        some = replace(seen, names=seen.names[first:last], faces=seen.faces[first:last])
        loss, found = unit_gradients(network, head, some, weights, config)
        assert torch.equal(loss, losses[first:last])
        for gradient, before in zip(found, together, strict=True):
            assert torch.equal(gradient, before[first:last])


def test_bf16_gives_gradients_in_fp32() -> None:
    """As with fp32, but for the rounding of a pass in bf16: 8 bits, some lost on the way."""
    network, head, weights = network_of(CONFIG)
    for seen in parts(CONFIG):
        _, exact = unit_gradients(network, head, seen, weights, CONFIG)
        _, found = unit_gradients(network, head, seen, weights, replace(CONFIG, precision="bf16"))
        assert {gradient.dtype for gradient in found} == {torch.float32}
        far = [rounded - gradient for rounded, gradient in zip(found, exact, strict=True)]
        assert length(far) < 0.2 * length(exact)


def test_a_layer_without_a_rule_is_refused() -> None:
    """Of a kind of layer that is not known here, no gradient is guessed."""

    class Shifted(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network, self.shift = network, nn.Parameter(torch.zeros(1))

        def forward(self, images: torch.Tensor) -> Any:
            return self.network(images + self.shift)

    network, head, weights = network_of(CONFIG)
    shifted = Shifted(copy.deepcopy(network))
    with pytest.raises(TypeError, match="expected a convolution"):
        unit_gradients(shifted, head, parts(CONFIG)[0], weights, CONFIG)


def test_a_layer_that_is_used_twice_is_refused() -> None:
    """The second use would take the place of the first."""
    network, head, weights = network_of(CONFIG)
    residuals = network.get_submodule("stages.1.residuals")
    assert isinstance(residuals, nn.Sequential)
    residuals.append(residuals[0])
    with pytest.raises(TypeError, match="used once"):
        unit_gradients(network, head, parts(CONFIG)[0], weights, CONFIG)
