"""`veilface-sim tracks`: which way of putting a track together tells people apart best?"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import cast, get_args

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from veilface_client.alignment import PIXELS
from veilface_client.data import load_faces
from veilface_client.images import CANVAS, Crop, Pixels, canvas_pixels
from veilface_common.command import one_line
from veilface_common.errors import ConfigError
from veilface_common.files import PUBLIC, write_atomically
from veilface_simulations.display import TerminalDisplay
from veilface_simulations.options import INTERRUPTED, add_cache, cache_folder, command_line
from veilface_simulations.robustness.measuring import Looker, open_looker
from veilface_simulations.robustness.scenes import Cropped
from veilface_simulations.sources import KINDS_HELP, open_any
from veilface_simulations.tracking.figures import RESAMPLES, measure
from veilface_simulations.tracking.measuring import (
    Result,
    Trained,
    Way,
    look,
    measure_videos,
    train_free,
    ways_of,
)
from veilface_simulations.tracking.page import render
from veilface_simulations.tracking.record import (
    RECORD,
    Learnt,
    Measurement,
    Model,
    Row,
)
from veilface_simulations.tracking.sheet import drawn_videos, sheet
from veilface_simulations.tracking.videos import (
    CONDITIONS,
    LEVELS,
    SPOILT_SHARE,
    Condition,
    Half,
    Video,
    Videos,
    read_videos,
    spoil,
)

PAGE = "tracks.html"
SHOWN = 14  # tracks of a contact sheet
_PACKAGES = ("veilface", "torch", "numpy", "opencv-python-headless", "pillow")


def add_tracks(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a run's model/")
    parser.add_argument(
        "--private", type=Path, metavar="DIR", help="another, whose weights of frames are private"
    )
    parser.add_argument("--data", required=True, metavar="SOURCE", help="videos: ytf:PATH")
    parser.add_argument(
        "--free", metavar="SOURCE", help=f"train a free LSTM on photographs: {KINDS_HELP}"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help=f"for {PAGE} and {RECORD.name}"
    )
    parser.add_argument(
        "--half",
        choices=get_args(Half),
        default="reporting",
        help="of the people: settings are chosen on one half, figures are of the other",
    )
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE", help="a picture of these very faces, for your eyes"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    add_cache(parser)


def run_tracks(arguments: argparse.Namespace) -> int:
    """Measure, write the page and the file, print the figures, and return the exit code.

    Raises:
        ConfigError: a setting cannot be used, or there is something in the folder.
        DataError: there are too few videos.
        ArtifactError: a model cannot be read.
    """
    if arguments.out.exists() and (not arguments.out.is_dir() or any(arguments.out.iterdir())):
        raise ConfigError(f"expected no folder {arguments.out} yet, or an empty one")
    if arguments.seed < 0:
        raise ConfigError(f"expected --seed of at least 0, got {arguments.seed}")
    torch.set_num_threads(1)
    try:
        found, looks, real = _measured(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("veilface-sim: stopped; nothing was written\n")
        return INTERRUPTED
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.sheet is not None and real is not None:
        Image.fromarray(real).save(arguments.sheet)
    write_atomically(arguments.out / PAGE, render(found, looks).encode(), mode=PUBLIC)
    RECORD.save(found, arguments.out)  # last: who finds it finds both
    _print(found, arguments.out)
    return 0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Subjects:
    """What is measured, and on what."""

    model: Looker
    private: Looker | None
    trained: Trained | None
    ways: tuple[Way, ...]
    videos: Videos
    crop: Crop


def _measured(
    arguments: argparse.Namespace,
) -> tuple[Measurement, Pixels | None, Pixels | None]:
    started, clock = datetime.now(UTC), time.monotonic()
    with TerminalDisplay(Console(stderr=True)) as display:
        subjects = _subjects(arguments, display)
        found = measure_videos(
            subjects.model,
            subjects.ways,
            subjects.videos.videos,
            tuple(CONDITIONS),
            Cropped(subjects.crop),
            seed=arguments.seed,
            progress=lambda done, total: display.working("looking at videos", done, total),
        )
    measured = _collected(
        arguments, subjects, found, started=started, seconds=time.monotonic() - clock
    )
    looks = _sheet(subjects, drawn_videos(), Cropped(CANVAS), arguments.seed)
    shown = subjects.videos.videos[:: max(1, len(subjects.videos.videos) // SHOWN)][:SHOWN]
    real = _sheet(subjects, shown, Cropped(subjects.crop), arguments.seed)
    return measured, looks, real


def _subjects(arguments: argparse.Namespace, display: TerminalDisplay) -> _Subjects:
    model = open_looker(arguments.model)
    private = None if arguments.private is None else open_looker(arguments.private)
    _verify_same_embeddings(model, private)
    source = open_any(
        arguments.data, seed=arguments.seed, purpose="evaluate", pixels=canvas_pixels(PIXELS)
    )
    videos = read_videos(
        source,
        half=cast("Half", arguments.half),
        seed=arguments.seed,
        progress=lambda done, total: display.working("reading videos", done, total),
    )
    trained = None
    if arguments.free is not None:
        pixels = canvas_pixels(model.manifest.model.pixels)
        photographs = open_any(arguments.free, seed=arguments.seed, purpose="train", pixels=pixels)
        faces = load_faces(photographs, pixels=pixels, cache=cache_folder(arguments))
        trained = train_free(model, faces, arguments.seed)
    ways = ways_of(model, private, None if trained is None else trained.network)
    return _Subjects(
        model=model,
        private=private,
        trained=trained,
        ways=ways,
        videos=videos,
        crop=source.crop,
    )


def _verify_same_embeddings(model: Looker, private: Looker | None) -> None:
    """Raise ConfigError where two models embed a face in two ways: they see other tracks then."""
    if private is None:
        return
    mine, other = model.network.state_dict(), private.network.state_dict()
    names = {name for name in mine.keys() | other.keys() if not name.startswith("track.")}
    for name in names:
        if name not in mine or name not in other or not torch.equal(mine[name], other[name]):
            raise ConfigError(
                "expected --private to differ in the weights of frames alone, got other embeddings",
                hint="train both with --preset tracks and the same --init",
            )


def _collected(
    arguments: argparse.Namespace,
    subjects: _Subjects,
    found: Mapping[Condition, Mapping[str, Result]],
    *,
    started: datetime,
    seconds: float,
) -> Measurement:
    videos, trained = subjects.videos.videos, subjects.trained
    return Measurement(
        rows=tuple(
            Row(
                condition=condition,
                way=way,
                rates=result.rates.figures(),
                less_mean=result.rates.less(results["mean"].rates),
                spoilt_weight=result.spoilt_weight,
            )
            for condition, results in found.items()
            for way, result in results.items()
        ),
        model=_model(subjects.model),
        private=None if subjects.private is None else _model(subjects.private),
        free_data=arguments.free,
        free_people=0 if trained is None else trained.people,
        learnt=() if trained is None else _learnt(subjects.ways, trained, arguments.seed),
        data=arguments.data,
        half=arguments.half,
        people=len({video.person for video in videos}),
        videos=len(videos),
        frames=sum(len(video.frames) for video in videos),
        spoilt_share=SPOILT_SHARE,
        levels=LEVELS,
        kinds={str(name): kinds for name, kinds in CONDITIONS.items()},
        resamples=RESAMPLES,
        seed=arguments.seed,
        warnings=subjects.videos.warnings,
        versions={"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        command=command_line(),
        started=started.isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
    )


def _model(looker: Looker) -> Model:
    manifest = looker.manifest
    return Model(
        name=looker.name,
        sha256=manifest.sha256,
        network=manifest.model.name,
        track=manifest.model.track,
    )


def _learnt(ways: tuple[Way, ...], trained: Trained, seed: int) -> tuple[Learnt, ...]:
    return tuple(
        Learnt(
            way=way.name,
            eer=measure(
                np.stack([way.template(one) for one in trained.tracks]), trained.of, seed
            ).eer,
        )
        for way in ways
    )


def _sheet(
    subjects: _Subjects, videos: tuple[Video, ...], eye: Cropped, seed: int
) -> Pixels | None:
    """Return a contact sheet of spoilt tracks; None where no network weighs frames."""
    way = next((way for way in subjects.ways if way.track is not None), None)
    if way is None:
        return None
    half = len(videos) // 2
    shown = [spoil(v, "known" if n < half else "new", seed) for n, v in enumerate(videos)]
    weights = [way.weights(look(subjects.model, video, eye)) for video in shown]
    return sheet(shown, [own for own in weights if own is not None], eye)


def _print(found: Measurement, folder: Path) -> None:
    for warning in found.warnings:
        print(f"veilface-sim: warning: {one_line(warning)}", file=sys.stderr)
    print(
        f"{'frames':<8} {'way':<20} {'EER %':>20} {'TAR % at FAR 1e-2':>20} {'EER less mean':>20}"
    )
    for row in found.rows:
        eer, tar, less = row.rates["eer"], row.rates["tar@1e-2"], row.less_mean["eer"]
        cells = " ".join(f"{_between(one.value, one.interval):>20}" for one in (eer, tar, less))
        print(f"{row.condition:<8} {row.way:<20} {cells}")
    for one in found.learnt:
        print(f"{'learnt':<8} {one.way:<20} {100 * one.eer:>5.1f}")
    print(f"report: {folder / PAGE}")


def _between(value: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"
