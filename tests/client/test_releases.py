"""Accepting a release: what is refused, what is kept, and what the disk shows of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.client.recognition.desks import (
    ADMIN,
    CONSENT,
    OPERATOR,
    WordDesk,
    enrol,
    kinds,
    model_folder,
    open_desk,
    provider,
)
from tests.client.release_parts import FOREIGN, KEY, edit, member, weights_of, write_release

from veilface_client.home import Settings, create_home, load_settings, save_settings
from veilface_client.model_store import SEALED, read_taken
from veilface_client.recognition import enrolment, matching, upkeep, vault_acts
from veilface_client.recognition.new_model import accept
from veilface_client.roles import TERMINAL
from veilface_common import tensors
from veilface_common.artifact import MANIFEST, WEIGHTS, load_model
from veilface_common.errors import (
    AccessDenied,
    ArtifactError,
    ConfigError,
    SignatureError,
    VeilfaceError,
)


def test_a_home_without_a_model(tmp_path: Path) -> None:
    """It opens, lists, checks and rotates; whatever needs a model says that there is none."""
    for _ in range(2):
        with member(tmp_path / "shop") as desk:
            assert (desk.model, list(desk.names())) == ("", [])
            for act in (
                lambda: enrol(desk, "ada"),
                lambda: matching.identify(desk, TERMINAL, b"ada/1"),
                lambda: upkeep.calibrate(desk, ADMIN, "identify", 0.01),
                lambda: desk.embedder,
            ):
                with pytest.raises(ConfigError, match="no model is accepted yet") as refused:
                    act()  # type: ignore[no-untyped-call]
                assert refused.value.hint == "veilface model accept"
            assert vault_acts.check(desk, TERMINAL) == []
            vault_acts.rotate(desk, TERMINAL)


def test_releases_one_after_the_other(tmp_path: Path) -> None:
    """The first is taken into use; the second moves whose crops were kept; both are in the log."""
    first, second = (write_release(tmp_path / name, int(name)) for name in ("1", "2"))
    with member(tmp_path / "shop") as desk:
        done = accept(desk, ADMIN, first)
        assert (done.release, done.moved, done.come_again) == (1, 0, ())
        enrolment.enrol(desk, TERMINAL, "ada", [b"ada/1"], CONSENT, keep_crops=True)
        enrolment.enrol(desk, TERMINAL, "bob", [b"bob/1"], CONSENT)
        done = accept(desk, ADMIN, second)
        assert (done.release, done.moved, done.come_again) == (2, 1, ("bob",))
        assert [one.templates for one in enrolment.people(desk, TERMINAL)] == [1, 0]
        taken = read_taken(desk.vault)
        assert (taken.in_use, taken.newest) == (desk.model, {KEY.public.fingerprint: 2})
        entry = list(desk.log.entries())[-1]
        assert (entry.kind, entry.content["details"]["release"]) == ("migrated", 2)
        with pytest.raises(ArtifactError, match="after number 2"):
            accept(desk, ADMIN, second)
    with member(tmp_path / "shop") as desk:
        assert desk.model == done.model == load_settings(tmp_path / "shop").model
        assert len(list(tmp_path.glob("shop/models/*"))) == 1
        assert tensors.to_bytes(_weights(desk)) == weights_of(2)


def _weights(desk: WordDesk) -> tensors.Tensors:
    from veilface_common.models.weights import read_weights

    return read_weights(desk.embedder.network)


def _swap(folder: Path) -> None:
    other = write_release(folder.with_name("other"), 9)
    shutil.copy(other / WEIGHTS, folder / WEIGHTS)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _foreign(folder: Path) -> None:
    shutil.rmtree(folder)
    write_release(folder, 3, key=FOREIGN)


def _unsigned(folder: Path) -> None:
    shutil.rmtree(folder)
    model_folder(folder)


def _posing(folder: Path) -> None:
    _foreign(folder)
    edit(folder, coordinator=KEY.public.fingerprint)


def _older(folder: Path) -> None:
    shutil.rmtree(folder)
    write_release(folder, 1)


ATTACKS: dict[str, tuple[Callable[[Path], object], type[VeilfaceError]]] = {
    "older": (_older, ArtifactError),
    "unsigned": (_unsigned, SignatureError),
    "foreign_coordinator": (_foreign, SignatureError),
    "foreign_coordinator_that_poses": (_posing, SignatureError),
    "altered_weights": (lambda folder: _flip(folder / WEIGHTS), ArtifactError),
    "truncated_weights": (
        lambda folder: (folder / WEIGHTS).write_bytes(weights_of(3)[:-9]),
        ArtifactError,
    ),
    "weights_of_another_release": (_swap, ArtifactError),
    "no_weights": (lambda folder: (folder / WEIGHTS).unlink(), ArtifactError),
    "altered_number": (lambda folder: edit(folder, sequence=4), SignatureError),
    "altered_epsilon": (lambda folder: edit(folder, delta=1e-9), SignatureError),
    "signature_cut_off": (lambda folder: edit(folder, signature=""), SignatureError),
    "truncated_manifest": (
        lambda folder: (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes()[:-9]),
        ArtifactError,
    ),
    "no_manifest": (lambda folder: (folder / MANIFEST).unlink(), ArtifactError),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_changes_nothing(attack: str, tmp_path: Path) -> None:
    """It is refused and written down, and the model in use stays the one in use."""
    change, kind = ATTACKS[attack]
    with member(tmp_path / "shop") as desk:
        accept(desk, ADMIN, write_release(tmp_path / "2", 2))
        before = read_taken(desk.vault), desk.model, desk.vault.state.generation
        folder = write_release(tmp_path / "3", 3)
        change(folder)
        with pytest.raises(kind):
            accept(desk, ADMIN, folder)
        assert (read_taken(desk.vault), desk.model, desk.vault.state.generation) == before
        entry = list(desk.log.entries())[-1]
        assert (entry.kind, entry.content["reason"]) == ("refused", "model")


def test_without_the_attack_it_is_accepted(tmp_path: Path) -> None:
    """Else the test above could not fail."""
    with member(tmp_path / "shop") as desk:
        accept(desk, ADMIN, write_release(tmp_path / "2", 2))
        assert accept(desk, ADMIN, write_release(tmp_path / "3", 3)).release == 3


def test_nobody_else_accepts(tmp_path: Path) -> None:
    """The table of roles holds for models."""
    with member(tmp_path / "shop") as desk, pytest.raises(AccessDenied):
        accept(desk, OPERATOR, write_release(tmp_path / "1", 1))


def test_whoever_is_in_no_federation_takes_their_own_model(tmp_path: Path) -> None:
    """An unsigned one, at the beginning and later; a release that nobody vouches for, never."""
    with member(tmp_path / "shop", joined=False) as desk:
        assert accept(desk, ADMIN, model_folder(tmp_path / "own")).release is None
        with pytest.raises(SignatureError, match="pinned"):
            accept(desk, ADMIN, write_release(tmp_path / "1", 1))
    with pytest.raises(ArtifactError, match="nobody signs"):
        create_home(tmp_path / "b", Settings(name="b", model=""), tmp_path / "1", provider())
    assert not (tmp_path / "b").exists()


def test_no_weights_lie_in_clear(tmp_path: Path) -> None:
    """No bytes of any tensor anywhere in the organisation's folder, nor in its journals."""
    home = tmp_path / "shop"
    with member(home) as desk:
        accept(desk, ADMIN, write_release(tmp_path / "1", 1))
        accept(desk, ADMIN, write_release(tmp_path / "2", 2))
        clear = [value.tobytes() for seed in (1, 2) for value in _tensors(seed)]
        files = [path for path in home.rglob("*") if path.is_file()]
        assert any(path.name == SEALED for path in files)
        for path in files:
            content = path.read_bytes()
            assert not any(piece[:32] in content for piece in clear), path.name
            assert path.stat().st_mode & 0o077 == 0 or path.suffix == ".pub", path.name


def _tensors(seed: int) -> list[np.ndarray]:
    return [value for value in tensors.from_bytes(weights_of(seed)).values() if value.std() > 0]


def test_rotation_keeps_the_model_readable(tmp_path: Path) -> None:
    """The vault's key is new, the sealed weights are as they were, and faces are embedded."""
    with member(tmp_path / "shop") as desk:
        accept(desk, ADMIN, write_release(tmp_path / "1", 1))
        sealed = next((tmp_path / "shop").glob(f"models/*/{SEALED}"))
        before = sealed.read_bytes()
        vault_acts.rotate(desk, TERMINAL)
        assert sealed.read_bytes() == before
    with member(tmp_path / "shop") as desk:
        assert tensors.to_bytes(_weights(desk)) == weights_of(1)


@pytest.mark.parametrize("name", [SEALED, MANIFEST])
def test_altered_files_are_not_used(name: str, tmp_path: Path) -> None:
    """The vault opens, people can be forgotten, nothing is embedded, the next release heals it."""
    home = tmp_path / "shop"
    with member(home) as desk:
        accept(desk, ADMIN, write_release(tmp_path / "1", 1))
    path = next(home.glob(f"models/*/{name}"))
    if name == SEALED:
        _flip(path)
    else:
        edit(path.parent, licence="yours")
    with member(home) as desk:
        with pytest.raises(ArtifactError, match="altered or older"):
            _ = desk.embedder
        assert vault_acts.check(desk, TERMINAL) == []
        accept(desk, ADMIN, write_release(tmp_path / "2", 2))
        enrol(desk, "ada")


def test_an_older_model_that_is_put_back_stays_closed(tmp_path: Path) -> None:
    """Its files and `home.json` of then: its key is gone, and the vault says what is in use."""
    home, saved = tmp_path / "shop", tmp_path / "saved"
    with member(home) as desk:
        old = accept(desk, ADMIN, write_release(tmp_path / "1", 1)).model
        saved.mkdir()
        shutil.copytree(home / "models", saved / "models")
        new = accept(desk, ADMIN, write_release(tmp_path / "2", 2)).model
    settings = load_settings(home)
    shutil.copytree(saved / "models", home / "models", dirs_exist_ok=True)
    save_settings(home, Settings(name="shop", model=old))
    with member(home) as desk:
        assert desk.model == new == load_settings(home).model == settings.model
        assert tensors.to_bytes(_weights(desk)) == weights_of(2)
        assert list(read_taken(desk.vault).keys) == [new]


def test_weights_in_clear_of_an_older_version_are_sealed(tmp_path: Path) -> None:
    """At the next start, once; others in their place are refused."""
    home, model = tmp_path / "shop", model_folder(tmp_path / "model")
    with member(home, joined=False):
        pass
    digest = load_model(model)[1].sha256
    save_settings(home, Settings(name="shop", model=digest))
    there = home / "models" / digest[:16]
    shutil.copytree(model_folder(tmp_path / "another", seed=5), there)
    with pytest.raises(ArtifactError):
        member(home)
    shutil.copytree(model, there, dirs_exist_ok=True)
    for _ in range(2):
        with member(home) as desk:
            assert desk.model == digest
            enrol(desk, "ada") if not desk.names() else None
    assert sorted(path.name for path in there.iterdir()) == [MANIFEST, SEALED]


@pytest.mark.parametrize("where", ["add", "drop_model", "set_secret"])
def test_an_acceptance_that_was_cut_off_is_begun_again(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a crash comes, the organisation opens, and accepting again ends it."""
    home = tmp_path / "shop"

    class PowerCutError(Exception):
        pass

    with member(home, keep_crops=True) as desk:
        accept(desk, ADMIN, write_release(tmp_path / "1", 1))
        enrol(desk, "ada")
        second, done = write_release(tmp_path / "2", 2), getattr(type(desk.vault), where)

        def cut(*arguments: object) -> object:
            done(*arguments)
            raise PowerCutError

        with monkeypatch.context() as patched:
            patched.setattr(type(desk.vault), where, cut)
            with pytest.raises(PowerCutError):
                accept(desk, ADMIN, second)
    with member(home) as desk:
        assert accept(desk, ADMIN, second).moved == 1
        assert matching.identify(desk, TERMINAL, b"!no-face").answer is None
        assert [one.templates for one in enrolment.people(desk, TERMINAL)] == [2]
        assert "migrated" in kinds(desk)


def test_another_process_s_acceptance_is_followed(tmp_path: Path) -> None:
    """A service that runs embeds with the new model from then on."""
    with member(tmp_path / "shop") as serving:
        with member(tmp_path / "shop") as desk:
            digest = accept(desk, ADMIN, write_release(tmp_path / "1", 1)).model
        assert tensors.to_bytes(_weights(serving)) == weights_of(1)
        assert serving.model == digest


def test_a_model_at_the_beginning_is_sealed(tmp_path: Path) -> None:
    """`init --model` as ever, and nothing in clear."""
    with open_desk(tmp_path / "shop") as desk:
        assert desk.embedder.impostors is not None
        assert json.loads((tmp_path / "shop" / "home.json").read_bytes())["model"] == desk.model
    assert not list((tmp_path / "shop").rglob(WEIGHTS))
