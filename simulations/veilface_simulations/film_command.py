"""`veilface-sim film`: a video of people who do not exist, and who is where in it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from veilface_client.video.reading import Frame
from veilface_client.video.writing import VideoWriter
from veilface_common.errors import ConfigError
from veilface_common.files import PUBLIC, write_atomically
from veilface_simulations.clips.film import HEIGHT, RATE, WIDTH, Film, FilmFrame, film
from veilface_simulations.draw_command import name_of

FILM, TRUTH = "film.mp4", "truth.json"
SCHEMA = 1
STRANGERS = 2


def add_film(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "people",
        type=int,
        metavar="PEOPLE",
        help="the first so many of `veilface-sim draw` with the same seed",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help=f"for {FILM} and {TRUTH}"
    )
    parser.add_argument(
        "--strangers",
        type=int,
        default=STRANGERS,
        metavar="N",
        help=f"whom nobody can have enrolled: {STRANGERS}",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="other people: 0")


def run_film(arguments: argparse.Namespace) -> int:
    """Write the film and its truth, and return the exit code.

    Raises:
        ConfigError: the numbers cannot be used, or there is something in the folder.
    """
    out = arguments.out
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"expected no folder {out} yet, or an empty one")
    if arguments.people < 0:
        raise ConfigError(f"expected a number of people, got {arguments.people}")
    made = film(
        tuple(map(name_of, range(arguments.people))),
        strangers=arguments.strangers,
        seed=arguments.seed,
    )
    out.mkdir(parents=True, exist_ok=True)
    write_film(made, out)
    print(f"{made.length} frames, {made.length / RATE:.0f} seconds: {out / FILM}")
    return 0


def write_film(made: Film, folder: Path) -> None:
    """Write the film and, last, the truth about it.

    Raises:
        OSError: the folder cannot be written.
    """
    frames = []
    with VideoWriter(folder / FILM, width=WIDTH, height=HEIGHT, rate=RATE) as writer:
        for frame in made:
            shown = Frame(number=frame.number, seconds=frame.seconds, pixels=frame.pixels)
            writer.add(shown)
            frames.append(_truth(frame))
    (folder / FILM).chmod(PUBLIC)  # people who do not exist: nothing in it is a secret
    whole = {
        "schema": SCHEMA,
        "width": WIDTH,
        "height": HEIGHT,
        "rate": RATE,
        "people": list(made.names),
        "frames": frames,
    }
    write_atomically(folder / TRUTH, json.dumps(whole, indent=1).encode(), mode=PUBLIC)


def _truth(frame: FilmFrame) -> dict[str, object]:
    people = [
        {"name": name, "box": [round(side, 1) for side in box.tolist()], "seen": not hidden}
        for name, box, hidden in zip(frame.names, frame.boxes, frame.ignored, strict=True)
    ]
    return {
        "frame": frame.number,
        "seconds": round(frame.seconds, 6),
        "corrupted": frame.corrupted,
        "people": people,
    }
