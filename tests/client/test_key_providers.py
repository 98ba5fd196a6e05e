"""A wrapped key opens with what wrapped it; all else is named, and refused before decrypting."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from veilface_client.key_providers import KeyProvider, passphrase, provider_kind
from veilface_client.key_providers.key_file import KeyFileProvider
from veilface_client.key_providers.passphrase import CHEAPEST, PassphraseProvider
from veilface_client.key_providers.recovery import RecoveryKey
from veilface_common.crypto import envelope
from veilface_common.errors import VaultError, WrongKey

KEY = bytes(range(100, 132))
SECRET = bytes(range(32))
PASSPHRASE = "f\u00fcr correct horse battery staple"  # noqa: S105 -- of these tests alone

Make = Callable[[], KeyProvider]
MAKERS: dict[str, Make] = {
    "passphrase": lambda: PassphraseProvider(PASSPHRASE, CHEAPEST),
    "key-file": lambda: KeyFileProvider(SECRET),
    "recovery": lambda: RecoveryKey(SECRET),
}
STRANGERS: dict[str, Make] = {
    "passphrase": lambda: PassphraseProvider("f\u00fcr correct horse battery stable", CHEAPEST),
    "key-file": lambda: KeyFileProvider(bytes(32)),
    "recovery": lambda: RecoveryKey(bytes(32)),
}
# Written once, by format 1: what these bytes hold must open for ever.
GOLDEN = {
    "passphrase": (
        b'{"format":1,"key_id":"17b2700d1ff2163e3406bd6351bd38e3","kind":"passphrase",'
        b'"parameters":{"iterations":1,"lanes":1,"memory_kib":8,"salt":"78551b40d8b337f075ed9c94400ac1ce"},'
        b'"sealed":"e6b88c34291835872de21066c824ffd618426dc16b82b1c66ac5148ab2e594df61ffc6'
        b'8ad88a7559d80cb7d824af3baa2dc3288db28541f9112d9682"}'
    ),
    "key-file": (
        b'{"format":1,"key_id":"e11a5136353702707cedfb9a60a6bf44","kind":"key-file",'
        b'"parameters":{},'
        b'"sealed":"26b2fd9a554bac96cb06faf6523588268235b31a968d3c232e8f9ef4be5889f0496825'
        b'01d31708fc52f119bd0c619743696f5951fb389eb3cb410bff"}'
    ),
    "recovery": (
        b'{"format":1,"key_id":"326248d750a8284eba5587307a76ad07","kind":"recovery",'
        b'"parameters":{},'
        b'"sealed":"78e95852e3b0e9d344c93b09b960ce59e21f68b80c7de2cf7d1850fe9a043221dcca66'
        b"ae2bef546bb06cef008c6b0e08e5b8bdb139f2f9988ff440736c5e0a8af1dc027eaf136e5de07536"
        b'0b4fc3fcba"}'
    ),
}


@pytest.fixture(params=list(MAKERS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def altered(wrapped: bytes, **changes: Any) -> bytes:
    """Return the record with other values, still written canonically."""
    body = json.loads(wrapped) | changes
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def test_a_key_comes_back(kind: str) -> None:
    """Also from a second object made of the same secret, as after a restart."""
    wrapped = MAKERS[kind]().wrap(KEY)
    assert MAKERS[kind]().unwrap(wrapped) == KEY
    assert MAKERS[kind]().kind == kind == provider_kind(wrapped)


def test_no_wrapped_key_shows_the_key_or_the_secret(kind: str) -> None:
    """Neither as bytes nor in hex; and the same key wrapped twice differs."""
    wrapped = MAKERS[kind]().wrap(KEY)
    for secret in (KEY, SECRET, PASSPHRASE.encode()):
        assert secret not in wrapped
        assert secret.hex().encode() not in wrapped
    assert MAKERS[kind]().wrap(KEY) != wrapped


def test_golden_bytes_still_open(kind: str) -> None:
    """A vault of today opens with the Veilface of tomorrow, and is written in the same form."""
    assert MAKERS[kind]().unwrap(GOLDEN[kind]) == KEY
    golden, fresh = json.loads(GOLDEN[kind]), json.loads(MAKERS[kind]().wrap(KEY))
    assert {**fresh, "sealed": 0, "key_id": 0}.keys() == golden.keys()
    assert len(fresh["sealed"]) == len(golden["sealed"])
    assert fresh["parameters"].keys() == golden["parameters"].keys()


def test_each_altered_byte_is_refused(kind: str) -> None:
    """Bits that change digits, letters and the case of hex."""
    provider = MAKERS[kind]()
    wrapped = provider.wrap(KEY)
    for place in range(len(wrapped)):
        for bit in (0x01, 0x20):
            other = bytearray(wrapped)
            other[place] ^= bit
            with pytest.raises(VaultError):
                provider.unwrap(bytes(other))


def test_another_secret_is_a_wrong_key_and_nothing_is_decrypted(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GCM opens for more keys than one: the id is compared before."""
    wrapped = MAKERS[kind]().wrap(KEY)
    forbid_decryption(monkeypatch)
    with pytest.raises(WrongKey) as caught:
        STRANGERS[kind]().unwrap(wrapped)
    assert caught.value.hint
    with pytest.raises(AssertionError, match="decrypted"):  # the guard itself works
        MAKERS[kind]().unwrap(wrapped)


def forbid_decryption(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise AssertionError("decrypted")

    class Suite:
        decrypt = staticmethod(fail)

    monkeypatch.setattr(envelope, "unseal", fail)
    monkeypatch.setattr("veilface_client.key_providers.recovery._SUITE", Suite)


@pytest.mark.parametrize(("kind", "other"), list(itertools.permutations(MAKERS, 2)))
def test_another_kind_of_provider_is_named(kind: str, other: str) -> None:
    """Whoever brings a key file to a vault with a passphrase reads so."""
    with pytest.raises(VaultError, match=f"wrapped by {kind}, got one wrapped by '{other}'") as e:
        MAKERS[kind]().unwrap(MAKERS[other]().wrap(KEY))
    assert not isinstance(e.value, WrongKey)


@pytest.mark.parametrize("version", [0, 2])
def test_another_format_is_named(kind: str, version: int) -> None:
    """Older or newer, whatever else is in it."""
    wrapped = altered(MAKERS[kind]().wrap(KEY), format=version, more={})
    with pytest.raises(VaultError, match=f"format 1, got format {version}") as caught:
        MAKERS[kind]().unwrap(wrapped)
    assert caught.value.hint


def test_parameters_of_another_record_are_refused() -> None:
    """The seal is bound to the whole record, not to the key id alone."""
    provider = KeyFileProvider(SECRET)
    with pytest.raises(VaultError, match="altered"):
        provider.unwrap(altered(provider.wrap(KEY), parameters={"token": "mine"}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 4000,
        b'{"format":' + b"9" * 4000 + b"}",
        b'{"format":true}',
        b'{"format":1,"key_id":"","kind":[],"parameters":{},"sealed":""}',
        b'{"format":1,"key_id":"","kind":"key-file","parameters":[],"sealed":""}',
        b'{"format":1,"key_id":"","kind":"key-file","parameters":{"a":[]},"sealed":""}',
        b'{"format":1,"key_id":1,"kind":"key-file","parameters":{},"sealed":""}',
        b'{"format":1,"key_id":"","kind":"\\ud800","parameters":{},"sealed":""}',
        b" " * 5000 + b"{}",
    ],
)
def test_rubbish_is_a_vault_error(kind: str, content: bytes) -> None:
    """Nothing but a clear error, whatever a disk or an attacker makes of the record."""
    for use in (MAKERS[kind]().unwrap, provider_kind):
        with pytest.raises(VaultError) as caught:
            use(content)
        assert len(str(caught.value)) < 200


def test_a_record_larger_than_ours_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile file does not choose how much is parsed."""
    wrapped = KeyFileProvider(SECRET).wrap(KEY)
    monkeypatch.setattr(json, "loads", lambda _: pytest.fail("parsed"))
    with pytest.raises(VaultError):
        provider_kind(wrapped + b" " * 4096)


def test_a_key_of_another_length_is_a_slip(kind: str) -> None:
    """Neither wrapped by us, nor accepted from somebody who knows the secret."""
    with pytest.raises(ValueError, match="32 bytes"):
        MAKERS[kind]().wrap(KEY[:16])


def test_a_short_key_inside_a_good_seal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """AES would take 16 bytes."""
    provider = KeyFileProvider(SECRET)
    wrapped = provider.wrap(KEY)
    monkeypatch.setattr(envelope, "unseal", lambda *_: KEY[:16])
    with pytest.raises(VaultError):
        provider.unwrap(wrapped)


def test_providers_show_no_secret(kind: str) -> None:
    """In a log, a traceback or a debugger's list."""
    provider = MAKERS[kind]()
    provider.unwrap(provider.wrap(KEY))
    for text in (repr(provider), str(provider), f"{[provider]}"):
        for secret in (KEY, SECRET, PASSPHRASE.encode()):
            assert secret.hex() not in text
            assert str(secret) not in text
        assert PASSPHRASE not in text


def test_a_passphrase_is_stretched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlock, then an erasure that wraps the next key, and another: one derivation."""
    wrapped = PassphraseProvider(PASSPHRASE, CHEAPEST).wrap(KEY)
    counted = []

    def counting(**settings: Any) -> object:
        counted.append(settings)
        return Argon2id(**settings)

    monkeypatch.setattr(passphrase, "Argon2id", counting)
    provider = PassphraseProvider(PASSPHRASE, CHEAPEST)
    assert provider.unwrap(wrapped) == KEY
    first, second = provider.wrap(bytes(32)), provider.wrap(SECRET)
    assert (provider.unwrap(first), provider.unwrap(second)) == (bytes(32), SECRET)
    assert len(counted) == 1


def test_a_weaker_record_does_not_weaken_the_next() -> None:
    """A key stretched cheaply long ago is wrapped at today's cost when it is wrapped again."""
    wrapped = PassphraseProvider(PASSPHRASE, CHEAPEST).wrap(KEY)
    stronger = passphrase.Argon2Costs(memory_kib=16, iterations=2, lanes=1)
    provider = PassphraseProvider(PASSPHRASE, stronger)
    assert provider.unwrap(wrapped) == KEY
    parameters = json.loads(provider.wrap(KEY))["parameters"]
    assert (parameters["memory_kib"], parameters["iterations"]) == (16, 2)
    assert parameters["salt"] != json.loads(wrapped)["parameters"]["salt"]


def test_the_usual_costs_are_those_of_rfc_9106() -> None:
    """64 MiB, three times, four lanes; said in the record, and wrapped and opened with them."""
    provider = PassphraseProvider(PASSPHRASE)
    wrapped = provider.wrap(KEY)
    parameters = json.loads(wrapped)["parameters"]
    del parameters["salt"]
    assert parameters == {"memory_kib": 65536, "iterations": 3, "lanes": 4}
    assert provider.unwrap(wrapped) == KEY


@pytest.mark.parametrize(
    "change",
    [
        {"memory_kib": 1 << 30},
        {"memory_kib": (1 << 20) + 1},
        {"memory_kib": 7},
        {"memory_kib": -1},
        {"memory_kib": 10**400},
        {"memory_kib": "8"},
        {"iterations": 17},
        {"iterations": 0},
        {"lanes": 17},
        {"lanes": 2},  # more than 8 KiB hold
        {"lanes": 0},
        {"salt": ""},
        {"salt": "00" * 1000},
        {"salt": "xyz"},
        {"salt": 5},
    ],
)
def test_hostile_costs_are_refused_before_any_work(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file must not take a terabyte, or a day."""
    provider = PassphraseProvider(PASSPHRASE, CHEAPEST)
    wrapped = provider.wrap(KEY)
    monkeypatch.setattr(passphrase, "Argon2id", lambda **_: pytest.fail("stretched"))
    parameters = json.loads(wrapped)["parameters"] | change
    with pytest.raises(VaultError) as caught:
        provider.unwrap(altered(wrapped, parameters=parameters))
    assert not isinstance(caught.value, WrongKey)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", ["memory_kib", "iterations", "lanes", "salt"])
def test_missing_costs_are_refused(name: str) -> None:
    """No default stands in for what the record does not say."""
    provider = PassphraseProvider(PASSPHRASE, CHEAPEST)
    wrapped = provider.wrap(KEY)
    parameters = json.loads(wrapped)["parameters"]
    del parameters[name]
    with pytest.raises(VaultError):
        provider.unwrap(altered(wrapped, parameters=parameters))


def test_a_passphrase_is_the_same_however_it_is_composed() -> None:
    """u with its dots as one character or as two."""
    composed, apart = "f\u00fcr", "fu\u0308r"
    wrapped = PassphraseProvider(composed, CHEAPEST).wrap(KEY)
    assert PassphraseProvider(apart, CHEAPEST).unwrap(wrapped) == KEY
