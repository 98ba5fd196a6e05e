"""An organisation's folder: what `veilface init` makes, and what everything else opens.

DIR/home.json      settings, nothing secret: name, model, detector, limits, what unlocks the vault
DIR/models/SHA/    the model in use, by the SHA-256 of its weights
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
from veilface_client.vault import create_vault
from veilface_common import typed_json
from veilface_common.artifact import MANIFEST, WEIGHTS, load_model
from veilface_common.crypto.signing import SigningKey, save_signing_key
from veilface_common.errors import ArtifactError, ConfigError
from veilface_common.files import sync_folder, write_atomically

SETTINGS = "home.json"
VAULT = "vault.db"
LOG = "log.db"
LOG_KEY = "log.key"
MODELS = "models"
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
    model: str  # SHA-256 of the weights, hex
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
    model: Path,
    provider: KeyProvider,
    clock: Clock = utc_now,
) -> Settings:
    """Make an organisation's folder, whole or not at all.

    Args:
        folder: does not exist yet, or is empty.
        settings: as they shall be, but for the model, which is filled in.
        model: the folder of a released model.
        provider: what wraps the vault's key.
        clock: for the log.

    Raises:
        ConfigError: there is something in the folder already.
        ArtifactError: the model cannot be trusted.
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
    made = replace(settings, model=add_model(draft, model))
    key = SigningKey.from_seed(secrets.token_bytes(32))
    save_signing_key(draft / LOG_KEY, key)
    create_log(draft / LOG, key, made.name, clock).close()
    create_vault(draft / VAULT, made.name, provider).close()
    save_settings(draft, made)
    draft.rename(folder)
    sync_folder(folder.parent)
    return made


def add_model(folder: Path, model: Path) -> str:
    """Copy a released model into the organisation's folder and return its digest.

    Raises:
        ArtifactError: it cannot be trusted.
    """
    _, manifest = load_model(model)
    target = model_folder(folder, manifest.sha256)
    if not (target / MANIFEST).exists():
        target.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, MANIFEST):
            write_atomically(target / name, (model / name).read_bytes())
    load_model(target)
    return manifest.sha256


def remove_model(folder: Path, digest: str) -> None:
    """Remove a model that nothing was made with any more."""
    shutil.rmtree(model_folder(folder, digest), ignore_errors=True)


def model_folder(folder: Path, digest: str) -> Path:
    """Return where a model lies."""
    return folder / MODELS / digest[:16]


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
