"""The gradient of each unit of a batch, from one pass forward and one backward.

In the networks (`models.cnn`) an image's way never crosses another's, so one backward pass gives,
at each layer, the gradient of every image by its own unit's loss alone. What a layer's parameters
get from a unit follows from that and from the layer's input, by a sum over the unit's images:

    convolution     output gradients [O, P] times patches of the input [P, 9 I], P places in all
    linear          output gradients [O, P] times inputs [P, I]
    normalisation   sums of output gradients, and of their products with the normalised input

The gradient by a standardised filter is then carried to the weight that the filter is made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from veilface_client.private_heads import UnitHead
from veilface_client.training import autocast, choose_precision
from veilface_client.units import Coins, Seen, Units, Views
from veilface_common.config import RunConfig
from veilface_common.models.cnn import StandardisedConv

LEAST_IMAGES = 4  # in a pass
MANY_PLACES = 512  # of a unit: from there on the library's kernel is faster than patches


class PhotographGradients:
    """Gradients of units by a network that embeds photographs; see `private.Gradients`."""

    def __init__(
        self,
        network: nn.Module,
        head: UnitHead,
        units: Units,
        config: RunConfig,
        coins: Coins,
        inside: Sequence[nn.Parameter],
    ) -> None:
        self._network, self._head, self._config, self._inside = network, head, config, inside
        self._views = Views(units, config, coins, next(network.parameters()).device)

    def chunks(self, sampled: Sequence[int]) -> list[list[int]]:
        """Return the units in parts that show equally many photographs; an empty one if none."""
        return self._views.chunks(sampled)

    def of(self, chunk: Sequence[int], step: int) -> tuple[Tensor, list[Tensor], int]:
        """Return losses [units], gradients [units, *shape] of each, and how many views they saw."""
        seen = self._views.of(chunk, step)
        losses, gradients = unit_gradients(
            self._network, self._head, seen, self._inside, self._config
        )
        return losses, gradients, seen.faces.shape[:3].numel()


def unit_gradients(
    network: nn.Module,
    head: UnitHead,
    seen: Seen,
    inside: Sequence[nn.Parameter],
    config: RunConfig,
) -> tuple[Tensor, list[Tensor]]:
    """Return the loss of each unit, [units], and by each of `inside` its gradient, [units, *shape].

    They are those of autograd for one unit at a time, to rounding, in fp32.

    Raises:
        TypeError: a trained layer is of a kind without a rule here.
    """
    units, images = len(seen.names), seen.faces.shape[1:3].numel()
    # Some products of few rows round otherwise, by which a unit would tell how many came with it.
    filled = [*range(units), *[units - 1] * (-(-LEAST_IMAGES // images) - units)]
    names, faces = [seen.names[unit] for unit in filled], seen.faces[filled]
    flat = faces.flatten(0, 2).contiguous(memory_format=torch.channels_last)
    precision = choose_precision(config.precision, flat.device)
    with _watched(network, len(filled)) as (outputs, found), autocast(flat.device, precision):
        embeddings = network(flat)  # [B, 3, S, S] -> [B, D]
    of_head = [parameter for parameter in head.parameters() if parameter.requires_grad]
    losses, outer, by_head = [], [], []
    by_unit = embeddings.detach().view(*faces.shape[:3], -1)
    for name, own in zip(names, by_unit, strict=True):
        own.requires_grad_()
        loss = head.loss(own, name)  # of this unit's embeddings, and nobody else's
        of_own, *rest = torch.autograd.grad(loss, [own, *of_head])
        losses.append(loss.detach())
        outer.append(of_own)
        by_head.append(rest)
    # Back to the first trained layer; what is found on the way is put into `found`.
    torch.autograd.grad(embeddings, outputs[:1], torch.stack(outer).view_as(embeddings))
    found.update(zip(of_head, map(torch.stack, zip(*by_head, strict=True)), strict=True))
    return torch.stack(losses)[:units], [found[parameter][:units] for parameter in inside]


@contextmanager
def _watched(
    network: nn.Module, units: int
) -> Iterator[tuple[list[Tensor], dict[nn.Parameter, Tensor]]]:
    """Yield the outputs of trained layers, and what a backward pass finds by each parameter.

    A layer's share is computed when the pass comes by: kept for later, the gradients of all outputs
    would take memory and leave the cache.
    """
    outputs: list[Tensor] = []
    found: dict[nn.Parameter, Tensor] = {}

    def watch(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        given = inputs[0].detach()

        def take(gradient: Tensor) -> None:
            of_layer = _of_layer(layer, given.to(gradient.dtype), gradient, units)
            for kind, parameter in layer.named_parameters(recurse=False):
                if parameter in found:
                    raise TypeError(f"expected each layer to be used once, got {layer} again")
                found[parameter] = of_layer[kind]

        outputs.append(output)
        output.register_hook(take)  # type: ignore[no-untyped-call]

    trained = {
        name.rpartition(".")[0]
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    }
    hooks = [network.get_submodule(name).register_forward_hook(watch) for name in trained]
    try:
        yield outputs, found
    finally:
        for hook in hooks:
            hook.remove()


def _of_layer(layer: nn.Module, given: Tensor, gradient: Tensor, units: int) -> dict[str, Tensor]:
    """Return the gradients by weight and bias, [units, *shape]."""
    if isinstance(layer, nn.GroupNorm):
        return _of_normalisation(layer, given, gradient, units)
    if isinstance(layer, nn.Conv2d):
        by_weight = _of_convolution(layer, given, gradient, units)
        if layer.bias is None:
            return {"weight": by_weight}
        by_bias = _per_unit(gradient, units).sum((1, 3, 4), dtype=by_weight.dtype)
    elif isinstance(layer, nn.Linear):
        of_output = _per_unit(gradient, units)  # [B, O] -> [units, P, O]
        by_weight = torch.bmm(of_output.transpose(1, 2), _per_unit(given, units)).float()
        by_bias = of_output.sum(1, dtype=by_weight.dtype)
    else:
        raise TypeError(f"expected a convolution, normalisation or linear layer, got {layer}")
    return {"weight": by_weight, "bias": by_bias}


def _per_unit(x: Tensor, units: int) -> Tensor:
    """[B, ...] -> [units, images of one, ...]."""
    return x.view(units, -1, *x.shape[1:])


def _of_normalisation(
    layer: nn.GroupNorm, given: Tensor, gradient: Tensor, units: int
) -> dict[str, Tensor]:
    weight, groups, channels = layer.weight, layer.num_groups, given.shape[1]
    places, images = given[0, 0].numel(), len(given) // units
    _, mean, scale = torch.native_group_norm(
        given, weight, layer.bias, len(given), channels, places, groups, layer.eps
    )
    parts = (_per_unit(x, units) for x in (gradient, given, mean, scale))
    found = [
        torch.ops.aten.native_group_norm_backward(
            *part, weight, images, channels, places, groups, [False, True, True]
        )
        for part in zip(*parts, strict=True)
    ]
    _, by_weight, by_bias = zip(*found, strict=True)
    return {"weight": torch.stack(by_weight), "bias": torch.stack(by_bias)}


def _of_convolution(layer: nn.Conv2d, given: Tensor, gradient: Tensor, units: int) -> Tensor:
    places = gradient[:, 0].numel() // units
    by_filters = _by_library if places > MANY_PLACES else _by_patches
    pulled = layer.pull_back() if isinstance(layer, StandardisedConv) else None
    found = layer.weight.new_empty((units, *layer.weight.shape))
    for row, by_filter in zip(found, by_filters(layer, given, gradient, units), strict=True):
        by_weight = pulled(by_filter.float()) if pulled else by_filter
        row.copy_(by_weight.permute(0, 3, 1, 2))
    return found


def _by_library(layer: nn.Conv2d, given: Tensor, gradient: Tensor, units: int) -> Iterator[Tensor]:
    """Yield the gradient by the filters of each unit, [O, height, width, I]."""
    for own, of_output in zip(_per_unit(given, units), _per_unit(gradient, units), strict=True):
        shape = list(layer.weight.shape)
        found = conv2d_weight(own, shape, of_output, layer.stride, layer.padding)  # type: ignore[no-untyped-call]
        yield found.permute(0, 2, 3, 1).contiguous()


def _by_patches(layer: nn.Conv2d, given: Tensor, gradient: Tensor, units: int) -> Iterator[Tensor]:
    """Yield the gradient by the filters of each unit, [O, height, width, I]."""
    (outputs, inputs, height, width), (down, across) = layer.weight.shape, layer.stride
    above, beside = int(layer.padding[0]), int(layer.padding[1])
    # [B, I, H, H] -> [B, H + 2, H + 2, I]
    given = functional.pad(given.permute(0, 2, 3, 1), (0, 0, beside, beside, above, above))
    image, row, column, channel = given.stride()
    windows = given.as_strided(
        (len(given), *gradient.shape[2:], height, width, inputs),
        (image, down * row, across * column, row, column, channel),
    )
    patches = given.new_empty(_per_unit(windows, units).shape[1:])  # of one unit: kept in a cache
    table = patches.view(-1, height * width * inputs)  # [P, height * width * I]
    places = gradient.permute(0, 2, 3, 1).reshape(units, len(table), outputs)
    for own, of_output in zip(_per_unit(windows, units), places, strict=True):
        patches.copy_(own)
        yield (of_output.T @ table).view(outputs, height, width, inputs)
