"""An open vault file with its key: what reads and changes of it have in common."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from veilface_client.key_providers import KeyProvider
from veilface_client.vault import store
from veilface_client.vault.changes import Action, Change
from veilface_client.vault.epochs import Epoch, open_epoch, read_state
from veilface_client.vault.roots import verify_state


@dataclass(frozen=True, kw_only=True)
class View:
    """The vault as it is at one moment."""

    connection: sqlite3.Connection
    epoch: Epoch


class Session:
    """One connection, used by one thread at a time."""

    def __init__(self, path: Path, provider: KeyProvider, *, verify: bool = True) -> None:
        """Open the file and its key.

        Raises:
            WrongKey: the provider's passphrase, key or token is another vault's.
            VaultError: the file is missing, damaged, altered or of another format.
        """
        self.path = path
        self.provider = provider
        self.acknowledged = 0  # the generation up to which the access log holds the entries
        self._lock = threading.RLock()
        self._connection = store.connect(path)
        try:
            with store.translated(path), store.reading(self._connection):
                self._epoch = open_epoch(self._connection, provider)
                if verify:
                    verify_state(self._connection, self._epoch)
            # An erasure that was cut off before its end is finished here.
            self._is_truncated = self._truncate()
        except BaseException:
            self._connection.close()
            raise

    @property
    def is_truncated(self) -> bool:
        """Whether the WAL was emptied since the last erasure; each change tries again."""
        return self._is_truncated

    def close(self) -> None:
        """Write down what was acknowledged, and close the file."""
        with self._lock, store.translated(self.path):
            try:
                with store.writing(self._connection):
                    self._clear_outbox()
            finally:
                self._connection.close()

    @contextmanager
    def reading(self) -> Iterator[View]:
        """See the vault as it is now."""
        with self._lock, store.translated(self.path), store.reading(self._connection):
            self._catch_up()
            yield View(connection=self._connection, epoch=self._epoch)

    @contextmanager
    def changing(self, action: Action) -> Iterator[Change]:
        """Hold the vault alone; what was done is on disk when this ends, or undone.

        Raises:
            VaultError: what would be built upon was altered, or the file cannot be written.
        """
        with self._lock, store.translated(self.path):
            with store.writing(self._connection):
                self._catch_up()
                state = verify_state(self._connection, self._epoch)
                self._clear_outbox()
                change = Change(self._connection, self._epoch, state)
                yield change
                change.finish(action)
            is_erasure = change.epoch != self._epoch
            self._epoch = change.epoch
            if is_erasure or not self._is_truncated:
                self._is_truncated = self._truncate()

    def _catch_up(self) -> None:
        """Open the key again if another process started a new epoch."""
        if read_state(self._connection).epoch != self._epoch.number:
            self._epoch = open_epoch(self._connection, self.provider)

    def _clear_outbox(self) -> None:
        self._connection.execute("DELETE FROM outbox WHERE generation <= ?", (self.acknowledged,))

    def _truncate(self) -> bool:
        return store.truncate_wal(self._connection)
