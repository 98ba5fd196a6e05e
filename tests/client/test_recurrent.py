"""The recurrent detector: from a frame to faces, what it remembers, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.client.recurrent_parts import BOX, NOTES, bright_is_a_face

from veilface_client.detectors import recurrent
from veilface_client.detectors.detection import stream_of
from veilface_client.detectors.haar import Haar
from veilface_client.detectors.recurrent import Recurrent
from veilface_client.faces import open_detector
from veilface_client.images import Pixels
from veilface_common.errors import ConfigError


@pytest.fixture
def detector(tmp_path: Path) -> Recurrent:
    return Recurrent(bright_is_a_face(tmp_path / "m.onnx"))


def lit(height: int = 200, width: int = 320, row: int = 40, column: int = 64) -> Pixels:
    """Return a dark picture with one bright cell."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[row : row + 8, column : column + 8] = 255
    return picture


def test_a_still_is_looked_at_by_itself_and_at_two_sizes(detector: Recurrent) -> None:
    """What was seen before does not change it; boxes are pixels of the picture, the largest first.

    Brought to 640 px it is twice as large, to 224 it is 0.7 times as large.
    """
    picture = lit()
    picture[40:64, 64:88] = 255
    for _ in range(2):
        large, small = detector.detect(picture)
        assert large.box == pytest.approx(np.divide(BOX, 0.7))
        assert small.box == pytest.approx(np.divide(BOX, 2))
        assert detector.detect(0 * picture) == ()


def test_a_stream_remembers_and_another_one_does_not(detector: Recurrent) -> None:
    """A face stays known over lost frames, weaker each time; a new stream has seen nothing."""
    stream = detector.stream()
    scores = [stream.detect(frame)[0].score for frame in (lit(), 0 * lit(), 0 * lit())]
    assert scores == pytest.approx([1.0, 0.9, 0.81])
    assert detector.stream().detect(0 * lit()) == ()


def test_frames_of_another_size_start_anew(detector: Recurrent) -> None:
    """A state of other cells would be a state of other places."""
    stream = detector.stream()
    stream.detect(lit())
    assert stream.detect(0 * lit(width=312)) == ()
    assert stream.detect(0 * lit()) == ()


def test_large_frames_are_made_smaller_and_boxes_larger_again(detector: Recurrent) -> None:
    """Of a video of 1280 x 800 the longer side is brought to 320; boxes are pixels of the video."""
    (face,) = detector.stream().detect(np.kron(lit(), np.ones((4, 4, 1), np.uint8)))
    assert face.box == pytest.approx(np.multiply(BOX, 4))
    assert face.score == pytest.approx(1.0)
    assert face.landmarks[0, 0] < face.landmarks[1, 0]
    assert face.basis == "box"


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 300), (33, 31), (4000, 3)])
def test_any_size_of_picture_is_taken(detector: Recurrent, height: int, width: int) -> None:
    """Sides that are no multiple of anything are filled up with black."""
    assert detector.detect(np.zeros((height, width, 3), np.uint8)) == ()


def test_of_neighbouring_cells_the_surer_one_is_a_face() -> None:
    """A cell is one that no neighbour exceeds, of the score that is asked for."""
    scores = np.zeros((4, 6), np.float32)
    scores[1, 1], scores[1, 2], scores[3, 5], scores[0, 4] = 0.9, 0.8, 0.7, 0.2
    boxes = np.arange(96, dtype=np.float32).reshape(4, 4, 6)
    found = recurrent._peaks(scores, boxes, 0.3)
    assert np.allclose(found, [[0.9, 7, 31, 55, 79], [0.7, 23, 47, 71, 95]])


def test_what_is_seen_in_the_black_around_a_picture_is_none(detector: Recurrent) -> None:
    """A frame of 200 rows is filled up to 224: a face whose middle lies there is left out."""
    stream = detector.stream()
    assert len(stream.detect(lit())) == 1
    flat = lit(38, 320, 8)  # the middle of every box lies at row 40
    assert detector.stream().detect(flat) == ()


def test_boxes_that_share_much_are_one_face() -> None:
    """Nearly the same box twice: the surer one stays; a third lies elsewhere and is larger."""
    found = np.array([(0.8, 0, 0, 9, 8), (0.9, 0, 0, 8, 8), (0.7, 9, 0, 20, 8)])
    kept = recurrent._detections(found)
    assert [face.score for face in kept] == [0.7, 0.9]  # the largest first


def test_a_part_of_a_face_is_none() -> None:
    """A box that lies in a surer one is left out; a surer small one leaves the large one be."""
    large, part = (0.9, 0, 0, 90, 90), (0.6, 20, 20, 30, 30)
    kept = recurrent._detections(np.array([part, large]))
    assert [face.score for face in kept] == [0.9]
    kept = recurrent._detections(np.array([(0.95, *part[1:]), large]))
    assert [face.score for face in kept] == [0.9, 0.95]


def test_a_picture_made_to_hold_thousands_of_faces_gives_a_bounded_number() -> None:
    """Every second cell a face of its own: no more than MOST_FACES, in bounded time."""
    scores = np.zeros((80, 80), np.float32)
    scores[::2, ::2] = 0.9
    rows, columns = np.indices(scores.shape)
    boxes = np.stack((8 * columns, 8 * rows, rows * 0 + 4, rows * 0 + 4)).astype(np.float32)
    found = recurrent._peaks(scores, boxes, 0.3)
    assert len(recurrent._detections(np.concatenate((found, found)))) == recurrent.MOST_FACES
    assert len(found) == recurrent.MOST_FACES


def test_boxes_that_are_no_numbers_are_left_out() -> None:
    """A network gone wrong gives nothing instead of a box that crashes whoever cuts it out."""
    scores = np.full((1, 1), 0.9, np.float32)
    assert len(recurrent._peaks(scores, np.full((4, 1, 1), np.nan, np.float32), 0.3)) == 0


def test_stream_of_takes_a_detector_s_own_stream_or_itself(detector: Recurrent) -> None:
    """Haar sees each frame by itself; the recurrent one has a stream of its own each time."""
    haar = Haar()
    assert stream_of(haar) is haar
    assert stream_of(detector) is not stream_of(detector)


def damaged(path: Path) -> bytes:
    return bright_is_a_face(path).read_bytes()[:-200]


def without_notes(path: Path) -> bytes:
    model = onnx.load(bright_is_a_face(path))
    del model.metadata_props[:]
    content: bytes = model.SerializeToString()
    return content


def of_a_later_schema(path: Path) -> bytes:
    return bright_is_a_face(path).read_bytes().replace(b'"schema":1', b'"schema":9')


def with_other_notes(path: Path) -> bytes:
    return bright_is_a_face(path).read_bytes().replace(b'"network":"rnn"', b'"network":"cnn"')


def with_other_inputs(path: Path) -> bytes:
    return bright_is_a_face(path).read_bytes().replace(b"frame", b"faces")


def with_three_numbers_a_box(path: Path) -> bytes:
    return bright_is_a_face(path, wide=3).read_bytes()


def with_huge_frames(path: Path) -> bytes:
    return bright_is_a_face(path, multiple=1 << 20).read_bytes()


def with_no_size(path: Path) -> bytes:
    return bright_is_a_face(path, multiple=0).read_bytes()


def with_other_cells(path: Path) -> bytes:
    return bright_is_a_face(path, stride=16).read_bytes()


def with_no_digest(path: Path) -> bytes:
    return bright_is_a_face(path, weights="../../etc").read_bytes()


def with_no_numbers(path: Path) -> bytes:
    return bright_is_a_face(path, keeps=float("nan")).read_bytes()


@pytest.mark.parametrize(
    "make",
    [
        lambda _: b"",
        lambda _: b"no network" * 99,
        damaged,
        without_notes,
        of_a_later_schema,
        with_other_notes,
        with_other_inputs,
        with_three_numbers_a_box,
        with_huge_frames,
        with_no_size,
        with_other_cells,
        with_no_digest,
        with_no_numbers,
    ],
)
def test_files_that_are_no_detector_are_refused(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    """Each is one clear line that names the file, before any photograph is looked at."""
    (tmp_path / "m.onnx").write_bytes(make(tmp_path / "made.onnx"))
    with pytest.raises(ConfigError, match="expected a detector in") as caught:
        open_detector(f"rnn:{tmp_path / 'm.onnx'}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["rnn:", "rnn@", "rnn@2", "rnn@x", "rnn@0", "rnn@nan", "rnnn"])
def test_names_that_are_none_are_refused(text: str) -> None:
    """A misspelt name or a score beyond [0, 1] is a ConfigError."""
    with pytest.raises(ConfigError, match="expected a"):
        open_detector(text)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """So is a folder in its place."""
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(ConfigError, match="expected a"):
            open_detector(f"rnn:{path}")


def test_other_weights_have_another_name(detector: Recurrent, tmp_path: Path) -> None:
    """The name is bound to each template: a threshold found with one is not used with another."""
    other = Recurrent(bright_is_a_face(tmp_path / "other.onnx", weights="ab" * 32))
    assert (detector.name, other.name) == ("rnn-00000000", "rnn-abababab")


def test_the_score_is_the_user_s_to_choose(tmp_path: Path) -> None:
    """`rnn@SCORE:FILE` takes faces from that score on."""
    path = bright_is_a_face(tmp_path / "m.onnx", notes=NOTES)
    grey = lit() // 2
    assert open_detector(f"rnn@0.6:{path}").detect(grey) == ()
    assert len(open_detector(f"rnn@0.4:{path}").detect(grey)) == 1
