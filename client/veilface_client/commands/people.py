"""`veilface init | enrol | people | consent | forget | expire | export-person`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from veilface_client.commands.opening import (
    Asking,
    add_json,
    add_unlocking,
    home_of,
    make_token_key,
    opened,
    progress,
    provider_of,
    say,
)
from veilface_client.detectors import DETECTORS_HELP
from veilface_common.errors import ConfigError, DataError
from veilface_common.files import write_atomically

if TYPE_CHECKING:
    from veilface_client.recognition.enrolment import Consent, Enrolment

_PHOTOGRAPHS = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".pgm", ".ppm", ".tif", ".tiff")
)


def add_init(parser: argparse.ArgumentParser) -> None:
    """Add the options of `veilface init`."""
    parser.add_argument("--name", required=True, help="of the organisation")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="a model of your own, as veilface-sim writes it; else a federation's, accepted later",
    )
    parser.add_argument(
        "--detector",
        default="haar",
        metavar="KIND",
        help=f"{DETECTORS_HELP} (cropped already); default: haar",
    )
    parser.add_argument(
        "--key-file", type=Path, metavar="FILE", help="unlock with this file; made if it is missing"
    )
    parser.add_argument(
        "--pkcs11-module", type=Path, metavar="LIB", help="unlock with a key in a token"
    )
    parser.add_argument("--pkcs11-token", default="", metavar="LABEL", help="label of the token")
    parser.add_argument(
        "--pkcs11-make-key", action="store_true", help="make that key first, inside the token"
    )
    parser.add_argument(
        "--retention-days", type=int, default=1095, metavar="N", help="default: 1095"
    )
    parser.add_argument(
        "--keep-crops",
        action="store_true",
        help="keep aligned faces, sealed, so that a new model needs nobody to come again",
    )
    add_unlocking(parser)
    add_json(parser)
    parser.set_defaults(run=_init)


def add_enrol(parser: argparse.ArgumentParser) -> None:
    """Add the options of `veilface enrol`."""
    parser.add_argument(
        "person", metavar="PERSON", help="a name; or a folder with one folder for each person"
    )
    parser.add_argument("photos", nargs="*", type=Path, metavar="PHOTO")
    parser.add_argument(
        "--consent", metavar="VERSION", help="of the text that the person agreed to"
    )
    parser.add_argument(
        "--purpose", metavar="TEXT", help="default: recognition at the organisation"
    )
    parser.add_argument("--legal-basis", metavar="TEXT", help="default: explicit consent")
    parser.add_argument("--retain-until", metavar="DATE", help="YYYY-MM-DD")
    parser.add_argument(
        "--holder",
        action="store_true",
        help="templates open only with a secret that the person carries; verification alone",
    )
    parser.add_argument("--twin", action="store_true", help="somebody who looks like another one")
    parser.add_argument("--add", action="store_true", help="more photographs of somebody enrolled")
    parser.add_argument(
        "--card-file", type=Path, metavar="FILE", help="a holder's secret, for --add"
    )
    add_unlocking(parser)
    add_json(parser)
    parser.set_defaults(run=_enrol)


def add_people(parser: argparse.ArgumentParser) -> None:
    """Add the options of `veilface people`."""
    add_unlocking(parser)
    add_json(parser)
    parser.set_defaults(run=_people)


def add_consent(parser: argparse.ArgumentParser) -> None:
    """Add the options of `veilface consent`."""
    parser.add_argument("person", metavar="PERSON")
    parser.add_argument("--consent", required=True, metavar="VERSION", help="of the new text")
    parser.add_argument("--purpose", metavar="TEXT")
    parser.add_argument("--legal-basis", metavar="TEXT")
    parser.add_argument("--retain-until", metavar="DATE", help="YYYY-MM-DD")
    add_unlocking(parser)
    add_json(parser)
    parser.set_defaults(run=_consent)


def add_forget(parser: argparse.ArgumentParser) -> None:
    """Add the options of `veilface forget`."""
    parser.add_argument("person", metavar="PERSON")
    add_unlocking(parser)
    add_json(parser)
    parser.set_defaults(run=_forget)


def add_expire(parser: argparse.ArgumentParser) -> None:
    """Add the options of `veilface expire`."""
    add_unlocking(parser)
    add_json(parser)
    parser.set_defaults(run=_expire)


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the options of `veilface export-person`."""
    parser.add_argument(
        "person", metavar="PERSON", nargs="?", help="left out: everybody, which takes two people"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="made 0600")
    parser.add_argument("--card-file", type=Path, metavar="FILE", help="a holder's secret")
    add_unlocking(parser)
    parser.set_defaults(run=_export)


def card_of(path: Path | None) -> str | None:
    """Return the secret on a card, from a file."""
    from veilface_client.key_providers.private_files import read_private  # noqa: PLC0415 -- as above

    return read_private(path, "a card's secret") if path else None


def read_photo(path: Path) -> bytes:
    """Return a picture file's bytes.

    Raises:
        DataError: it cannot be read, or is larger than a photograph is.
    """
    from veilface_client.images import read_picture_file  # noqa: PLC0415 -- brings Pillow

    try:
        return read_picture_file(path)
    except DataError as error:
        raise DataError(f"{path}: {error}", hint=error.hint) from None


def _init(arguments: argparse.Namespace) -> int:
    from veilface_client.faces import open_detector  # noqa: PLC0415 -- brings OpenCV
    from veilface_client.home import KeySource, Settings, create_home  # noqa: PLC0415 -- PyTorch

    key = KeySource()
    if arguments.key_file:
        from veilface_client.key_providers.key_file import create_key_file  # noqa: PLC0415

        if not arguments.key_file.exists():
            create_key_file(arguments.key_file)
        key = KeySource(kind="key-file", path=str(arguments.key_file.resolve()))
    elif arguments.pkcs11_module:
        module = str(arguments.pkcs11_module.resolve())
        key = KeySource(kind="pkcs11", path=module, label=arguments.pkcs11_token)
        if arguments.pkcs11_make_key:
            make_token_key(arguments, key)
    open_detector(arguments.detector)
    settings = Settings(
        name=arguments.name,
        model="",
        detector=arguments.detector,
        key=key,
        retention_days=arguments.retention_days,
        keep_crops=arguments.keep_crops,
    )
    home = home_of(arguments)
    made = create_home(home, settings, arguments.model, provider_of(arguments, key, new=True))
    content = {"home": str(home), "name": made.name, "model": made.model, "key": key.kind}
    model = f"model {made.model[:16]}" if made.model else "no model yet"
    say(arguments, content, f"{made.name}: {home}, {model}, unlocked by {key.kind}")
    return 0


def _enrol(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition import enrolment  # noqa: PLC0415 -- brings PyTorch

    if arguments.add:
        with opened(arguments) as asking:
            photos = [read_photo(path) for path in arguments.photos]
            card = card_of(arguments.card_file)
            count = enrolment.add(asking.desk, asking.actor, arguments.person, photos, card)
        content = {"person": arguments.person, "templates": count}
        say(arguments, content, f"{arguments.person}: {count} templates")
        return 0
    if not arguments.consent:
        raise ConfigError(
            "expected the version of the text that the person agreed to, got none",
            hint="--consent VERSION",
        )
    if not arguments.photos:
        return _enrol_folder(arguments)
    with opened(arguments) as asking:
        done = _enrolled(asking, arguments, arguments.person, arguments.photos)
    text = f"{done.person}: {done.photographs} photographs, kept until {done.retention_date}"
    for one in done.left_out:
        text += f"\n  photograph {one.photo} was left out ({one.reason}): {one.hint}"
    if done.card:
        text += f"\nfor the person's card, shown this once: {done.card}"
    say(arguments, _content(done), text)
    return 0


def _enrol_folder(arguments: argparse.Namespace) -> int:
    """Enrol everybody in a folder; those who could not be are listed, and nobody else is harmed."""
    folder = Path(arguments.person)
    people = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not people:
        raise ConfigError(
            "expected photographs, or a folder with one folder for each person, got neither",
            hint="veilface enrol PERSON PHOTO... --consent VERSION",
        )
    done, failed = [], []
    with opened(arguments) as asking:
        for number, path in enumerate(people):
            progress("enrol", number, len(people))
            photos = sorted(p for p in path.iterdir() if p.suffix.lower() in _PHOTOGRAPHS)
            try:
                done.append(_enrolled(asking, arguments, path.name, photos))
            except (ConfigError, DataError) as error:
                failed.append({"person": path.name, "reason": str(error), "hint": error.hint or ""})
        progress("enrol", len(people), len(people))
    lines = [f"{len(done)} of {len(people)} people are enrolled"]
    lines += [f"not {one['person']}: {one['reason']}" for one in failed]
    lines += [
        f"for the card of {one.person}, shown this once: {one.card}" for one in done if one.card
    ]
    say(arguments, {"enrolled": list(map(_content, done)), "failed": failed}, "\n".join(lines))
    return DataError.exit_code if failed else 0


def _enrolled(
    asking: Asking, arguments: argparse.Namespace, name: str, photos: list[Path]
) -> Enrolment:
    from veilface_client.recognition import enrolment  # noqa: PLC0415 -- brings PyTorch

    return enrolment.enrol(
        asking.desk,
        asking.actor,
        name,
        [read_photo(path) for path in photos],
        _consent_of(arguments),
        mode="holder" if arguments.holder else "organisation",
        twin=arguments.twin,
    )


def _consent_of(arguments: argparse.Namespace) -> Consent:
    from veilface_client.recognition.enrolment import Consent  # noqa: PLC0415 -- brings PyTorch

    consent = Consent(version=arguments.consent, retention_date=arguments.retain_until)
    return Consent(
        version=consent.version,
        purpose=arguments.purpose or consent.purpose,
        legal_basis=arguments.legal_basis or consent.legal_basis,
        retention_date=consent.retention_date,
    )


def _content(done: Enrolment) -> dict[str, object]:
    content = asdict(done)
    if done.card is None:
        del content["card"]
    return content


def _people(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition import enrolment  # noqa: PLC0415 -- brings PyTorch

    with opened(arguments) as asking:
        found = enrolment.people(asking.desk, asking.actor)
    lines = [
        f"{one.person}: {one.templates} templates, {one.mode}, consent {one.consent_version}, "
        f"until {one.retention_date}, last seen {one.last_use or 'never'}"
        for one in found
    ]
    say(arguments, [asdict(one) for one in found], "\n".join(lines) or "nobody is enrolled")
    return 0


def _consent(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition import enrolment  # noqa: PLC0415 -- brings PyTorch

    with opened(arguments) as asking:
        consent = _consent_of(arguments)
        until = enrolment.change_consent(asking.desk, asking.actor, arguments.person, consent)
    content = {"person": arguments.person, "retention_date": until}
    say(arguments, content, f"{arguments.person}: kept until {until}")
    return 0


def _forget(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition import leaving  # noqa: PLC0415 -- brings PyTorch

    with opened(arguments) as asking:
        receipt = leaving.forget(asking.desk, asking.actor, arguments.person)
    text = f"forgotten: pseudonym {receipt.pseudonym}\n{receipt.holds}\n{receipt.holds_not}"
    say(arguments, leaving.receipt_to_json(receipt), text)
    return 0


def _expire(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition import leaving  # noqa: PLC0415 -- brings PyTorch

    with opened(arguments) as asking:
        receipts = leaving.expire(asking.desk, asking.actor)
    content = [leaving.receipt_to_json(receipt) for receipt in receipts]
    say(arguments, content, f"{len(receipts)} people were due and are erased")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from veilface_client.recognition import leaving  # noqa: PLC0415 -- brings PyTorch

    with opened(arguments) as asking:
        desk, actor = asking.desk, asking.actor
        content: object
        if arguments.person is None:
            content = leaving.export_all(desk, actor, asking.second)
        else:
            card = card_of(arguments.card_file)
            content = leaving.export_person(desk, actor, arguments.person, card)
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_atomically(arguments.out, text.encode())
    print(f"written: {arguments.out}")
    return 0
