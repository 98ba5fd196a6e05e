"""From a file to a file: what is read, what is written in its place, and what is left out.

Nothing but pixels goes from one to the other: no EXIF with its thumbnail, which may show the face,
no place, no sound, in which voices identify. Names of files stay.
"""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from veilface_client.detectors.detection import Detection, Detector
from veilface_client.hiding.covering import How
from veilface_client.hiding.films import FilmHider, People
from veilface_client.hiding.finding import find_all
from veilface_client.hiding.photographs import hide_photograph
from veilface_client.images import SUFFIXES as PHOTOGRAPHS
from veilface_client.images import Pixels, read_photograph
from veilface_client.video.reading import SUFFIXES as VIDEOS
from veilface_client.video.reading import open_video
from veilface_client.video.writing import VideoWriter
from veilface_common.errors import ConfigError
from veilface_common.files import write_atomically

Kind = Literal["photograph", "video"]
_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
_QUALITY = 92  # of JPEG and WebP
_VIDEO = ".mp4"
NO_FACE = "no face was found: look at it before you pass it on"
_LATE = "{} heads were found by the second look alone: look at it before you pass it on"


@dataclass(frozen=True, kw_only=True)
class Means:
    """What faces are found and hidden with."""

    detectors: Sequence[Detector]
    how: How
    secret: random.Random
    people: People | None = None  # None: nobody stays visible


@dataclass(frozen=True, kw_only=True)
class Done:
    """A file that was written."""

    kind: Kind
    hidden: int  # heads of a photograph; of a video, tracks
    shown: int  # faces that stay, or tracks that do somewhere
    note: str = ""  # what the user should know of it
    is_whole: bool = True  # False: some of a video was not readable


@dataclass(frozen=True, kw_only=True)
class Media:
    """What lies in a folder, by paths under it."""

    files: tuple[Path, ...]
    left_out: tuple[tuple[Path, str], ...]  # and why


def kind_of(path: Path) -> Kind | None:
    """Return what a file is by its name's end; None: neither."""
    suffix = path.suffix.lower()
    if suffix in PHOTOGRAPHS:
        return "photograph"
    return "video" if suffix in VIDEOS else None


def target_name(name: str) -> str:
    """Return the name of what is written for a file: its own, unless its kind is not written."""
    suffix = Path(name).suffix.lower()
    if suffix in _FORMATS or suffix == _VIDEO:
        return name
    return name + (".png" if kind_of(Path(name)) == "photograph" else _VIDEO)


def verify_target(source: Path, target: Path) -> None:
    """Do nothing if a file of this name can be written for the source.

    Raises:
        ConfigError: its kind is not read, or the target's is not written.
    """
    kind = kind_of(source)
    if kind is None:
        known = " ".join(sorted(PHOTOGRAPHS | VIDEOS))
        raise ConfigError(
            f"expected a photograph or a video, got a file named *{source.suffix}", hint=known
        )
    expected = tuple(_FORMATS) if kind == "photograph" else (_VIDEO,)
    if target.suffix.lower() not in expected:
        raise ConfigError(
            f"expected a name that ends in {', '.join(expected)} for a {kind}, got *{target.suffix}"
        )


def list_media(folder: Path) -> Media:
    """Return what is in a folder and below. Links are left out: they may lead out of it."""
    files: list[Path] = []
    left_out: list[tuple[Path, str]] = []
    pending = [Path()]
    while pending:
        below = pending.pop()
        try:
            with os.scandir(folder / below) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError:
            left_out.append((below, "a folder that cannot be opened"))
            continue
        for entry in entries:
            path = below / entry.name
            if entry.is_symlink():
                left_out.append((path, "a link"))
            elif entry.is_dir(follow_symlinks=False):
                pending.append(path)
            elif not entry.is_file(follow_symlinks=False) or kind_of(path) is None:
                left_out.append((path, "neither a photograph nor a video"))
            else:
                files.append(path)
    return Media(files=tuple(sorted(files)), left_out=tuple(sorted(left_out)))


def hide_file(
    source: Path, target: Path, means: Means, progress: Callable[[float, float], None]
) -> Done:
    """Write the source with its heads hidden to the target, which is whole or absent.

    Args:
        source: a photograph or a video.
        target: of a kind that `verify_target` lets through; replaced if it is there.
        means: what faces are found and hidden with.
        progress: is told how many of how many seconds of a video are done.

    Raises:
        DataError: the source cannot be read.
        FaceNotHidden: a face of it cannot be hidden.
        OSError: the target cannot be written.
    """
    if kind_of(source) == "video":
        return _hide_video(source, target, means, progress)
    picture = read_photograph(Path(os.path.realpath(source)))
    stays = _stays(means.people) if means.people else None
    hidden = hide_photograph(
        picture, lambda seen: find_all(seen, means.detectors), stays, means.how, means.secret
    )
    write_atomically(target, encode(hidden.pixels, target.suffix))
    note = "" if hidden.hidden + hidden.shown else NO_FACE
    return Done(kind="photograph", hidden=hidden.hidden, shown=hidden.shown, note=note)


def encode(pixels: Pixels, suffix: str) -> bytes:
    """Return a picture file, named with this suffix, that holds these pixels and nothing else."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, _FORMATS[suffix.lower()], quality=_QUALITY)
    return buffer.getvalue()


def _stays(people: People) -> Callable[[Pixels, Detection], bool]:
    def stays(picture: Pixels, face: Detection) -> bool:
        look = people.look(picture, face)
        return look.embedding is not None and people.judge((look.embedding,), None)

    return stays


def _hide_video(
    source: Path, target: Path, means: Means, progress: Callable[[float, float], None]
) -> Done:
    hider = FilmHider(means.detectors, means.how, means.secret, means.people)
    with (
        open_video(str(source)) as video,
        VideoWriter(target, width=video.width, height=video.height, rate=video.rate) as writer,
    ):
        for frame in video:
            for hidden in hider.step(frame):
                writer.add(hidden)
            if video.seconds:
                progress(frame.seconds, video.seconds)
        for hidden in hider.finish():
            writer.add(hidden)
    notes = [video.problem]
    if not hider.hidden | hider.shown:
        notes.append(NO_FACE)
    if hider.strays:
        notes.append(_LATE.format(hider.strays))
    return Done(
        kind="video",
        hidden=len(hider.hidden),
        shown=len(hider.shown),
        note="; ".join(filter(None, notes)),
        is_whole=not video.problem,
    )
