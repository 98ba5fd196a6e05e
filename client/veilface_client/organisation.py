"""What an organisation keeps in its folder: who it is and which photographs are its own.

DIR/organisation.json    {"schema": 1, "name": ..., "faces": PATH OF THE CACHE, "people": [...],
                          "public_faces": PATH or null, "seeded": ..., "account": ...}
DIR/history.json         what it saw of its own training, see `history`
DIR/ledger.db            what it released and what that cost, see `account`

That there is an account stands in the settings as well, which are written once it is begun: where
all of its files are gone, they still say that nothing may be trained without it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from veilface_common.errors import ArtifactError, LedgerError
from veilface_common.files import write_atomically

SCHEMA = 1
SETTINGS = "organisation.json"


@dataclass(frozen=True, kw_only=True)
class Organisation:
    """An organisation's own settings; `people` are the rows of persons in the cached faces."""

    name: str
    faces: Path
    people: tuple[int, ...]
    public_faces: Path | None = None  # cached faces of people who are nobody's secret
    seeded: bool = False  # coins and noise follow from the run's seed: for simulations alone
    keeps_account: bool = False  # settings of an older program do not say: they had none


def save_organisation(folder: Path, organisation: Organisation) -> None:
    """Write the settings into `folder`, after its account if it keeps one.

    Raises:
        LedgerError: it has kept an account, and these settings would forget it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if keeps_account(folder) and not organisation.keeps_account:
        raise LedgerError(
            f"expected settings that keep the account in {folder}, got some without",
            hint="what was released stays released; use another folder for other faces",
        )
    body = {
        "schema": SCHEMA,
        "name": organisation.name,
        "faces": str(organisation.faces),
        "people": list(organisation.people),
        "public_faces": organisation.public_faces and str(organisation.public_faces),
        "seeded": organisation.seeded,
        "account": organisation.keeps_account,
    }
    write_atomically(folder / SETTINGS, (json.dumps(body) + "\n").encode())


def load_organisation(folder: Path) -> Organisation:
    """Return the settings in `folder`.

    Raises:
        ArtifactError: they are missing, damaged or of another schema.
    """
    path = folder / SETTINGS
    try:
        body = json.loads(path.read_bytes())
        if body["schema"] != SCHEMA:
            raise ArtifactError(f"expected schema {SCHEMA} in {path}, got {body['schema']!r}")
        people = tuple(int(person) for person in body["people"])
        public = body.get("public_faces")
        return Organisation(
            name=str(body["name"]),
            faces=Path(body["faces"]),
            people=people,
            public_faces=None if public is None else Path(public),
            seeded=bool(body.get("seeded", False)),
            keeps_account=bool(body.get("account", False)),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"expected an organisation's settings in {path}") from error


def keeps_account(folder: Path) -> bool:
    """Return whether the settings in `folder` say that an account was begun; none do not.

    Raises:
        ArtifactError: they are damaged or of another schema.
    """
    return (folder / SETTINGS).exists() and load_organisation(folder).keeps_account
