"""What is done to a photograph before a network sees it: a model is worth nothing without it."""

from __future__ import annotations

from dataclasses import dataclass

from veilface_common.config import ModelConfig

ALIGNMENT = "arcface-112"
SIDE = 112  # pixels of an aligned picture
# Left eye, right eye, nose, left and right corner of the mouth, as they stand in the picture
# (Deng et al. 2019; the constants of its published alignment).
LANDMARKS = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From the landmarks in a photograph to a network's input."""

    alignment: str  # a similarity transform takes the landmarks here, in a picture of `side` pixels
    side: int
    landmarks: tuple[tuple[float, float], ...]  # (x, y)
    pixels: int  # to which the aligned picture is resized, bicubic
    values: str  # of the network's input
    normalisation: str


def preprocessing_of(model: ModelConfig) -> Preprocessing:
    """Return what Veilface does to a photograph for this network."""
    return Preprocessing(
        alignment=ALIGNMENT,
        side=SIDE,
        landmarks=LANDMARKS,
        pixels=model.pixels,
        values="RGB, [3, S, S], 0 to 1",
        normalisation="inside the network",
    )
