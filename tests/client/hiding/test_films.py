"""A video: whoever is found somewhere is hidden around it too, and nobody is shown by mistake."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.client.hiding.told import Missing, Told, face, known_noise
from tests.client.video.squares import COLOURS, Squares, scene, who

from veilface_client.detectors.detection import Detection
from veilface_client.hiding import films
from veilface_client.hiding.covering import CELLS
from veilface_client.hiding.films import FilmHider, People
from veilface_client.hiding.photographs import FaceNotHidden
from veilface_client.images import Pixels
from veilface_client.video.reading import Frame
from veilface_client.video.sightings import Look
from veilface_client.video.tracks import LINKING

RATE = 10.0
NAMES = list(COLOURS)


def frames_of(pictures: Sequence[Pixels]) -> list[Frame]:
    return [
        Frame(number=number, seconds=number / RATE, pixels=pixels)
        for number, pixels in enumerate(pictures)
    ]


def run(hider: FilmHider, pictures: Sequence[Pixels]) -> list[Frame]:
    given = [hidden for frame in frames_of(pictures) for hidden in hider.step(frame)]
    given += hider.finish()
    assert [one.number for one in given] == list(range(len(pictures)))
    assert [one.seconds for one in given] == [number / RATE for number in range(len(pictures))]
    return given


def seen(frame: Frame, name: str) -> int:
    """Return how many pixels are still of this person."""
    return int((who(frame.pixels) == NAMES.index(name)).sum())


def walk(name: str, count: int, start: float = 60.0, speed: float = 6.0) -> list[Pixels]:
    return [scene([(name, start + speed * number, 100.0)]) for number in range(count)]


def test_a_face_is_hidden_in_the_pictures_in_which_it_is_missed() -> None:
    """Found in pictures 0-9, 14-24 and from 34 on: hidden in all, wherever it went."""
    detector = Missing(Squares(), lambda call: 10 <= call < 14 or 25 <= call < 34)
    given = run(FilmHider([detector], "drawn", known_noise()), walk("ada", 45))
    assert [frame.number for frame in given if seen(frame, "ada")] == []


def test_a_face_is_hidden_before_it_was_found_and_after() -> None:
    """Missed in the first 5 pictures and the last 8 of 30, and standing still."""
    detector = Missing(Squares(), lambda call: call < 5 or call >= 22)
    given = run(FilmHider([detector], "drawn", known_noise()), walk("ada", 30, speed=0.0))
    assert [frame.number for frame in given if seen(frame, "ada")] == []


def test_without_following_it_would_be_seen() -> None:
    """The oracle sees what is not hidden: of a detector that never finds, all pictures."""
    given = run(FilmHider([Told(())], "drawn", known_noise()), walk("ada", 5))
    assert all(seen(frame, "ada") > 3000 for frame in given)


def test_all_of_many_are_hidden() -> None:
    """Four people who cross each other's ways."""
    pictures = [
        scene(
            [
                ("ada", 40 + 8 * number, 60),
                ("bob", 360 - 8 * number, 80),
                ("eve", 200, 30 + 4 * number),
                ("sam", 40 + 8 * number, 170),
            ]
        )
        for number in range(40)
    ]
    detector = Missing(Squares(), lambda call: call % 4 == 3)
    given = run(FilmHider([detector], "drawn", known_noise()), pictures)
    assert [(f.number, n) for f in given for n in NAMES if seen(f, n) > 10] == []


def test_two_hundred_faces_are_hidden() -> None:
    """A crowd that moves: every one, in every picture."""
    picture = np.random.default_rng(0).integers(0, 256, (400, 800, 3), np.uint8)
    crowds = [
        tuple(
            face(40.0 * x + 5 + shift, 40.0 * y + 5, 20, 20) for x in range(20) for y in range(10)
        )
        for shift in range(3)
    ]
    detector = Told(())
    detector.stream = lambda: Told(*crowds)  # type: ignore[attr-defined]
    hider = FilmHider([detector], "pixelate", known_noise())
    given = run(hider, [picture] * 3)
    assert len(hider.hidden) == 200
    for frame, crowd in zip(given, crowds, strict=True):
        for one in crowd:
            left, top = int(one.box[0]), int(one.box[1])
            part = slice(top, top + 20), slice(left, left + 20)
            assert (frame.pixels[part] != picture[part]).any(-1).mean() > 0.9


def test_many_pictures_of_a_head_tell_no_more_than_one() -> None:
    """Attack: averaging the noise over a track. The cover is the same one throughout."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (200, 300, 3), np.uint8) for _ in range(30)]
    detector = Told((face(100, 80),))
    detector.stream = lambda: Told((face(100, 80),))  # type: ignore[attr-defined]
    detector.answers = [()]  # what is found again
    given = run(FilmHider([detector], "pixelate", known_noise()), pictures)
    parts = {frame.pixels[50:155, 82:178].tobytes() for frame in given}
    assert len(parts) == 1
    assert len(np.unique(given[0].pixels[50:155, 82:178].reshape(-1, 3), axis=0)) <= CELLS[0] * 4


def test_two_people_have_covers_of_their_own() -> None:
    """Who is who can still be followed; noise is not shared."""
    pictures = [np.full((200, 400, 3), 128, np.uint8)] * 12
    faces = (face(60, 80), face(250, 80))
    detector = Told(())
    detector.stream = lambda: Told(faces)  # type: ignore[attr-defined]
    given = run(FilmHider([detector], "pixelate", known_noise()), pictures)
    assert (given[5].pixels[60:150, 50:130] != given[5].pixels[60:150, 240:320]).any()


def test_pictures_wait_for_a_second_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded memory: a second of pictures, or so many bytes of them."""
    hider = FilmHider([Told(())], "drawn", known_noise())
    picture = np.zeros((20, 20, 3), np.uint8)
    waiting = []
    for frame in frames_of([picture] * 40):
        list(hider.step(frame))
        waiting.append(len(hider._waiting))
    assert max(waiting) == 11
    monkeypatch.setattr(films, "_MOST_BYTES", 6 * picture.nbytes)
    hider = FilmHider([Told(())], "drawn", known_noise())
    for frame in frames_of([picture] * 40):
        list(hider.step(frame))
        assert len(hider._waiting) <= 6


def test_what_tracks_leave_behind_is_forgotten() -> None:
    """Hours of passers-by: neither covers nor standings stay."""
    flash = [(face(40.0 * (call % 7), 20.0),) if call % 15 == 0 else () for call in range(600)]
    hider = FilmHider([Told(*flash)], "drawn", known_noise(), people_who(lambda _, __: True))
    run(hider, [np.zeros((100, 400, 3), np.uint8)] * 300)
    assert len(hider._covers) < 5
    assert len(hider._standings) < 5


def test_a_face_that_cannot_be_hidden_ends_it() -> None:
    """Found again whatever lies on it: an error, so that nothing is written."""
    with pytest.raises(FaceNotHidden):
        run(FilmHider([Told((face(100, 80),))], "pixelate", known_noise()), walk("ada", 5))


def test_what_the_stream_misses_and_the_second_look_finds_is_hidden() -> None:
    """And counted, for whoever passes the video on."""
    detector = Told((face(60, 60),), ())
    detector.stream = lambda: Told(())  # type: ignore[attr-defined]
    pictures = walk("ada", 3)
    hider = FilmHider([detector], "drawn", known_noise())
    given = run(hider, pictures)
    assert hider.strays == 1
    assert (given[0].pixels != pictures[0]).any()
    assert (given[1].pixels == pictures[1]).all()


def look_at(picture: Pixels, found: Detection) -> Look:
    """Return the colour of the middle of a face as its template."""
    left, top, width, height = (round(number) for number in found.box)
    part = who(picture[max(top, 0) : top + height, max(left, 0) : left + width])
    name = int(np.bincount(part[part >= 0], minlength=4).argmax())
    return Look(embedding=np.eye(4, dtype=np.float32)[name], qualities=np.zeros(7, np.float32))


def people_who(judge: films.Judge) -> People:
    return People(look=look_at, judge=judge, linking=LINKING)


def is_ada(looks: films.Templates, before: bool | None) -> bool:  # noqa: ARG001, FBT001 -- as `Judge` has it
    mean: NDArray[np.float32] = np.mean(looks, axis=0)
    return bool(mean[NAMES.index("ada")] > 0.99)


def test_who_is_kept_is_seen_and_the_others_are_not() -> None:
    """Ada stays, from the first picture to the last look; Bob, beside her, never is seen."""
    pictures = [
        scene([("ada", 60 + 3 * number, 100), ("bob", 330 - 2 * number, 100)])
        for number in range(40)
    ]
    hider = FilmHider([Squares()], "drawn", known_noise(), people_who(is_ada))
    given = run(hider, pictures)
    visible = [frame.number for frame in given if seen(frame, "ada") > 3000]
    assert visible == list(range(visible[-1] + 1))
    assert visible[-1] >= 37  # what comes after the last look is in doubt
    assert [frame.number for frame in given if seen(frame, "bob")] == []
    assert (len(hider.shown), len(hider.hidden)) == (1, 1)


def test_a_poor_look_hides() -> None:
    """Too blurred to know: hidden around it, although the same person is kept before and after."""
    looks = 0

    def look(picture: Pixels, found: Detection) -> Look:
        nonlocal looks
        looks += 1
        is_poor = 6 <= looks < 9
        embedding = None if is_poor else look_at(picture, found).embedding
        return Look(embedding=embedding, qualities=np.zeros(7, np.float32))

    people = People(look=look, judge=is_ada, linking=LINKING)
    given = run(FilmHider([Squares()], "drawn", known_noise(), people), walk("ada", 40, speed=2.0))
    visible = [seen(frame, "ada") > 3000 for frame in given]
    assert not all(visible[8:20])
    assert any(visible[:8])
    assert any(visible[20:])


def test_a_follower_that_goes_over_to_another_shows_nobody_for_long() -> None:
    """Attack: Eve steps into Ada's place and is taken for her; she is not shown at all."""
    pictures = walk("ada", 20, speed=0.0) + walk("eve", 20, speed=0.0)
    hider = FilmHider([Squares()], "drawn", known_noise(), people_who(is_ada))
    given = run(hider, pictures)
    assert len(hider.hidden | hider.shown) <= 2
    assert [frame.number for frame in given if seen(frame, "eve") > 10] == []
    assert sum(seen(frame, "ada") > 3000 for frame in given) > 14


def test_who_is_kept_is_hidden_where_the_detector_missed_them() -> None:
    """Between two sightings somebody else may have stood there."""
    detector = Missing(Squares(), lambda call: 15 <= call < 18)
    hider = FilmHider([detector], "drawn", known_noise(), people_who(is_ada))
    given = run(hider, walk("ada", 40, speed=0.0))
    visible = {frame.number for frame in given if seen(frame, "ada") > 3000}
    assert not visible & {15, 16, 17}
    assert visible >= set(range(12))
