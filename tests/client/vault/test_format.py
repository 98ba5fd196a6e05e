"""The format, byte by byte: what today's release seals, every later one must open."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.client.vault.parts import DIMENSION, KEY, MODEL, ORGANISATION, RECORD, vector

from veilface_client.vault import Form
from veilface_client.vault.arrays import array_place, form_to_row, row_to_form, to_array
from veilface_client.vault.blocks import leaf_of
from veilface_client.vault.cards import card_text, holder_key, parse_card, pseudonym
from veilface_client.vault.records import seal_record, unseal_record
from veilface_common.crypto import envelope
from veilface_common.errors import VaultError

PERSON = bytes(range(16))
NONCE = bytes(range(12))
FORM = Form(kind="template", model=MODEL, alignment="centre", shape=(DIMENSION,), dtype="<f2")


def test_golden_bytes_of_a_record() -> None:
    """Key 00..1f, nonce 00..0b: the plain text, what it is bound to, and the sealed bytes."""
    sealed = seal_record(KEY, ORGANISATION, PERSON, RECORD, NONCE)
    plain = (
        b'{"card_id":null,"consent_time":"2026-03-01T09:30:00+00:00","consent_version":"door-3",'
        b'"created":"2026-03-01T09:31:00+00:00","last_use":null,'
        b'"legal_basis":"consent, article 9(2)(a)","mode":"organisation","name":"Ada Lovelace",'
        b'"purpose":"opening the archive\'s door","retention_date":"2027-03-01"}'
    )
    place = bytes.fromhex(
        "70 00000006 7265636f7264"  # p record
        "69 00000001 31"  # i 1: the format
        "73 00000006 4d757365756d"  # s Museum
        "62 00000010 000102030405060708090a0b0c0d0e0f"  # b the person
    )
    assert envelope.unseal(KEY, sealed, place) == plain.ljust(512)
    assert sealed[:12] == NONCE
    assert len(sealed) == 12 + 512 + 16
    assert (
        sha256(sealed).hexdigest()
        == "84a47e0501b57eed468dbdefc069bfea6909019ecbe779cf1476826a4fa670b0"
    )
    assert unseal_record(KEY, ORGANISATION, PERSON, sealed) == RECORD


def test_golden_place_of_a_template() -> None:
    """All that a template is bound to, in its order."""
    fields = (1, ORGANISATION, PERSON, 7, MODEL, "centre", "[16]", "<f2")
    assert array_place(ORGANISATION, PERSON, 7, FORM) == envelope.associated("template", *fields)


def test_golden_leaf_pseudonym_and_holder_key() -> None:
    """What a block's leaf, a person's name in logs and a holder's key are made of."""
    assert (
        leaf_of(3, 2, b"sealed", b"content").hex()
        == "becf5cc48960277a028a189420fee2e20c7cc04cb0e64ad3fc3268037d5f24d6"
    )
    assert pseudonym(KEY) == "ec4d7d51201275c32f4cbdf65484e4a7"
    assert (
        holder_key(KEY, bytes(32)).hex()
        == "bb416e20c525e153e7064aadaa0c590d50e10b825fa6ffcf132c9562eb6be40d"
    )


@pytest.mark.parametrize(
    "other",
    [
        array_place("Harbour", PERSON, 7, FORM),
        array_place(ORGANISATION, bytes(16), 7, FORM),
        array_place(ORGANISATION, PERSON, 8, FORM),
        *(
            array_place(ORGANISATION, PERSON, 7, Form(**{**FORM.__dict__, **changed}))
            for changed in (
                {"kind": "crop"},
                {"model": "cd" * 32},
                {"alignment": "haar"},
                {"shape": (8,)},
                {"dtype": "<f4"},
            )
        ),
    ],
)
def test_template_does_not_open_in_another_place(other: bytes) -> None:
    """Another organisation, person, number, kind, model, alignment, shape or dtype."""
    sealed = envelope.seal(KEY, vector(1).tobytes(), array_place(ORGANISATION, PERSON, 7, FORM))
    with pytest.raises(VaultError):
        envelope.unseal(KEY, sealed, other)


def test_forms_come_back_from_their_columns() -> None:
    """A form is what was written; one that is none of ours is refused."""
    assert row_to_form(*form_to_row(FORM)) == FORM
    assert (to_array(FORM, vector(1).tobytes()) == vector(1)).all()
    for shape, dtype in (("[16,16]", "<f2"), ("[16]", "<f8"), ("16", "<f2"), ("[", "<f2")):
        with pytest.raises(VaultError, match="form"):
            row_to_form("template", MODEL, "centre", shape, dtype)


def test_names_of_one_length_class_have_one_size() -> None:
    """The size of a sealed record tells its length in steps of 256 bytes alone."""
    sizes = {
        len(
            seal_record(
                KEY, ORGANISATION, PERSON, type(RECORD)(**{**RECORD.__dict__, "name": name})
            )
        )
        for name in ("Bo", "Ada Lovelace", "A" * 100)
    }
    assert sizes == {540}


@given(st.binary(min_size=32, max_size=32))
def test_cards_come_back(secret: bytes) -> None:
    """14 groups of 4; small letters, dashes and line breaks do not matter."""
    text = card_text(secret)
    assert [len(group) for group in text.split(" ")] == [4] * 14
    assert parse_card(text) == secret
    assert parse_card(text.lower().replace(" ", "-\n")) == secret


@given(st.integers(0, 55), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_mistyped_cards_are_refused(place: int, letter: str) -> None:
    """One wrong character is noticed before anything is tried with it."""
    text = card_text(KEY).replace(" ", "")
    if text[place] != letter:
        with pytest.raises(VaultError, match="mistyped"):
            parse_card(text[:place] + letter + text[place + 1 :])


@pytest.mark.parametrize("text", ["", "AAAA", "1" * 56, "ä" * 56, "A" * 64])
def test_other_texts_are_no_cards(text: str) -> None:
    """Whatever is scanned instead of a card is refused in the same words."""
    with pytest.raises(VaultError, match="14 groups"):
        parse_card(text)
