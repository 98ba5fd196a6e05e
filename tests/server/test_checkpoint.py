"""What the coordinator keeps between rounds: sealed, bound to its place, and never an older one."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.server.test_rounds import Village, config, honest

from veilface_common.errors import ArtifactError, ConfigError, KeyFileError
from veilface_common.protocol import TrainReply, TrainRequest
from veilface_server import checkpoint
from veilface_server.rounds import run_rounds


def test_nothing_of_a_model_lies_in_clear(tmp_path: Path) -> None:
    """No tensor's bytes and no name of one, in the checkpoint or in a kept model."""
    state = run_rounds(Village(a=honest), config(keep_every=1), tmp_path)
    files = [tmp_path / checkpoint.CHECKPOINT, *(tmp_path / checkpoint.MODELS).iterdir()]
    assert len(files) == 4
    for path in files:
        content = path.read_bytes()
        for name, value in state.model.items():
            assert name.encode() not in content
            assert value.tobytes()[:16] not in content
    assert [number for number, _ in checkpoint.kept_models(tmp_path)] == [1, 2, 3]
    (*_, (_, last)) = checkpoint.kept_models(tmp_path)
    assert all((last[name] == value).all() for name, value in state.model.items())
    key = tmp_path / checkpoint.STORAGE_KEY
    assert (len(key.read_bytes()), stat.S_IMODE(key.stat().st_mode)) == (32, 0o600)


@pytest.mark.parametrize("where", [0.0, 0.2, 0.999])
def test_an_altered_checkpoint_is_refused(where: float, tmp_path: Path) -> None:
    """One bit, in its first line or in what is sealed."""
    run_rounds(Village(a=honest), config(), tmp_path)
    path = tmp_path / checkpoint.CHECKPOINT
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="altered"):
        checkpoint.load_state(tmp_path, config())


def test_a_round_cannot_be_written_over(tmp_path: Path) -> None:
    """The first line can be read by all, and changed by nobody."""
    run_rounds(Village(a=honest), config(), tmp_path)
    path = tmp_path / checkpoint.CHECKPOINT
    path.write_bytes(path.read_bytes().replace(b'"round":3', b'"round":2', 1))
    with pytest.raises(ArtifactError, match="altered"):
        checkpoint.load_state(tmp_path, config())


def test_a_kept_model_is_no_checkpoint(tmp_path: Path) -> None:
    """Each kind of file has a key of its own."""
    run_rounds(Village(a=honest), config(keep_every=1), tmp_path)
    kept = tmp_path / checkpoint.MODELS / "00003.sealed"
    (tmp_path / checkpoint.CHECKPOINT).write_bytes(kept.read_bytes())
    with pytest.raises(ArtifactError, match="another's"):
        checkpoint.load_state(tmp_path, config())


def test_an_older_checkpoint_is_refused(tmp_path: Path) -> None:
    """Two rounds back is no crash: the signed records say how far the run had come."""
    path = tmp_path / checkpoint.CHECKPOINT
    kept: dict[int, bytes] = {}  # after a round -> what was there

    def watches(name: str, request: TrainRequest) -> TrainReply:
        kept[request.round - 1] = path.read_bytes() if path.exists() else b""
        return honest(name, request)

    run_rounds(Village(a=watches), config(), tmp_path)
    path.write_bytes(kept[2])  # as a crash after the last record leaves it
    state = checkpoint.load_state(tmp_path, config())
    assert state is not None
    assert state.round == 2
    path.write_bytes(kept[1])
    with pytest.raises(ArtifactError, match="after round 3, got that of 1"):
        checkpoint.load_state(tmp_path, config())


def test_one_of_an_older_version_is_told_so(tmp_path: Path) -> None:
    """A checkpoint in clear is neither read nor passed over in silence."""
    save_file({"model/w": np.zeros(2, np.float32)}, tmp_path / "checkpoint.safetensors")
    with pytest.raises(ArtifactError, match="in clear"):
        run_rounds(Village(a=honest), config(), tmp_path)


def test_the_keys_of_a_run_are_the_coordinator_s(tmp_path: Path) -> None:
    """HOME/runs/ID has none of its own, where HOME is a coordinator's; elsewhere it has."""
    folder = tmp_path / "runs" / ("0" * 16)
    assert checkpoint.coordinator_home(folder) == folder
    (tmp_path / "server.json").write_text("{}")
    assert checkpoint.coordinator_home(folder) == tmp_path
    run_rounds(Village(a=honest), config(), folder)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("runs", "server.json", "server.key", "server.pub", "storage.key")
    }
    assert {path.name for path in folder.iterdir()} == {
        *(checkpoint.ASKED, checkpoint.CHECKPOINT, checkpoint.RECORDS)
    }


def test_another_coordinator_s_key_is_named(tmp_path: Path) -> None:
    """Lost, replaced, cut short or open to others: each is said, and nothing is begun anew."""
    run_rounds(Village(a=honest), config(), tmp_path)
    path = tmp_path / checkpoint.STORAGE_KEY
    path.write_bytes(bytes(32))
    with pytest.raises(ArtifactError, match="another's"):
        checkpoint.load_state(tmp_path, config())
    path.write_bytes(bytes(31))
    with pytest.raises(KeyFileError, match="32 bytes"):
        checkpoint.load_state(tmp_path, config())
    path.write_bytes(bytes(32))
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="owner alone"):
        checkpoint.load_state(tmp_path, config())


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    """It is bound to the settings, not only named after them."""
    run_rounds(Village(a=honest), config(), tmp_path)
    other = replace(config(), seed=2)
    with pytest.raises(ConfigError, match="other settings"):
        checkpoint.load_state(tmp_path, other)
    path = tmp_path / checkpoint.CHECKPOINT
    digests = (config().digest.encode(), other.digest.encode())
    path.write_bytes(path.read_bytes().replace(*digests, 1))
    with pytest.raises(ArtifactError, match="altered"):
        checkpoint.load_state(tmp_path, other)
