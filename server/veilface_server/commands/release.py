"""`veilface-server release`: what a finished run gave, signed, for organisations to fetch."""

from __future__ import annotations

import argparse

from veilface_common.errors import ConfigError
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
    add_json(parser)
    parser.set_defaults(run=_release)


def _release(arguments: argparse.Namespace) -> int:
    from veilface_common.artifact import load_manifest  # noqa: PLC0415 -- brings PyTorch
    from veilface_common.typed_json import to_json  # noqa: PLC0415 -- the same
    from veilface_server.release import Ended, release_run  # noqa: PLC0415 -- the same

    home, settings = opened(arguments)
    run = _finished(home, arguments.name)
    ended = Ended(
        folder=folder_of(home, run.id),
        config=run.config,
        federation=settings.name,
        delta=run.delta or _DELTA,
        licence=arguments.licence,
    )
    folder = release_run(home.folder, ended, now().isoformat())
    found = load_manifest(folder).release
    assert found is not None
    if arguments.json:
        print_json(to_json(found))
        return 0
    print(f"release {found.sequence}: {folder}, weights {found.sha256[:16]}, run {run.id}")
    for one in found.organisations:
        cost = "nothing bounds it" if one.epsilon is None else f"epsilon {one.epsilon:.3g}"
        print(f"  {one.name}: {one.rounds} of {found.rounds} rounds, {cost}")
    return 0


def _finished(home: Home, name: str | None) -> Run:
    if name is not None:
        return load_run(home, name)
    finished = [run for run in load_runs(home) if run.state == "finished"]
    if not finished:
        raise ConfigError(
            "expected a run that has finished, got none", hint="veilface-server status"
        )
    return finished[-1]
