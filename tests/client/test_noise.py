"""Noise: normal to the tails, independent over draws, rounds, processes and forks."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from veilface_client import noise
from veilface_client.noise import Noise, SecureNoise, SeededNoise


@pytest.mark.parametrize("source", [SecureNoise(), SeededNoise(1)])
def test_ten_million_numbers_are_normal(source: Noise) -> None:
    """Kolmogorov and Smirnov find no difference, and four moments are a normal's."""
    drawn = source.standard(10_000_000)
    assert stats.kstest(drawn, "norm").pvalue > 1e-4
    assert abs(drawn.mean()) < 4 / np.sqrt(len(drawn))
    assert abs(drawn.var() - 1) < 4 * np.sqrt(2 / len(drawn))
    assert abs(stats.skew(drawn)) < 4 * np.sqrt(6 / len(drawn))
    assert abs(stats.kurtosis(drawn)) < 4 * np.sqrt(24 / len(drawn))
    assert 5 < np.abs(drawn).max() < 7


def test_kolmogorov_and_smirnov_would_find_a_fault() -> None:
    """The test above fails on noise that is 0.5% too small, or rounded to 2 ** -7."""
    drawn = SeededNoise(2).standard(10_000_000)
    assert stats.kstest(drawn * 0.995, "norm").pvalue < 1e-4
    assert stats.kstest(np.round(drawn * 128) / 128, "norm").pvalue < 1e-4


def test_numbers_are_white() -> None:
    """Neighbours, and places that share a pair of uniforms, are uncorrelated."""
    count = noise._CHUNK
    drawn = SeededNoise(3).standard(20 * count).reshape(20, count)
    flat = drawn.ravel()
    for lag in (1, 2, 3, 4, count // 4, count // 2, count):
        correlation = np.corrcoef(flat[:-lag], flat[lag:])[0, 1]
        assert abs(correlation) < 5 / np.sqrt(len(flat))
        squares = np.corrcoef(flat[:-lag] ** 2, flat[lag:] ** 2)[0, 1]
        assert abs(squares) < 5 / np.sqrt(len(flat))


def test_a_number_is_the_sum_of_four_normals() -> None:
    """The vectorised transform equals Box and Muller's, written out for a few numbers."""
    count = 5
    stream = noise._keystream((7).to_bytes(32, "big"))
    words = np.frombuffer(stream.update(bytes(8 * 4 * count)), np.uint64)
    uniform = [((int(word) >> 11) + 1) / 2**53 for word in words]
    pairs = list(zip(uniform[: 2 * count], uniform[2 * count :], strict=True))
    radius = [np.sqrt(-2 * np.log(u)) for u, _ in pairs]
    across = [r * np.cos(2 * np.pi * v) for r, (_, v) in zip(radius, pairs, strict=True)]
    down = [r * np.sin(2 * np.pi * v) for r, (_, v) in zip(radius, pairs, strict=True)]
    down = down[-1:] + down[:-1]
    expected = [
        (across[i] + across[count + i] + down[i] + down[count + i]) / 2 for i in range(count)
    ]
    np.testing.assert_allclose(SeededNoise(7).standard(count), expected, rtol=1e-12)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(abs(np.corrcoef(one, other)[0, 1]))


def test_rounds_and_sources_share_nothing() -> None:
    """Two draws of one source, and two sources, are uncorrelated; a seed repeats."""
    source = SecureNoise()
    draws = [source.standard(100_000), source.standard(100_000), SecureNoise().standard(100_000)]
    for i in range(3):
        assert correlation(draws[i], draws[(i + 1) % 3]) < 0.02
    np.testing.assert_array_equal(SeededNoise(5).standard(9), SeededNoise(5).standard(9))


def test_a_fork_takes_a_new_key() -> None:
    """Parent and child draw different noise from one object."""
    program = (
        "import os, sys\n"
        "from veilface_client.noise import SecureNoise\n"
        "source = SecureNoise(); source.standard(3)\n"
        "child = os.fork()\n"
        "sys.stdout.write(f'{source.standard(1)[0]!r}\\n'); sys.stdout.flush()\n"
        "child and os.waitpid(child, 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert first != second


def test_two_processes_draw_differently() -> None:
    """Nothing of the program's start fixes the noise."""
    program = "from veilface_client.noise import SecureNoise as S; print(S().standard(1)[0])"
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True, text=True, check=True, env=environment,
        ).stdout
        for _ in range(2)
    }  # fmt: skip
    assert len(seen) == 2


def test_no_numbers_are_no_numbers() -> None:
    """An empty parameter takes no noise."""
    assert SecureNoise().standard(0).shape == (0,)
