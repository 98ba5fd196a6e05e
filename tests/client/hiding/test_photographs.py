"""A photograph: whole heads are hidden, by little that is left of them, or nothing is given."""

from __future__ import annotations

import random

import cv2
import numpy as np
import pytest
from tests.client.face_parts import beside, portrait
from tests.client.hiding.told import Told, face, known_noise

from veilface_client.detectors.detection import Detection
from veilface_client.detectors.haar import Haar
from veilface_client.hiding.covering import CELLS, HOWS, How, coarse, cover_for, drawn_face
from veilface_client.hiding.finding import find_all
from veilface_client.hiding.photographs import FaceNotHidden, hide_photograph
from veilface_client.hiding.regions import Place, head_of, place_of
from veilface_client.images import Pixels


def noise_picture(height: int = 200, width: int = 300, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def whole(face_: Detection, picture: Pixels) -> Place:
    place = place_of(head_of(face_.box), picture.shape[1], picture.shape[0])
    assert place is not None
    return place


def inside(picture: Pixels, place: Place) -> Pixels:
    return picture[place.top : place.bottom, place.left : place.right]


@pytest.mark.parametrize("how", HOWS)
def test_the_head_is_hidden_and_nothing_else_changes(how: How) -> None:
    """Hair, ears and chin with the face; every pixel outside is as it was; the input stays."""
    picture = noise_picture()
    kept = picture.copy()
    found = face(100, 80)
    detector = Told((found,), ())
    hidden = hide_photograph(picture, detector.detect, None, how, known_noise())
    place = whole(found, picture)
    assert (place.left, place.top, place.right, place.bottom) == (82, 50, 178, 155)
    changed = (hidden.pixels != picture).any(-1)
    assert inside(changed[..., None], place).mean() > 0.95
    changed[place.top : place.bottom, place.left : place.right] = False
    assert not changed.any()
    assert (picture == kept).all()
    assert (hidden.hidden, hidden.shown) == (1, 0)


def test_pixelation_leaves_a_few_colours() -> None:
    """Of 96 x 105 pixels, 4 x 4 colours."""
    hidden = hide_photograph(
        noise_picture(), Told((face(100, 80),), ()).detect, None, "pixelate", known_noise()
    )
    part = inside(hidden.pixels, whole(face(100, 80), hidden.pixels))
    assert len(np.unique(part.reshape(-1, 3), axis=0)) <= CELLS[0] * 4


def test_blur_shows_no_more_than_pixelation() -> None:
    """Two pictures with the same coarse colours have the same blur: nothing finer goes in."""
    flat = np.clip(np.kron(noise_picture(7, 6), np.ones((16, 16, 1))), 40, 215).astype(np.uint8)
    fine = flat.copy()
    fine[::2] += 9
    fine[1::2] -= 9  # each cell has the mean that it had
    place = Place(left=0, top=0, right=96, bottom=112)
    covers = [cover_for(picture, place, "blur", known_noise()) for picture in (flat, fine)]
    one, other = (cover.pixels.astype(int) for cover in covers if cover is not None)
    assert np.abs(one - other).max() <= 1
    assert one.shape == (5, 4, 3)


def test_a_drawn_face_keeps_nothing_of_the_person() -> None:
    """Two pictures, one result."""
    results = [
        hide_photograph(
            noise_picture(seed=seed), Told((face(100, 80),)).detect, None, "drawn", known_noise()
        ).pixels
        for seed in (1, 2)
    ]
    place = whole(face(100, 80), results[0])
    assert (inside(results[0], place) == inside(results[1], place)).all()
    assert float(np.std(drawn_face())) > 20  # and it is no empty patch


def test_noise_is_secret_and_large() -> None:
    """Another each time; who pixelates the same head alike gets other colours."""
    picture, place = noise_picture(), Place(left=80, top=50, right=176, bottom=155)
    covers = [coarse(picture, place, 6, random.SystemRandom()).astype(float) for _ in range(2)]
    assert float(np.std(covers[0] - covers[1])) > 25
    same = [coarse(picture, place, 6, known_noise()) for _ in range(2)]
    assert (same[0] == same[1]).all()


@pytest.mark.parametrize("box", [(-50.0, -40.0), (270.0, 170.0), (-20.0, 150.0)])
def test_a_face_partly_outside_is_hidden_as_far_as_it_is_there(box: tuple[float, float]) -> None:
    """At every edge: the part inside the picture is covered."""
    picture = noise_picture()
    found = face(*box)
    hidden = hide_photograph(picture, Told((found,), ()).detect, None, "pixelate", known_noise())
    place = whole(found, picture)
    assert (inside(hidden.pixels, place) != inside(picture, place)).any(-1).mean() > 0.9
    assert hidden.hidden == 1


def test_what_is_still_found_is_hidden_more_strongly() -> None:
    """Found again in its place once: half as many cells."""
    detector = Told((face(100, 80),), (face(105, 82, 40, 40),), ())
    hidden = hide_photograph(noise_picture(), detector.detect, None, "pixelate", known_noise())
    part = inside(hidden.pixels, whole(face(100, 80), hidden.pixels))
    assert len(np.unique(part.reshape(-1, 3), axis=0)) <= CELLS[1] * 2
    assert detector.calls == 3


def test_a_face_that_cannot_be_hidden_is_refused() -> None:
    """Found whatever lies on it: nothing is given, and the error says what helps."""
    detector = Told((face(100, 80),))
    with pytest.raises(FaceNotHidden) as caught:
        hide_photograph(noise_picture(), detector.detect, None, "pixelate", known_noise())
    assert "drawn" in str(caught.value.hint)


def test_faces_that_never_end_are_refused() -> None:
    """Attack: a picture in which each look finds a face in another place."""
    answers = [(face(20.0 * number, 10, 5, 5),) for number in range(20)]
    with pytest.raises(FaceNotHidden):
        hide_photograph(noise_picture(), Told(*answers).detect, None, "pixelate", known_noise())


def test_what_only_the_second_look_finds_is_hidden_too() -> None:
    """With a single colour: nothing is known of it but that it is there."""
    late = face(200, 100, 30, 30)
    detector = Told((face(50, 50),), (late,), ())
    hidden = hide_photograph(noise_picture(), detector.detect, None, "pixelate", known_noise())
    part = inside(hidden.pixels, whole(late, hidden.pixels))
    assert len(np.unique(part.reshape(-1, 3), axis=0)) == 1
    assert hidden.hidden == 2


def test_who_stays_is_untouched_unless_another_head_is_before_them() -> None:
    """Kept people keep their pixels; where a hidden head overlaps, it is hidden."""
    picture = noise_picture()
    ada, eve = face(20, 80), face(200, 80)
    hidden = hide_photograph(
        picture, Told((ada, eve), (ada,)).detect, lambda _, one: one is ada, "drawn", known_noise()
    )
    assert (hidden.hidden, hidden.shown) == (1, 1)
    assert (hidden.pixels[:, :150] == picture[:, :150]).all()
    beside_ada = face(70, 80)
    both = hide_photograph(
        picture,
        Told((ada, beside_ada), ()).detect,
        lambda _, one: one is ada,
        "drawn",
        known_noise(),
    )
    place = whole(beside_ada, picture)
    assert (inside(both.pixels, place) != inside(picture, place)).any(-1).mean() > 0.9


def test_two_hundred_faces_are_hidden() -> None:
    """A crowd: all of them, in seconds."""
    picture = noise_picture(400, 800)
    crowd = tuple(face(40.0 * x + 5, 40.0 * y + 5, 20, 20) for x in range(20) for y in range(10))
    hidden = hide_photograph(picture, Told(crowd, ()).detect, None, "pixelate", known_noise())
    assert hidden.hidden == 200
    for one in crowd:
        left, top = int(one.box[0]), int(one.box[1])
        part = slice(top, top + 20), slice(left, left + 20)
        assert (hidden.pixels[part] != picture[part]).any(-1).mean() > 0.9


def test_without_a_face_the_picture_is_as_it_was() -> None:
    """No faces: nothing is hidden, and nothing is changed."""
    picture = noise_picture()
    hidden = hide_photograph(picture, Told(()).detect, None, "pixelate", known_noise())
    assert (hidden.hidden, hidden.shown) == (0, 0)
    assert (hidden.pixels == picture).all()


@pytest.mark.parametrize("how", HOWS)
def test_real_cascades_find_no_face_any_more(how: How) -> None:
    """A drawn person's portrait, found before; after, at most the face that was drawn on it."""
    picture, haar = beside(portrait(), height=320), Haar()
    assert len(find_all(picture, [haar])) == 1
    hidden = hide_photograph(picture, lambda seen: find_all(seen, [haar]), None, how, known_noise())
    assert hidden.hidden == 1
    if how != "drawn":
        assert find_all(hidden.pixels, [haar]) == ()


class Blobs:
    """Finds upright boxes around what is red."""

    name = "blobs"

    def detect(self, image: Pixels) -> tuple[Detection, ...]:
        """Return a face for the red that there is."""
        red = (image[..., 0] > 150) & (image[..., 1] < 80)
        if red.sum() < 20:
            return ()
        rows, columns = np.nonzero(red)
        left, top = float(columns.min()), float(rows.min())
        return (face(left, top, float(np.ptp(columns)) + 1, float(np.ptp(rows)) + 1),)


class Only:
    """A detector that answers one of its calls alone."""

    name = "blobs"

    def __init__(self, call: int) -> None:
        self.call, self.calls = call, -1

    def detect(self, image: Pixels) -> tuple[Detection, ...]:
        """Return what is red, at that call."""
        self.calls += 1
        return Blobs().detect(image) if self.calls == self.call else ()


@pytest.mark.parametrize("call", range(8))
@pytest.mark.parametrize("size", [(500, 700), (1500, 900)])
def test_every_look_says_where_the_face_is_in_the_photograph(
    call: int, size: tuple[int, int]
) -> None:
    """As it is, mirrored, turned, in parts: places go back to the photograph's own pixels."""
    height, width = size
    picture = np.full((height, width, 3), 128, np.uint8)
    cv2.circle(picture, (130, 150), 20, (220, 20, 20), -1)
    found = find_all(picture, [Only(call)])
    if not found:  # a part in which it is not
        assert call >= 4
        return
    left, top, across, down = found[0].box
    assert abs(left + across / 2 - 130) < 4
    assert abs(top + down / 2 - 150) < 4
    assert 36 < across < 50
    eyes = found[0].landmarks
    assert np.abs(eyes.mean(axis=0) - (left + across / 2, top + 0.4 * down)).max() < 12
    assert eyes[0, 0] < eyes[1, 0]  # the left one in the picture comes first


def test_all_of_a_large_photograph_is_looked_at_in_parts() -> None:
    """A red spot anywhere, too small for one look at the whole, is in some part."""
    rng = np.random.default_rng(1)
    for x, y in zip(rng.integers(10, 1990, 12), rng.integers(10, 1490, 12), strict=True):
        picture = np.full((1500, 2000, 3), 128, np.uint8)
        cv2.circle(picture, (int(x), int(y)), 6, (220, 20, 20), -1)
        found = find_all(picture, [Blobs()])
        assert found
        left, top, across, down = found[0].box
        assert abs(left + across / 2 - x) < 4
        assert abs(top + down / 2 - y) < 4
