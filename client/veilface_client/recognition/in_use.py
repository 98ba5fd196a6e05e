"""The model that is in use, as the vault says; or why there is none to look at faces with."""

from __future__ import annotations

from pathlib import Path

from veilface_client.embedding import Embedder
from veilface_client.model_store import open_model, read_taken
from veilface_client.vault import Vault
from veilface_common.errors import ArtifactError, ConfigError, VeilfaceError


class ModelInUse:
    """What embeds, once a model was accepted. Whoever holds it takes care of threads."""

    def __init__(self, folder: Path, vault: Vault) -> None:
        self._folder, self._vault = folder, vault
        self.digest = ""
        self._embedder: Embedder | VeilfaceError = ConfigError(
            "no model is accepted yet", hint="veilface model accept"
        )

    @property
    def dimension(self) -> int:
        """The length of its templates; 0 without a model."""
        return 0 if isinstance(self._embedder, VeilfaceError) else self._embedder.dimension

    @property
    def embedder(self) -> Embedder:
        """What embeds.

        Raises:
            ConfigError: no model is accepted yet.
            ArtifactError: its files are missing or altered. The vault opens all the same, so that
                people can be forgotten, and another model accepted.
        """
        found = self._embedder
        if isinstance(found, VeilfaceError):
            raise type(found)(str(found), hint=found.hint)
        return found

    def follow(self) -> None:
        """Open the model that is in use now, whichever process accepted it.

        Raises:
            VaultError: the vault was altered.
        """
        taken = read_taken(self._vault)
        if taken.in_use == self.digest:
            return
        self.digest = taken.in_use
        try:
            self._embedder = Embedder(*open_model(self._folder, taken, taken.in_use))
        except ArtifactError as error:
            self._embedder = error
