"""The coordinator's folder: what `veilface-server init` makes and everything else finds there.

SERVER/server.json          name, address, listen: {"schema": 1, ...}
SERVER/server.key, .pub     Ed25519: signs requests, records, invitations and releases
SERVER/storage.key          32 bytes: seals checkpoints
SERVER/tls/                 ca.key, ca.crt, link.key, link.crt: see `authority`
SERVER/members.json         who is invited, waiting, member or removed: see `register`
SERVER/runs/ID/             run.json, and what the rounds leave: see `runs`
SERVER/releases/0001/       models that were released
SERVER/flower/              Flower's own: FLWR_HOME, state.db, the bundle, a secret
SERVER/log/                 what each process said
"""

from __future__ import annotations

import json
import secrets
import stat
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from veilface_common.address import split_address
from veilface_common.crypto.signing import (
    SigningKey,
    load_signing_key,
    save_signing_key,
)
from veilface_common.errors import ArtifactError, ConfigError
from veilface_common.files import write_atomically
from veilface_common.invitation import verify_name
from veilface_server.authority import make_authority

SCHEMA = 1
SETTINGS = "server.json"
_STORAGE_KEY_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the coordinator decided at the beginning."""

    name: str  # of the federation
    address: str  # HOST:PORT by which organisations reach it
    listen: str  # HOST:PORT on this machine

    def __post_init__(self) -> None:
        verify_name(self.name)
        split_address(self.address)
        split_address(self.listen)


@dataclass(frozen=True)
class Home:
    """The folder, and where things are in it."""

    folder: Path

    @property
    def server_key(self) -> Path:
        """By which the coordinator signs."""
        return self.folder / "server.key"

    @property
    def storage_key(self) -> Path:
        """By which checkpoints are sealed."""
        return self.folder / "storage.key"

    @property
    def tls(self) -> Path:
        """The certificate authority and the certificate of the link."""
        return self.folder / "tls"

    @property
    def authority(self) -> Path:
        """The certificate that organisations trust."""
        return self.tls / "ca.crt"

    @property
    def runs(self) -> Path:
        """A folder for each run."""
        return self.folder / "runs"

    @property
    def releases(self) -> Path:
        """A folder for each released model."""
        return self.folder / "releases"

    @property
    def flower(self) -> Path:
        """Flower's own files."""
        return self.folder / "flower"

    @property
    def log(self) -> Path:
        """What each process said."""
        return self.folder / "log"


def create_home(folder: Path, settings: Settings, now: datetime) -> Home:
    """Make the folder with its keys; `server.json`, written last, makes it valid.

    Keys that are there already stay: new ones would be strangers to every organisation that joined,
    and would open no checkpoint. So a folder that lost its settings alone is mended by this.

    Raises:
        ConfigError: there is a coordinator's folder already.
    """
    if (folder / SETTINGS).exists():
        raise ConfigError(
            f"expected a new folder, got {folder}, which is a coordinator's already",
            hint="name another --home; its settings are changed in server.json",
        )
    home = Home(folder)
    for path in (folder, home.tls, home.runs, home.releases, home.flower, home.log):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    save_signing_key(home.server_key, _server_key(home))
    if not home.storage_key.exists():
        write_atomically(home.storage_key, secrets.token_bytes(_STORAGE_KEY_BYTES))
    if not home.authority.exists():  # written after its key
        make_authority(home.tls, settings.name, now)
    body = {"schema": SCHEMA, **asdict(settings)}
    write_atomically(folder / SETTINGS, (json.dumps(body, indent=2) + "\n").encode())
    return home


def open_home(folder: Path) -> tuple[Home, Settings]:
    """Return the folder and its settings, after the permissions of its keys were checked.

    Raises:
        ConfigError: there is none, others may write in it, or a setting cannot be used.
        KeyFileError: the key is missing, or open to others.
    """
    path = folder / SETTINGS
    try:
        body = json.loads(path.read_bytes())
    except PermissionError:
        raise ConfigError(
            f"expected to read {path}, got no permission", hint="run this as the folder's owner"
        ) from None
    except OSError:
        raise ConfigError(
            f"expected a coordinator's folder, got {folder} without {SETTINGS}",
            hint=f"veilface-server --home {folder} init --name NAME --address HOST:PORT",
        ) from None
    except ValueError:
        raise ArtifactError(f"expected settings in {path}, got a damaged file") from None
    home = Home(folder)
    settings = _settings(body, path)
    if stat.S_IMODE(folder.stat().st_mode) & 0o022:
        raise ConfigError(
            f"expected {folder} to be for its owner alone to write", hint=f"chmod 700 {folder}"
        )
    load_signing_key(home.server_key)
    return home, settings


def _server_key(home: Home) -> SigningKey:
    if home.server_key.exists():
        return load_signing_key(home.server_key)
    return SigningKey.from_seed(secrets.token_bytes(32))


def _settings(body: object, path: Path) -> Settings:
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        raise ArtifactError(f"expected settings of schema {SCHEMA} in {path}")
    wanted = ("name", "address", "listen")
    if not all(isinstance(body.get(key), str) for key in wanted):
        raise ArtifactError(f"expected {', '.join(wanted)} in {path}, as text")
    return Settings(**{key: body[key] for key in wanted})
