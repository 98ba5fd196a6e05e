"""The cosine-margin head against slow, obvious arithmetic."""

from __future__ import annotations

import torch
from opacus.grad_sample import GradSampleModule
from torch import Generator, Tensor, nn
from torch.nn import functional

from veilface_client.head import CosineMarginHead
from veilface_common.config import HeadConfig

PEOPLE, DIMENSION, BATCH = 7, 5, 6


def generator(seed: int = 1) -> Generator:
    return Generator().manual_seed(seed)


def head(**settings: float) -> CosineMarginHead:
    return CosineMarginHead(HeadConfig(**settings), PEOPLE, DIMENSION, generator())


def embeddings() -> Tensor:
    return functional.normalize(torch.randn(BATCH, DIMENSION, generator=generator(2)))


LABELS = torch.tensor([0, 1, 2, 2, 6, 0])


class Cosines(nn.Module):
    """The head's cosines as a module with a forward, as Opacus wants it."""

    def __init__(self, judge: CosineMarginHead) -> None:
        super().__init__()
        self.weight = judge.weight

    def forward(self, faces: Tensor) -> Tensor:
        return functional.linear(functional.normalize(faces), functional.normalize(self.weight))


def test_loss_is_the_formula_of_cosface() -> None:
    """Each example's loss equals the paper's expression, written out for that example alone."""
    judge, faces = head(scale=9, margin=0.3), embeddings()
    losses = judge.loss(faces, LABELS)
    for face, label, loss in zip(faces, LABELS, losses, strict=True):
        cosines = torch.stack([functional.cosine_similarity(face, row, 0) for row in judge.weight])
        own = torch.exp(9 * (cosines[label] - 0.3))
        others = torch.exp(9 * cosines).sum() - torch.exp(9 * cosines[label])
        assert torch.allclose(loss, -torch.log(own / (own + others)), atol=1e-5)


def test_without_margin_it_is_a_softmax_of_scaled_cosines() -> None:
    """Margin zero: cross entropy of scale times cosine."""
    judge, faces = head(scale=12, margin=0), embeddings()
    cosines = faces @ functional.normalize(judge.weight).T
    expected = functional.cross_entropy(12 * cosines, LABELS, reduction="none")
    assert torch.allclose(judge.loss(faces, LABELS), expected, atol=1e-5)


def test_a_margin_makes_it_harder() -> None:
    """The loss grows with the margin for every example."""
    assert (head(margin=0.4).loss(embeddings(), LABELS) > head().loss(embeddings(), LABELS)).all()


def test_gradients_are_sums_of_single_ones() -> None:
    """One example's gradient does not depend on the batch: together equals one at a time."""
    judge, faces = head(), embeddings()
    together = torch.autograd.grad(judge.loss(faces, LABELS).sum(), judge.weight)[0]
    alone = torch.zeros_like(together)
    for row in range(BATCH):
        loss = judge.loss(faces[row : row + 1], LABELS[row : row + 1]).sum()
        alone += torch.autograd.grad(loss, judge.weight)[0]
    assert torch.allclose(together, alone, atol=1e-5)


def test_opacus_gives_the_gradients_of_autograd() -> None:
    """Per-example gradients of the cosines by Opacus equal one-at-a-time autograd."""
    judge, faces = head(), embeddings().requires_grad_()
    wrapped = GradSampleModule(Cosines(judge), strict=False, loss_reduction="sum")
    loss = functional.cross_entropy(16 * wrapped(faces), LABELS, reduction="sum")
    loss.backward()
    for row in range(BATCH):
        cosines = functional.linear(faces[row : row + 1], functional.normalize(judge.weight))
        single = functional.cross_entropy(16 * cosines, LABELS[row : row + 1])
        expected = torch.autograd.grad(single, judge.weight)[0]
        assert torch.allclose(judge.weight.grad_sample[row], expected, atol=1e-5)


def test_rows_start_at_the_mean_of_their_person() -> None:
    """`start` puts a row at its person's mean, seen from the mean of all; absent people stay."""
    judge, faces = head(), embeddings()
    drawn = judge.weight.detach().clone()
    judge.start(faces, LABELS)
    centred = functional.normalize(faces - faces.mean(0))
    mean = functional.normalize(centred[2] + centred[3], dim=0)
    assert torch.allclose(judge.weight[2], mean, atol=1e-6)
    assert torch.equal(judge.weight[3:6], drawn[3:6])
