"""`veilface-sim detector evaluate`: which detector finds faces, and where frames are spoilt?"""

from __future__ import annotations

import argparse
import hashlib
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console

from veilface_client.detectors import DETECTORS_HELP
from veilface_client.faces import open_detector
from veilface_common.errors import ConfigError
from veilface_common.files import PUBLIC, write_atomically
from veilface_simulations.clips.clip import ClipSource
from veilface_simulations.clips.opening import CLIPS_HELP, open_clips
from veilface_simulations.clips.photographs import Photographs
from veilface_simulations.detecting.evaluating import (
    ALLOWED,
    FRAMES,
    SIDE,
    SMALLEST,
    Tally,
    look_at_clips,
    look_at_stills,
    measured,
    stills_of,
)
from veilface_simulations.detecting.page import render
from veilface_simulations.detecting.plots import label_of
from veilface_simulations.detecting.record import (
    RECORD,
    Evaluation,
    Measured,
)
from veilface_simulations.detecting.sheets import contact_sheet, to_jpeg
from veilface_simulations.display import TerminalDisplay
from veilface_simulations.options import INTERRUPTED, command_line

PAGE = "evaluate.html"
CLIPS = 150
CORRUPTED = "0,2,4"
SHEETS = 6
_PACKAGES = ("veilface", "numpy", "opencv-python-headless", "onnxruntime")


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--data", required=True, metavar="SOURCE", help=f"{CLIPS_HELP}, the validation part"
    )
    parser.add_argument(
        "--detectors", required=True, metavar="LIST", help=f"with commas: {DETECTORS_HELP}"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help=f"for {PAGE} and {RECORD.name}"
    )
    parser.add_argument(
        "--clips", type=int, default=CLIPS, metavar="N", help=f"of {FRAMES} frames: {CLIPS}"
    )
    parser.add_argument(
        "--corrupted",
        default=CORRUPTED,
        metavar="LIST",
        help=f"frames of each clip, beside none: {CORRUPTED}",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Measure, write page, sheets and file, print the figures, and return the exit code.

    Raises:
        ConfigError: a setting cannot be used, or there is something in the folder.
        DataError: the photographs cannot be read.
    """
    out = arguments.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"expected no folder {out} yet, or an empty one")
    if arguments.clips < 1 or arguments.seed < 0:
        got = (arguments.clips, arguments.seed)
        raise ConfigError(f"expected --clips of at least 1 and --seed of at least 0, got {got}")
    corrupted = _corrupted(arguments.corrupted)
    source = open_clips(arguments.data, "validation")
    tallies = [_opened(text) for text in arguments.detectors.split(",")]
    if len({tally.name for tally in tallies}) < len(tallies):
        raise ConfigError(f"expected each detector once, got {arguments.detectors!r}")
    torch.set_num_threads(1)
    started, clock = datetime.now(UTC), time.monotonic()
    try:
        _look(arguments, source, tallies, corrupted)
    except KeyboardInterrupt:
        sys.stderr.write("veilface-sim: stopped; nothing was written\n")
        return INTERRUPTED
    evaluation = Evaluation(
        data=arguments.data,
        frames=FRAMES,
        height=SIDE,
        width=SIDE,
        clips=arguments.clips,
        seed=arguments.seed,
        smallest=SMALLEST,
        allowed=ALLOWED,
        detectors=tuple(map(measured, tallies)),
        versions={"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        command=command_line(),
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - clock, 1),
    )
    _write(evaluation, tallies, out, drawn=not isinstance(source, Photographs))
    _print(evaluation, out)
    return 0


def _corrupted(text: str) -> tuple[int, ...]:
    """Return the numbers of corrupted frames, rising, none of them first."""
    try:
        numbers = {int(part) for part in text.split(",")}
    except ValueError:
        numbers = {-1}
    if not all(0 <= number <= FRAMES for number in numbers):
        raise ConfigError(f"expected --corrupted as numbers in [0, {FRAMES}], got {text!r}")
    return tuple(sorted(numbers | {0}))


def _opened(text: str) -> Tally:
    _, _, file = text.partition(":")
    detector = open_detector(text)
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None
    return Tally(name=text, sha256=digest, detector=detector)


def _look(
    arguments: argparse.Namespace,
    source: ClipSource,
    tallies: Sequence[Tally],
    corrupted: Sequence[int],
) -> None:
    with TerminalDisplay(Console(stderr=True)) as display:
        stills = stills_of(source, count=arguments.clips, seed=arguments.seed)
        look_at_stills(
            tallies, stills, lambda done, total: display.working("single pictures", done, total)
        )
        look_at_clips(
            tallies,
            source,
            corrupted=corrupted,
            clips=arguments.clips,
            seed=arguments.seed,
            sheets=SHEETS,
            progress=lambda done, total: display.working("clips", done, total),
        )


def _write(evaluation: Evaluation, tallies: Sequence[Tally], out: Path, *, drawn: bool) -> None:
    """Write everything; sheets of drawn people into the page, of real ones beside it alone."""
    rows = [
        [
            (label_of(one), one.threshold, sheet)
            for one, sheet in zip(evaluation.detectors, sheets, strict=True)
        ]
        for sheets in zip(*(tally.sheets for tally in tallies), strict=True)
    ]
    sheets = [to_jpeg(contact_sheet(row)) for row in rows]
    out.mkdir(parents=True, exist_ok=True)
    beside = ""
    if not drawn and sheets:
        for number, sheet in enumerate(sheets, start=1):
            write_atomically(out / f"sheet-{number}.jpg", sheet)
        beside = f"sheet-1.jpg to sheet-{len(sheets)}.jpg in the same folder."
    page = render(evaluation, sheets if drawn else (), beside=beside)
    write_atomically(out / PAGE, page.encode(), mode=PUBLIC)
    RECORD.save(evaluation, out)  # last: who finds it finds all


def _print(evaluation: Evaluation, out: Path) -> None:
    for one in evaluation.detectors:
        print(f"{label_of(one):<16} AP {one.stills.sizes[0].average_precision:.3f} on stills")
        print("".join(_lines(one, evaluation.frames)), end="")
    print(f"report: {out / PAGE}")


def _lines(one: Measured, frames: int) -> list[str]:
    return [
        f"{clip.corrupted:>4} of {frames} corrupted: recall {clip.recall:.1%}"
        + ("" if clip.recall_corrupted is None else f", in those {clip.recall_corrupted:.1%}")
        + f"; {clip.false_per_picture:.3f} false alarms a frame, AP {clip.average_precision:.3f}\n"
        for clip in one.clips
    ]
