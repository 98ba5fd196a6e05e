"""An organisation's folder: what `veilface init` makes, and what everything else opens.

DIR/home.json      settings, nothing secret: name, model, detector, limits, what unlocks the vault
DIR/models/SHA/    the model in use, sealed, by the SHA-256 of its weights (`model_store`)
DIR/vault.db       people and templates, sealed (`vault`)
DIR/log.db         who did what (`access_log`), signed with
DIR/log.key        an Ed25519 key (0600); log.pub is what an auditor verifies it with
DIR/receipts/      of people who were forgotten
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from veilface_client.access_log import Clock, create_log, utc_now
from veilface_client.key_providers import KeyProvider
from veilface_client.limits import Limits
from veilface_client.model_store import add_model, read_model, use_model
from veilface_client.vault import Vault, create_vault
from veilface_common import artifact, typed_json
from veilface_common.crypto.signing import SigningKey, save_signing_key
from veilface_common.errors import ArtifactError, ConfigError
from veilface_common.files import sync_folder, write_atomically

SETTINGS = "home.json"
VAULT = "vault.db"
LOG = "log.db"
LOG_KEY = "log.key"
RECEIPTS = "receipts"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class KeySource:
    """How the vault is unlocked, without the secret itself."""

    kind: str = "passphrase"  # or key-file, pkcs11
    path: str = ""  # of a key file, or of a PKCS #11 module
    label: str = ""  # of a token


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an organisation decided on when it began, and may change since."""

    name: str
    model: str  # SHA-256 of the weights, hex, as the vault has it; empty: none is accepted yet
    detector: str = "haar"
    key: KeySource = field(default_factory=KeySource)
    false_match_rate: float = 0.01  # of verify, until calibrated otherwise
    false_positive_rate: float = 0.01  # of identify
    margin: float = 0.02  # by which the best must be ahead of the second best, in cosine
    retention_days: int = 1095  # where no date is given: three years
    keep_crops: bool = False  # sealed, so that a new model needs nobody to come again
    limits: Limits = field(default_factory=Limits)


def create_home(
    folder: Path,
    settings: Settings,
    model: Path | None,
    provider: KeyProvider,
    clock: Clock = utc_now,
) -> Settings:
    """Make an organisation's folder, whole or not at all.

    Args:
        folder: does not exist yet, or is empty.
        settings: as they shall be, but for the model, which is filled in.
        model: the folder of a model that nobody signs, such as a simulation writes; None: the first
            one is a federation's release, which is accepted later.
        provider: what wraps the vault's key.
        clock: for the log.

    Raises:
        ConfigError: there is something in the folder already.
        ArtifactError: the model cannot be trusted, or is a release, which `accept` verifies.
        VaultError, LogError: the files cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(
            f"expected no folder {folder} yet, or an empty one", hint="name another --home"
        )
    draft = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)  # of an `init` that did not end: nobody is in it
    (draft / RECEIPTS).mkdir(parents=True, mode=0o700)
    draft.chmod(0o700)
    key = SigningKey.from_seed(secrets.token_bytes(32))
    save_signing_key(draft / LOG_KEY, key)
    create_log(draft / LOG, key, settings.name, clock).close()
    with create_vault(draft / VAULT, settings.name, provider) as vault:
        made = replace(settings, model=_first_model(draft, vault, model))
    save_settings(draft, made)
    draft.rename(folder)
    sync_folder(folder.parent)
    return made


def _first_model(draft: Path, vault: Vault, folder: Path | None) -> str:
    if folder is None:
        return ""
    model = read_model(folder)
    if model.parsed.release is not None:
        raise ArtifactError(
            "expected a model that nobody signs, got a federation's release",
            hint="begin without --model; veilface join, then veilface model accept, verifies it",
        )
    artifact.network_of(model.parsed, model.weights, str(folder))
    digest = add_model(draft, vault, model)
    use_model(draft, vault, digest, release=None)
    return digest


def save_settings(folder: Path, settings: Settings) -> None:
    """Write the settings, whole or not at all."""
    body = {"schema": SCHEMA, **typed_json.to_json(settings)}
    write_atomically(folder / SETTINGS, (json.dumps(body, indent=2) + "\n").encode())


def load_settings(folder: Path) -> Settings:
    """Return the settings of the organisation in `folder`.

    Raises:
        ConfigError: there is none, or its settings are damaged.
    """
    try:
        body = json.loads((folder / SETTINGS).read_bytes())
    except OSError:
        raise ConfigError(
            f"expected an organisation in {folder}, got no {SETTINGS}",
            hint="veilface --home DIR init makes one",
        ) from None
    except ValueError:
        raise ConfigError(f"expected settings in {folder / SETTINGS}, got a damaged file") from None
    if not isinstance(body, Mapping) or body.get("schema") != SCHEMA:
        raise ConfigError(f"expected settings of schema {SCHEMA} in {folder / SETTINGS}")
    try:
        return typed_json.from_json(Settings, body, SETTINGS)
    except ArtifactError as error:
        raise ConfigError(str(error)) from None
