"""A wrapped key as the vault stores it.

    {"format":1,"key_id":HEX [16],"kind":"passphrase","parameters":{...},"sealed":HEX [60]}

as canonical JSON: sorted keys, no spaces. `parameters` are the provider's: a salt and costs, or the
names of a token and its key; never a secret. `key_id` names the wrapping key. `sealed` is the key
under AES-256-GCM (`envelope`; a recovery key's is HPKE, [80]), bound to all else in the record.

Rules, in the order in which they are applied:

1. at most 4 KiB, JSON, of this format
2. nothing missing, unknown or spelt otherwise: written again it gives the same bytes
3. of the kind that the provider is
4. the key id is the wrapping key's; nothing is decrypted before
5. the seal opens, and a key of 32 bytes is in it
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from veilface_common.budget.entries import canonical
from veilface_common.crypto import envelope
from veilface_common.errors import VaultError, WrongKey

FORMAT = 1
MOST_BYTES = 4096

Parameters = Mapping[str, str | int]
Cipher = Callable[[bytes, bytes], bytes]  # (plain or sealed, associated) -> sealed or plain


@dataclass(frozen=True, kw_only=True)
class Wrapped:
    """One wrapped key: read, but not opened."""

    kind: str
    parameters: Parameters
    key_id: bytes
    sealed: bytes

    def to_bytes(self) -> bytes:
        """Return what the vault stores."""
        body = {
            "format": FORMAT,
            "kind": self.kind,
            "parameters": self.parameters,
            "key_id": self.key_id.hex(),
            "sealed": self.sealed.hex(),
        }
        return canonical(body).encode()


def parse_wrapped(content: bytes, kind: str | None = None) -> Wrapped:
    """Return the record in `content`, for a provider of this `kind` if one is given.

    Raises:
        VaultError: it is damaged, of another format, or another kind of provider's.
    """
    if len(content) > MOST_BYTES:
        raise damaged()
    try:
        body = json.loads(content)
        _check_format(body["format"])
        record = Wrapped(
            kind=_text(body["kind"]),
            parameters={name: _scalar(value) for name, value in body["parameters"].items()},
            key_id=bytes.fromhex(body["key_id"]),
            sealed=bytes.fromhex(body["sealed"]),
        )
        exact = record.to_bytes() == content
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise damaged() from None
    if not exact:
        raise damaged()
    if kind is not None and record.kind != kind:
        raise VaultError(
            f"expected a key wrapped by {kind}, got one wrapped by {record.kind[:20]!r}",
            hint="unlock with the kind of key that the vault was made with",
        )
    return record


def wrap_with(seal: Cipher, key_id: bytes, kind: str, parameters: Parameters, key: bytes) -> bytes:
    """Return `key` [32] as the wrapping key of this id seals it."""
    if len(key) != envelope.KEY_BYTES:
        raise ValueError(f"expected a key of {envelope.KEY_BYTES} bytes, got {len(key)}")
    sealed = seal(key, _associated(kind, parameters, key_id))
    return Wrapped(kind=kind, parameters=parameters, key_id=key_id, sealed=sealed).to_bytes()


def unwrap_with(unseal: Cipher, key_id: bytes, record: Wrapped, hint: str) -> bytes:
    """Return the key [32] that `wrap_with` sealed.

    Raises:
        WrongKey: another wrapping key sealed it; `hint` says what to try.
        VaultError: it was altered since.
    """
    if record.key_id != key_id:  # neither is secret
        raise WrongKey(f"expected the {record.kind} that wrapped this key, got another", hint=hint)
    key = unseal(record.sealed, _associated(record.kind, record.parameters, key_id))
    if len(key) != envelope.KEY_BYTES:
        raise damaged()
    return key


def wrap_under(wrapping_key: bytes, kind: str, parameters: Parameters, key: bytes) -> bytes:
    """Return `key` [32] wrapped under `wrapping_key` [32]."""
    seal = partial(envelope.seal, wrapping_key)
    return wrap_with(seal, envelope.key_id(wrapping_key), kind, parameters, key)


def unwrap_under(wrapping_key: bytes, record: Wrapped, hint: str) -> bytes:
    """Return the key [32] that `wrap_under` sealed. Raises as `unwrap_with` does."""
    unseal = partial(envelope.unseal, wrapping_key)
    return unwrap_with(unseal, envelope.key_id(wrapping_key), record, hint)


def damaged() -> VaultError:
    """Return the error of a record that is not as we write it."""
    return VaultError(
        "expected a wrapped key, got damaged or altered bytes",
        hint="restore the vault from a backup",
    )


def _associated(kind: str, parameters: Parameters, key_id: bytes) -> bytes:
    return envelope.associated("wrapped key", FORMAT, kind, canonical(parameters), key_id)


def _check_format(found: object) -> None:
    if type(found) is not int:
        raise TypeError
    if found != FORMAT:
        raise VaultError(
            f"expected a wrapped key of format {FORMAT}, got format {str(found)[:9]}",
            hint="open it with the release of Veilface that wrote it",
        )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _scalar(value: object) -> str | int:
    if not isinstance(value, str) and type(value) is not int:
        raise TypeError
    return value
