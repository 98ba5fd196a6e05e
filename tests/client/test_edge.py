"""The edge: what ONNX Runtime and a sealed gallery answer is what the organisation would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.client.face_parts import beside, encoded, portrait
from tests.client.recognition.desks import model_folder

from veilface_client.alignment import network_input
from veilface_client.commands.edge import camera_frames, watch
from veilface_client.detectors.centre import Centre
from veilface_client.detectors.haar import Haar
from veilface_client.detectors.opencv import load_opencv
from veilface_client.edge.embedder import OnnxEmbedder
from veilface_client.edge.gallery import EdgeGallery, Entry, Terms, seal_gallery
from veilface_client.edge.recogniser import Recogniser
from veilface_client.embedding import Embedder
from veilface_client.faces import align_face
from veilface_client.recognition.answers import Identification
from veilface_common import models
from veilface_common.artifact import load_model, save_model
from veilface_common.config import ModelConfig
from veilface_common.errors import ArtifactError, ConfigError
from veilface_common.models.weights import read_weights

pytest.importorskip("onnxruntime", reason="needs the extra `edge`")
pytest.importorskip("onnxscript", reason="needs the extra `edge`")

from veilface_client.edge import export as exporting

KEY = bytes(range(32))
DRAWN = range(12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("edge") / "model")


@pytest.fixture(scope="module")
def fp32(folder: Path) -> exporting.Exported:
    return exporting.export(exporting.load_released(folder))


@pytest.fixture(scope="module")
def int8(folder: Path) -> exporting.Exported:
    return exporting.export(exporting.load_released(folder), "int8")


def aligned(person: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return align_face(portrait(person, 160), Centre(0.8)).pixels


def terms(embedder: OnnxEmbedder, **changes: object) -> Terms:
    settings: dict[str, object] = {
        "organisation": "shop",
        "model": embedder.digest,
        "detector": "haar",
        "threshold": 0.99,
        "margin": 0.0,
        "warning": "",
        "made": "2026-03-01",
        "expires": "2099-01-01",
        "people": (Entry(name="ada", until="2099-01-01", templates=1),),
    }
    return Terms(**(settings | changes))  # type: ignore[arg-type]


def test_onnx_runtime_gives_pytorchs_templates(folder: Path, fp32: exporting.Exported) -> None:
    """Of drawn faces, one by one and together, within 1e-4 in cosine; of unit length."""
    torch_side, edge_side = Embedder(*load_model(folder)), OnnxEmbedder(fp32.content)
    faces = [aligned(person) for person in DRAWN]
    expected = np.stack([torch_side.embed(face) for face in faces])
    alone = np.stack([edge_side.embed(face) for face in faces])
    together = edge_side.embed_inputs(np.stack([network_input(face, 64) for face in faces]))
    for found in (alone, together):
        assert (found * expected).sum(axis=1).min() > 1 - 1e-4
        assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_evened_light_is_exported(tmp_path: Path) -> None:
    """A network that evens out the light does so in the file too, for faces in coloured light."""
    config = ModelConfig(light="evened")
    save_model(tmp_path, config, read_weights(models.build(config, seed=0)), {})
    network, manifest = load_model(tmp_path)
    assert manifest.model.light == "evened"
    file = exporting.export(exporting.load_released(tmp_path))
    faces = np.stack([network_input(aligned(person), 64) for person in range(3)])
    lamp = np.array((0.4, 0.3, 0.1), np.float32)[:, None, None]
    assert exporting.verify_same(file.content, network, faces * lamp, 1e-5) < 1e-5


def test_eight_bits_are_smaller_and_near(
    folder: Path, fp32: exporting.Exported, int8: exporting.Exported
) -> None:
    """A third of the size, and drawn faces, which nothing was calibrated on, stay within 0.05."""
    torch_side, edge_side = Embedder(*load_model(folder)), OnnxEmbedder(int8.content)
    faces = [aligned(person) for person in DRAWN]
    cosines = [float(torch_side.embed(face) @ edge_side.embed(face)) for face in faces]
    assert 0.95 < min(cosines) < 1 - 1e-6  # the second: it is not the other file again
    assert len(int8.content) < len(fp32.content) / 3


def test_the_same_model_gives_the_same_file(folder: Path, fp32: exporting.Exported) -> None:
    """A gallery can be made anew without sending the model again. No path of ours is in it."""
    assert exporting.export(exporting.load_released(folder)).content == fp32.content
    for path in (str(Path(exporting.__file__).parent), sys.prefix):
        assert path.encode() not in fp32.content


def test_a_file_of_another_network_is_not_written(folder: Path, fp32: exporting.Exported) -> None:
    """What compares before anything is written sees a network with one filter changed."""
    network, _ = load_model(folder)
    weight = next(network.parameters())
    inputs = exporting.noise_pictures(4, 64, seed=3)
    assert exporting.verify_same(fp32.content, network, inputs, 1e-4) < 1e-5
    weight.data[0] = -weight.data[0]
    with pytest.raises(ArtifactError, match="PyTorch's templates"):
        exporting.verify_same(fp32.content, network, inputs, 1e-4)


def test_the_file_says_which_model_it_is(folder: Path, int8: exporting.Exported) -> None:
    """Digest, preprocessing and precision are in the file itself."""
    _, manifest = load_model(folder)
    notes = OnnxEmbedder(int8.content).notes
    assert (notes.weights, notes.precision, notes.network) == (manifest.sha256, "int8", "tiny")
    assert (notes.preprocessing.pixels, notes.dimension) == (64, 128)


def test_what_is_no_model_of_ours_is_refused(fp32: exporting.Exported) -> None:
    """Neither bytes of anything nor somebody else's ONNX file."""
    onnx = exporting.load_onnx()
    with pytest.raises(ArtifactError, match="ONNX model"):
        OnnxEmbedder(b"\x08\x07 no model")
    graph = onnx.load_from_string(fp32.content)
    del graph.metadata_props[:]
    with pytest.raises(ArtifactError, match="exported"):
        OnnxEmbedder(graph.SerializeToString())


def test_a_threshold_of_another_detector_is_refused(fp32: exporting.Exported) -> None:
    """A line drawn for one way of aligning says nothing of another."""
    embedder = OnnxEmbedder(fp32.content)
    gallery = EdgeGallery(terms=terms(embedder), templates=np.eye(1, 128, dtype=np.float32))
    with pytest.raises(ConfigError, match="detector"):
        Recogniser(embedder, gallery, Centre())


def test_a_small_machine_needs_no_pytorch(tmp_path: Path, fp32: exporting.Exported) -> None:
    """`veilface-edge` names a drawn person and nobody else where torch, faiss, flwr are missing."""
    embedder = OnnxEmbedder(fp32.content)
    (tmp_path / "m.onnx").write_bytes(fp32.content)
    (tmp_path / "g.key").write_text(KEY.hex())
    (tmp_path / "g.key").chmod(0o600)
    for name, pixels in (("ada", portrait()), ("nobody", np.full((200, 200, 3), 99, np.uint8))):
        (tmp_path / f"{name}.png").write_bytes(encoded(pixels))
    face = align_face(portrait(), Haar())
    template = embedder.embed(face.pixels)[None]
    sealed = seal_gallery(EdgeGallery(terms=terms(embedder), templates=template), KEY)
    (tmp_path / "g.sealed").write_bytes(sealed)
    program = (
        "import sys\n"
        "missing = ('torch', 'torchvision', 'faiss', 'flwr', 'onnx', 'scipy', 'opacus')\n"
        "sys.modules.update(dict.fromkeys(missing))\n"
        "from veilface_client.commands.edge import main\n"
        "sys.exit(main())\n"
    )
    files = ["--model", "m.onnx", "--gallery", "g.sealed", "--key-file", "g.key"]
    done = subprocess.run(
        [sys.executable, "-c", program, *files, "ada.png", "nobody.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == ["ada.png: ada", "nobody.png: unknown"], done.stderr
    assert done.returncode == 0


def test_a_camera_tells_of_changes_alone(tmp_path: Path, fp32: exporting.Exported) -> None:
    """From a video file: once for who comes, once for who goes, not for each picture."""
    cv2 = load_opencv()
    path = str(tmp_path / "door.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 10, (320, 320))
    empty = beside(height=320)
    scene = np.full((320, 320, 3), 128, np.uint8)
    scene[40:280, 40:280] = portrait()
    for frame in (empty, scene, scene, empty):
        writer.write(cv2.resize(frame, (320, 320))[:, :, ::-1].copy())
    writer.release()
    frames = list(camera_frames(path))
    assert len(frames) == 4
    embedder, detector = OnnxEmbedder(fp32.content), Haar()
    template = embedder.embed(align_face(frames[1], detector).pixels)[None]
    recogniser = Recogniser(
        embedder, EdgeGallery(terms=terms(embedder), templates=template), detector
    )
    shown: list[Identification] = []
    watch(iter(frames), recogniser, shown.append)
    assert [found.answer for found in shown] == [None, "ada", None]
