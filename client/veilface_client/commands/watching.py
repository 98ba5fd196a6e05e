"""`veilface watch`: who is in a video, from when to when."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from veilface_client.commands.opening import Asking, add_unlocking, opened, progress
from veilface_client.video.on_match import DEBOUNCE_SECONDS, OnMatch
from veilface_common.command import one_line, plain
from veilface_common.errors import ConfigError, DataError
from veilface_common.files import write_atomically

if TYPE_CHECKING:  # they bring PyTorch and FFmpeg with them, which takes seconds
    from veilface_client.video.reading import Frame, Video
    from veilface_client.video.watching import Watcher
    from veilface_client.video.writing import VideoWriter

_RATE = 10.0  # frames a second that are looked at
_INTERRUPTED = 130  # as a shell says it: 128 and the signal


def add_watch(parser: argparse.ArgumentParser) -> None:
    """Add the options of `veilface watch`."""
    parser.add_argument("source", metavar="FILE|camera:N", help="a video, or a camera's number")
    parser.add_argument(
        "--detector", default="", metavar="KIND", help="what finds faces; else the organisation's"
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=_RATE,
        metavar="R",
        help=f"look at no more frames a second; 0: at all; default: {_RATE:g}",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="look at each Nth frame")
    parser.add_argument(
        "--contact-sheet", type=Path, metavar="PNG", help="write some faces of everybody"
    )
    parser.add_argument("--overlay", type=Path, metavar="MP4", help="write the video with names")
    parser.add_argument(
        "--on-match",
        metavar="COMMAND",
        help="run it when somebody is named, with VEILFACE_NAME and VEILFACE_SECONDS set; "
        "a photograph of them held before the camera is enough",
    )
    parser.add_argument(
        "--debounce",
        type=float,
        default=DEBOUNCE_SECONDS,
        metavar="SECONDS",
        help=f"run it again for those who were away so long; default: {DEBOUNCE_SECONDS:g}",
    )
    add_unlocking(parser)
    parser.add_argument("--json", action="store_true", help="print what happens as lines of JSON")
    parser.set_defaults(run=_watch)


def _watch(arguments: argparse.Namespace) -> int:
    from veilface_client.video.picturing import ContactSheet  # noqa: PLC0415 -- brings Pillow
    from veilface_client.video.reading import open_video  # noqa: PLC0415 -- brings FFmpeg
    from veilface_client.video.telling import Telling, first_line  # noqa: PLC0415 -- the same

    telling = Telling(say=_say, as_json=arguments.json, on_match=_on_match(arguments))
    with ExitStack() as stack:
        watcher, warning = _watcher(stack.enter_context(opened(arguments)), arguments)
        video = stack.enter_context(open_video(arguments.source))
        if arguments.contact_sheet:
            telling.sheet = ContactSheet()
        if arguments.overlay:
            telling.overlay = stack.enter_context(_writer(arguments, video))
        is_over = stack.enter_context(_stopping())
        if warning:
            _note(warning)
        telling.begin(first_line(arguments.source, video, datetime.now(UTC), warning))
        for frame in _frames(video, arguments, is_over):
            telling.show(frame, *watcher.step(frame))
            _progress(frame.seconds, video.seconds)
            if is_over.is_set():
                break
        telling.end(watcher.finish(), video.problem)
        if telling.sheet:
            write_atomically(arguments.contact_sheet, telling.sheet.picture())
    if video.problem:
        raise DataError(f"expected a whole video, got a damaged one: {video.problem}")
    return _INTERRUPTED if is_over.is_set() and video.seconds is not None else 0


def _writer(arguments: argparse.Namespace, video: Video) -> VideoWriter:
    from veilface_client.video.writing import VideoWriter  # noqa: PLC0415 -- brings FFmpeg

    rate = video.rate / arguments.every
    rate = min(rate, arguments.rate) if arguments.rate else rate
    return VideoWriter(arguments.overlay, width=video.width, height=video.height, rate=rate)


def _progress(seconds: float, length: float | None) -> None:
    if length is not None and length >= 1:
        progress("watch", min(int(seconds), int(length) - 1), int(length))


def _watcher(asking: Asking, arguments: argparse.Namespace) -> tuple[Watcher, str]:
    """Return what watches, and what must be known of the threshold."""
    from veilface_client.detectors.detection import stream_of  # noqa: PLC0415 -- brings NumPy
    from veilface_client.faces import open_detector  # noqa: PLC0415 -- brings OpenCV
    from veilface_client.video.desks import (  # noqa: PLC0415 -- brings PyTorch
        linking_of,
        looker_of,
        naming_of,
        warning_of,
    )
    from veilface_client.video.watching import Watcher  # noqa: PLC0415 -- the same

    desk = asking.desk
    desk.verify_may(asking.actor, "identify")
    detector = open_detector(arguments.detector) if arguments.detector else desk.detector
    watcher = Watcher(
        stream_of(detector),
        looker_of(desk, keep_pixels=arguments.contact_sheet is not None).look,
        naming_of(desk, asking.actor, _note),
        linking_of(desk),
    )
    return watcher, warning_of(desk, detector.name)


def _on_match(arguments: argparse.Namespace) -> OnMatch | None:
    if arguments.on_match is None:
        return None
    try:
        command = shlex.split(arguments.on_match)
    except ValueError as error:
        raise ConfigError(f"expected a command for --on-match, got one with {error}") from None
    return OnMatch(command=command, tell=_note, debounce_seconds=arguments.debounce)


def _frames(
    video: Video, arguments: argparse.Namespace, is_over: threading.Event
) -> Iterator[Frame]:
    """Yield the frames that are looked at."""
    from veilface_client.video.reading import CAMERA  # noqa: PLC0415 -- brings FFmpeg
    from veilface_client.video.sampling import newest, sampled  # noqa: PLC0415 -- the same

    is_camera = arguments.source.startswith(CAMERA)
    frames = newest(video, is_over.is_set) if is_camera else video
    return sampled(frames, rate=arguments.rate, every=arguments.every)


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Hold what is set by the first Ctrl-C or SIGTERM; a second Ctrl-C ends at once."""
    is_over = threading.Event()
    before = {int(one): signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _frame: object) -> None:
        is_over.set()
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, stop)
    try:
        yield is_over
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _note(text: str) -> None:
    _clear()
    print(f"note: {one_line(text)}", file=sys.stderr, flush=True)


def _say(line: str) -> None:
    _clear()
    print(plain(line), flush=True)


def _clear() -> None:
    """Take the line away that says how far it is."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
