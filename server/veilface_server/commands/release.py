"""`veilface-server release`: what a finished run gave, signed, for organisations to fetch."""

from __future__ import annotations

import argparse
from pathlib import Path

from veilface_common.errors import ConfigError
from veilface_common.robustness_table import in_one_line, read_table
from veilface_server.commands.opening import add_json, now, opened, print_json
from veilface_server.home import Home
from veilface_server.runs import Run, folder_of, load_run, load_runs

_MEMBERS_ONLY = "for the members of the federation"
_DELTA = 1e-5  # of a run without privacy, where it says nothing


def add_release(parser: argparse.ArgumentParser) -> None:
    """Add the options of `veilface-server release`."""
    parser.add_argument("name", nargs="?", metavar="RUN", help="default: the newest finished")
    parser.add_argument(
        "--licence",
        default=_MEMBERS_ONLY,
        metavar="L",
        help=f"under which the model is released; default: {_MEMBERS_ONLY!r}",
    )
    parser.add_argument(
        "--robustness",
        type=Path,
        metavar="FILE",
        help="robustness.json of these weights, for the manifest",
    )
    parser.add_argument(
        "--draft",
        type=Path,
        metavar="DIR",
        help="write the model there, unsigned, to measure it; nothing is released",
    )
    add_json(parser)
    parser.set_defaults(run=_release)


def _release(arguments: argparse.Namespace) -> int:
    from veilface_server.release import Ended, draft_of, release_run  # noqa: PLC0415 -- PyTorch

    if arguments.draft and arguments.robustness:
        raise ConfigError(
            "expected --draft or --robustness, got both",
            hint="a draft is what robustness is measured of",
        )
    home, settings = opened(arguments)
    run = _finished(home, arguments.name)
    ended = Ended(
        folder=folder_of(home, run.id),
        config=run.config,
        federation=settings.name,
        delta=run.delta or _DELTA,
        licence=arguments.licence,
        robustness=arguments.robustness and read_table(arguments.robustness),
    )
    if arguments.draft:
        _tell_draft(arguments, run, draft_of(ended, arguments.draft))
    else:
        _tell(arguments, run, release_run(home.folder, ended, now().isoformat()))
    return 0


def _tell_draft(arguments: argparse.Namespace, run: Run, digest: str) -> None:
    if arguments.json:
        print_json({"draft": str(arguments.draft), "sha256": digest, "run": run.id})
    else:
        print(f"{arguments.draft}: weights {digest[:16]}, run {run.id}; nobody signs them")


def _tell(arguments: argparse.Namespace, run: Run, folder: Path) -> None:
    from veilface_common.artifact import load_manifest  # noqa: PLC0415 -- brings PyTorch
    from veilface_common.typed_json import to_json  # noqa: PLC0415 -- the same

    found = load_manifest(folder).release
    assert found is not None
    if arguments.json:
        print_json(to_json(found))
        return
    print(f"release {found.sequence}: {folder}, weights {found.sha256[:16]}, run {run.id}")
    for one in found.organisations:
        cost = "nothing bounds it" if one.epsilon is None else f"epsilon {one.epsilon:.3g}"
        print(f"  {one.name}: {one.rounds} of {found.rounds} rounds, {cost}")
    print(f"  robustness: {in_one_line(found.robustness)}")


def _finished(home: Home, name: str | None) -> Run:
    if name is not None:
        return load_run(home, name)
    finished = [run for run in load_runs(home) if run.state == "finished"]
    if not finished:
        raise ConfigError(
            "expected a run that has finished, got none", hint="veilface-server status"
        )
    return finished[-1]
