"""An update as it travels: close to what it was, the same each time, and nothing hostile in it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from safetensors.numpy import load, save

from veilface_common import tensors
from veilface_common.config import UpdatePrecision
from veilface_common.errors import ProtocolError, UpdateRejected
from veilface_common.tensors import Tensors
from veilface_common.updates import (
    LEVELS,
    SCALES,
    SPARE_BYTES,
    decode_update,
    encode_update,
    update_bytes,
)

PRECISIONS: tuple[UpdatePrecision, ...] = get_args(UpdatePrecision)
Arrays = dict[str, np.ndarray]

UPDATE: Tensors = {
    "a": np.array([[1.0, -0.5, 0.25], [0.002, 0.001, 0.0], [0.0, 0.0, 0.0]], np.float32),
    "b": np.array([-3.0, 1.0], np.float32),
}


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """What is hostile is refused, not warned about."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def numbers(largest: float) -> st.SearchStrategy[Tensors]:
    """Updates of two arrays, of one to four dimensions, with numbers up to `largest`."""
    array = arrays_of.arrays(
        np.float32,
        arrays_of.array_shapes(max_dims=4, max_side=5),
        elements=st.floats(-largest, largest, width=32),
    )
    return st.fixed_dictionaries({"conv.weight": array, "norm.bias": array})


def there_and_back(update: Tensors, precision: UpdatePrecision) -> Tensors:
    return decode_update(encode_update(update, precision), update, precision)


def slow_int8(update: Tensors) -> dict[str, list[float]]:
    """Return the largest error of each row that rounding to 255 levels may make, in float64."""
    bounds = {}
    for name, value in update.items():
        rows = value if value.ndim > 1 else value[None]
        bounds[name] = [float(np.abs(row.astype(np.float64)).max()) / LEVELS / 2 for row in rows]
    return bounds


@given(numbers(2.0**100))
def test_fp32_is_the_update_itself(update: Tensors) -> None:
    """Its bytes are those of the arrays, and come back to the last bit."""
    assert encode_update(update, "fp32") == tensors.to_bytes(update)
    for name, value in there_and_back(update, "fp32").items():
        np.testing.assert_array_equal(value, update[name])


@given(numbers(65504))
def test_fp16_errs_by_half_a_unit_in_the_last_place(update: Tensors) -> None:
    """Of 11 bits: 2^-11 of the number; of the smallest ones, half of their spacing of 2^-24."""
    for name, value in there_and_back(update, "fp16").items():
        error = np.abs(value.astype(np.float64) - update[name])
        assert (error <= np.maximum(np.abs(update[name]) * 2.0**-11, 2.0**-25)).all()


@given(numbers(2.0**100))
def test_int8_errs_by_half_a_level_of_its_row(update: Tensors) -> None:
    """A level is the row's largest number / 127; 2^-13 more, as the scale is rounded up."""
    bounds = slow_int8(update)
    for name, value in there_and_back(update, "int8").items():
        error = np.abs(value.astype(np.float64) - update[name])
        rows = error if error.ndim > 1 else error[None]
        for row, bound in zip(rows, bounds[name], strict=True):
            assert row.max() <= bound * (1 + 2.0**-13) + 2.0**-119  # below: nothing is told apart


@pytest.mark.parametrize("precision", PRECISIONS)
@settings(max_examples=50)
@given(update=numbers(65504))
def test_what_was_read_is_written_as_the_same_bytes(
    precision: UpdatePrecision, update: Tensors
) -> None:
    """Idempotent: rounding what was rounded changes nothing, however often."""
    content = encode_update(update, precision)
    assert encode_update(decode_update(content, update, precision), precision) == content


def test_a_row_of_next_to_nothing_is_nothing() -> None:
    """Below the normal numbers a scale has too few bits to be read back as it was."""
    content = encode_update({"b": np.array([1e-43, 0.0], np.float32)}, "int8")
    assert content == encode_update({"b": np.zeros(2, np.float32)}, "int8")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_update_gives_the_same_bytes(precision: UpdatePrecision) -> None:
    """In whatever order its arrays are, and however they lie in memory."""
    turned = {name: np.asfortranarray(value) for name, value in reversed(UPDATE.items())}
    assert encode_update(turned, precision) == encode_update(dict(UPDATE), precision)


def test_the_bytes_of_fp16_are_these() -> None:
    """A golden file: every release reads what every other writes."""
    found = load(encode_update(UPDATE, "fp16"))
    assert sorted(found) == ["a", "b"]
    assert found["a"].tobytes().hex() == "003c00b800341918191400000000" + "0" * 8
    assert found["b"].tobytes().hex() == "00c2003c"


def test_the_bytes_of_int8_are_these() -> None:
    """Three rows and one, of numbers in [-127, 127], and their four scales."""
    found = load(encode_update(UPDATE, "int8"))
    assert sorted(found) == [SCALES, "a", "b"]
    assert found["a"].tolist() == [[127, -63, 32], [127, 63, 0], [0, 0, 0]]
    assert found["b"].tolist() == [-127, 42]
    # 1 / 127 is 3c010204, 0.002 / 127 is 37841aa4, 3 / 127 is 3cc18306: up to the next ..00
    assert found[SCALES].tobytes().hex() == "0003013c" + "001b8437" + "00000000" + "0084c13c"


def test_a_row_that_hardly_moves_still_moves() -> None:
    """Beside one that moves a million times as far, which a scale for all rows would hide."""
    update = {"w": np.array([[1e3, -1e3], [1e-3, 2e-3]], np.float32)}
    np.testing.assert_allclose(there_and_back(update, "int8")["w"], update["w"], rtol=0.01)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_not_hidden(precision: UpdatePrecision, number: float) -> None:
    """An organisation whose training left the finite numbers is found out by the coordinator."""
    update = {**UPDATE, "b": np.array([1.0, number], np.float32)}
    with pytest.raises(UpdateRejected):
        there_and_back(update, precision)


@pytest.mark.parametrize(("precision", "number"), [("fp16", 70_000.0), ("int8", 3.4e38)])
def test_numbers_too_large_are_not_hidden(precision: UpdatePrecision, number: float) -> None:
    """Of half precision, and of a scale times 8 bits."""
    with pytest.raises(UpdateRejected, match=r"finite|scales in"):
        there_and_back({"b": np.array([1.0, number], np.float32)}, precision)


def scaled_by(number: float) -> Callable[[Arrays], Arrays]:
    return lambda sent: {**sent, SCALES: np.full_like(sent[SCALES], number)}


INT8_ATTACKS: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "scale_of_nan": (scaled_by(np.nan), "scales in"),
    "scale_of_infinity": (scaled_by(np.inf), "scales in"),
    "scale_that_overflows": (scaled_by(3e38), "scales in"),
    "scale_below_zero": (scaled_by(-1.0), "scales in"),
    "no_scales": (lambda sent: {k: v for k, v in sent.items() if k != SCALES}, "got none"),
    "a_scale_too_few": (lambda sent: {**sent, SCALES: sent[SCALES][1:]}, "of 4 rows"),
    "a_scale_too_many": (lambda sent: {**sent, SCALES: np.ones(5, np.float32)}, "of 4 rows"),
    "scales_of_another_shape": (lambda sent: {**sent, SCALES: sent[SCALES][None]}, "of 4 rows"),
    "scales_in_double_precision": (
        lambda sent: {**sent, SCALES: sent[SCALES].astype(np.float64)},
        "expected float32",
    ),
    "numbers_in_single_precision": (
        lambda sent: {**sent, "a": sent["a"].astype(np.float32)},
        "expected int8 in 'a'",
    ),
    "numbers_of_16_bits": (lambda sent: {**sent, "a": sent["a"].astype(np.int16)}, "expected int8"),
    "another_shape": (lambda sent: {**sent, "a": sent["a"].T[:1]}, "expected shape"),
    "turned_on_its_side": (lambda sent: {**sent, "b": sent["b"][:, None]}, "expected shape"),
    "an_extra_array": (lambda sent: {**sent, "c": sent["b"]}, "differs in 'c'"),
    "a_missing_array": (lambda sent: {k: v for k, v in sent.items() if k != "b"}, "differs in 'b'"),
    "scales_alone": (lambda sent: {SCALES: sent[SCALES]}, "differs in"),
}


@pytest.mark.parametrize("attack", INT8_ATTACKS)
def test_a_hostile_encoding_is_refused(attack: str) -> None:
    """Whatever an organisation writes by hand is refused before it is multiplied out."""
    change, reason = INT8_ATTACKS[attack]
    sent = load(encode_update(UPDATE, "int8"))
    decode_update(save(sent), UPDATE, "int8")
    content = save({k: np.ascontiguousarray(v) for k, v in change(sent).items()})
    with pytest.raises(UpdateRejected, match=reason):
        decode_update(content, UPDATE, "int8")


@pytest.mark.parametrize("asked", PRECISIONS)
@pytest.mark.parametrize("sent", PRECISIONS)
def test_another_precision_than_was_asked_for_is_refused(
    asked: UpdatePrecision, sent: UpdatePrecision
) -> None:
    """It is not guessed from the bytes: the settings say it, and they are what was agreed on."""
    content = encode_update(UPDATE, sent)
    if asked == sent:
        assert set(decode_update(content, UPDATE, asked)) == set(UPDATE)
        return
    with pytest.raises(UpdateRejected):
        decode_update(content, UPDATE, asked)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_scales_where_none_belong_are_refused(precision: UpdatePrecision) -> None:
    """They are an array like any other that the model does not have."""
    sent = {**load(encode_update(UPDATE, precision)), SCALES: UPDATE["b"]}
    content = save({name: value.astype(sent["a"].dtype) for name, value in sent.items()})
    with pytest.raises(UpdateRejected, match=r"differs in '\.scales'"):
        decode_update(content, UPDATE, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bytes_cut_short_are_refused(precision: UpdatePrecision) -> None:
    """Or of nothing at all."""
    content = encode_update(UPDATE, precision)
    for cut in (b"", content[:-1], content[:7]):
        with pytest.raises(ProtocolError, match="safetensors"):
            decode_update(cut, UPDATE, precision)


def test_the_largest_numbers_that_8_bits_can_say_are_finite() -> None:
    """-128 times the largest scale, which `encode_update` never writes."""
    sent = load(encode_update(UPDATE, "int8"))
    extreme = {**sent, "b": np.array([-128, 127], np.int8)}
    scales = np.full(4, np.finfo(np.float32).max / 128, np.float32)
    found = decode_update(save({**extreme, SCALES: scales}), UPDATE, "int8")
    assert np.isfinite(found["b"]).all()


def test_small_is_small() -> None:
    """Half and a quarter of the bytes, but for the header and the scales."""
    update = {"w": np.ones((64, 1024), np.float32)}
    full, half, quarter = (len(encode_update(update, precision)) for precision in PRECISIONS)
    assert half < 0.51 * full
    assert quarter < 0.26 * full


@pytest.mark.parametrize("precision", PRECISIONS)
def test_more_bytes_than_an_update_takes_are_refused(precision: UpdatePrecision) -> None:
    """Whatever is in them, and before they are unpacked; how many it takes is known exactly."""
    sent = encode_update(UPDATE, precision)
    assert len(sent) == update_bytes(UPDATE, precision)
    with pytest.raises(UpdateRejected, match="bytes of an update, got"):
        decode_update(sent + bytes(SPARE_BYTES + 1), UPDATE, precision)
