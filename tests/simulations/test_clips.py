"""Clips: reproducible alone, and their boxes where the faces are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from veilface_client.images import Pixels
from veilface_common.errors import ConfigError, DataError
from veilface_simulations import drawn
from veilface_simulations.clips.clip import Clip, ClipConfig, within
from veilface_simulations.clips.composing import Actor, Scene, View, sprites_of, view
from veilface_simulations.clips.heads import Head, draw_head, face_box
from veilface_simulations.clips.motion import Camera, Way
from veilface_simulations.clips.opening import open_clips
from veilface_simulations.surface import CANVAS

SMALL = ClipConfig(frames=3, height=96, width=128, largest_face=60)


def same(one: Clip, other: Clip) -> bool:
    return bool(
        np.array_equal(one.frames, other.frames)
        and np.array_equal(one.corrupted, other.corrupted)
        and all(map(np.array_equal, one.boxes, other.boxes))
    )


@pytest.fixture
def photographs(tmp_path: Path) -> str:
    """Three dark photographs with a white square in each, which the table says."""
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        lines = ["file,x,y,width,height"]
        for number in range(3):
            pixels = np.full((300, 400, 3), 30, np.uint8)
            left, top, side = 90 + 60 * number, 80 + 20 * number, 50 + 10 * number
            pixels[top : top + side, left : left + side] = 230
            Image.fromarray(pixels).save(tmp_path / part / f"{number}.jpg", quality=95)
            lines.append(f"{number}.jpg,{left},{top},{side},{side}")
        (tmp_path / f"{part}.csv").write_text("\n".join(lines))
    return f"wider:{tmp_path}"


def test_a_drawn_clip_is_reproducible_alone() -> None:
    """A clip follows from seed and number, whatever was made before it; each is another one."""
    source = open_clips("drawn", "train")
    later = [source.clip(SMALL, 3, number) for number in range(4)][3]
    alone = open_clips("drawn", "train").clip(SMALL, 3, 3)
    assert same(later, alone)
    assert not same(alone, source.clip(SMALL, 3, 2))
    assert not same(alone, source.clip(SMALL, 4, 3))
    assert not same(alone, open_clips("drawn", "validation").clip(SMALL, 3, 3))


def test_a_clip_of_photographs_is_reproducible_alone(photographs: str) -> None:
    """So does one that is cut out of photographs."""
    source = open_clips(photographs, "train")
    later = [source.clip(SMALL, 3, number) for number in range(5)][4]
    assert same(later, open_clips(photographs, "train").clip(SMALL, 3, 4))


@pytest.mark.parametrize("kind", ["drawn", "wider"])
def test_corruption_leaves_the_other_frames_and_all_boxes(kind: str, photographs: str) -> None:
    """k frames are corrupted, others with a larger k besides; nothing else changes."""
    source = open_clips("drawn" if kind == "drawn" else photographs, "train")
    config = replace(SMALL, frames=8)
    clean, two, four = (source.clip(replace(config, corrupted=k), 0, 1) for k in (0, 2, 4))
    assert (clean.corrupted.sum(), two.corrupted.sum(), four.corrupted.sum()) == (0, 2, 4)
    assert not (two.corrupted & ~four.corrupted).any()
    for frame in range(8):
        alike = np.array_equal(clean.frames[frame], four.frames[frame])
        assert alike != four.corrupted[frame]
        assert np.array_equal(clean.boxes[frame], four.boxes[frame])


def test_boxes_of_photographs_follow_window_and_mirror(photographs: str) -> None:
    """In every frame the white square fills its box, and nothing else is white."""
    source = open_clips(photographs, "train")
    seen = 0
    for number in range(24):
        clip = source.clip(ClipConfig(frames=4, corrupted=0), 0, number)
        for frame, boxes in zip(clip.frames, clip.boxes, strict=True):
            threshold = (float(frame.min()) + float(frame.max())) / 2
            white = frame.mean(axis=2) > threshold
            if frame.max() < 3 * max(int(frame.min()), 20):
                continue  # the window shows the dark alone
            mask = np.zeros(white.shape, bool)
            for x, y, width, height in np.rint(boxes).astype(int):
                mask[y : y + height, x : x + width] = True
            assert (white == mask).mean() > 0.98
            seen += len(boxes)
    assert seen > 40


def test_faces_at_the_border_are_cut_and_ignored() -> None:
    """A box ends at the border; the share of it that is left is told."""
    boxes = np.array(((-30.0, 10, 40, 20), (10, 10, 20, 20), (200, 0, 10, 10)))
    inside, shares = within(boxes, 100, 100)
    assert np.array_equal(inside[:2], ((0, 10, 10, 20), (10, 10, 20, 20)))
    assert shares.tolist() == [0.25, 1.0, 0.0]


def plate() -> Head:
    """A white board in the place of a face, and nothing around it."""
    colours = np.zeros((160, 160, 4), np.uint8)
    box = (-0.5, -0.625, 0.5, 0.875)
    first, last = ((np.array(box) + CANVAS) / (2 * CANVAS) * 160).astype(int).reshape(2, 2)
    colours[first[1] : last[1], first[0] : last[0]] = 255
    return Head(colours=colours, box=box)


def scene_of(places: list[tuple[float, float]], camera: Camera) -> tuple[Scene, View]:
    actors = [
        Actor(
            person=number,
            looks=(plate(),),
            way=Way(place=np.array((place,)), unit=np.array((30.0,)), roll=np.zeros(1)),
            look=np.zeros(1, np.int64),
        )
        for number, place in enumerate(places)
    ]
    dark = np.zeros((240, 240, 3), np.uint8)
    scene = Scene(surroundings=dark, margin=20, actors=actors, camera=camera)
    return scene, view(scene, [sprites_of(actor, camera) for actor in actors], 0, 200, 200)


def extent(pixels: Pixels) -> NDArray[np.float64]:
    rows, columns = np.nonzero(pixels.mean(axis=2) > 127)
    return np.array((columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1), float)


@pytest.mark.parametrize(("zoom", "shift"), [(1.0, (0.0, 0.0)), (1.3, (12.0, -7.0))])
def test_a_box_is_where_the_person_is_painted(zoom: float, shift: tuple[float, float]) -> None:
    """Camera and person move box and pixels alike."""
    camera = Camera(shift=np.array((shift,)), zoom=np.array((zoom,)), roll=np.zeros(1))
    _, shown = scene_of([(90.0, 100.0)], camera)
    assert np.abs(extent(shown.pixels) - shown.boxes[0]).max() <= 1.5


def test_whoever_stands_behind_is_ignored() -> None:
    """A face behind another one need not be found; beside it, it must."""
    still = Camera(shift=np.zeros((1, 2)), zoom=np.ones(1), roll=np.zeros(1))
    _, behind = scene_of([(100.0, 100.0), (104.0, 100.0)], still)
    _, beside = scene_of([(50.0, 100.0), (130.0, 100.0)], still)
    assert behind.ignored.tolist() == [True, False]
    assert beside.ignored.tolist() == [False, False]


def test_a_drawn_box_reaches_from_cheek_to_cheek_and_from_the_hair_line() -> None:
    """Only skin changes with its pigment: where it does, above the neck, the box is."""
    for person in range(4):
        sitter = replace(
            drawn.identity(5, person),
            ear_size=0.01,
            ear_spread=0.0,
            fringe=0.0,
            hair_density=1.0,
            hair_length=0.1,
            glasses=-1.0,
        )
        day = replace(drawn.conditions(5, person, 0), occlusion="none")
        left, top, right, bottom = face_box(sitter, day)
        pale, dark = (
            draw_head(replace(sitter, melanin=melanin), day, 320).colours[:, :, :3].astype(int)
            for melanin in (0.1, 0.6)
        )
        skin = np.abs(pale - dark).sum(axis=2) > 30
        places = (np.arange(320) + 0.5) / 320 * 2 * CANVAS - CANVAS
        across = places[skin[(places > -0.4) & (places < 0.3)].any(axis=0)]
        down = places[skin[:, np.abs(places) < 0.1].any(axis=1)]
        assert abs(across.min() - left) < 0.12
        assert abs(across.max() - right) < 0.12
        assert abs(down.min() - top) < 0.1
        assert 0.8 < bottom < 1.1


def test_people_are_cut_out_without_their_surroundings() -> None:
    """The corners of a head's canvas are empty, its middle is not, and no background shows."""
    day = replace(drawn.conditions(5, 0, 0), background=(0.0, 1.0, 0.0), clutter=1.0)
    head = draw_head(drawn.identity(5, 0), day)
    cover = head.colours[:, :, 3]
    assert cover[:20, :20].max() == 0
    assert cover[80, 80] == 255
    grey = replace(day, background=(0.5, 0.5, 0.5), clutter=0.0)
    assert np.array_equal(head.colours, draw_head(drawn.identity(5, 0), grey).colours)


@pytest.mark.parametrize("text", ["", "wider", "wider:", "photographs:x", "drawn:3x3"])
def test_unknown_clips_are_refused(text: str) -> None:
    """Only what the help names opens."""
    with pytest.raises(ConfigError, match="drawn or wider:PATH"):
        open_clips(text, "train")


def test_a_folder_without_a_table_is_refused(tmp_path: Path) -> None:
    """A missing or damaged table is told in one line."""
    (tmp_path / "train").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "train" / "a.jpg")
    source = open_clips(f"wider:{tmp_path}", "train")
    with pytest.raises(DataError, match="table of boxes"):
        source.clip(SMALL, 0, 0)
    (tmp_path / "train.csv").write_text("file,x,y\na.jpg,1,2\n")
    with pytest.raises(DataError, match="table of boxes"):
        source.clip(SMALL, 0, 0)


@pytest.mark.parametrize(
    "setting", [{"frames": 0}, {"corrupted": 9}, {"corrupted_share": 1.5}, {"height": 8}]
)
def test_impossible_clips_are_refused(setting: dict[str, int]) -> None:
    """What cannot be made is refused when it is asked for."""
    with pytest.raises(ConfigError):
        replace(ClipConfig(), **setting)  # type: ignore[arg-type]  # one of several types
