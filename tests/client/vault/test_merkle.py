"""The Merkle tree: published roots, and the recursion of RFC 6962 as it is written there."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilface_client.vault.merkle import leaf_hash, root

# The test vectors of Certificate Transparency (google/certificate-transparency, merkletree)
LEAVES = (
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
)
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


@pytest.mark.parametrize("count", range(len(ROOTS)))
def test_published_roots(count: int) -> None:
    """The first n leaves of the published list have the published root."""
    leaves = [leaf_hash(bytes.fromhex(leaf)) for leaf in LEAVES[:count]]
    assert root(leaves).hex() == ROOTS[count]


def recursive(leaves: list[bytes]) -> bytes:
    """Compute MTH as RFC 6962, 2.1 defines it."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    split = 1
    while 2 * split < len(leaves):
        split *= 2
    return sha256(b"\1" + recursive(leaves[:split]) + recursive(leaves[split:])).digest()


@given(st.integers(0, 70))
def test_levels_give_what_the_recursion_gives(count: int) -> None:
    """Joining neighbours level by level is the tree of the RFC, whatever the number."""
    leaves = [leaf_hash(bytes([number])) for number in range(count)]
    assert root(leaves) == recursive(leaves)
