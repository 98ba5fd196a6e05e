"""Who was there: films of drawn people, thresholds on tracks of strangers, an hour of video.

    VEILFACE_MODEL=DIR python -m pytest -m bench -s tests/bench/test_watch_bench.py

VEILFACE_MODEL names a model's folder: for the films one of drawn people, for `ytf` one that was
trained on none of its people. VEILFACE_DETECTORS: `haar rnn`, or others as `--detector` takes them.
"""

from __future__ import annotations

import itertools
import os
import resource
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.client.recognition.desks import CONSENT, provider
from tests.client.video.squares import Person, Squares, scene

from veilface_client.augmentation import centre_view
from veilface_client.detectors.detection import stream_of
from veilface_client.faces import open_detector
from veilface_client.home import Settings, create_home
from veilface_client.images import Crop, canvas_pixels, cut_canvas
from veilface_client.recognition import enrolment
from veilface_client.recognition.desk import Desk
from veilface_client.roles import TERMINAL
from veilface_client.sources import open_source
from veilface_client.training import embed_views
from veilface_client.video.desks import linking_of, looker_of, naming_of
from veilface_client.video.motion import overlaps
from veilface_client.video.reading import Frame, open_video
from veilface_client.video.sightings import Look
from veilface_client.video.tracks import LINKING
from veilface_client.video.watching import Ended, Shown, Watcher
from veilface_client.video.writing import VideoWriter
from veilface_common.artifact import load_model
from veilface_common.errors import VeilfaceError
from veilface_simulations.cli import main as simulate
from veilface_simulations.clips.film import RATE, film

pytestmark = pytest.mark.bench

YTF = Path(__file__).parents[3] / "shared" / "faces" / "ytf"
YTF_CROP = Crop(share=0.55, centre_y=0.45)
MODEL = os.environ.get("VEILFACE_MODEL")
DETECTORS = os.environ.get("VEILFACE_DETECTORS", "haar rnn").split()
SEEDS = range(int(os.environ.get("VEILFACE_FILMS", "3")))
NAMES = ("ada", "bob", "cyd", "dan")
needs_model = pytest.mark.skipif(MODEL is None, reason="VEILFACE_MODEL names no model")


def opened(folder: Path, detector: str, seed: int) -> Desk:
    """Return a desk where whoever can be is enrolled with the photographs of `draw`."""
    assert MODEL is not None
    simulate(["draw", "4x6", "--seed", str(seed), "--out", str(folder / "people")])
    settings = Settings(name="shop", model="", detector=detector)
    create_home(folder / "shop", settings, Path(MODEL), provider())
    desk = Desk(folder / "shop", provider())
    for name in NAMES:
        photos = [path.read_bytes() for path in sorted((folder / "people" / name).iterdir())]
        try:
            enrolment.enrol(desk, TERMINAL, name, photos, CONSENT)
        except VeilfaceError as error:
            print(f"  {name} is not enrolled: {error}")
    return desk


@needs_model
@pytest.mark.parametrize("detector", DETECTORS)
def test_films(detector: str, tmp_path: Path) -> None:
    """Tracks, exchanges and names in films of which it is known who is where."""
    total: Counter[str] = Counter()
    for seed in SEEDS:
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        with opened(folder, detector, seed) as desk:
            total += in_film(desk, detector, seed, known=set(desk.names()))
    seconds = total.pop("milliseconds") / 1000
    print(f"{detector}: {dict(total)}, {total['frames'] / seconds:.1f} frames a second of CPU time")
    assert total["called another's name"] + total["strangers named"] <= 1


def in_film(desk: Desk, detector: str, seed: int, known: set[str]) -> Counter[str]:
    whose: dict[int, Counter[str]] = defaultdict(Counter)  # frames of each person, by track
    of: dict[str, list[int]] = defaultdict(list)  # tracks of each person, frame by frame
    count: Counter[str] = Counter()
    watcher = Watcher(
        stream_of(open_detector(detector)),
        looker_of(desk).look,
        naming_of(desk, TERMINAL, print),
        linking_of(desk),
    )
    ended: list[Ended] = []
    for shot in film(NAMES, strangers=2, seed=seed):
        frame = Frame(number=shot.number, seconds=shot.number / RATE, pixels=shot.pixels)
        started = time.process_time()
        events, shown = watcher.step(frame)
        count["milliseconds"] += round(1000 * (time.process_time() - started))
        count["frames"] += 1
        ended += [event for event in events if isinstance(event, Ended)]
        count["faces"] += int((~shot.ignored).sum())
        for track, place in matched(shown, shot.boxes):
            name = shot.names[place]
            whose[track][name] += 1
            of[name].append(track)
            count["faces found"] += not shot.ignored[place]
    ended += [event for event in watcher.finish() if isinstance(event, Ended)]
    count["people"] += len(NAMES) + 2
    count["people found"] += len(of)
    count["exchanges"] += sum(
        sum(a != b for a, b in itertools.pairwise(tracks)) for tracks in of.values()
    )
    count["tracks"] += len(ended)
    count["enrolled people"] += len(known)
    right = set()
    for event in ended:
        names = whose[event.track]
        count["tracks of nobody"] += not names
        count["tracks of two"] += len(names) > 1 and names.most_common()[1][1] > 2
        person = names.most_common(1)[0][0] if names else ""
        if event.name is not None:
            key = "strangers named" if person not in known else "called another's name"
            count[key] += event.name != person
            right |= {person} & {event.name}
        print(
            f"  {event.start:5.1f}-{event.end:5.1f}  {person or '-':10} {event.name} {event.reason}"
        )
    count["named rightly"] += len(right)
    return count


def matched(shown: Iterable[Shown], boxes: NDArray[np.float64]) -> Iterable[tuple[int, int]]:
    """Yield (track, place in `boxes`) of the faces that are where somebody is."""
    seen = [one for one in shown if one.sighting.seen]
    if not seen or not len(boxes):
        return
    shares = overlaps(np.array([one.sighting.detection.box for one in seen]), boxes)
    for one, row in zip(seen, shares, strict=True):
        if row.max() >= 0.25:
            yield one.track, int(row.argmax())


def videos() -> dict[str, list[NDArray[np.float32]]]:
    """Return the embeddings of each person's videos in `ytf`: [T, D] each."""
    assert MODEL is not None
    network, manifest = load_model(Path(MODEL))
    pixels = manifest.model.pixels
    found: dict[tuple[str, str], list[NDArray[np.float32]]] = defaultdict(list)
    for photo in open_source(f"folder:{YTF}").photographs():
        canvas = cut_canvas(photo.load(), YTF_CROP, canvas_pixels(pixels))
        with torch.inference_mode():
            view = centre_view(torch.from_numpy(canvas[None]), pixels)
            embedding = embed_views(network, view)[0].numpy()
        found[photo.person, photo.name.rsplit("_", 1)[0]].append(embedding)
    people: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    for (person, _), frames in found.items():
        people[person].append(np.stack(frames))
    return people


@needs_model
@pytest.mark.skipif(not YTF.is_dir(), reason="../shared/faces/ytf is not there")
def test_a_threshold_of_photographs_on_tracks() -> None:
    """A rate chosen on single frames of strangers, and what tracks of other strangers then have."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    people = videos()
    names = sorted(people)
    for rate in (0.01, 0.05):
        rows: dict[str, list[float]] = defaultdict(list)
        for _ in range(40):
            order = rng.permutation(names)
            enrolled, chosen, strangers = order[:60], order[60:170], order[170:]
            gallery = np.concatenate([people[name][0][:2] for name in enrolled])
            frames = np.concatenate([video for name in chosen for video in people[name]])
            line = np.quantile((frames @ gallery.T).max(1), 1 - rate)
            tracks = [video for name in strangers for video in people[name]]
            own = [(k, video) for k, name in enumerate(enrolled) for video in people[name][1:]]
            for label, probes in ways().items():
                best = [np.max([(p @ gallery.T).max() for p in probes(video)]) for video in tracks]
                rows[f"{label}: strangers named"].append(float(np.mean(np.array(best) > line)))
                scores = [np.max([p @ gallery.T for p in probes(video)], 0) for _, video in own]
                rows[f"{label}: enrolled named"].append(
                    float(
                        np.mean(
                            [
                                s.max() > line and s.argmax() // 2 == k
                                for (k, _), s in zip(own, scores, strict=True)
                            ]
                        )
                    )
                )
        for label, values in rows.items():
            print(f"rate {rate}: {label:48} {np.mean(values):.4f}")
        assert np.mean(rows["mean, asked after 3 and 5: strangers named"]) < 1.2 * rate


def ways() -> dict[str, Callable[[NDArray[np.float32]], Sequence[NDArray[np.float32]]]]:
    """Return what a track of frames [T, D] is compared by."""

    def unit(mean: NDArray[np.float32]) -> NDArray[np.float32]:
        return mean / np.linalg.norm(mean)

    return {
        "its first frame": lambda video: [video[0]],
        "each of its frames": list,
        "mean of unit length, asked after 3 and 5": lambda v: [unit(v[:n].mean(0)) for n in (3, 5)],
        "mean, asked after 3 and 5": lambda video: [video[:n].mean(0) for n in (3, 5)],
    }


def test_an_hour_of_video(tmp_path: Path) -> None:
    """Memory does not grow: an hour of people who come and go, from a file."""
    rate, length = 5.0, 3600

    def people(t: float) -> list[Person]:
        turn = t % 20
        return [("ada", 30 + 20 * turn, 60.0)] * (turn < 15) + [("eve", 300.0, 140.0)] * (turn > 9)

    path = tmp_path / "hour.mp4"
    with VideoWriter(path, width=400, height=200, rate=rate) as writer:
        for number in range(round(rate * length)):
            pixels = scene(people(number / rate))
            writer.add(Frame(number=number, seconds=number / rate, pixels=pixels))

    def look(_frame: object, _face: object) -> Look:
        embedding = np.eye(1, 128, dtype=np.float32)[0]
        return Look(embedding=embedding, qualities=np.zeros(8, np.float32))

    watcher = Watcher(Squares(), look, lambda _track, _again: (None, ""), LINKING)
    sizes, tracks = [], 0
    with open_video(str(path)) as video:
        for frame in video:
            tracks += sum(isinstance(event, Ended) for event in watcher.step(frame)[0])
            if frame.number % 1500 == 1499:
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                sizes.append(pages * resource.getpagesize() / 2**20)
    print("MiB after each five minutes:", *(f"{size:.0f}" for size in sizes), "tracks:", tracks)
    assert sizes[-1] - sizes[0] < 10
