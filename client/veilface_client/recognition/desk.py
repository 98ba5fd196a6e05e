"""The open house: vault, gallery, log, model, and what keeps them in step.

Whatever is done through a door is a function of this folder that takes the desk and who asks; each
begins with `Desk.verify_may`, so that one table (`roles`) holds for every door.
"""

from __future__ import annotations

import hashlib
import threading
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from veilface_client import home, roles
from veilface_client.access_events import Detail, Event, Kind, Outcome
from veilface_client.access_log import AccessLog, Clock, utc_now
from veilface_client.embedding import Embedder
from veilface_client.faces import Aligned, align_face, find_face, open_detector
from veilface_client.gallery import Gallery, load_gallery
from veilface_client.images import Pixels
from veilface_client.key_providers import KeyProvider
from veilface_client.model_store import adopt_clear_model
from veilface_client.quality import GATE
from veilface_client.recognition.answers import UnknownPerson
from veilface_client.recognition.in_use import ModelInUse
from veilface_client.roles import Act, Actor
from veilface_client.tokens import Users
from veilface_client.vault import Sample, Segment, Vault
from veilface_client.vault.changes import Action
from veilface_client.vault.records import Mode
from veilface_common import typed_json
from veilface_common.budget.entries import canonical
from veilface_common.crypto.signing import SigningKey, load_signing_key
from veilface_common.errors import AccessDenied, VaultError

_KINDS: Mapping[Action, Kind] = {
    "enrol": "enrolled",
    "add": "added",
    "update": "consent-changed",
    "erase": "forgotten",
    "rotate": "vault-rotated",
    "drop": "migrated",
    "restore": "restored",
    "recovery": "recovered",
    "create": "note",
    "touch": "note",
    "secret": "note",
}


_SETTINGS = "settings digest"


class Desk:
    """An organisation's recognizer, unlocked. Threads may share it; processes open their own."""

    def __init__(
        self, folder: Path, provider: KeyProvider, clock: Clock = utc_now, *, verify: bool = True
    ) -> None:
        """Open the organisation in `folder`, and write down what a crash left unwritten.

        Raises:
            ConfigError: there is none.
            WrongKey: the provider does not open its vault.
            VaultError: the vault is damaged, altered, or older than the log knows it.
            LogError: the log is damaged, altered, or older than the vault.
            ArtifactError: a model that an older version left in clear cannot be trusted.
        """
        self.folder = folder
        self.clock = clock
        self.settings = home.load_settings(folder)
        self.detector = open_detector(self.settings.detector)
        self.signing_key: SigningKey = load_signing_key(folder / home.LOG_KEY)
        unlock = Vault.unlock if verify else Vault.unsafe_unlock
        self.vault = unlock(folder / home.VAULT, provider)
        self._lock = threading.RLock()
        # Held by whoever changes the vault, from what is checked first until memory follows; taken
        # before the log is held, never inside. Else an entry could name another's change.
        self.changes = threading.RLock()
        try:
            self.log = AccessLog.open(folder / home.LOG, self.signing_key, clock)
        except BaseException:
            self.vault.close()
            raise
        self._in_use = ModelInUse(folder, self.vault)
        self._seen = -1  # generation of what is in memory
        self._names: dict[str, str] = {}
        self._people: dict[str, str] = {}
        self._gallery = Gallery(0)
        try:
            if verify:
                self._verify_in_step()
                is_new = self.log.newest_root() is None
                why = "the vault was made" if is_new else "found after a crash"
                self.settle(roles.TERMINAL, reason=why)
                self._note_settings()
                self._note_model()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close vault and log; what was done is on disk already."""
        self.log.close()
        self.vault.close()

    @property
    def users(self) -> Users:
        """The accounts of the service."""
        return Users(self.vault)

    def actor(self, token: str) -> Actor:
        """Return who holds a token; that nobody does is written down.

        Raises:
            AccessDenied: nobody does, or it ended.
        """
        try:
            return self.users.actor(token, self.clock())
        except AccessDenied:
            self.write("user-failed", roles.NOBODY, "failed", reason="token")
            raise

    @property
    def model(self) -> str:
        """The digest of the model in use; empty while none is accepted."""
        return self._in_use.digest

    @property
    def embedder(self) -> Embedder:
        """What embeds, as the vault is now.

        Raises:
            ConfigError: no model is accepted yet.
            ArtifactError: its files are missing or altered.
        """
        with self._lock:
            self._refresh()
            return self._in_use.embedder

    def verify_may(self, actor: Actor, act: Act, second: Actor | None = None) -> None:
        """Do nothing if the table lets them; a refusal is written down.

        Raises:
            AccessDenied: it does not.
        """
        try:
            roles.verify_may(actor, act, second)
        except AccessDenied:
            self.write("refused", actor, "refused", reason="role", details={"act": act})
            raise

    def write(
        self,
        kind: Kind,
        actor: Actor,
        outcome: Outcome,
        *,
        subject: str | None = None,
        reason: str = "",
        second: Actor | None = None,
        details: Mapping[str, Detail] | None = None,
    ) -> None:
        """Write down what happened, where the vault did not change."""
        event = Event(
            actor=actor.name,
            role=actor.role,
            outcome=outcome,
            subject=subject,
            reason=reason,
            second=second.name if second else "",
            details=details or {},
        )
        self.log.append(kind, event)

    def settle(
        self,
        actor: Actor,
        *,
        kind: Kind | None = None,
        reason: str = "",
        second: Actor | None = None,
        details: Mapping[str, Detail] | None = None,
    ) -> None:
        """Write down what the vault changed and the log does not hold yet.

        Args:
            actor: who asked for it.
            kind: of the entry, where it does not follow from the change.
            reason: why.
            second: who consented to it.
            details: figures that anybody may read.
        """
        with self.log.exclusive():
            known = self.log.newest_root()
            pending = self.vault.pending()
            for entry in pending:
                if known is None or entry.generation > known[0]:
                    for number, subject in enumerate(entry.pseudonyms or (None,)):
                        is_last = number == max(0, len(entry.pseudonyms) - 1)
                        event = Event(
                            actor=actor.name,
                            role=actor.role,
                            outcome="done",
                            subject=subject,
                            reason=reason or ("last use" if entry.action == "touch" else ""),
                            second=second.name if second else "",
                            generation=entry.generation if is_last else None,
                            root=entry.root if is_last else None,
                            details=details or {},
                        )
                        asked = kind if entry is pending[-1] else None
                        self.log.append(asked or _KINDS[entry.action], event)
                self.vault.acknowledge(entry.generation)

    @contextmanager
    def gallery(self) -> Iterator[Gallery]:
        """Hold the gallery, as the vault is now, whichever process changed it."""
        with self._lock:
            self._refresh()
            yield self._gallery

    def look(self, photo: bytes) -> Aligned:
        """Return the one face in a picture file.

        Raises:
            FaceRefused: there is none, more than one, or it is not good enough.
            DataError: it is no picture.
        """
        return find_face(photo, self.detector)

    def look_at(self, pixels: Pixels) -> Aligned:
        """Return the one face in a picture, uint8 [H, W, 3]. Raises FaceRefused."""
        face = align_face(pixels, self.detector)
        GATE.verify(face.quality)
        return face

    def template(self, face: Aligned) -> NDArray[np.float32]:
        """Return the template of a face, [D], unit length."""
        return self.embedder.embed(face.pixels)

    def used(self, person: str) -> None:
        """Write down, once a day, that a person was recognised: disuse ends a retention."""
        today = self.clock().date()
        if self.vault.record(person).last_use == today.isoformat():
            return
        with self.changes:
            self.vault.touch({person: today})
            self.settle(roles.TERMINAL)
            self.unchanged()

    def names(self) -> Mapping[str, str]:
        """Return {name: the vault's name for the person} of everybody."""
        with self._lock:
            self._refresh()
            return self._names

    def name_of(self, person: str) -> str:
        """Return a person's name."""
        with self._lock:
            return self._people[person]

    def person(self, name: str) -> str:
        """Return the vault's name for the person of this name.

        Raises:
            UnknownPerson: there is none.
        """
        found = self.names().get(unicodedata.normalize("NFC", name).strip())
        if found is None:
            raise UnknownPerson(
                "expected the name of somebody who is enrolled, got another",
                hint="veilface people shows the names",
            )
        return found

    def templates(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return everybody's templates [N, D] and whose they are [N], holders left out."""
        vectors: list[NDArray[np.float32]] = []
        owners: list[int] = []
        numbers: dict[bytes, int] = {}
        for segment in self.vault.segments(self.model):
            vectors.append(segment.vectors.astype(np.float32))
            raw = (owner.tobytes() for owner in segment.owners)
            owners.extend(numbers.setdefault(owner, len(numbers)) for owner in raw)
        if not vectors:
            return np.empty((0, self.embedder.dimension), np.float32), np.empty(0, np.int64)
        found = np.concatenate(vectors)
        return found / np.linalg.norm(found, axis=1, keepdims=True), np.array(owners, np.int64)

    def joined(self, person: str, name: str, samples: Sequence[Sample], mode: Mode) -> None:
        """Follow, in memory, what this desk has just added to the vault."""
        with self._lock:
            if not self._is_next():
                return
            self._people[person], self._names[name] = name, person
            if mode == "organisation":
                owner = np.frombuffer(bytes.fromhex(person), dtype=np.uint8)
                vectors = np.stack([sample.vector for sample in samples]).astype(np.float16)
                owners = np.tile(owner, (len(samples), 1))
                self._gallery.add(Segment(owners=owners, vectors=vectors))

    def left(self, people: Sequence[str]) -> None:
        """Follow, in memory, whom this desk has just erased from the vault."""
        with self._lock:
            if not self._is_next():
                return
            for person in people:
                self._names.pop(self._people.pop(person, ""), None)
                self._gallery.remove(person)

    def forget_memory(self) -> None:
        """Read everybody anew when next asked: under another model, nothing here is right."""
        with self._lock:
            self._seen = -1

    def unchanged(self) -> None:
        """Follow, in memory, a change of the vault that moved nobody."""
        with self._lock:
            self._is_next()

    def _is_next(self) -> bool:
        """Say whether memory is one change behind the vault, and move on; else it is read anew."""
        if self.vault.state.generation != self._seen + 1:
            return False
        self._seen += 1
        return True

    def _refresh(self) -> None:
        generation = self.vault.state.generation
        if generation == self._seen:
            return
        people = self.vault.people()
        self._people = {person.person: person.record.name for person in people}
        self._names = {name: person for person, name in self._people.items()}
        self._in_use.follow()
        self._gallery = load_gallery(self.vault.segments(self.model), self._in_use.dimension)
        self._seen = generation

    def _note_settings(self) -> None:
        """Write down that `home.json` is not what it was: it is a file that anybody may edit."""
        kept = replace(self.settings, model="", key=home.KeySource())  # those are bound elsewhere
        digest = hashlib.sha256(canonical(typed_json.to_json(kept)).encode()).digest()
        before = self.vault.secret(_SETTINGS)
        if before == digest:
            return
        self.vault.set_secret(_SETTINGS, digest)
        self.settle(roles.TERMINAL, reason="settings" if before is None else "settings changed")

    def _note_model(self) -> None:
        """Open the model in use; seal one that an older version of the program left in clear."""
        if adopt_clear_model(self.folder, self.vault, self.settings.model):
            self.settle(roles.TERMINAL, kind="note", reason="the model is sealed now")
        self._in_use.follow()
        if self.settings.model != self.model:  # an acceptance was cut off, or somebody edited it
            self.settings = replace(self.settings, model=self.model)
            home.save_settings(self.folder, self.settings)

    def _verify_in_step(self) -> None:
        """Compare the vault with the newest root that the log holds.

        Raises:
            VaultError: an older vault was put back, or another one.
        """
        known = self.log.newest_root()
        state = self.vault.state
        waiting = {entry.generation for entry in self.vault.pending()}
        if known is None or state.generation > known[0]:
            missing = set(range((known[0] if known else 0) + 1, state.generation + 1)) - waiting
            if missing:
                raise VaultError(
                    "expected a log that holds all that the vault did, got an older one",
                    hint="an old log was put back? Restore the newest; see docs/vault.md",
                )
            return
        if (state.generation, state.root) != known:
            raise VaultError(
                f"expected the vault of generation {known[0]} that the log remembers, "
                f"got generation {state.generation}",
                hint="an old vault was put back? Restore the newest; see docs/vault.md",
            )
