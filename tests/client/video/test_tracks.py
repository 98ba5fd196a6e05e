"""Faces followed over simulated motion, of which it is known who is who."""

import itertools
import time
from collections.abc import Iterable

import numpy as np
import pytest

from veilface_client.detectors.detection import Detection
from veilface_client.video.motion import overlaps
from veilface_client.video.tracks import Linking, Live, Look, Tracker
from veilface_common.errors import ConfigError

RATE = 25.0


def face(x: float, y: float, side: float = 40.0) -> Detection:
    """Return a face around (x, y)."""
    box = (x - side / 2, y - side / 2, side, side)
    eyes = np.array(((x - side / 5, y), (x + side / 5, y)))
    return Detection(box=box, score=1.0, landmarks=eyes, basis="eyes")


def look(person: int, *, worth: float = 1.0, noise: int = 0) -> Look:
    """Return how somebody looks: 0.9 like themselves, 0 like others."""
    embedding = np.zeros(32, np.float32)
    embedding[person] = 3.0
    embedding[16 + noise % 16] += 1.0
    embedding /= np.linalg.norm(embedding)
    return Look(embedding=embedding, qualities=np.zeros(8, np.float32), worth=worth)


def of_index(live: Iterable[Live]) -> dict[int, int]:
    """Return {index of the detection: track}."""
    return {one.index: one.track for one in live if one.index is not None}


def test_two_people_who_walk_have_a_track_each() -> None:
    """One track for each of two who walk at a steady pace, at 25 and at 2 frames a second."""
    for rate in (25.0, 2.0):
        tracker = Tracker()
        for frame in range(40):
            seconds = frame / rate
            faces = [face(100 + 30 * seconds, 100), face(700 - 30 * seconds, 200)]
            assert of_index(tracker.step(frame, seconds, faces)) == {0: 0, 1: 1}
        tracks = tracker.finish()
        assert [(track.seen_frames, track.first.frame, track.last.frame) for track in tracks] == [
            (40, 0, 39)
        ] * 2


def test_whoever_crosses_keeps_going_their_way() -> None:
    """Two who cross at a distance are not exchanged, though the order of detections changes."""
    tracker, seen = Tracker(), set()
    for frame in range(100):
        faces = [face(100 + 4 * frame, 100), face(500 - 4 * frame, 130)]
        order = [0, 1] if frame % 3 else [1, 0]
        tracks = of_index(tracker.step(frame, frame / RATE, [faces[one] for one in order]))
        seen.add((tracks[order.index(0)], tracks[order.index(1)]))
    assert len(seen) == 1


def crossing(frame: int) -> list[tuple[int, Detection]]:
    """Return who is seen of two who stop before each other, hide and turn back."""
    if frame < 40:
        return [(0, face(100 + 4 * frame, 100)), (1, face(430 - 4 * frame, 100))]
    if frame < 52:  # person 1 is before person 0
        return [(1, face(265, 100))]
    back = 4 * (frame - 52)
    return [(0, face(255 - back, 100)), (1, face(275 + back, 100))]


def test_looks_keep_two_apart_who_turn_round_where_they_cross() -> None:
    """Motion alone exchanges them; with looks each goes on as who they are."""
    is_right = {}
    for with_looks in (False, True):
        tracker, whose = Tracker(), {0: set[int](), 1: set[int]()}
        for frame in range(100):
            people = crossing(frame)
            looks = [look(person, noise=frame) for person, _ in people] if with_looks else None
            live = tracker.step(frame, frame / RATE, [one for _, one in people], looks)
            for index, track in of_index(live).items():
                whose[people[index][0]].add(track)
        is_right[with_looks] = whose == {0: {0}, 1: {1}}
    assert is_right == {False: False, True: True}


def test_places_in_a_gap_are_filled_in() -> None:
    """A face that was missed for half a second is expected meanwhile and its places come after."""
    tracker = Tracker()
    for frame in range(10):
        tracker.step(frame, frame / RATE, [face(100 + 5 * frame, 100)])
    for frame in range(10, 20):
        (live,) = tracker.step(frame, frame / RATE, [])
        assert (live.track, live.index, live.now.seen) == (0, None, False)
        assert abs(live.now.middle[0] - (100 + 5 * frame)) < 1
    (live,) = tracker.step(20, 20 / RATE, [face(180, 100)])  # slower than was expected
    assert live.track == 0
    assert [one.frame for one in live.filled] == list(range(10, 20))
    assert not any(one.seen for one in live.filled)
    places = [one.middle[0] for one in live.filled]
    np.testing.assert_allclose(places, 145 + 35 * np.arange(1, 11) / 11)
    eyes = live.filled[4].detection.landmarks.mean(0)
    np.testing.assert_allclose(eyes, live.filled[4].middle)
    (live,) = tracker.step(21, 21 / RATE, [face(183, 100)])
    assert live.filled == ()


def test_a_face_that_is_lost_for_longer_ends() -> None:
    """After the gap a new face in the same place is another track, and nothing is filled in."""
    tracker = Tracker(Linking(gap_seconds=0.5))
    tracker.step(0, 0.0, [face(100, 100)])
    assert tracker.step(20, 0.48, [])
    assert tracker.step(25, 1.0, []) == ()
    assert [track.number for track in tracker.ended()] == [0]
    assert tracker.ended() == ()
    (live,) = tracker.step(26, 1.04, [face(100, 100)])
    assert (live.track, live.filled) == (1, ())


def test_whoever_comes_again_is_known_by_their_look() -> None:
    """Three seconds away and elsewhere: the same track; a stranger there is another one."""
    for person, expected in ((3, 0), (4, 1)):
        tracker = Tracker()
        for frame in range(20):
            tracker.step(frame, frame / RATE, [face(100, 100)], [look(3, noise=frame)])
        assert tracker.step(20, 2.5, []) == ()
        (live,) = tracker.step(21, 3.8, [face(500, 300)], [look(person)])
        assert (live.track, live.filled) == (expected, ())


def test_whoever_was_hardly_looked_at_is_not_known_again() -> None:
    """Two looks do not say what somebody looks like; three do."""
    for looks, expected in ((2, 1), (3, 0)):
        tracker = Tracker()
        for frame in range(20):
            taken = [look(3, noise=frame)] if frame < looks else None
            tracker.step(frame, frame / RATE, [face(100, 100)], taken)
        tracker.step(20, 2.5, [])
        (live,) = tracker.step(21, 3.8, [face(500, 300)], [look(3)])
        assert live.track == expected


def test_whoever_comes_again_badly_seen_is_known_as_soon_as_they_are_seen_well() -> None:
    """The track that began meanwhile turns out to be the old one, and goes on as that."""
    poor = Look(embedding=None, qualities=np.zeros(8, np.float32))
    for person, expected in ((3, 0), (4, None)):
        tracker = Tracker()
        for frame in range(20):
            tracker.step(frame, frame / RATE, [face(100, 100)], [look(3, noise=frame)])
        tracker.step(20, 2.5, [])
        for frame in range(21, 25):
            (live,) = tracker.step(frame, 3.0 + frame / RATE, [face(500, 300)], [poor])
            assert live.track == 1
        (live,) = tracker.step(25, 4.0, [face(500, 300)], [look(person)])
        assert (live.track, live.joined) == ((0, 1) if expected == 0 else (1, None))
        assert len(tracker.finish()) == 2 - (expected == 0)


def test_whoever_was_elsewhere_meanwhile_is_not_joined() -> None:
    """Two faces at the same time are two people, however alike they look."""
    poor = Look(embedding=None, qualities=np.zeros(8, np.float32))
    tracker = Tracker()
    for frame in range(20):
        tracker.step(frame, frame / RATE, [face(100, 100), face(500, 300)], [look(3), poor])
    live = tracker.step(20, 20 / RATE, [face(500, 300)], [look(3)])
    assert of_index(live) == {0: 1}


def test_another_person_in_the_same_place_is_another_track() -> None:
    """Where a film is cut, or somebody steps in, motion says nothing: the look does."""
    tracker = Tracker(Linking(apart_cosine=0.3))
    for frame in range(20):
        tracker.step(frame, frame / RATE, [face(100, 100)], [look(0, noise=frame)])
    live = tracker.step(20, 20 / RATE, [face(100, 100)], [look(1)])
    assert of_index(live) == {0: 1}


def test_faces_that_enter_and_leave() -> None:
    """Each track begins and ends with its face."""
    tracker = Tracker()
    times = {100: (0, 30), 300: (10, 60), 500: (45, 100)}
    for frame in range(130):
        faces = [face(x, 100) for x, (start, end) in times.items() if start <= frame < end]
        tracker.step(frame, frame / RATE, faces)
    found = [(track.first.frame, track.last.frame + 1) for track in tracker.finish()]
    assert sorted(found) == sorted(times.values())


def test_a_face_of_another_size_is_another_face() -> None:
    """Somebody near the camera before somebody far away is not the same person."""
    tracker = Tracker()
    tracker.step(0, 0.0, [face(100, 100, 40)])
    assert of_index(tracker.step(1, 0.04, [face(100, 100, 120)])) == {0: 1}


def test_two_hundred_faces_keep_their_tracks() -> None:
    """A crowd that moves, in another order in each frame: nobody is exchanged; a frame is fast."""
    rng = np.random.default_rng(0)
    homes = np.array(list(itertools.product(range(20), range(10)))) * 50.0 + 100
    ways = rng.normal(0, 12, (200, 2))  # pixels a second; a face is 30 wide
    tracker, started = Tracker(), time.process_time()
    first: dict[int, int] = {}
    for frame in range(50):
        places = homes + np.sin(frame / 10) * ways + rng.normal(0, 0.6, (200, 2))
        order = rng.permutation(200)
        faces = [
            face(float(places[person][0]), float(places[person][1]), 30)
            for person in order
            if rng.random() < 0.95
        ]
        shown = [
            int(np.linalg.norm(places - np.array(one.box[:2]) - 15, axis=1).argmin())
            for one in faces
        ]
        for index, track in of_index(tracker.step(frame, frame / RATE, faces)).items():
            assert first.setdefault(shown[index], track) == track
    assert len(first) == 200
    assert (time.process_time() - started) / 50 < 0.25


def test_what_is_kept_is_bounded_and_the_best() -> None:
    """Of three thousand sightings the best and the newest are kept, those with a look first."""
    tracker = Tracker(Linking(keep=5))
    for frame in range(3000):
        looks = [look(0, worth=frame % 997)] if frame % 5 == 0 else None
        tracker.step(frame, frame / RATE, [face(100, 100)], looks)
    track = tracker.track(0)
    assert track.seen_frames == 3000
    assert track.sightings[-1].frame == 2999
    assert sorted(one.worth for one in track.looks) == [991, 993, 995, 996]
    frames = [one.frame for one in track.sightings]
    assert frames == sorted(frames)


def test_ten_thousand_faces_that_never_come_again_are_forgotten() -> None:
    """Two hundred new faces in each frame: the number of tracks that are held stays bounded."""
    rng = np.random.default_rng(0)
    tracker, most = Tracker(Linking(most_tracks=300)), 0
    ended = 0
    for frame in range(50):
        faces = [face(*place) for place in rng.uniform(0, 20_000, (200, 2))]
        looks = [look(int(person), noise=int(person)) for person in rng.integers(0, 16, 200)]
        live = tracker.step(frame, frame / RATE, faces, looks if frame % 2 else None)
        most = max(most, len(live))
        ended += len(tracker.ended())
    assert most <= 500  # 300 and the newest frame's
    assert ended + len(tracker.finish()) >= 300
    assert tracker.finish() == ()


def test_time_that_goes_back_stands_still() -> None:
    """A damaged file's times do no harm."""
    tracker = Tracker()
    for frame, seconds in enumerate((0.0, 0.04, 0.04, 0.01, 0.08)):
        (live,) = tracker.step(frame, seconds, [face(100 + frame, 100)])
        assert live.track == 0
        assert np.isfinite(live.now.detection.box).all()
    (track,) = tracker.finish()
    assert [one.seconds for one in track.sightings] == [0.0, 0.04, 0.04, 0.04, 0.08]


def test_who_should_be_looked_at() -> None:
    """New faces and unclear ones at once, the others only when their last look is old."""
    tracker = Tracker()
    apart = [face(100, 100), face(300, 100)]
    assert tracker.wanted(0.0, apart, each_seconds=0.5) == (0, 1)
    tracker.step(0, 0.0, apart, [look(0), look(1)])
    assert tracker.wanted(0.04, apart, each_seconds=0.5) == ()
    tracker.step(1, 0.04, apart, [None, look(1)])
    assert tracker.wanted(0.51, apart, each_seconds=0.5) == (0,)
    assert tracker.wanted(0.54, apart[::-1], each_seconds=0.5) == (1, 0)
    assert tracker.wanted(0.08, [*apart, face(500, 100)], each_seconds=0.5) == (2,)


def test_who_is_near_another_is_looked_at_whenever_seen() -> None:
    """Where motion leaves open who is who; a look that was too poor counts as taken."""
    near = [face(195, 100), face(205, 100)]
    poor = Look(embedding=None, qualities=np.zeros(8, np.float32))
    tracker = Tracker()
    tracker.step(0, 0.0, near, [look(0), look(1)])
    assert tracker.wanted(0.04, near, each_seconds=0.5) == (0, 1)
    tracker.step(1, 0.04, near, [poor, None])
    assert tracker.wanted(0.08, near, each_seconds=0.5) == (1, 0)
    assert [track.good_looks for track in tracker.finish()] == [1, 1]


def test_overlap_is_what_counting_pixels_gives() -> None:
    """The fast overlap against a count of the pixels under both boxes."""
    rng = np.random.default_rng(0)
    some, others = (rng.integers(1, 12, (6, 4)).astype(float) for _ in range(2))
    found = overlaps(some, others)
    for one, other in itertools.product(range(6), range(6)):
        pixels = [
            {(x, y) for x in range(int(a), int(a + w)) for y in range(int(b), int(b + h))}
            for a, b, w, h in (some[one], others[other])
        ]
        both = len(pixels[0] & pixels[1]) / len(pixels[0] | pixels[1])
        assert found[one, other] == pytest.approx(both)


def test_a_gap_longer_than_the_memory_of_looks_is_refused() -> None:
    """A setting that contradicts itself."""
    with pytest.raises(ConfigError, match="expected a gap of 0 to 5"):
        Linking(gap_seconds=6.0)
