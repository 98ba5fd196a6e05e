"""The weights that come along: drawn faces are found, remembered, and without PyTorch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from tests.client.face_parts import beside, eyes_of, portrait

from veilface_client.detectors.recurrent import Recurrent
from veilface_client.faces import align_face


@pytest.fixture(scope="module")
def shipped() -> Recurrent:
    return Recurrent()


def test_what_comes_along_is_ours_to_give(shipped: Recurrent) -> None:
    """Trained on drawn faces alone, under our licence; the name is the one that is stored."""
    assert (shipped.notes.data, shipped.notes.licence) == ("drawn", "Apache-2.0")
    assert (shipped.notes.network, shipped.name) == ("rnn", "rnn")


@pytest.mark.parametrize("pixels", [64, 120, 240])
def test_a_drawn_face_is_found_where_it_is(shipped: Recurrent, pixels: int) -> None:
    """Its eyes are expected within 0.3 of their distance of where they are drawn."""
    picture = beside(portrait(pixels=pixels))
    (face,) = shipped.detect(picture)
    eyes = eyes_of(pixels=pixels) + 40
    distance = np.linalg.norm(eyes[1] - eyes[0])
    assert np.linalg.norm(face.landmarks - eyes, axis=1).max() < 0.3 * distance
    assert align_face(picture, shipped).path == "rnn/box"


def test_a_wall_has_no_face(shipped: Recurrent) -> None:
    """Neither a grey picture nor noise is a face."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    for picture in (beside(), noise):
        assert shipped.detect(picture) == ()


def test_a_face_is_known_through_a_lost_frame(shipped: Recurrent) -> None:
    """After some frames of a face a black one still has it, in its place; without them, none."""
    picture = beside(portrait(pixels=120), height=240)
    stream = shipped.stream()
    for _ in range(4):
        (before,) = stream.detect(picture)
    (after,) = stream.detect(0 * picture)
    assert np.allclose(after.box, before.box, atol=0.2 * before.box[3])
    assert shipped.stream().detect(0 * picture) == ()


def test_nothing_of_pytorch_is_needed() -> None:
    """The detector opens and finds where torch, onnx and scipy are missing."""
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('torch', 'onnx', 'onnxscript', 'scipy', 'flwr')))\n"
        "import numpy as np\n"
        "from veilface_client.faces import open_detector\n"
        "print(len(open_detector('rnn').detect(np.zeros((240, 320, 3), np.uint8))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "0\n", done.stderr
