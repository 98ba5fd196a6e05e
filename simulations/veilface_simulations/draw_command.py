"""`veilface-sim draw`: photographs of people who do not exist, to try everything else with."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from PIL import Image

from veilface_common.errors import ConfigError
from veilface_common.files import PUBLIC, write_atomically
from veilface_simulations.sources import open_any

NAMES = ("ada", "bob", "cyd", "dan", "eve", "fay", "gus", "hal")
PIXELS = 192  # large enough for a detector


def add_draw(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("people", metavar="PEOPLExPHOTOS", help="such as 8x6")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="a folder for each person is made in it",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="other people: 0")


def name_of(number: int) -> str:
    """Return a short name to type: those of the first few, then numbers."""
    return NAMES[number] if number < len(NAMES) else f"person-{number + 1:04d}"


def run_draw(arguments: argparse.Namespace) -> int:
    """Draw and return the exit code.

    Raises:
        ConfigError: the numbers cannot be read, or there is something in the folder.
    """
    out = arguments.out
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"expected no folder {out} yet, or an empty one")
    wanted = f"drawn:{arguments.people}"
    # Nobody who was trained on: runs draw people to evaluate on from the same stream, seed by seed.
    source = open_any(wanted, seed=arguments.seed, purpose="evaluate", pixels=PIXELS)
    count, names = 0, dict[str, str]()
    for photograph in source.photographs():
        content = io.BytesIO()
        Image.fromarray(photograph.load()).save(content, format="PNG")
        folder = out / names.setdefault(photograph.person, name_of(len(names)))
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{photograph.name}.png", content.getvalue(), mode=PUBLIC)
        count += 1
    print(f"{count} photographs: {out}")
    return 0
