"""`veilface hide`: faces of everybody who is not meant to be seen, made unknowable."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from veilface_client.commands.opening import add_json, add_unlocking, opened, progress, say
from veilface_client.detectors import DETECTORS_HELP
from veilface_client.folders import printable
from veilface_common.command import one_line
from veilface_common.errors import ConfigError, DataError

if TYPE_CHECKING:  # they bring OpenCV, FFmpeg and PyTorch with them
    from veilface_client.detectors.detection import Detector
    from veilface_client.hiding.files import Done, Means
    from veilface_client.hiding.films import People

_HOWS = ("pixelate", "blur", "drawn")


@dataclass(kw_only=True)
class _Report:
    """What became of each file."""

    written: list[dict[str, object]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)
    is_whole: bool = True

    def lines(self) -> str:
        told = [
            f"written: {one['out']}: {one['hidden']} hidden, {one['shown']} shown"
            + (f" ({one['note']})" if one["note"] else "")
            for one in self.written
        ]
        told += [f"NOT WRITTEN: {one['source']}: {one['why']}" for one in self.failed]
        told += [f"left out: {one['source']}: {one['why']}" for one in self.left_out]
        return "\n".join(told)


def add_hide(parser: argparse.ArgumentParser) -> None:
    """Add the options of `veilface hide`."""
    parser.add_argument("source", type=Path, metavar="PHOTO|VIDEO|FOLDER")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="PATH", help="a file or folder that is not there"
    )
    parser.add_argument(
        "--how", choices=_HOWS, default="pixelate", help="what is shown instead; default: pixelate"
    )
    who = parser.add_mutually_exclusive_group()
    who.add_argument(
        "--except", dest="kept", nargs="+", metavar="NAME", help="hide everybody but these"
    )
    who.add_argument("--only", nargs="+", metavar="NAME", help="hide these, and who may be one")
    parser.add_argument(
        "--detector",
        dest="detectors",
        action="append",
        metavar="KIND",
        help=f"{DETECTORS_HELP}; given twice, a face is what either finds; default: haar, or the "
        "organisation's",
    )
    add_unlocking(parser)
    add_json(parser)
    parser.set_defaults(run=_hide)


def _hide(arguments: argparse.Namespace) -> int:
    from veilface_client.hiding.files import (  # noqa: PLC0415 -- brings OpenCV
        list_media,
        target_name,
        verify_target,
    )

    source, out = arguments.source, arguments.out
    _verify_out(source, out)
    report = _Report()
    if source.is_dir():
        media = list_media(source)
        pairs = [(path, path.with_name(target_name(path.name))) for path in media.files]
        _verify_apart(pairs)
        report.left_out = [{"source": _name(path), "why": why} for path, why in media.left_out]
    else:
        verify_target(source, out)
        pairs = [(Path(), Path())]
    with _means(arguments) as means:
        for path, target in pairs:
            _hide_one(source / path, out / target, means, report)
    if not source.is_dir() and report.failed:  # one file: an error like any other
        raise DataError(report.failed[0]["why"], hint=report.failed[0]["hint"] or None)
    say(arguments, asdict(report), report.lines())
    return DataError.exit_code if report.failed or not report.is_whole else 0


def _hide_one(source: Path, target: Path, means: Means, report: _Report) -> None:
    from veilface_client.hiding.files import hide_file  # noqa: PLC0415 -- brings OpenCV

    def told(seconds: float, length: float) -> None:
        if length >= 1:
            progress(one_line(source.name), min(int(seconds), int(length) - 1), int(length))

    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        done: Done = hide_file(source, target, means, told)
    except DataError as error:
        entry = {"source": _name(source), "why": one_line(str(error)), "hint": error.hint or ""}
        report.failed.append(entry)
        return
    report.written.append(
        {"source": _name(source), "out": _name(target), "kind": done.kind}
        | {"hidden": done.hidden, "shown": done.shown, "note": done.note}
    )
    report.is_whole = report.is_whole and done.is_whole


def _name(path: Path) -> str:
    return printable(str(path))


def _verify_out(source: Path, out: Path) -> None:
    """Do nothing if `out` can be written without touching the source or anything else."""
    if not source.exists():
        raise DataError("expected a photograph, a video or a folder, got nothing there")
    is_empty_folder = out.is_dir() and not any(out.iterdir())
    if out.is_symlink() or (out.exists() and not (source.is_dir() and is_empty_folder)):
        raise ConfigError(f"expected {out} not to be there yet", hint="name another --out")
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise ConfigError("expected --out outside of the folder, got one inside")
    if not out.parent.is_dir():
        raise ConfigError(f"expected the folder {out.parent} to be there, got none")


def _verify_apart(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Do nothing if no two files would be written to one place, such as a.mov and a.mov.mp4."""
    targets = [target for _, target in pairs]
    twice = sorted({str(target) for target in targets if targets.count(target) > 1})
    if twice:
        raise ConfigError(f"expected names that differ, got two files for {twice[0]}")


@contextmanager
def _means(arguments: argparse.Namespace) -> Iterator[Means]:
    """Hold what faces are found, told apart and hidden with."""
    from veilface_client.faces import open_detector  # noqa: PLC0415 -- brings OpenCV
    from veilface_client.hiding.files import Means  # noqa: PLC0415 -- the same

    detectors: list[Detector] = [open_detector(text) for text in arguments.detectors or ()]
    secret = random.SystemRandom()
    if not (arguments.kept or arguments.only):
        yield Means(
            detectors=detectors or [open_detector("haar")], how=arguments.how, secret=secret
        )
        return
    with _people(arguments) as (own, people):
        # The organisation's own finds them too: whom it does not see, it cannot keep.
        yield Means(detectors=[own, *detectors], how=arguments.how, secret=secret, people=people)


@contextmanager
def _people(arguments: argparse.Namespace) -> Iterator[tuple[Detector, People]]:
    from veilface_client.hiding import judging  # noqa: PLC0415 -- brings PyTorch
    from veilface_client.hiding.films import People  # noqa: PLC0415 -- the same
    from veilface_client.video import desks  # noqa: PLC0415 -- the same

    with opened(arguments) as asking:
        desk, actor = asking.desk, asking.actor
        if arguments.kept:
            naming = desks.answering_of(desk, actor, _note)
            judge = judging.keeping(desk, naming, arguments.kept)
        else:
            _note("whom the model does not know again stays visible; --except errs the other way")
            judge = judging.hiding(desk, actor, arguments.only, _note)
        look = desks.looker_of(desk).look
        yield desk.detector, People(look=look, judge=judge, linking=desks.linking_of(desk))


def _note(text: str) -> None:
    print(f"note: {one_line(text)}", file=sys.stderr, flush=True)
