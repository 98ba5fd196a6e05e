"""Gaussian noise that nobody can predict or read back out of a sum.

Two attacks on noise are older than this program. A generator whose state can be guessed or shared
(a fixed seed, a fork) lets noise be subtracted: here it is a ChaCha20 keystream, keyed from the
operating system, and a process that was forked takes a new key. And floating point leaves gaps in
what a transform of uniforms can return, by which the value under the noise is told (Mironov 2012):
each number is the sum of four normals, halved (Holohan and Braghin 2021, section 4), whose gaps
would have to be solved for all at once; it stays in float64 until it has been added.

Normals are those of Box and Muller (1958) from uniforms of 53 bits: none is beyond 8.6, where a
true one is once in 1e17.
"""

from __future__ import annotations

import os
import secrets
from typing import Literal, Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms
from numpy.typing import NDArray

Origin = Literal["operating-system", "seeded"]
SUMMED = 4  # normals in a number
_KEY_BYTES, _NONCE_BYTES = 32, 16
_CHUNK = 1 << 16  # numbers made at once: 2 MiB of keystream


class Noise(Protocol):
    """A source of standard normal numbers."""

    @property
    def origin(self) -> Origin:
        """Where its secret comes from; ledger and report say so."""
        ...

    def standard(self, count: int) -> NDArray[np.float64]:
        """Return `count` numbers of mean 0 and variance 1."""
        ...


class SecureNoise:
    """What private training is to use: keyed from the operating system, anew in each process."""

    origin: Origin = "operating-system"

    def __init__(self) -> None:
        self._process = -1
        self._stream = _keystream(bytes(_KEY_BYTES))  # never drawn from: see `standard`

    def standard(self, count: int) -> NDArray[np.float64]:
        """Return `count` numbers of mean 0 and variance 1."""
        if self._process != os.getpid():  # a fork shares memory, and so the stream
            self._stream = _keystream(secrets.token_bytes(_KEY_BYTES))
            self._process = os.getpid()
        return _standard(self._stream, count)


class SeededNoise:
    """Noise that whoever knows the seed can remove: for tests, and for simulations that say so."""

    origin: Origin = "seeded"

    def __init__(self, seed: int) -> None:
        self._stream = _keystream(seed.to_bytes(_KEY_BYTES, "big"))

    def standard(self, count: int) -> NDArray[np.float64]:
        """Return `count` numbers of mean 0 and variance 1; the same seed gives the same ones."""
        return _standard(self._stream, count)


def _keystream(key: bytes) -> CipherContext:
    """Return ChaCha20 under a key used once: its counter starts at 0 (RFC 8439, section 2.4)."""
    return Cipher(algorithms.ChaCha20(key, bytes(_NONCE_BYTES)), mode=None).encryptor()


def _standard(stream: CipherContext, count: int) -> NDArray[np.float64]:
    parts = [_chunk(stream, min(_CHUNK, count - first)) for first in range(0, count, _CHUNK)]
    return np.concatenate([np.empty(0), *parts])


def _chunk(stream: CipherContext, count: int) -> NDArray[np.float64]:
    """Return (n_1 + ... + n_4) / 2 for `count` quadruples of normals."""
    words = np.frombuffer(stream.update(bytes(8 * SUMMED * count)), np.uint64)
    uniform = (words >> np.uint64(11)) + 1.0
    uniform *= 2.0**-53  # in (0, 1]; in place, here and below: new pages cost a quarter of the time
    radius, angle = uniform.reshape(2, -1)  # [4 * count] -> [2 * count] twice
    np.log(radius, out=radius)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    angle *= 2.0 * np.pi
    normals = np.empty((2, 2 * count))
    np.multiply(radius, np.cos(angle), out=normals[0])
    np.sin(angle, out=angle)
    angle *= radius
    # Moved by one, so that no number holds both normals of a pair: they share radius and angle.
    normals[1, 1:], normals[1, 0] = angle[:-1], angle[-1]
    summed: NDArray[np.float64] = normals.reshape(SUMMED, count).sum(0)
    summed /= np.sqrt(SUMMED)
    return summed
