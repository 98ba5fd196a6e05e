"""The local loop: it learns, repeats bit for bit, and says when it cannot go on."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional

from veilface_client.head import CosineMarginHead
from veilface_client.training import (
    TrainingDiverged,
    TrainingSummary,
    choose_device,
    choose_precision,
    embed,
    train,
    trainable_people,
)
from veilface_client.transform import Augmentation
from veilface_common.config import (
    UNVARIED,
    AugmentationConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
)
from veilface_common.errors import ConfigError
from veilface_common.models import build

PEOPLE, PHOTOS = 4, 5
CONFIG = RunConfig(
    device="cpu",
    precision="fp32",
    model=ModelConfig(dimension=32),
    training=TrainingConfig(optimizer="adamw", batch_size=8, local_epochs=2.0),
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def faces() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return people who are a coarse pattern each, and photographs that are noise upon it."""
    random = np.random.default_rng(3)
    patterns = random.integers(40, 215, (PEOPLE, 1, 3, 5, 5)).repeat(16, 3).repeat(16, 4)
    noise = random.integers(-25, 26, (PEOPLE, PHOTOS, 3, 80, 80))
    images = (patterns + noise).astype(np.uint8).reshape(-1, 3, 80, 80)
    return images, np.arange(PEOPLE).repeat(PHOTOS)


def new_head(people: int = PEOPLE) -> CosineMarginHead:
    return CosineMarginHead(CONFIG.head, people, 32, Generator().manual_seed(2))


def trained(
    config: RunConfig = CONFIG, *, learning_rate: float = 1e-3, seed: int = 7
) -> tuple[nn.Module, CosineMarginHead, TrainingSummary]:
    network, head = build(config.model, seed=1), new_head()
    images, labels = faces()
    summary = train(network, head, images, labels, config, learning_rate=learning_rate, seed=seed)
    return network, head, summary


def bits(network: nn.Module) -> Tensor:
    return torch.cat([value.flatten() for value in network.state_dict().values()])


def test_training_learns_a_few_people_by_heart() -> None:
    """After some rounds every face is nearest to its own person's row, by much more than at first.

    Without augmentation the loss goes from above 1 (a margin of 0.2, and scale 16) to nearly none.
    """
    images, labels = faces()
    network, head = build(CONFIG.model, seed=1), new_head()
    config = replace(CONFIG, augmentation=UNVARIED)
    losses = [
        train(network, head, images, labels, config, learning_rate=1e-3, seed=n).mean_loss
        for n in range(8)
    ]
    embeddings = torch.from_numpy(embed(network, images, pixels=64, precision="fp32"))
    nearest = (embeddings @ functional.normalize(head.weight).T).argmax(1)
    assert nearest.tolist() == labels.tolist()
    assert losses[-1] < 0.2 * losses[0]


def test_people_of_one_photograph_are_left_out_where_others_remain() -> None:
    """People with enough photographs are chosen; where fewer than two have enough, everybody."""
    labels = np.array([0, 0, 1, 3, 3, 3, 4])
    assert trainable_people(labels, 2).tolist() == [0, 3]
    assert trainable_people(labels, 1).tolist() == [0, 1, 3, 4]
    assert trainable_people(labels, 3).tolist() == [0, 1, 3, 4]


def test_faces_in_no_batch_start_their_persons_row() -> None:
    """They are looked at once, at the start; those in the batches are told from them."""
    images, labels = faces()
    seen: list[list[int]] = []

    class Watched:
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
            seen.append(rows.tolist())
            return images[rows]

    rows = np.flatnonzero(labels < 2)
    losses = []
    for people in (labels, np.minimum(labels, 2)):  # the others: two people, or one
        head = new_head(int(people.max()) + 1)
        network = build(CONFIG.model, seed=1)
        summary = train(
            network, head, Watched(), people, CONFIG, learning_rate=1e-3, seed=7, rows=rows
        )
        losses.append(summary.mean_loss)
    assert seen[0] == list(range(20))
    assert {row for batch in seen[1:3] for row in batch} <= set(rows.tolist())
    assert losses[0] > losses[1]  # of more people


def test_the_summary_counts_what_was_done() -> None:
    """Twenty faces, batches of eight, two passes: five steps, forty images."""
    summary = trained()[2]
    assert (summary.steps, summary.images) == (5, 40)


def test_a_consistent_recipe_looks_at_each_photograph_twice() -> None:
    """Once calm and once hard: as many steps, twice the images, other weights."""
    hard = AugmentationConfig(light=0.5, cover=0.5, lens=0.5, grain=0.5)
    one = replace(CONFIG, augmentation=hard)
    two = replace(one, training=replace(CONFIG.training, consistency=3.0))
    assert (trained(one)[2].images, trained(two)[2].images) == (40, 80)
    assert trained(two)[2].steps == 5
    assert torch.equal(bits(trained(two)[0]), bits(trained(two)[0]))
    more = replace(two, training=replace(two.training, consistency=30.0))
    assert not torch.equal(bits(trained(two)[0]), bits(trained(more)[0]))


def test_consistency_asks_two_views_of_a_photograph_to_agree() -> None:
    """Where it is all that counts, calm and hard views of a face come nearer to each other."""
    hard = AugmentationConfig(cover=1.0)
    config = replace(CONFIG, model=ModelConfig(dimension=32, light="evened"), augmentation=hard)
    images, labels = faces()
    agreed = []
    for consistency in (1e-6, 1e3):
        training = replace(CONFIG.training, consistency=consistency, local_epochs=4.0)
        network = build(config.model, seed=1)
        wanted = replace(config, training=training)
        train(network, new_head(), images, labels, wanted, learning_rate=1e-3, seed=7)
        views = [
            Augmentation(how, 64, Generator().manual_seed(5))(torch.from_numpy(images))
            for how in (hard.calm, hard)
        ]
        with torch.no_grad():
            calm, covered = (network(view) for view in views)
        agreed.append(float((calm * covered).sum(1).mean()))
    assert agreed[1] > agreed[0] + 0.01


def test_a_small_organisation_trains_on_whole_batches_of_what_it_has() -> None:
    """Fewer faces than a batch: a step looks at each once."""
    config = replace(CONFIG, training=replace(CONFIG.training, batch_size=64, local_epochs=1.0))
    summary = trained(config)[2]
    assert (summary.steps, summary.images) == (1, PEOPLE * PHOTOS)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_same_seed_gives_the_same_bits(optimizer: str) -> None:
    """Seeds decide everything; the global generator is neither read nor moved."""
    config = replace(CONFIG, training=replace(CONFIG.training, optimizer=optimizer))
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = bits(trained(config)[0])
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, bits(trained(config)[0]))
    assert not torch.equal(first, bits(trained(config, seed=8)[0]))


def test_threads_do_not_share_chance() -> None:
    """Two trainings at once give the bits that each gives alone."""
    alone = {seed: bits(trained(seed=seed)[0]) for seed in (1, 2)}
    together: dict[int, Tensor] = {}

    def work(seed: int) -> None:
        torch.set_num_threads(1)
        together[seed] = bits(trained(seed=seed)[0])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(alone[seed], together[seed]) for seed in alone)


def test_a_round_starts_the_head_anew() -> None:
    """Whatever rows a head comes with, a round trains it from its people's own faces."""
    images, labels = faces()
    networks = []
    for judge in (new_head(), trained()[1]):
        networks.append(build(CONFIG.model, seed=5))
        train(networks[-1], judge, images, labels, CONFIG, learning_rate=1e-3, seed=1)
    assert torch.equal(bits(networks[0]), bits(networks[1]))


def test_fedprox_pulls_towards_the_rounds_model() -> None:
    """The stronger the proximal term, the nearer the weights stay to those received."""
    start = bits(build(CONFIG.model, seed=1))

    def distance(mu: float) -> float:
        training = replace(CONFIG.training, optimizer="sgd", proximal=mu, local_epochs=5.0)
        network = trained(replace(CONFIG, training=training), learning_rate=0.02)[0]
        return float((bits(network) - start).norm())

    assert distance(10.0) < 0.8 * distance(1.0) < 0.8 * distance(0.0)


def test_divergence_is_an_error() -> None:
    """A loss that leaves the finite numbers is not passed on as a model."""
    training = replace(CONFIG.training, optimizer="sgd", max_gradient_norm=1e9)
    with pytest.raises(TrainingDiverged, match="learning rate 1e\\+30"):
        trained(replace(CONFIG, training=training), learning_rate=1e30)


class JudgeWithoutRows(nn.Module):
    """A head with nothing to train and no rows: faces of one person, one fixed direction."""

    def start(self, embeddings: Tensor, labels: Tensor) -> None:
        assert len(embeddings) == len(labels)

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return 1 - embeddings[torch.arange(len(labels)), labels]


def test_training_assumes_no_class_weights() -> None:
    """A head without a single parameter trains the network too."""
    images, labels = faces()
    network = build(CONFIG.model, seed=1)
    losses = [
        train(
            network, JudgeWithoutRows(), images, labels, CONFIG, learning_rate=1e-3, seed=n
        ).mean_loss
        for n in range(3)
    ]
    assert losses[-1] < losses[0]


def test_embeddings_are_unit_and_do_not_see_left_from_right() -> None:
    """One vector a face, length one; a face and its mirror image get the same."""
    images, _ = faces()
    network = build(CONFIG.model, seed=1)
    embeddings = embed(network, images, pixels=64, precision="fp32")
    mirrored = embed(network, images[..., ::-1], pixels=64, precision="fp32")
    assert embeddings.dtype == np.float32
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert np.allclose(embeddings, mirrored, atol=1e-5)


def test_bf16_is_close_to_fp32() -> None:
    """The faster precision embeds nearly the same."""
    images, _ = faces()
    network = build(CONFIG.model, seed=1)
    exact = embed(network, images, pixels=64, precision="fp32")
    quick = embed(network, images, pixels=64, precision="bf16")
    assert (exact * quick).sum(1).min() > 0.99


def test_a_device_that_is_absent_is_refused() -> None:
    """Asking for what is not there is a clear error; `auto` finds something; words are kept."""
    if not torch.backends.mps.is_available():
        with pytest.raises(ConfigError, match="mps"):
            choose_device("mps")
    assert choose_precision("fp32", choose_device("auto")) == "fp32"
    assert choose_precision("auto", torch.device("mps")) == "fp32"
