"""Every arm of an experiment trained to its end, side by side where the machine has the cores.

Arms of one organisation (local, pooled) have one thread of work each and run in process; several of
them train at once. Federated arms then have the machine to themselves, under the engine asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from queue import Empty, SimpleQueue

from veilface_common.config import PrivacyConfig, RunConfig
from veilface_server.checkpoint import load_records
from veilface_server.evaluation import load_evaluation
from veilface_simulations.experiment import Engine, Experiment
from veilface_simulations.flower import run_with_flower
from veilface_simulations.inprocess import run_in_process
from veilface_simulations.world import Federation

Watch = Callable[[Federation, int], None]  # (arm, rounds done)
_GLANCE_SECONDS = 0.5
_TOGETHER = ("federated", "plain")


def train_arms(experiment: Experiment, federations: Sequence[Federation], watch: Watch) -> None:
    """Train every arm that has not reached its last round; each resumes where it was.

    Raises:
        VeilfaceError: an arm cannot go on; the others are left where they are, on disk.
    """
    with _watching(federations, watch):
        alone = [f for f in federations if f.arm not in _TOGETHER]
        # The longest first: the pooled arm has as much to do as all local ones together.
        alone.sort(key=lambda f: -sum(map(len, f.members.values())))
        _in_threads(experiment, alone)
        for federation in federations:
            if federation.arm in _TOGETHER:
                _train(experiment, federation, experiment.engine, experiment.workers)


def rounds_done(federation: Federation) -> int:
    """Return how many rounds an arm has finished."""
    records = load_records(federation.server)
    return records[-1].round if records else 0


def arm_config(experiment: Experiment, federation: Federation) -> RunConfig:
    """Return the settings of an arm.

    One that trains alone has nobody to weigh or to wait for. A private one has its own number of
    rounds, and takes updates as they are: momentum would pile up noise.
    """
    if federation.arm == "federated":
        return _private(experiment.config) if experiment.is_private else experiment.config
    openly = replace(experiment.config, privacy=PrivacyConfig())
    if federation.arm == "plain":
        return openly
    return replace(
        openly,
        federation=replace(
            experiment.config.federation,
            strategy="fedavg",
            server_learning_rate=1.0,
            fraction=1.0,
            min_replies=1,
            weights="",
        ),
    )


def _private(config: RunConfig) -> RunConfig:
    plan = replace(
        config.federation,
        rounds=config.privacy.rounds or config.federation.rounds,
        strategy="fedavg",
        server_learning_rate=1.0,
    )
    return replace(config, federation=plan)


def _train(experiment: Experiment, federation: Federation, engine: Engine, workers: int) -> None:
    config = arm_config(experiment, federation)
    if rounds_done(federation) >= config.federation.rounds and not _lacks_figures(
        federation, config
    ):
        return
    if engine == "flower":
        work = federation.folder / "flower"
        run_with_flower(config, federation.organisations, federation.server, workers, work)
    else:
        folders = {name: federation.organisations / name for name in federation.members}
        run_in_process(config, folders, federation.server, workers)


def _lacks_figures(federation: Federation, config: RunConfig) -> bool:
    return config.privacy.releases_figures and load_evaluation(federation.server) is None


def _in_threads(experiment: Experiment, federations: Sequence[Federation]) -> None:
    waiting: SimpleQueue[Federation] = SimpleQueue()
    for federation in federations:
        waiting.put(federation)
    failures: list[BaseException] = []
    ended: SimpleQueue[None] = SimpleQueue()

    def work() -> None:
        try:
            while not failures:
                _train(experiment, waiting.get_nowait(), "inprocess", 1)
        except Empty:
            pass
        except BaseException as error:  # noqa: BLE001 -- raised again where Ctrl-C arrives
            failures.append(error)
        finally:
            ended.put(None)

    count = min(experiment.workers, len(federations))
    for _ in range(count):
        threading.Thread(target=work, daemon=True).start()
    for _ in range(count):
        ended.get()
    if failures:
        raise failures[0]


@contextmanager
def _watching(federations: Sequence[Federation], watch: Watch) -> Iterator[None]:
    """Tell `watch` of finished rounds, read from the coordinators' folders."""
    stop = threading.Event()

    def glance() -> None:
        for federation in federations:
            watch(federation, rounds_done(federation))

    def look() -> None:
        while not stop.wait(_GLANCE_SECONDS):
            glance()

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        glance()
