"""The vault as a whole: checked, saved, put back, its key changed or recovered."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

from veilface_client import home, roles
from veilface_client.access_log import AccessLog
from veilface_client.key_providers import KeyProvider
from veilface_client.key_providers.recovery import split
from veilface_client.recognition.desk import Desk
from veilface_client.roles import Actor
from veilface_client.vault.backup import Restored, restore
from veilface_client.vault.check import Finding
from veilface_common.crypto.envelope import KEY_BYTES
from veilface_common.crypto.signing import load_signing_key
from veilface_common.errors import LogError, VaultError

SHARES, NEEDED = 5, 3


def check(desk: Desk, actor: Actor) -> list[Finding]:
    """Open and compare every key, record and template; return what is wrong. Raises AccessDenied.

    The desk may have been opened without verifying.
    """
    desk.verify_may(actor, "check")
    known = desk.log.newest_root()
    found = desk.vault.check(*known) if known else desk.vault.check()
    try:
        desk.log.verify_signatures()
    except LogError as error:
        action = "restore the log; what it says of the vault cannot be trusted"
        found.append(Finding(what="log", where="the access log", problem=str(error), action=action))
    return found


def back_up(desk: Desk, actor: Actor, templates: Path, keys: Path) -> int:
    """Write the two parts of a backup and return the generation that they are of.

    Raises:
        AccessDenied: they may not.
        VaultError: a part is there already, or cannot be written.
    """
    desk.verify_may(actor, "backup")
    generation = desk.vault.back_up(templates, keys)
    desk.write("note", actor, "done", reason="backup", details={"of_generation": generation})
    return generation


def restore_home(folder: Path, templates: Path, keys: Path, provider: KeyProvider) -> Restored:
    """Put a vault back from both parts of a backup; the one that is there is kept beside it.

    Raises:
        WrongKey: the provider is not that of the backup.
        VaultError, LogError: a part cannot be used, or the log cannot be written.
    """
    path = folder / home.VAULT
    signing_key = load_signing_key(folder / home.LOG_KEY)
    with AccessLog.open(folder / home.LOG, signing_key) as log:
        known = log.newest_root()
    draft = path.with_name(f"{path.name}.restored")
    draft.unlink(missing_ok=True)
    done = restore(templates, keys, draft, provider, known[0] if known else 0)
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        there = folder / name
        if there.exists():
            there.replace(folder / f"{name}.before-restore")
    draft.replace(path)
    with Desk(folder, provider):  # writes down that it was restored
        pass
    return done


def rotate(desk: Desk, actor: Actor, provider: KeyProvider | None = None) -> int:
    """Seal everybody's keys under a new key, wrapped by a new provider if one is given.

    Raises:
        AccessDenied: they may not.
        VaultError, LogError: it could not be done or written down.
    """
    desk.verify_may(actor, "keys")
    with desk.changes:
        done = desk.vault.rotate(provider)
        desk.settle(actor)
        desk.unchanged()
    return done.epoch_after


def make_shares(desk: Desk, actor: Actor) -> list[str]:
    """Make a recovery key and return its shares, shown this once; older shares open nothing more.

    Raises:
        AccessDenied: they may not.
        VaultError, LogError: it could not be done or written down.
    """
    desk.verify_may(actor, "keys")
    key = secrets.token_bytes(KEY_BYTES)
    details = {"shares": SHARES, "needed": NEEDED}
    with desk.changes:
        desk.vault.set_recovery(key)
        desk.settle(actor, kind="note", reason="recovery shares", details=details)
        desk.unchanged()
    return split(key, threshold=NEEDED, shares=SHARES)


def recover(desk: Desk, actor: Actor, provider: KeyProvider) -> int:
    """Give a vault that was opened by recovery shares a new provider of every day.

    Three people of five brought their shares: that is the consent that this act takes.

    Raises:
        VaultError, LogError: it could not be done or written down.
    """
    if desk.vault.session.provider.kind != "recovery":
        raise VaultError("expected a vault that recovery shares opened, got another")
    if not actor.may("recover"):
        roles.verify_may(actor, "recover")
    done = desk.vault.rotate(provider)
    desk.settle(actor, kind="recovered", details={"needed": NEEDED})
    desk.settings = replace(desk.settings, key=home.KeySource(kind=provider.kind))
    home.save_settings(desk.folder, desk.settings)
    return done.epoch_after
