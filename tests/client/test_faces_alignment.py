"""Landmarks to the template: the right transform, and pixels that say what the photograph says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.client.face_parts import Seeing, portrait, seen

from veilface_client.alignment import (
    PIXELS,
    TEMPLATE,
    cut,
    network_input,
    scale_of,
    similarity,
)
from veilface_client.augmentation import centre_view
from veilface_client.detectors.centre import Centre
from veilface_client.detectors.detection import Points
from veilface_client.faces import align_face
from veilface_client.images import Crop, canvas_pixels, cut_canvas
from veilface_common.errors import DataError

NUMBERS = st.floats(-50, 50)


def moved(points: Points, scale: float, angle: float, shift: tuple[float, float]) -> Points:
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    return scale * points @ turn.T + shift


def by_normal_equations(points: Points, onto: Points) -> np.ndarray:
    """The oracle: x' = a x - b y + c, y' = b x + a y + d is linear in a, b, c, d."""
    x, y = points.T
    one, none = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate(
        (np.stack((x, -y, one, none), axis=1), np.stack((y, x, none, one), axis=1))
    )
    (a, b, c, d), *_ = np.linalg.lstsq(rows, onto.T.ravel(), rcond=None)
    return np.array([(a, -b, c), (b, a, d)])


@given(
    noise=st.lists(NUMBERS, min_size=10, max_size=10),
    scale=st.floats(0.3, 20),
    angle=st.floats(-3.1, 3.1),
    count=st.sampled_from((2, 5)),
)
@settings(max_examples=200, deadline=None)
def test_similarity_is_the_least_squares_one(
    noise: list[float], scale: float, angle: float, count: int
) -> None:
    """Umeyama's closed form solves the normal equations, for two points and for five."""
    points = moved(TEMPLATE, scale, angle, (300, 200)) + scale * np.reshape(noise, (5, 2)) / 8
    got = similarity(points[:count], TEMPLATE[:count])
    assert np.allclose(got, by_normal_equations(points[:count], TEMPLATE[:count]), atol=1e-6)


def test_two_eyes_are_met_exactly() -> None:
    """With eyes alone nothing is left over: they land on the template's."""
    eyes = np.array([(100.0, 80.0), (160.0, 95.0)])
    transform = similarity(eyes, TEMPLATE[:2])
    assert np.allclose(eyes @ transform[:, :2].T + transform[:, 2], TEMPLATE[:2])


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    """Left stays left: a mirror image is another person's face."""
    mirrored = TEMPLATE * (-1, 1) + (200, 0)
    assert np.linalg.det(similarity(mirrored, TEMPLATE)[:, :2]) > 0


@pytest.mark.parametrize(
    "points",
    [np.zeros((5, 2)), np.full((2, 2), np.nan), np.array([(1.0, np.inf), (2.0, 1.0)])],
    ids=["one place", "not numbers", "infinite"],
)
def test_landmarks_without_extent_are_refused(points: Points) -> None:
    """A detector's nonsense is a DataError, not a division by zero."""
    with pytest.raises(DataError, match="landmarks"):
        similarity(points, TEMPLATE[: len(points)])


@pytest.mark.parametrize("place", [1e4, 1e12, -1e30])
def test_a_face_outside_of_the_photograph_is_refused(place: float) -> None:
    """Landmarks beyond the edge give no crop of repeated border, whatever their size."""
    with pytest.raises(DataError):
        align_face(np.zeros((50, 50, 3), np.uint8), Seeing(seen(TEMPLATE + place)))


def test_a_whole_picture_of_the_templates_size_stays_as_it_is() -> None:
    """No half pixel is lost on the way: CASIA-WebFace is in the template already."""
    picture = portrait(pixels=PIXELS)
    aligned = align_face(picture, Centre())
    assert (aligned.pixels == picture).all()
    assert aligned.path == "centre/whole"


@pytest.mark.parametrize(("pixels", "scale"), [(64, 0.6), (112, 1.0), (64, 3.0)])
def test_a_face_in_the_template_gives_what_training_looks_at(pixels: int, scale: float) -> None:
    """The same region as a training canvas's centre, and nearly the same pixels."""
    picture = portrait(pixels=round(PIXELS * scale))
    canvas = torch.from_numpy(cut_canvas(picture, Crop(), canvas_pixels(pixels)))[None]
    trained_on = centre_view(canvas, pixels)[0].numpy()
    got = network_input(align_face(picture, Centre()).pixels, pixels)
    assert got.dtype == np.float32
    assert got.shape == (3, pixels, pixels)
    assert np.abs(got - trained_on).mean() < 0.012
    shifted = np.abs(np.roll(got, 1, axis=2) - trained_on).mean()
    assert shifted > 1.5 * np.abs(got - trained_on).mean()  # a pixel aside is seen to be worse


def test_large_faces_are_averaged_not_picked_at() -> None:
    """A fine chequerboard becomes grey."""
    board = (np.indices((1200, 1200)).sum(axis=0) % 2 * 255).astype(np.uint8)
    aligned = align_face(np.repeat(board[..., None], 3, axis=2), Centre())
    assert np.abs(aligned.pixels.astype(int) - 127).max() < 20


def test_what_lies_outside_repeats_the_edge() -> None:
    """A face cut off at the border has no black part, which a network would take for hair."""
    picture = np.full((100, 100, 3), 200, np.uint8)
    transform = similarity(np.array([(0.0, 20.0), (40.0, 20.0)]), TEMPLATE[:2])
    assert (cut(picture, transform) == 200).all()


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_photograph_gives_the_same_face(quarters: int) -> None:
    """The transform turns it back."""
    picture = portrait(pixels=160)
    landmarks = TEMPLATE * 160 / PIXELS
    turned = landmarks
    for _ in range(quarters):  # as np.rot90 turns: (x, y) -> (y, 160 - x)
        turned = np.stack((turned[:, 1], 160 - turned[:, 0]), axis=1)
    upright = align_face(picture, Seeing(seen(landmarks)))
    back = align_face(np.ascontiguousarray(np.rot90(picture, quarters)), Seeing(seen(turned)))
    assert np.abs(upright.pixels.astype(int) - back.pixels).mean() < 2


def test_scale_is_pixels_of_the_template_for_one_of_the_photograph() -> None:
    """A face of 224 px is halved."""
    assert scale_of(similarity(2 * TEMPLATE, TEMPLATE)) == pytest.approx(0.5)
