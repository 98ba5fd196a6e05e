"""What an update weighs on its way, at each precision, and what it takes to write and read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest

from veilface_common import models, tensors
from veilface_common.config import ModelConfig, ModelName, UpdatePrecision
from veilface_common.models.weights import read_weights
from veilface_common.updates import decode_update, encode_update

pytestmark = pytest.mark.bench

NAMES: tuple[ModelName, ...] = ("tiny", "base")


def milliseconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(30):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return 1000 * min(times)  # others' work on the machine only adds


@pytest.mark.parametrize("name", NAMES)
def test_bytes_and_time_of_an_update(name: ModelName) -> None:
    """Down goes the model, up the update: half and a quarter of it, within a percent."""
    model = read_weights(models.build(ModelConfig(name=name), seed=0))
    random = np.random.default_rng(0)
    update = {
        key: (0.01 * random.standard_normal(value.shape)).astype(np.float32)
        for key, value in model.items()
    }
    print(f"\n{name}: down {len(tensors.to_bytes(model))} bytes")
    for precision, share in zip(get_args(UpdatePrecision), (1.0, 0.51, 0.26), strict=True):
        written = encode_update(update, precision)
        read = decode_update(written, update, precision)
        off = tensors.norm({key: read[key] - update[key] for key in update}) / tensors.norm(update)
        writing = milliseconds(_writing(update, precision))
        reading = milliseconds(_reading(written, update, precision))
        print(
            f"  {precision}: up {len(written)} bytes, off by {off:.2g}, "
            f"written in {writing:.2f} ms, read in {reading:.2f} ms"
        )
        assert len(written) <= share * len(tensors.to_bytes(model))
        assert off < 0.01


def _writing(update: tensors.Tensors, precision: UpdatePrecision) -> Callable[[], object]:
    return lambda: encode_update(update, precision)


def _reading(
    written: bytes, like: tensors.Tensors, precision: UpdatePrecision
) -> Callable[[], object]:
    return lambda: decode_update(written, like, precision)
