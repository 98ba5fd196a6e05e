"""`veilface model export`: a model, and with it a gallery, for a machine without PyTorch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from veilface_client.commands.opening import Asking, add_json, add_unlocking, opened, say
from veilface_common.errors import ConfigError
from veilface_common.files import PUBLIC, write_atomically

if TYPE_CHECKING:  # it brings PyTorch with it, which takes seconds
    from veilface_client.edge.export import Exported
    from veilface_client.recognition.edge_acts import SealedGallery


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the options of `veilface model export`."""
    parser.add_argument("--onnx", type=Path, required=True, metavar="FILE", help="to write")
    parser.add_argument("--int8", action="store_true", help="a quarter of the size, twice as fast")
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="this model instead of the one in use"
    )
    parser.add_argument(
        "--gallery",
        type=Path,
        metavar="FILE",
        help="also everybody who may be identified, sealed for that file; it takes two people",
    )
    parser.add_argument(
        "--gallery-key", type=Path, metavar="FILE", help="that seals it; made if it is missing"
    )
    parser.add_argument(
        "--days", type=int, default=7, metavar="N", help="for which it answers; default: 7"
    )
    add_unlocking(parser)
    add_json(parser)
    parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> int:
    if bool(arguments.gallery) != bool(arguments.gallery_key):
        raise ConfigError("expected a gallery and its key, got one of the two")
    if arguments.model:
        if arguments.gallery:
            raise ConfigError(
                "expected the model in use for a gallery, got another",
                hint="leave --model out: templates of two models cannot be compared",
            )
        _tell(arguments, _of_folder(arguments), None)
        return 0
    with opened(arguments) as asking:
        made, gallery = _of_home(arguments, asking)
    _tell(arguments, made, gallery)
    return 0


def _of_folder(arguments: argparse.Namespace) -> Exported:
    import torch  # noqa: PLC0415 -- takes seconds

    from veilface_client.edge.export import export, load_released  # noqa: PLC0415 -- the same

    torch.set_num_threads(1)
    made = export(load_released(arguments.model), "int8" if arguments.int8 else "fp32")
    write_atomically(arguments.onnx, made.content, mode=PUBLIC)
    return made


def _of_home(
    arguments: argparse.Namespace, asking: Asking
) -> tuple[Exported, SealedGallery | None]:
    from veilface_client.key_providers.key_file import create_key_file, read_key  # noqa: PLC0415 -- seldom
    from veilface_client.recognition import edge_acts  # noqa: PLC0415 -- brings PyTorch

    made = edge_acts.export_model(
        asking.desk,
        asking.actor,
        "int8" if arguments.int8 else "fp32",
        with_gallery=bool(arguments.gallery),
        second=asking.second,
    )
    gallery = None
    if arguments.gallery:
        if not arguments.gallery_key.exists():
            create_key_file(arguments.gallery_key)
        gallery = edge_acts.export_gallery(
            asking.desk,
            asking.actor,
            asking.second,
            model=made.digest,
            key=read_key(arguments.gallery_key),
            days=arguments.days,
        )
        write_atomically(arguments.gallery, gallery.content)
    write_atomically(arguments.onnx, made.content, mode=PUBLIC)
    return made, gallery


def _tell(arguments: argparse.Namespace, made: Exported, gallery: SealedGallery | None) -> None:
    content: dict[str, object] = {
        "onnx": str(arguments.onnx),
        "sha256": made.digest,
        "precision": made.precision,
        "bytes": len(made.content),
        "off": made.off,
    }
    text = (
        f"{arguments.onnx}: {made.precision}, {len(made.content):,} bytes, at most {made.off:.1g} "
        "from PyTorch's templates in cosine"
    )
    if gallery:
        content |= {
            "gallery": str(arguments.gallery),
            "people": gallery.people,
            "expires": gallery.expires,
        }
        text += (
            f"\n{arguments.gallery}: {gallery.people} people, until {gallery.expires}; opens with "
            f"{arguments.gallery_key}\n  whoever is forgotten here is known there until then: "
            "replace it at once"
        )
    say(arguments, content, text)
