"""From a photograph to one aligned face, or to a refusal that says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from tests.client.face_parts import Seeing, beside, encoded, eyes_of, portrait, seen

from veilface_client.alignment import TEMPLATE
from veilface_client.detectors import yunet
from veilface_client.detectors.detection import Detection, Detector
from veilface_client.detectors.haar import Haar
from veilface_client.faces import align_face, find_face, open_detector
from veilface_client.images import Pixels, read_photograph
from veilface_client.quality import GATE, HINTS, FaceRefused
from veilface_common.errors import ConfigError

YUNET = os.environ.get("VEILFACE_YUNET")  # a file that we may not carry


@pytest.fixture(scope="module")
def haar() -> Detector:
    return open_detector("haar")


def refusal(photo: bytes, detector: Detector) -> str:
    with pytest.raises(FaceRefused) as caught:
        find_face(photo, detector)
    assert caught.value.hint == HINTS[caught.value.reason]
    assert "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("pixels", [120, 240, 900])
def test_haar_finds_the_eyes(haar: Detector, pixels: int) -> None:
    """At every size the eyes are within a tenth of their distance of where they are drawn."""
    (face,) = haar.detect(portrait(pixels=pixels))
    eyes = eyes_of(pixels=pixels)
    distance = np.linalg.norm(eyes[1] - eyes[0])
    assert face.basis == "eyes"
    assert np.linalg.norm(face.landmarks - eyes, axis=1).max() < 0.1 * distance


def test_covered_eyes_are_taken_from_the_box(haar: Detector) -> None:
    """A face whose eyes do not show is aligned by its box, and the path says so."""
    picture = portrait()
    (face,) = haar.detect(picture)
    x, y = face.landmarks[0].astype(int)
    picture[y - 8 : y + 9, x - 12 : x + 13] = picture[y + 30, x]
    aligned = align_face(picture, haar)
    assert aligned.path == "haar/box"
    (covered,) = haar.detect(picture)
    assert np.linalg.norm(covered.landmarks - eyes_of(), axis=1).max() < 15


def test_the_same_photograph_gives_the_same_face(haar: Detector) -> None:
    """Detectors share nothing, and forget every photograph."""
    first = find_face(encoded(portrait()), haar)
    find_face(encoded(portrait(1)), haar)
    again, other = find_face(encoded(portrait()), haar), find_face(encoded(portrait()), Haar())
    assert first.path == "haar/eyes"
    assert (first.pixels == again.pixels).all()
    assert (first.pixels == other.pixels).all()


def test_threads_may_share_a_detector(haar: Detector) -> None:
    """Two photographs looked at at once give what they give one after the other."""
    photographs = [portrait(pixels=120), portrait(1, pixels=120)] * 6
    alone = [align_face(photograph, haar).pixels for photograph in photographs[:2]]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda p: align_face(p, haar).pixels, photographs))
    assert all((face == alone[i % 2]).all() for i, face in enumerate(together))


@pytest.mark.parametrize("photograph", [np.zeros((9, 9, 3), np.uint8), beside()], ids=len)
def test_no_face_is_refused(haar: Detector, photograph: Pixels) -> None:
    """A wall, and a picture smaller than any face, show nobody."""
    assert refusal(encoded(photograph), haar) == "no-face"


def test_two_people_are_refused(haar: Detector) -> None:
    """Nobody can tell which of two faces is meant."""
    assert refusal(encoded(beside(portrait(), portrait(1))), haar) == "several-faces"


def test_somebody_far_behind_is_no_rival(haar: Detector) -> None:
    """A second face of less than a quarter of the area is a passer-by."""
    photograph = beside(portrait(pixels=300), portrait(1, pixels=120))
    assert len(haar.detect(photograph)) == 2
    side = align_face(beside(portrait(pixels=300)), haar).quality.side_pixels
    assert align_face(photograph, haar).quality.side_pixels == pytest.approx(side, rel=0.05)


def test_the_largest_face_is_the_one() -> None:
    """A rival is one from a quarter of the largest one's area on, however sure the detector is."""
    near, far = seen(TEMPLATE), seen(TEMPLATE / 2, side=49)
    assert align_face(portrait(), Seeing(near, far)).quality.side_pixels == pytest.approx(112)
    with pytest.raises(FaceRefused, match="got 2"):
        align_face(portrait(), Seeing(near, seen(TEMPLATE / 2, side=50)))


def darkened(picture: Image.Image) -> Image.Image:
    return picture.point(lambda value: value // 6)


def flashed(picture: Image.Image) -> Image.Image:
    return picture.convert("L").point(lambda value: 255 if value > 150 else value // 2)


def veiled(picture: Image.Image) -> Image.Image:
    return picture.point(lambda value: 190 + value // 5)


@pytest.mark.parametrize(
    ("reason", "spoil"),
    [
        ("dark", darkened),
        ("bright", flashed),
        ("bright", veiled),  # not one pixel is white
        ("blurred", lambda picture: picture.filter(ImageFilter.GaussianBlur(14))),
        ("small", lambda picture: picture.resize((40, 40))),
        ("turned", lambda picture: picture.rotate(50)),
    ],
)
def test_a_spoilt_photograph_is_refused_for_what_is_wrong(
    reason: str, spoil: Callable[[Image.Image], Image.Image]
) -> None:
    """The face is where it was, and good enough before it was spoilt."""
    picture = Image.fromarray(portrait())
    spoilt = np.asarray(spoil(picture))
    landmarks = eyes_of(pixels=len(spoilt))
    if reason == "turned":
        angle = np.radians(-50)
        turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
        landmarks = (landmarks - 120) @ turn.T + 120
    assert find_face(encoded(picture), Seeing(seen(eyes_of()))).path == "told/eyes"
    assert refusal(encoded(spoilt), Seeing(seen(landmarks))) == reason


def test_a_face_from_the_side_is_refused() -> None:
    """A nose that stands under one eye belongs to a head turned away."""
    landmarks = TEMPLATE * 2
    find_face(encoded(portrait()), Seeing(seen(landmarks)))
    landmarks[2, 0] = landmarks[1, 0]
    assert refusal(encoded(portrait()), Seeing(seen(landmarks))) == "turned"


@pytest.mark.parametrize(
    "field", ["side_pixels", "sharpness", "brightness", "roll_degrees", "asymmetry"]
)
def test_quality_that_is_no_number_is_refused(field: str) -> None:
    """What could not be measured is not good."""
    quality = align_face(portrait(), Seeing(seen(eyes_of()))).quality
    GATE.verify(quality)
    with pytest.raises(FaceRefused):
        GATE.verify(replace(quality, **{field: float("nan")}))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_camera_held_on_its_side_changes_nothing(haar: Detector, orientation: int) -> None:
    """EXIF says how to turn the photograph before anybody looks at it."""
    upright = Image.fromarray(portrait())
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}
    stored = upright.transpose(back.get(orientation, Image.Transpose.ROTATE_270))
    exif = Image.Exif()
    exif[0x0112] = orientation
    got = find_face(encoded(stored, exif=exif), haar)
    assert (got.pixels == find_face(encoded(upright), haar).pixels).all()


def test_detectors_have_names_that_stay() -> None:
    """The name is stored with each template and bound to it."""
    names = {text: open_detector(text).name for text in ("haar", "centre", "centre@0.80")}
    assert names == {"haar": "haar", "centre": "centre", "centre@0.80": "centre@0.8"}


@pytest.mark.parametrize(
    "text", ["", "har", "haar:x", "yunet", "yunet:", "centre@", "centre@x", "centre:x", "centre@2"]
)
def test_unknown_detectors_are_refused(text: str) -> None:
    """A misspelt detector is a ConfigError that lists what there is."""
    with pytest.raises(ConfigError, match="expected a"):
        open_detector(text)


@pytest.mark.parametrize("content", [None, b"", b"not a network" * 99], ids=str)
def test_a_yunet_that_is_none_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """A missing file and another file are told apart, in one line without OpenCV's traces."""
    if content is not None:
        (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ConfigError, match="got no file" if content is None else "another file"):
        open_detector(f"yunet:{tmp_path / 'm.onnx'}")


class Network:
    """What OpenCV's FaceDetectorYN does, as far as we ask it."""

    def setInputSize(self, size: tuple[int, int]) -> None:  # noqa: N802 -- OpenCV's name
        self.size = size

    def detect(self, image: Pixels) -> tuple[int, np.ndarray | None]:
        assert image.shape[1::-1] == self.size
        self.image = image
        small, large = np.arange(15), np.arange(15) + 1
        return 1, np.stack((small, large)).astype(np.float32)


def test_yunet_is_asked_and_understood_as_opencv_says() -> None:
    """Blue first, rows of x y w h, five points and a score, in pixels of the smaller copy."""
    detector = object.__new__(yunet.YuNet)
    detector._network, detector._busy = Network(), yunet.threading.Lock()
    photograph = np.zeros((640, 1280, 3), np.uint8)
    photograph[:, :, 0] = 200
    face, other = detector.detect(photograph)
    assert detector._network.image[0, 0].tolist() == [0, 0, 200]
    assert face.box == (2.0, 4.0, 6.0, 8.0)  # the larger first, at twice the scale
    assert face.landmarks.tolist() == [[10, 12], [14, 16], [18, 20], [22, 24], [26, 28]]
    assert (face.score, other.score, face.basis) == (15, 14, "five")


@pytest.mark.skipif(YUNET is None, reason="VEILFACE_YUNET names no file of YuNet's model")
def test_yunet_finds_five_landmarks() -> None:
    """A real model: eyes where they are drawn, the path says five."""
    detector = open_detector(f"yunet:{YUNET}")
    (face,) = detector.detect(portrait())
    eyes = eyes_of()
    apart = np.linalg.norm(eyes[1] - eyes[0])
    assert np.linalg.norm(face.landmarks[:2] - eyes, axis=1).max() < 0.2 * apart
    assert find_face(encoded(portrait()), detector).path == "yunet/five"


def test_nobody_pays_for_opencv_before_a_face_is_looked_for() -> None:
    """Commands that see no photograph start without it."""
    program = "import sys, veilface_client.faces; sys.exit('cv2' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_haar_finds_real_people(haar: Detector, real_faces: Path) -> None:
    """Of twenty people of LFW nearly all are found, nearly all of them by their eyes."""
    folders = sorted((real_faces / "lfw").iterdir())[::230][:20]
    found: list[Detection] = []
    for folder in folders:
        found += haar.detect(read_photograph(min(folder.iterdir())))[:1]
    assert len(found) >= 19
    assert sum(face.basis == "eyes" for face in found) >= 13
