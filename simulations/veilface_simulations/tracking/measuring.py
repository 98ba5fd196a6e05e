"""Every way of putting a track together, on the same videos, clean and spoilt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, nn

from veilface_client.data import Faces
from veilface_client.head import CosineMarginHead
from veilface_client.images import Pixels
from veilface_client.pseudo_tracks import Tracks, draw_tracks
from veilface_client.track_template import Method, combine, frame_qualities, frame_weights
from veilface_client.track_training import fit_tracks, frames_of_people, start_head
from veilface_client.training import trainable_people
from veilface_common.config import RunConfig
from veilface_common.models import TrackWeights, track_of
from veilface_common.presets import preset
from veilface_simulations.robustness.measuring import Looker
from veilface_simulations.robustness.scenes import Cropped
from veilface_simulations.tracking.figures import Rates, measure
from veilface_simulations.tracking.free import FreeTemplate
from veilface_simulations.tracking.videos import Condition, Video, spoil

Floats = NDArray[np.float32]
FREE = "free"
_TRACKS_OF_PERSON = 4  # pseudo-tracks by which the people that were trained on are told apart


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What a model saw of one video."""

    embeddings: Floats  # [T, D]
    qualities: Floats  # [T, Q]


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way of putting a track together."""

    name: str
    how: Method = "mean"
    track: TrackWeights | None = None  # of "recurrent"
    free: nn.Module | None = None  # [B, T, D], [B, T, Q], bool [B, T] -> [B, D]; in place of `how`

    def template(self, seen: Seen) -> Floats:
        """Return the template of a track, [D]."""
        if self.free is None:
            return combine(seen.embeddings, seen.qualities, self.how, track=self.track)
        present = torch.ones(1, len(seen.embeddings), dtype=torch.bool)
        given = (torch.from_numpy(part)[None] for part in (seen.embeddings, seen.qualities))
        with torch.inference_mode():
            return np.asarray(self.free(*given, present)[0].numpy(), np.float32)

    def weights(self, seen: Seen) -> Floats | None:
        """Return how much each frame counts, [T]; None where that cannot be said."""
        if self.free is not None:
            return None
        return frame_weights(seen.embeddings, seen.qualities, self.how, track=self.track)


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """How a way does under one condition."""

    rates: Rates
    spoilt_weight: float | None  # mean of the summed weights of a track's spoilt frames


def ways_of(model: Looker, private: Looker | None, free: nn.Module | None) -> tuple[Way, ...]:
    """Return the ways that these models offer, the baseline first."""
    found = [Way(name="mean"), Way(name="best", how="best")]
    for name, looker in (("recurrent", model), ("recurrent, private", private)):
        track = None if looker is None else track_of(looker.network)
        if track is not None:
            found.append(Way(name=name, how="recurrent", track=track))
    if free is not None:
        found.append(Way(name=FREE, free=free))
    return tuple(found)


def look(model: Looker, video: Video, eye: Cropped) -> Seen:
    """Return what a model sees of a video."""
    aligned: list[Pixels] = [eye.align(frame.pixels) for frame in video.frames]
    pixels = model.manifest.model.pixels
    return Seen(
        embeddings=model.templates(aligned),
        qualities=np.stack([frame_qualities(face, pixels) for face in aligned]),
    )


def measure_videos(
    model: Looker,
    ways: Sequence[Way],
    videos: Sequence[Video],
    conditions: Sequence[Condition],
    eye: Cropped,
    *,
    seed: int,
    progress: Callable[[int, int], None],
) -> Mapping[Condition, Mapping[str, Result]]:
    """Return how each way does under each condition: all see the same pixels."""
    _, people = np.unique([video.person for video in videos], return_inverse=True)
    found = {}
    for number, condition in enumerate(conditions):
        shown = [spoil(video, condition, seed) for video in videos]
        seen = []
        for done, video in enumerate(shown, start=1):
            seen.append(look(model, video, eye))
            progress(number * len(videos) + done, len(conditions) * len(videos))
        spoilt = [np.array(video.spoilt) for video in shown]
        found[condition] = {way.name: _result(way, seen, spoilt, people, seed) for way in ways}
    return found


def _result(
    way: Way,
    seen: Sequence[Seen],
    spoilt: Sequence[NDArray[np.bool_]],
    people: NDArray[np.int64],
    seed: int,
) -> Result:
    templates = np.stack([way.template(one) for one in seen])
    weights = [way.weights(one) for one in seen]
    shares = [
        float(own[bad].sum())
        for own, bad in zip(weights, spoilt, strict=True)
        if own is not None and bad.any()
    ]
    return Result(
        rates=measure(templates, people, seed),
        spoilt_weight=float(np.mean(shares)) if shares else None,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """The free network, and how all ways do on pseudo-tracks of whom it was trained on."""

    network: FreeTemplate
    people: int
    tracks: tuple[Seen, ...]
    of: NDArray[np.int64]  # whose these are, [B]


def train_free(model: Looker, faces: Faces, seed: int) -> Trained:
    """Train the free network as `train_tracks` would what weighs frames, all in one round."""
    config = _config(model, seed)
    generator = Generator().manual_seed(seed)
    people = trainable_people(faces.people, config.training.min_photos)
    network = model.network.requires_grad_(requires_grad=False)
    frames = frames_of_people(network, faces, faces.people, people, config, generator)
    dimension = config.model.dimension
    head = CosineMarginHead(config.head, len(faces.person_names), dimension, generator)
    start_head(head, network, faces, faces.people, config)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        free = FreeTemplate(dimension, frames[0].qualities.shape[-1])
    fit_tracks(
        free,
        head,
        frames,
        people,
        config,
        learning_rate=config.training.learning_rate,
        generator=generator,
    )
    drawn = [draw_tracks(own, _TRACKS_OF_PERSON, generator) for own in frames]
    return Trained(
        network=free.eval(),
        people=len(people),
        tracks=tuple(one for tracks in drawn for one in _each(tracks)),
        of=np.repeat(np.arange(len(people)), _TRACKS_OF_PERSON),
    )


def _config(model: Looker, seed: int) -> RunConfig:
    """Return the preset of tracks, the passes of all rounds in one."""
    start = preset("tracks")
    passes = start.federation.rounds * start.training.local_epochs
    return replace(
        start,
        seed=seed,
        model=replace(model.manifest.model, track="gru"),
        training=replace(start.training, local_epochs=passes),
    )


def _each(tracks: Tracks) -> list[Seen]:
    return [
        Seen(
            embeddings=tracks.embeddings[row][there].numpy(),
            qualities=tracks.qualities[row][there].numpy(),
        )
        for row, there in enumerate(tracks.present)
    ]
