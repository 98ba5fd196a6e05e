"""The networks that find faces in the frames of a video: a heat map of their centres, and boxes.

One frame after another goes through convolutions down to 1/32 of its side and back up to 1/8. There
a convolutional GRU carries features from frame to frame (Ballas et al. 2016, section 3.1; for
detection Liu & Zhu 2018), so that a face is still known where a frame is dark, noisy or lost. The
heads say of each cell of 8 x 8 pixels whether a face's centre is there, where exactly, and how
large the face is (Zhou et al. 2019, "Objects as Points", section 4).

All take [B, T, 3, H, W] in [0, 1] and normalise inside. No private data ever trains them, so batch
statistics are allowed here, unlike in `cnn`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 8  # pixels of a cell
MULTIPLE = 32  # of which the sides of a frame are
CARRIED = 32  # channels that are carried from frame to frame
CLASSIC_PIXELS = 96  # side of the frames that the classic network looks at
PRIOR = 0.02  # of a centre in a cell, where training starts (Lin et al. 2017, section 3.3)
LARGEST_LOG = 6.0  # of a side in cells: e^6 * 8 px, beyond any frame

Name = Literal["rnn", "twin", "classic-rnn"]


@dataclass(frozen=True)
class Maps:
    """What the heads say of each cell of each frame."""

    centres: Tensor  # [B, T, h, w], logits that a face's centre is here
    boxes: Tensor  # [B, T, 4, h, w]: x, y of the centre off the cell's middle; log sides; in cells


class ConvNorm(nn.Sequential):
    """relu(norm(conv(x))), 3x3; folded into one convolution when it is exported."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
        )


class Residual(nn.Module):
    """x + two convolutions of it, of which the first may be wider."""

    def __init__(self, channels: int, inside: int) -> None:
        super().__init__()
        self.inner = ConvNorm(channels, inside)
        self.outer = nn.Conv2d(inside, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return functional.relu(x + self.norm(self.outer(self.inner(x))))


class Pyramid(nn.Module):
    """A frame's features at 1/8 of its side, that know of places up to 1/32 (Lin et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvNorm(3, 16, stride=2), ConvNorm(16, 24, stride=2))
        self.fine = nn.Sequential(Residual(24, 24), ConvNorm(24, 64, stride=2), Residual(64, 64))
        self.middle = nn.Sequential(ConvNorm(64, 64, stride=2), Residual(64, 64))
        self.coarse = nn.Sequential(ConvNorm(64, 64, stride=2), Residual(64, 64))
        self.join = ConvNorm(64, CARRIED)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] in [-2, 2] -> [B, C, h, w]."""
        fine = self.fine(self.stem(x))  # [B, 3, H, W] -> [B, 24, H/4, W/4] -> [B, 64, h, w]
        middle = self.middle(fine)  # [B, 64, h, w] -> [B, 64, h/2, w/2]
        middle = middle + _doubled(self.coarse(middle))  # [B, 64, h/4, w/4] -> [B, 64, h/2, w/2]
        return self.join(fine + _doubled(middle))  # type: ignore[no-any-return] # [B, C, h, w]


class Cell(nn.Module):
    """A convolutional GRU: h' = (1 - z) h + z tanh(W x + U (r h)) (Ballas et al. 2016, eq. 9-12).

    The state lies in [-1, 1] however long the stream is.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)
        # Nothing of the state is used at first: training on single frames has none, and goes on
        # from there on clips. Of the frame most is taken.
        with torch.no_grad():
            self.gates.weight[:, channels:] = 0
            self.candidate.weight[:, channels:] = 0
        nn.init.ones_(self.gates.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """[B, C, h, w] and the state [B, C, h, w] -> the next state."""
        gates = torch.sigmoid(self.gates(torch.cat((x, state), 1)))  # -> [B, 2C, h, w]
        update, reset = gates.chunk(2, dim=1)  # 2 x [B, C, h, w]
        candidate = torch.tanh(self.candidate(torch.cat((x, reset * state), 1)))
        return state + update * (candidate - state)


class Heads(nn.Module):
    """What is said of each cell."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shared = ConvNorm(channels, 64)
        self.centres = nn.Conv2d(64, 1, 1)
        self.boxes = nn.Conv2d(64, 4, 1)
        nn.init.constant_(self.centres.bias, _logit(PRIOR))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, V, h, w] -> logits [B, 1, h, w], boxes [B, 4, h, w]."""
        x = self.shared(x)  # [B, V, h, w] -> [B, 64, h, w]
        return self.centres(x), self.boxes(x)


class HeatmapNetwork(nn.Module):
    """Finds faces in frames; with `recurrent` it remembers where they were.

    Its heads see the features of the frame and the state. The twin without the cell has two
    convolutions in its place; it has as many weights (73,728) there and in the heads.
    """

    def __init__(self, *, recurrent: bool = True) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.pyramid = Pyramid()
        if recurrent:
            self.cell = Cell(CARRIED)
            self.heads = Heads(2 * CARRIED)
        else:
            self.block = Residual(CARRIED, 4 * CARRIED)
            self.heads = Heads(CARRIED)

    def forward(self, frames: Tensor, state: Tensor | None = None) -> tuple[Maps, Tensor]:
        """[B, T, 3, H, W] in [0, 1] -> what is where, and the state after the last frame.

        The state is [B, C, h, w], at first None or zeros; the twin gives back what it was given.
        """
        batch, length = frames.shape[:2]
        x = self.pyramid((frames.flatten(0, 1) - 0.5) * 4)  # [B, T, 3, H, W] -> [BT, C, h, w]
        if state is None:
            state = torch.zeros_like(x[:batch])
        if self.recurrent:
            steps = x.unflatten(0, (batch, length)).unbind(1)  # T x [B, C, h, w]
            states = [state := self.cell(step, state) for step in steps]
            x = torch.cat((x, torch.stack(states, 1).flatten(0, 1)), 1)  # [BT, 2C, h, w]
        else:
            x = self.block(x)
        centres, boxes = self.heads(x)
        return Maps(
            centres=centres.squeeze(1).unflatten(0, (batch, length)),  # [BT, 1, h, w] -> [B, T, ...
            boxes=boxes.unflatten(0, (batch, length)),
        ), state


class ClassicRecurrent(nn.Module):
    """The founding article's CNN-RNN as it stands: one face, at most, in a frame.

    Convolutions, a vector for the frame, an LSTM over frames, a linear layer to score and box.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvNorm(3, 16, stride=2), ConvNorm(16, 32, stride=2), ConvNorm(32, 32, stride=2)
        )
        self.vector = nn.Linear(32 * (CLASSIC_PIXELS // 8) ** 2, CARRIED)
        self.cell = nn.LSTMCell(CARRIED, CARRIED)
        self.answer = nn.Linear(CARRIED, 5)

    def forward(self, frames: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """[B, T, 3, 96, 96] in [0, 1] -> [B, T, 5] and the state [B, 2C].

        A logit that there is a face, and of the largest one: x, y of its centre and logs of its
        sides, as shares of the frame's.
        """
        batch, length = frames.shape[:2]
        x = self.stem((frames.flatten(0, 1) - 0.5) * 4)  # [BT, 3, 96, 96] -> [BT, 32, 12, 12]
        x = functional.relu(self.vector(x.flatten(1)))  # [BT, 32, 12, 12] -> [BT, C]
        if state is None:
            state = x.new_zeros(batch, 2 * CARRIED)
        hidden, carried = state.chunk(2, dim=1)  # 2 x [B, C]
        steps = []
        for step in x.view(batch, length, -1).unbind(1):  # T x [B, C]
            hidden, carried = self.cell(step, (hidden, carried))
            steps.append(hidden)
        return self.answer(torch.stack(steps, 1)), torch.cat((hidden, carried), 1)


def build_detector(name: Name, seed: int) -> HeatmapNetwork | ClassicRecurrent:
    """Return the network of that name, its weights drawn from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "classic-rnn":
            return ClassicRecurrent()
        return HeatmapNetwork(recurrent=name == "rnn")


def decode(maps: Maps) -> tuple[Tensor, Tensor]:
    """Return the score and the box of each cell: [B, T, h, w] and [B, T, 4, h, w].

    Boxes are left, top, width and height in pixels of the frame.
    """
    scores = maps.centres.float().sigmoid()  # [B, T, h, w]
    offsets, logs = maps.boxes.float().chunk(2, dim=2)  # 2 x [B, T, 2, h, w]
    sides = logs.clamp(max=LARGEST_LOG).exp()
    corners = cell_middles(scores) + offsets - sides / 2
    return scores, STRIDE * torch.cat((corners, sides), 2)


def decode_classic(answers: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same of frames that are one cell: [B, T, 5] -> [B, T, 1, 1], [B, T, 4, 1, 1]."""
    centres, logs = answers[..., 1:3].float(), answers[..., 3:].float()
    sides = logs.clamp(max=LARGEST_LOG).exp()
    boxes = CLASSIC_PIXELS * torch.cat((centres - sides / 2, sides), -1)  # [B, T, 4]
    return answers[..., 0, None, None].float().sigmoid(), boxes[..., None, None]


def cell_middles(like: Tensor) -> Tensor:
    """Return x and y of the middle of each cell, in cells: [2, h, w] for [..., h, w]."""
    rows = torch.arange(like.shape[-2], device=like.device) + 0.5
    columns = torch.arange(like.shape[-1], device=like.device) + 0.5
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"))


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0)


def _logit(probability: float) -> float:
    return float(torch.logit(torch.tensor(probability)))
