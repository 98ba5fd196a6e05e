"""Who was there from when to when: the watcher on frames of coloured squares."""

from __future__ import annotations

import gc
import resource
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.client.face_parts import Seeing
from tests.client.recognition.desks import OFFICER, OPERATOR, Clock, enrol, kinds, provider
from tests.client.recognition.desks import open_desk as make_desk
from tests.client.video.squares import COLOURS, SIDE, Person, SquareDesk, Squares, scene, who

from veilface_client.detectors.detection import Detection
from veilface_client.images import Pixels
from veilface_client.limits import Limits
from veilface_client.recognition import leaving
from veilface_client.recognition.answers import ABOVE, BELOW
from veilface_client.roles import TERMINAL, Actor
from veilface_client.video.desks import linking_of, looker_of, naming_of, warning_of
from veilface_client.video.looking import align_near, in_view, probe_of
from veilface_client.video.reading import Frame
from veilface_client.video.sightings import Look, Track
from veilface_client.video.tracks import LINKING
from veilface_client.video.watching import (
    LIMITED,
    MOST_LOOKS,
    UNUSABLE,
    Began,
    Ended,
    Event,
    Joined,
    Named,
    Watcher,
)
from veilface_common.errors import AccessDenied
from veilface_common.models import TrackWeights

RATE = 10.0


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[SquareDesk]:
    with square_desk(tmp_path / "shop") as found:
        yield found


def square_desk(folder: Path, limits: Limits | None = None) -> SquareDesk:
    """Return a desk that knows ada and bob, not eve and sam."""
    with make_desk(folder, change=lambda one: replace(one, limits=limits or one.limits)) as desk:
        enrol(desk, "ada", "bob")
    found = SquareDesk(folder, provider(), Clock())
    found.detector = Squares()
    return found


def frames_of(scenes: Iterable[Iterable[Person]]) -> Iterator[Frame]:
    for number, people in enumerate(scenes):
        yield Frame(number=number, seconds=number / RATE, pixels=scene(people))


def watch(watcher: Watcher, frames: Iterable[Frame]) -> list[Event]:
    events = [event for frame in frames for event in watcher.step(frame)[0]]
    return [*events, *watcher.finish()]


def watcher_of(
    desk: SquareDesk, actor: Actor = TERMINAL, notes: list[str] | None = None
) -> Watcher:
    naming = naming_of(desk, actor, (notes if notes is not None else []).append)
    return Watcher(Squares(), looker_of(desk).look, naming, linking_of(desk))


def ended(events: Iterable[Event]) -> list[tuple[str | None, str, float, float]]:
    return [(one.name, one.reason, one.start, one.end) for one in events if isinstance(one, Ended)]


def test_who_was_there_from_when_to_when(desk: SquareDesk) -> None:
    """A known person is named as soon as three looks are sure, a stranger stays unknown."""
    scenes: list[list[Person]] = [
        [("ada", 60.0 + 4 * t, 60.0)] * (5 <= t < 40) + [("eve", 300.0, 140.0)] * (t >= 20)
        for t in range(60)
    ]
    events = watch(watcher_of(desk), frames_of(scenes))
    assert ended(events) == [("ada", ABOVE, 0.5, 3.9), (None, BELOW, 2.0, 5.9)]
    began, named = events[:2]
    assert began == Began(track=0, seconds=0.5)
    assert named == Named(
        track=0, seconds=1.1, name="ada", is_there=True
    )  # looks at 0.5, 0.8 and 1.1
    assert sum(isinstance(event, Named) for event in events) == 1


def test_each_track_is_written_down_once(desk: SquareDesk) -> None:
    """However often it was compared; and that somebody was recognised is written down too."""
    before = len(kinds(desk))
    scenes = [[("ada", 60.0, 60.0), ("eve", 300.0, 140.0)]] * 100
    watch(watcher_of(desk, OPERATOR), frames_of(scenes))
    entries = list(desk.log.entries())[before:]
    found = [entry for entry in entries if entry.kind == "identified"]
    assert ['"outcome":"known"' in entry.body for entry in found] == [True, False]
    assert all(OPERATOR.name in entry.body for entry in found)
    assert desk.vault.record(desk.person("ada")).last_use == "2026-03-01"
    assert not any("ada" in entry.body for entry in entries)


def test_two_who_hide_each_other_keep_their_names(desk: SquareDesk) -> None:
    """They cross, one behind the other, and turn back: nobody is called by another's name."""
    scenes: list[list[Person]] = []
    for t in range(80):
        x = 60 + 5 * t if t < 28 else 200 - 0.1 * t if t < 40 else 196 - 5 * (t - 40)
        scenes.append([("ada", x, 80), ("bob", 400 - x, 90)])
    watcher, wrong = watcher_of(desk), 0
    for frame in frames_of(scenes):
        for shown in watcher.step(frame)[1]:
            if shown.sighting.seen and shown.name is not None:
                face = shown.sighting.middle
                near = [p for p in scenes[frame.number] if abs(p[1] - face[0]) < SIDE / 2]
                wrong += shown.name not in [person[0] for person in near]
    found = ended(watcher.finish())
    assert sorted(str(one[0]) for one in found) == ["ada", "bob"]
    assert wrong == 0


def test_a_mistake_of_the_detector_is_nobody() -> None:
    """What is seen in two frames is not reported, and nobody is asked about it."""
    scenes: list[list[Person]] = [[("ada", 60.0, 60.0)]] * 2 + [[]] * 20
    events = watch(told_watcher([]), frames_of(scenes))
    assert events == []


def told_watcher(asked: list[tuple[int, bool]], names: dict[int, str] | None = None) -> Watcher:
    """Return a watcher that names whoever is asked about after so many looks."""
    looks = 0

    def look(frame: Pixels, _face: Detection) -> Look:
        nonlocal looks
        looks += 1
        embedding = np.zeros(16, np.float32)
        embedding[int(frame[0, 0, 0]) % 2] = 1
        return Look(embedding=embedding, qualities=np.zeros(8, np.float32))

    def name(_track: Track, was_asked: bool) -> tuple[str | None, str]:  # noqa: FBT001 -- as `Naming` has it
        asked.append((looks, was_asked))
        found = (names or {}).get(len(asked))
        return found, ABOVE if found else BELOW

    return Watcher(Squares(), look, name, LINKING)


def test_it_is_asked_again_after_twice_as_many_looks() -> None:
    """After 3, 6 and 12 looks and at the end: each asking is one more chance to be wrong."""
    asked: list[tuple[int, bool]] = []
    events = watch(told_watcher(asked), frames_of([[("ada", 60.0, 60.0)]] * 46))
    assert asked == [(3, False), (6, True), (12, True), (16, True)]
    assert ended(events) == [(None, BELOW, 0.0, 4.5)]


def test_a_track_that_joins_an_older_one_is_told(desk: SquareDesk) -> None:
    """Ada comes again in the dark and steps into the light: one track, and the lines say so."""
    scenes = [[("ada", 60.0, 60.0)]] * 20 + [list[Person]()] * 15 + [[("ada", 300.0, 100.0)]] * 20
    frames = list(frames_of(scenes))
    for t in range(35, 45):
        frames[t] = replace(frames[t], pixels=(frames[t].pixels * 0.35).astype(np.uint8))
    events = watch(watcher_of(desk), frames)
    assert [type(event) for event in events] == [Began, Named, Began, Joined, Ended]
    assert [(one.track, one.into) for one in events if isinstance(one, Joined)] == [(1, 0)]
    assert ended(events) == [("ada", ABOVE, 0.0, 5.4)]


def test_whoever_is_known_only_afterwards_is_named_as_gone() -> None:
    """Two looks and away: the name comes at the track's end, and says that nobody is there."""
    asked: list[tuple[int, bool]] = []
    scenes = [[("ada", 60.0, 60.0)]] * 5 + [list[Person]()] * 70
    events = watch(told_watcher(asked, {1: "ada"}), frames_of(scenes))
    assert events[1] == Named(track=0, seconds=0.4, name="ada", is_there=False)


def test_a_name_is_given_once_and_stays() -> None:
    """Who was named is not asked about again, whatever comes later."""
    asked: list[tuple[int, bool]] = []
    events = watch(told_watcher(asked, {2: "ada"}), frames_of([[("ada", 60.0, 60.0)]] * 46))
    assert [looks for looks, _ in asked] == [3, 6]
    assert [type(event) for event in events] == [Began, Named, Ended]
    assert ended(events) == [("ada", ABOVE, 0.0, 4.5)]


def test_a_face_that_is_never_good_enough_is_not_compared(desk: SquareDesk) -> None:
    """Too dark to know anybody: somebody was there, nobody was asked, nothing is written down."""
    dark = (
        Frame(number=t, seconds=t / RATE, pixels=(scene([("ada", 60, 60)]) * 0.35).astype(np.uint8))
        for t in range(20)
    )
    before = kinds(desk)
    (found,) = ended(watch(watcher_of(desk), dark))
    assert found[:2] == (None, UNUSABLE)
    assert kinds(desk) == before


def test_whoever_is_forgotten_meanwhile_is_unknown(desk: SquareDesk) -> None:
    """A watch that runs for days follows the vault."""
    watcher = watcher_of(desk)
    there, away = [[("ada", 60.0, 60.0)]] * 20, [list[Person]()] * 80
    frames = list(frames_of([*there, *away, *there]))
    events = [event for frame in frames[:100] for event in watcher.step(frame)[0]]
    leaving.forget(desk, TERMINAL, "ada")
    events += watch(watcher, frames[100:])
    assert [one[0] for one in ended(events)] == ["ada", None]


def test_whoever_may_not_identify_is_refused(desk: SquareDesk) -> None:
    """The table of roles holds for a video as for a photograph."""
    with pytest.raises(AccessDenied, match="may identify"):
        watch(watcher_of(desk, OFFICER), frames_of([[("ada", 60.0, 60.0)]] * 20))
    assert "refused" in kinds(desk)


def test_beyond_a_limit_nobody_is_named(tmp_path: Path) -> None:
    """Strangers use up an operator's failures; from then on even ada is unknown, and it is told."""
    notes: list[str] = []
    with square_desk(tmp_path / "shop", Limits(failures_per_operator_per_hour=2)) as desk:
        watcher = watcher_of(desk, OPERATOR, notes)
        one_by_one: list[list[Person]] = []
        for name in ("eve", "sam", "ada", "bob"):
            one_by_one += [[(name, 60.0, 60.0)]] * 20 + [[]] * 15
        found = ended(watch(watcher, frames_of(one_by_one)))
        assert [one[:2] for one in found] == [
            *((None, BELOW), (None, BELOW)),
            *((None, LIMITED), (None, LIMITED)),
        ]
        assert kinds(desk).count("alert") == 1
    assert len(notes) == 1
    assert "at most 2 failures" in notes[0]
    assert "ada" not in notes[0]


def test_the_probe_is_as_like_somebody_as_the_frames_are_on_average(desk: SquareDesk) -> None:
    """A threshold for single photographs holds for it; made longer, it would not."""
    scenes = [[("ada", 60.0, 60.0)]] * 46
    track = next(
        one for one in watch(watcher_of(desk), frames_of(scenes)) if isinstance(one, Ended)
    )
    probe = probe_of(track.way)
    frames = np.stack([look.embedding for look in track.way.looks if look.embedding is not None])
    other = np.random.default_rng(0).normal(size=len(probe))
    assert len(frames) > 5
    np.testing.assert_allclose(probe @ other, (frames @ other).mean(), rtol=1e-5)
    assert np.linalg.norm(probe) < 0.99
    network = TrackWeights(hidden=8)
    weighed = probe_of(track.way, network)
    assert np.linalg.norm(weighed) < 0.99
    assert not np.allclose(weighed, probe)


def test_the_organisations_detector_aligns_what_another_found(desk: SquareDesk) -> None:
    """Whatever box is handed in, the face is aligned as enrolment would; or not at all."""
    frame = scene([("ada", 100, 100)])
    eyes = np.array(((0.0, 0.0), (1.0, 0.0)))
    rough = Detection(box=(75.0, 62.0, 56.0, 70.0), score=1.0, landmarks=eyes, basis="box")
    aligned = align_near(frame, rough, desk.detector)
    (exact,) = Squares().detect(frame)
    expected = align_near(frame, exact, desk.detector)
    assert aligned is not None and expected is not None  # noqa: PT018 -- one condition
    assert aligned.path == "squares/eyes"
    np.testing.assert_array_equal(aligned.pixels, expected.pixels)
    elsewhere = replace(rough, box=(300.0, 100.0, 50.0, 50.0))
    assert align_near(frame, elsewhere, desk.detector) is None
    outside = replace(rough, box=(-500.0, 5000.0, 50.0, 50.0))
    assert align_near(frame, outside, desk.detector) is None


def test_of_two_faces_near_a_box_the_nearer_one_is_aligned() -> None:
    """A larger face beside the one that is meant is not taken for it."""
    frame = scene([("ada", 100, 100), ("bob", 170, 100)])
    bob, ada = sorted(Squares().detect(frame), key=lambda one: -one.box[0])
    part = (40, 40)  # where the part around ada begins
    larger = replace(bob, box=(30.0, 20.0, 80.0, 80.0), landmarks=bob.landmarks - part)
    exact = replace(ada, box=(30.0, 30.0, 60.0, 60.0), landmarks=ada.landmarks - part)
    aligned = align_near(frame, ada, Seeing(larger, exact))
    assert aligned is not None
    assert (who(aligned.pixels[40:72, 40:72]) == list(COLOURS).index("ada")).all()


def test_a_face_behind_another_is_not_looked_at() -> None:
    """It would be a look at two people; the one before it is looked at."""
    near = Detection(box=(10.0, 10.0, 60.0, 60.0), score=1.0, landmarks=np.eye(2), basis="box")
    far = replace(near, box=(60.0, 10.0, 40.0, 40.0))
    apart = replace(near, box=(67.0, 10.0, 40.0, 40.0))
    assert in_view([near, far], 200, 200).tolist() == [True, False]
    assert in_view([far, near, near], 200, 200).tolist() == [False, True, True]
    assert in_view([near, apart], 200, 200).tolist() == [True, True]
    assert in_view([], 200, 200).tolist() == []


def test_half_a_face_at_the_border_is_not_looked_at() -> None:
    """Whichever border it is."""
    face = Detection(box=(10.0, 10.0, 60.0, 60.0), score=1.0, landmarks=np.eye(2), basis="box")
    at_borders = [
        replace(face, box=(left, top, 60.0, 60.0))
        for left, top in ((1.0, 10.0), (10.0, -5.0), (39.0, 10.0), (10.0, 39.0))
    ]
    seen = in_view([face, *at_borders], 100, 100)
    assert seen[1:].tolist() == [False] * 4
    assert in_view([face], 100, 100).tolist() == [True]


def test_what_is_said_of_the_threshold(desk: SquareDesk, tmp_path: Path) -> None:
    """Who made it; that another detector finds faces; that nobody is enrolled."""
    assert warning_of(desk, "squares").startswith("the threshold is of the model's maker")
    assert "; rnn finds the faces; only those that squares sees" in warning_of(desk, "rnn")
    with make_desk(tmp_path / "empty") as empty:
        assert warning_of(empty, "haar") == "nobody is enrolled who could be identified"


class Crowd:
    """Finds two hundred faces in every frame, here or somewhere else each time."""

    def __init__(self, *, stays: bool) -> None:
        self._stays = stays
        self._rng = np.random.default_rng(0)
        self._homes = self._rng.uniform(100, 20_000, (200, 2))

    def detect(self, image: Pixels) -> tuple[Detection, ...]:  # noqa: ARG002 -- it was told
        homes = self._homes if self._stays else self._rng.uniform(100, 20_000, (200, 2))
        return tuple(
            Detection(box=(x, y, 30.0, 30.0), score=1.0, landmarks=np.eye(2), basis="box")
            for x, y in homes.tolist()
        )


def test_a_crowd_is_followed_and_looked_at_in_turn() -> None:
    """Two hundred faces: a bounded number of looks in each frame, and all get theirs."""
    looked: list[float] = []

    def look(_frame: Pixels, face: Detection) -> Look:
        looked.append(face.box[0])
        return Look(embedding=None, qualities=np.zeros(8, np.float32))

    watcher = Watcher(Crowd(stays=True), look, lambda _track, _asked: (None, BELOW), LINKING)
    black = np.broadcast_to(np.uint8(0), (30_000, 30_000, 3))
    events = watch(watcher, (Frame(number=t, seconds=t / 25, pixels=black) for t in range(30)))
    assert len(looked) == 30 * MOST_LOOKS
    assert len(set(looked)) == 200
    assert len(ended(events)) == 200


def test_hours_of_video_do_not_fill_memory() -> None:
    """Faces come and go for a day's worth of frames: the process does not grow."""

    def look(_frame: Pixels, _face: Detection) -> Look:
        embedding = np.zeros(128, np.float32)
        pixels = np.zeros((112, 112, 3), np.uint8)
        return Look(embedding=embedding, qualities=np.zeros(8, np.float32), pixels=pixels)

    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    watcher = Watcher(Crowd(stays=False), look, lambda _track, _asked: (None, BELOW), LINKING)
    black, sizes = np.broadcast_to(np.uint8(0), (30_000, 30_000, 3)), []
    for t in range(60):
        watcher.step(Frame(number=t, seconds=float(t), pixels=black))
        if t % 15 == 14:
            sizes.append(resident())
    assert sizes[-1] - sizes[0] < 4 * 2**20
