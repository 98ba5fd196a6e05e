"""What one unit's embeddings are trained against, when nothing of it may depend on other units.

    leave-one-out   each photograph against the mean of the person's others, told from public people
    fixed           a direction of a public bank, chosen by the organisation's secret
    trained         the same bank as a start, its rows clipped and noised with the network

The head of ordinary training (`head`) is none of these: its rows start at means over people, are
trained without noise, and one person's photographs then move everybody's gradient through them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from veilface_common.config import HeadConfig, RunConfig
from veilface_common.errors import DataError

_BANK_SEED = 20_260_101  # public: every organisation has the same bank


class UnitHead(Protocol):
    """Judges the embeddings of one unit, from them and from what is public or secret alone."""

    def loss(self, embeddings: Tensor, unit: bytes) -> Tensor:
        """Return the mean loss: [photographs, views, D], unit length; the unit's name -> []."""
        ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:  # noqa: FBT001, FBT002 -- nn.Module's signature
        """Return what is trained inside the mechanism; may be empty."""
        ...


class Rows(Protocol):
    """Directions of people who are nobody's secret."""

    def rows(self) -> Tensor:
        """Return them as they are now, [R, D], unit length."""
        ...


def make_head(config: RunConfig, secret: bytes, public: Rows | None) -> UnitHead:
    """Return the head that `config.privacy` names.

    Args:
        config: what the federation agreed on.
        secret: the organisation's, by which a person's row is chosen.
        public: the public people that are trained on beside, where the organisation has some.

    Raises:
        DataError: the head needs public people, and there are none.
    """
    private = config.privacy
    if private.head == "leave-one-out":
        if public is None:
            raise DataError(
                "expected public faces to tell private ones from, got none",
                hint="give the organisation some, or set privacy.head=trained",
            )
        return LeaveOneOutHead(config.head, public.rows)
    size, trained = config.model.dimension, private.head == "trained"
    return BankHead(config.head, private.rows, size, secret, trained=trained)


class LeaveOneOutHead(nn.Module):
    """Softmax of a photograph's cosine to the person's other ones, against rows of public people.

    With e_iv view v of photograph i, p_i the direction of the sum over all other photographs (over
    the other views, where there is one photograph) and w_j the public rows,

        L_iv = -log( e^{s(e_iv p_i - m)} / (e^{s(e_iv p_i - m)} + sum_j e^{s e_iv w_j}) ).

    There is no row for a private person, so there is nothing to train, to keep or to leak.
    """

    def __init__(self, config: HeadConfig, public_rows: Callable[[], Tensor]) -> None:
        """Take a function that returns the rows of now, [R, D], unit length."""
        super().__init__()
        self.scale = config.scale
        self.margin = config.margin
        self.public_rows = public_rows

    def loss(self, embeddings: Tensor, unit: bytes) -> Tensor:  # noqa: ARG002 -- nobody has a row
        """[photographs, views, D] -> []; expects two embeddings at least."""
        photographs, _, dimension = embeddings.shape
        embeddings = embeddings.float()
        own = embeddings if photographs == 1 else embeddings.sum(1, keepdim=True)
        others = functional.normalize(own.sum((0, 1)) - own, dim=2)  # [P or 1, V or 1, D]
        genuine = (embeddings * others).sum(2).flatten()  # [P, V, D] -> [P * V]
        public = embeddings.reshape(-1, dimension) @ self.public_rows().detach().T  # [P * V, R]
        logits = torch.cat([genuine[:, None] - self.margin, public], 1)
        first = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        return functional.cross_entropy(self.scale * logits, first)


class BankHead(nn.Module):
    """Cosine-margin softmax against a declared number of rows from a public seed.

    Which row is a person's, a hash keyed by the organisation's secret says; two may share one, as
    otherwise a row would depend on who else is there.
    """

    def __init__(
        self, config: HeadConfig, rows: int, dimension: int, secret: bytes, *, trained: bool
    ) -> None:
        super().__init__()
        self.scale = config.scale
        self.margin = config.margin
        self.secret = secret
        drawn = torch.randn(rows, dimension, generator=Generator().manual_seed(_BANK_SEED))
        self.weight = nn.Parameter(functional.normalize(drawn), requires_grad=trained)

    def loss(self, embeddings: Tensor, unit: bytes) -> Tensor:
        """[photographs, views, D] -> []."""
        flat = functional.normalize(embeddings.float().flatten(0, 1))  # [P, V, D] -> [P * V, D]
        cosines = functional.linear(flat, functional.normalize(self.weight))  # [P * V, rows]
        row = self._row(unit)
        own = functional.one_hot(torch.full((len(flat),), row), len(self.weight)).to(cosines)
        target = torch.full((len(flat),), row, device=cosines.device)
        return functional.cross_entropy(self.scale * (cosines - self.margin * own), target)

    def _row(self, unit: bytes) -> int:
        digest = hashlib.blake2b(unit, digest_size=8, key=self.secret, person=b"row").digest()
        return int.from_bytes(digest, "big") % len(self.weight)
