"""What is sealed opens with its key, in its place, unaltered, or not at all."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilface_common.crypto import envelope
from veilface_common.crypto.envelope import associated, derive, key_id, seal, unseal
from veilface_common.errors import VaultError

KEY = bytes(range(32))
PLACE = associated("template", "person", 7)

# Test case 16 of "The Galois/Counter Mode of Operation" (McGrew and Viega, 2004), appendix B.
GCM_16 = {
    "key": "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
    "nonce": "cafebabefacedbaddecaf888",
    "plain": (
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    ),
    "associated": "feedfacedeadbeeffeedfacedeadbeefabaddad2",
    "sealed": (
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
        "76fc6ece0f4e1768cddf8853bb2d551b"
    ),
}


def test_golden_bytes_of_a_seal() -> None:
    """The format is the nonce and AES-256-GCM as its designers published it."""
    key, nonce, plain, bound, sealed = (bytes.fromhex(text) for text in GCM_16.values())
    assert seal(key, plain, bound, nonce) == nonce + sealed
    assert unseal(key, nonce + sealed, bound) == plain


def test_golden_bytes_of_associated_data() -> None:
    """Type, length, content; the purpose first."""
    assert associated("template", b"\0\xff", "é", -12) == bytes.fromhex(
        "70 00000008 74656d706c617465  62 00000002 00ff  73 00000002 c3a9  69 00000003 2d3132"
    )


def test_golden_bytes_of_a_derived_key() -> None:
    """RFC 5869 by hand: extract with a salt of zeros, expand by one block."""
    extracted = hmac.digest(bytes(32), KEY, "sha256")
    expanded = hmac.digest(extracted, b"veilface\0purpose\0context\x01", "sha256")
    assert derive(KEY, "purpose", b"context") == expanded
    assert key_id(KEY) == hmac.digest(extracted, b"veilface\0key id\0\x01", "sha256")[:16]


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_what_is_sealed_opens(plain: bytes, bound: bytes) -> None:
    """Unsealing undoes sealing, for every text and place."""
    sealed = seal(KEY, plain, bound)
    assert len(sealed) == len(plain) + 28
    assert unseal(KEY, sealed, bound) == plain


def test_each_altered_byte_is_refused() -> None:
    """Nonce, ciphertext and tag: no bit may change."""
    sealed = seal(KEY, b"a template", PLACE)
    for place in range(len(sealed)):
        for bit in (1, 0x80):
            altered = bytearray(sealed)
            altered[place] ^= bit
            with pytest.raises(VaultError):
                unseal(KEY, bytes(altered), PLACE)


def test_a_shortened_or_lengthened_seal_is_refused() -> None:
    """Down to nothing at all."""
    sealed = seal(KEY, b"a template", PLACE)
    for other in [sealed[:length] for length in range(len(sealed))] + [sealed + b"\0"]:
        with pytest.raises(VaultError):
            unseal(KEY, other, PLACE)


def test_another_key_or_place_is_refused_without_a_reason() -> None:
    """Two people's rows swapped do not open; the error does not tell a key from a place."""
    sealed = seal(KEY, b"a template", PLACE)
    messages = set()
    for key, place in [(bytes(32), PLACE), (KEY, associated("template", "person", 8))]:
        with pytest.raises(VaultError) as caught:
            unseal(key, sealed, place)
        messages.add(str(caught.value))
    assert len(messages) == 1


def test_no_nonce_comes_twice() -> None:
    """The same text sealed twice differs throughout."""
    nonces = {seal(KEY, b"same", PLACE)[:12] for _ in range(1000)}
    assert len(nonces) == 1000


@pytest.mark.parametrize("length", [0, 16, 24, 31, 33])
def test_a_key_of_another_length_is_a_slip(length: int) -> None:
    """AES would take 16 and 24 bytes without a word."""
    key = bytes(length)
    for use in (
        lambda: seal(key, b"", b""),
        lambda: unseal(key, bytes(28), b""),
        lambda: key_id(key),
    ):
        with pytest.raises(ValueError, match="32 bytes"):
            use()


def test_a_nonce_of_another_length_is_a_slip() -> None:
    """GCM would hash it to one that collides sooner."""
    with pytest.raises(ValueError, match="12 bytes"):
        seal(KEY, b"", b"", bytes(16))


FIELDS = st.lists(st.binary(max_size=4) | st.text(max_size=4) | st.integers(), max_size=4)


@given(st.text(max_size=4), FIELDS, st.text(max_size=4), FIELDS)
def test_no_two_places_give_the_same_bytes(
    purpose: str, fields: list[bytes | str | int], other: str, others: list[bytes | str | int]
) -> None:
    """Parts can neither run into each other nor pass for another type."""
    one, two = (purpose, *fields), (other, *others)
    same = list(map(type, one)) == list(map(type, two)) and one == two
    assert (associated(*one) == associated(*two)) == same


def test_places_that_would_collide_if_joined_do_not() -> None:
    """The attacks that length and type are there for."""
    places = [
        associated("a", "bc"),
        associated("ab", "c"),
        associated("a", "b", "c"),
        associated("a", b"bc"),
        associated("a", "1"),
        associated("a", 1),
        associated("a", 1, 1),
        associated("a", 11),
        associated("a"),
        associated("a", ""),
    ]
    assert len(set(places)) == len(places)


def test_a_bool_is_no_number() -> None:
    """Python would count it as one."""
    with pytest.raises(TypeError):
        associated("a", True)  # noqa: FBT003 -- the slip itself


def test_derived_keys_of_different_purposes_differ() -> None:
    """Also where purpose and context joined would be the same."""
    keys = [derive(KEY, "a", b"b"), derive(KEY, "ab"), derive(KEY, "a"), derive(KEY, "b", b"a")]
    assert len({*keys, KEY, key_id(KEY)}) == 6
    with pytest.raises(ValueError, match="zero byte"):
        derive(KEY, "a\0b")


def test_the_key_id_names_the_key_and_does_not_hold_it() -> None:
    """16 bytes that another key does not share."""
    assert len(key_id(KEY)) == envelope.KEY_ID_BYTES == 16
    assert key_id(KEY) != key_id(hashlib.sha256(KEY).digest())
    assert key_id(KEY) not in KEY
