"""The program `veilface-edge`: who is this, on a small machine. It imports no PyTorch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from veilface_client.edge.recogniser import Recogniser, open_recogniser
from veilface_client.images import Pixels
from veilface_client.key_providers.key_file import read_key
from veilface_client.process import keep_memory_private
from veilface_client.recognition.answers import Identification
from veilface_client.video.reading import CAMERA, open_video
from veilface_common.command import Parser, run_command
from veilface_common.errors import ConfigError, DataError


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the program."""
    parser = Parser(
        prog="veilface-edge",
        description="Who is this? A name or `unknown`, from a model and a gallery that "
        "`veilface model export` made.",
        epilog="examples:\n"
        "  veilface-edge --model m.onnx --gallery g.sealed --key-file g.key door.jpg\n"
        "  veilface-edge --model m.onnx --gallery g.sealed --key-file g.key --camera 0",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, required=True, metavar="ONNX")
    parser.add_argument("--gallery", type=Path, required=True, metavar="FILE", help="sealed")
    parser.add_argument(
        "--key-file", type=Path, required=True, metavar="FILE", help="that sealed it, mode 0600"
    )
    parser.add_argument(
        "--detector",
        default="",
        metavar="KIND",
        help="yunet:MODEL.onnx or rnn:MODEL.onnx; else the gallery's",
    )
    parser.add_argument(
        "--camera", metavar="N", help="a camera's number or a video file; until Ctrl-C"
    )
    parser.add_argument("--json", action="store_true", help="print each answer as a line of JSON")
    parser.add_argument("photos", nargs="*", type=Path, metavar="PHOTO")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; errors are one line on standard error."""
    return run_command("veilface-edge", lambda: _run(build_parser().parse_args(arguments)))


def entry() -> NoReturn:
    """Run it as a program of its own."""
    sys.exit(main())


def watch(
    frames: Iterator[Pixels], recogniser: Recogniser, show: Callable[[Identification], None]
) -> None:
    """Show who is in the pictures, each time that this changes."""
    before: str | None = ""
    for frame in frames:
        found = recogniser.identify_frame(frame)
        if found.answer != before:
            show(found)
            before = found.answer


def camera_frames(source: str) -> Iterator[Pixels]:
    """Yield a camera's or video's pictures, uint8 [H, W, 3], RGB, until it gives no more.

    Args:
        source: a camera's number, or a video file.

    Raises:
        DataError: the file cannot be read, or not to its end; the camera gave no more.
        ConfigError: there is no such camera, or nothing to read one with.
    """
    with open_video(f"{CAMERA}{source}" if source.isdecimal() else source) as video:
        for frame in video:
            yield frame.pixels
    if video.problem:
        raise DataError(f"expected pictures to the end, got: {video.problem}")


def _run(arguments: argparse.Namespace) -> int:
    if bool(arguments.photos) == bool(arguments.camera):
        raise ConfigError("expected photographs or --camera, got both or none")
    keep_memory_private()
    recogniser = open_recogniser(
        arguments.model,
        arguments.gallery,
        read_key(arguments.key_file),
        datetime.now(UTC).date(),
        arguments.detector,
    )
    if recogniser.warning and not arguments.json:
        print(f"note: {recogniser.warning}", file=sys.stderr, flush=True)
    if arguments.photos:
        for photo in arguments.photos:
            _show(arguments, recogniser.identify(photo), str(photo))
        return 0
    try:
        frames = camera_frames(arguments.camera)
        watch(frames, recogniser, lambda found: _show(arguments, found, "camera"))
    except KeyboardInterrupt:
        pass  # that is how it ends
    return 0


def _show(arguments: argparse.Namespace, found: Identification, what: str) -> None:
    if arguments.json:
        print(json.dumps({"picture": what, **asdict(found)}, ensure_ascii=False), flush=True)
        return
    word = found.answer or "unknown"
    several = len(arguments.photos) > 1
    print(f"{what}: {word}" if several else word, flush=True)
    if found.detail:
        print(f"  {found.detail}", file=sys.stderr, flush=True)
