"""`veilface verify | identify | explain | calibrate`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from veilface_client.commands.opening import add_json, add_unlocking, opened, progress, say
from veilface_client.commands.people import card_of, read_photo
from veilface_common.files import write_atomically


def add_verify(parser: argparse.ArgumentParser) -> None:
    """Add the options of `veilface verify`."""
    parser.add_argument("person", metavar="PERSON")
    parser.add_argument("photo", type=Path, metavar="PHOTO")
    parser.add_argument("--card-file", type=Path, metavar="FILE", help="a holder's secret")
    add_unlocking(parser)
    add_json(parser)
    parser.set_defaults(run=_verify)


def add_identify(parser: argparse.ArgumentParser) -> None:
    """Add the options of `veilface identify`."""
    parser.add_argument("photo", type=Path, metavar="PHOTO")
    add_unlocking(parser)
    add_json(parser)
    parser.set_defaults(run=_identify)


def add_explain(parser: argparse.ArgumentParser) -> None:
    """Add the options of `veilface explain`."""
    parser.add_argument("person", metavar="PERSON")
    parser.add_argument("photo", type=Path, metavar="PHOTO")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a picture (.png)")
    parser.add_argument("--card-file", type=Path, metavar="FILE", help="a holder's secret")
    add_unlocking(parser)
    parser.set_defaults(run=_explain)


def add_calibrate(parser: argparse.ArgumentParser) -> None:
    """Add the options of `veilface calibrate`."""
    parser.add_argument(
        "question", choices=("verify", "identify"), help="whose threshold is chosen"
    )
    parser.add_argument(
        "--rate", type=float, default=0.01, metavar="R", help="of false answers; default: 0.01"
    )
    parser.add_argument(
        "--impostors",
        metavar="SOURCE",
        help="people who are not enrolled, such as folder:PATH; one photograph of each is taken",
    )
    add_unlocking(parser)
    add_json(parser)
    parser.set_defaults(run=_calibrate)


def _verify(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition import matching  # noqa: PLC0415 -- brings PyTorch

    with opened(arguments) as asking:
        photo, card = read_photo(arguments.photo), card_of(arguments.card_file)
        answer = matching.verify(asking.desk, asking.actor, arguments.person, photo, card)
    word = f"yes ({answer.band})" if answer.match else "no"
    say(arguments, asdict(answer), _told(word, answer.reason, answer.detail, answer.warning))
    return 0


def _identify(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition import matching  # noqa: PLC0415 -- brings PyTorch

    with opened(arguments) as asking:
        answer = matching.identify(asking.desk, asking.actor, read_photo(arguments.photo))
    word = answer.answer or "unknown"
    say(arguments, asdict(answer), _told(word, answer.reason, answer.detail, answer.warning))
    return 0


def _told(word: str, reason: str, detail: str, warning: str) -> str:
    lines = [f"{word}: {reason}", detail and f"  {detail}", warning and f"  note: {warning}"]
    return "\n".join(line for line in lines if line)


def _explain(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition.explaining import explain  # noqa: PLC0415 -- brings PyTorch

    with opened(arguments) as asking:
        photo, card = read_photo(arguments.photo), card_of(arguments.card_file)
        picture = explain(asking.desk, asking.actor, arguments.person, photo, card)
    write_atomically(arguments.out, picture)
    print(f"written: {arguments.out} (an aid for people, not a proof)")
    return 0


def _calibrate(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition import upkeep  # noqa: PLC0415 -- brings PyTorch
    from veilface_client.sources import open_source  # noqa: PLC0415 -- brings Pillow

    strangers = open_source(arguments.impostors) if arguments.impostors else None
    with opened(arguments) as asking:
        found = upkeep.calibrate(
            asking.desk,
            asking.actor,
            arguments.question,
            arguments.rate,
            strangers=strangers,
            second=asking.second,
            progress=progress,
        )
    text = (
        f"{found.question}: {found.rate:.3g} false answers expected (95%: {found.low:.2g} to "
        f"{found.high:.2g}), from {found.strangers} people"
    )
    if found.left_out:
        text += f"; {found.left_out} more showed no usable face"
    say(arguments, asdict(found), text + (f"\n  note: {found.warning}" if found.warning else ""))
    return 0
