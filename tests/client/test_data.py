"""Faces in memory: what is read, what is said of the rest, and the cache under attack."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from veilface_client import cache, images
from veilface_client.data import Faces, check_evaluable, check_trainable, load_faces, open_faces
from veilface_client.sources import Photograph, open_source
from veilface_common.errors import DataError

FACES = Path(__file__).parents[2].parent / "shared" / "faces"


def shade(person: int, photo: int, pixels: int = 10) -> NDArray[np.uint8]:
    """A canvas that tells who and which it is."""
    return np.full((pixels, pixels, 3), (person, photo, 200), dtype=np.uint8)


@dataclass(frozen=True, kw_only=True)
class Shades:
    """A source that holds what it is told to, in place of files."""

    people: tuple[int, ...] = (2, 3)  # photographs of each person
    broken: frozenset[str] = frozenset()
    name: str = "shades:"
    crop: images.Crop = images.CANVAS
    fingerprint: str = "1"
    warnings: tuple[str, ...] = ()
    pixels: int = 10

    def photographs(self) -> Iterator[Photograph]:
        for person, count in enumerate(self.people):
            for photo in range(count):
                name = f"{person}/{photo}"
                load = partial(self._load, name, person, photo)
                yield Photograph(person=f"p{person}", name=name, load=load)

    def _load(self, name: str, person: int, photo: int) -> NDArray[np.uint8]:
        if name in self.broken:
            raise images.PhotographError("broken or cut short", "ends early")
        return shade(person, photo, self.pixels)


def load(source: Shades, folder: Path) -> Faces:
    return load_faces(source, pixels=source.pixels, cache=folder)


def write_photo(path: Path, colour: tuple[int, int, int] = (9, 9, 9), side: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), colour).save(path)


def files_in(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


def test_faces_are_rows_with_people_and_names(tmp_path: Path) -> None:
    """Row i shows person people[i], is channels first and came from photo_names[i]."""
    faces = load(Shades(), tmp_path)
    assert (faces.images.shape, faces.images.dtype.name) == ((5, 3, 10, 10), "uint8")
    assert faces.people.tolist() == [0, 0, 1, 1, 1]
    assert faces.person_names == ("p0", "p1")
    assert faces.photo_names == ("0/0", "0/1", "1/0", "1/1", "1/2")
    assert faces[:][:, :, 4, 4].tolist() == [
        [0, 0, 200], [0, 1, 200], [1, 0, 200], [1, 1, 200], [1, 2, 200]
    ]  # fmt: skip
    assert faces.photographs_per_person().tolist() == [2, 3]


def test_second_load_reads_nothing(tmp_path: Path) -> None:
    """What is cached is not decoded again, and is the same; progress is told while it is made."""
    told: list[tuple[int, int]] = []
    first = load_faces(
        Shades(), pixels=10, cache=tmp_path, progress=lambda *done: told.append(done)
    )
    assert told == [(done, 5) for done in range(1, 6)]
    everything = frozenset(first.photo_names)
    second = load(Shades(broken=everything), tmp_path)
    assert second.photo_names == first.photo_names
    assert (second[:] == first[:]).all()
    opened = open_faces(first.path)
    assert (opened[:] == first[:]).all()


def test_pixels_are_shared_and_read_only(tmp_path: Path) -> None:
    """A hundred organisations' faces are one mapping, which nobody can write to."""
    faces = load(Shades(people=(2, 3, 1)), tmp_path)
    chosen = faces.of_people([2, 1])
    assert chosen.images is faces.images
    assert chosen.person_names == ("p2", "p1")
    assert chosen.people.tolist() == [1, 1, 1, 0]
    assert chosen.photo_names == ("1/0", "1/1", "1/2", "2/0")
    assert chosen[np.array([3, 0])][:, :2, 0, 0].tolist() == [[2, 0], [1, 0]]
    again = chosen.of_people([0])
    assert (again.person_names, again[:][0, :, 0, 0].tolist()) == (("p2",), [2, 0, 200])
    with pytest.raises(ValueError, match="read-only"):
        faces.images[0] = 0


def test_cache_follows_photographs_crop_and_size(tmp_path: Path) -> None:
    """Other photographs, another crop or another size are another entry."""
    source = Shades()
    entries = {
        load_faces(source, pixels=10, cache=tmp_path).path,
        load_faces(source, pixels=12, cache=tmp_path).path,
        load_faces(Shades(fingerprint="2"), pixels=10, cache=tmp_path).path,
        load_faces(Shades(crop=images.Crop()), pixels=10, cache=tmp_path).path,
    }
    assert len(entries) == 4


def test_cache_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Decoded faces are readable by nobody else."""
    folder = tmp_path / "new" / "cache"
    load(Shades(), folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_every_kind_of_unreadable_photograph_is_counted_and_named(tmp_path: Path) -> None:
    """One line for each kind of trouble, with the first file's name, kept with the cache."""
    root = tmp_path / "people"
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        write_photo(root / name)
    whole = (root / "a/1.png").read_bytes()
    (root / "a/3.png").write_bytes(whole[:-30])
    (root / "a/4.png").write_bytes(whole[:-31])
    (root / "a/5.jpg").write_text("not pixels")
    (root / "c").mkdir()
    (root / "c/1.jpg").write_bytes(b"")
    for _ in range(2):
        faces = load_faces(open_source(f"folder:{root}"), pixels=8, cache=tmp_path / "cache")
        assert faces.photo_names == ("a/1.png", "a/2.png", "b/1.png")
        broken, foreign, person = faces.warnings
        assert broken.startswith(
            "2 photographs could not be read: broken or cut short (first: a/3.png: "
        )
        assert foreign.startswith("2 photographs could not be read: not an image (first: a/5.jpg: ")
        assert person == "1 person left out: no readable photograph (first: c)"


def test_person_is_numbered_by_the_first_readable_photograph(tmp_path: Path) -> None:
    """People without a readable photograph leave no hole among the numbers."""
    broken = frozenset({"0/0", "0/1", "1/0"})
    faces = load(Shades(people=(2, 2, 1), broken=broken, warnings=("before",)), tmp_path)
    assert faces.person_names == ("p1", "p2")
    assert faces.people.tolist() == [0, 1]
    assert faces.warnings == (
        "before",
        "3 photographs could not be read: broken or cut short (first: 0/0: ends early)",
        "1 person left out: no readable photograph (first: p0)",
    )


def test_unaligned_celeba_is_said_to_be_cropped_blindly(tmp_path: Path) -> None:
    """Pictures that are not of the aligned size are named, because faces are not searched for."""
    write_photo(tmp_path / "celeba/7/1.png")
    Image.new("RGB", (178, 218)).save(tmp_path / "celeba/7/2.png")
    faces = load_faces(open_source(f"celeba:{tmp_path}/celeba"), pixels=8, cache=tmp_path / "c")
    (line,) = faces.warnings
    assert line.startswith("1 photograph not aligned to 178 x 218, so cropped around the middle")
    assert "7/1.png" in line


def test_no_readable_photograph_is_refused_and_not_cached(tmp_path: Path) -> None:
    """Nothing usable is an error that says why, each time."""
    for _ in range(2):
        with pytest.raises(DataError, match="2 photographs could not be read"):
            load(Shades(people=(2,), broken=frozenset({"0/0", "0/1"})), tmp_path)
    with pytest.raises(DataError, match="there are none"):
        load(Shades(people=(), fingerprint="2"), tmp_path)
    assert not files_in(tmp_path, "*.json")
    assert not files_in(tmp_path, "*.partial")


def test_one_person_and_no_second_photograph_are_refused(tmp_path: Path) -> None:
    """Training needs two people; evaluation also two photographs of one of them."""
    one = load(Shades(people=(3,), fingerprint="one"), tmp_path)
    single = load(Shades(people=(1, 1), fingerprint="single"), tmp_path)
    enough = load(Shades(people=(1, 2), fingerprint="enough"), tmp_path)
    with pytest.raises(DataError, match="2 people to train on, got 1"):
        check_trainable(one)
    with pytest.raises(DataError, match="2 people to evaluate on, got 1"):
        check_evaluable(one)
    with pytest.raises(DataError, match="second photograph") as caught:
        check_evaluable(single)
    assert caught.value.hint
    check_trainable(single)
    check_trainable(enough)
    check_evaluable(enough)


def test_cache_that_cannot_be_written_is_a_data_error(tmp_path: Path) -> None:
    """A file where the cache should be ends in one line, not a traceback."""
    (tmp_path / "cache").write_text("x")
    with pytest.raises(DataError, match="cannot write decoded faces"):
        load(Shades(), tmp_path / "cache")


def test_full_disk_is_a_data_error(tmp_path: Path) -> None:
    """A limit on the size of files stops the build; nothing is left behind."""
    program = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from veilface_client.data import load_faces\n"
        "from veilface_client.sources import open_source\n"
        "from veilface_common.errors import DataError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "try: load_faces(open_source(sys.argv[1]), pixels=64, cache=Path(sys.argv[2]))\n"
        "except DataError as error: sys.exit(str(error))\n"
    )
    for number in range(4):
        write_photo(tmp_path / f"people/a/{number}.png")
    done = subprocess.run(
        [sys.executable, "-c", program, f"folder:{tmp_path}/people", tmp_path / "cache"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot write decoded faces" in done.stderr
    assert {file.suffix for file in (tmp_path / "cache").iterdir()} == {".lock"}


def change(index: Path, **values: object) -> None:
    index.write_text(json.dumps(json.loads(index.read_text()) | values))


def cut(file: Path, missing: int) -> None:
    file.write_bytes(file.read_bytes()[:-missing])


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "pixels cut": lambda _, pixels: cut(pixels, 1),
    "pixels gone": lambda _, pixels: pixels.unlink(),
    "index gone": lambda index, _: index.unlink(),
    "index cut": lambda index, _: cut(index, 9),
    "index empty": lambda index, _: index.write_bytes(b""),
    "index of another kind": lambda index, _: index.write_text("[1]"),
    "another size": lambda index, _: change(index, side=9),
    "another format": lambda index, _: change(index, format=0),
    "people without a name": lambda index, _: change(index, people=[0, 0, 1, 1, 7]),
    "photographs missing": lambda index, _: change(index, photo_names=["one"]),
    "a file elsewhere": lambda index, _: change(index, pixels_file="../../etc/passwd"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_torn_entry_is_rebuilt(tmp_path: Path, damage: Callable[[Path, Path], object]) -> None:
    """An index and pixels that do not belong together are never opened."""
    first = load(Shades(), tmp_path)
    expected = first[:]
    (pixels,) = files_in(tmp_path, "*.u8")
    damage(first.path, pixels)
    with pytest.raises(DataError, match="nothing whole"):
        open_faces(first.path)
    assert (load(Shades(), tmp_path)[:] == expected).all()
    assert (open_faces(first.path)[:] == expected).all()


def test_pixels_of_another_content_have_another_name(tmp_path: Path) -> None:
    """Two builds of one key that differ cannot be mixed up; the older pixels are removed."""
    first = load(Shades(), tmp_path)
    (old,) = files_in(tmp_path, "*.u8")
    first.path.unlink()
    other = load(Shades(broken=frozenset({"0/0"})), tmp_path)  # the same key, another content
    (new,) = files_in(tmp_path, "*.u8")
    assert old.name != new.name
    assert len(other) == 4


SLOW = """
import os, signal, sys, time
from pathlib import Path
from veilface_client.data import load_faces
from veilface_client.sources import open_source
source, folder, kill_at = open_source(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
def progress(done, total):
    time.sleep(0.01)
    if done == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
(folder.parent / f"ready-{os.getpid()}").touch()
while len(list(folder.parent.glob("ready-*"))) < int(sys.argv[4]):
    time.sleep(0.01)
faces = load_faces(source, pixels=16, cache=folder, progress=progress)
print(faces[:].sum(), len(faces), faces.path.name)
"""


def start(
    source: str, folder: Path, *, kill_at: int = -1, together: int = 1
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, source, folder, str(kill_at), str(together)],
        stdout=subprocess.PIPE,
        text=True,
    )


def write_people(root: Path) -> str:
    for number in range(20):
        write_photo(root / f"{number % 4}/{number}.png", (number, 2 * number, 3))
    return f"folder:{root}"


def test_two_processes_build_one_cache(tmp_path: Path) -> None:
    """Two processes at the same time end with one valid entry and the same faces."""
    source, folder = write_people(tmp_path / "people"), tmp_path / "cache"
    processes = [start(source, folder, together=2) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert said[0] == said[1] != ""
    assert len(files_in(folder, "*.json")) == len(files_in(folder, "*.u8")) == 1
    assert not files_in(folder, "*.partial")


def test_interrupted_cache_is_rebuilt(tmp_path: Path) -> None:
    """kill -9 while faces are decoded leaves no entry, and what it leaves is removed."""
    source, folder = write_people(tmp_path / "people"), tmp_path / "cache"
    killed = start(source, folder, kill_at=12)
    assert killed.wait(timeout=60) == -signal.SIGKILL
    assert len(files_in(folder, "*.partial")) == 1
    assert not files_in(folder, "*.json")
    faces = load_faces(open_source(source), pixels=16, cache=folder)
    assert len(faces) == 20
    assert not files_in(folder, "*.partial")


def test_leftovers_of_others_are_removed_unless_they_are_being_written(tmp_path: Path) -> None:
    """A build clears what a killed one left of another entry, not what a living one writes."""
    tmp_path.joinpath("dead.abc.partial").touch()
    tmp_path.joinpath(".dead.json.abc").touch()
    with cache.build_lock(tmp_path, "alive"):
        tmp_path.joinpath("alive.abc.partial").touch()
        load(Shades(), tmp_path)
        assert files_in(tmp_path, "*.partial") == [tmp_path / "alive.abc.partial"]
        assert not files_in(tmp_path, ".dead.json.*")


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    """An interruption that can be caught removes its own file at once."""

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt(f"{done} of {total}")

    with pytest.raises(KeyboardInterrupt):
        load_faces(Shades(), pixels=10, cache=tmp_path, progress=interrupt)
    assert {file.suffix for file in tmp_path.iterdir()} == {".lock"}


def test_real_orl_is_loaded(tmp_path: Path) -> None:
    """All of ORL becomes canvases with something on them, without a warning."""
    if not (FACES / "orl").is_dir():
        pytest.skip(f"needs the real faces in {FACES / 'orl'}")
    faces = load_faces(open_source(f"orl:{FACES / 'orl'}"), pixels=80, cache=tmp_path)
    assert (len(faces.person_names), len(faces)) == (40, 400)
    assert faces.warnings == ()
    assert faces[:].std(axis=(1, 2, 3)).min() > 10


def test_real_celeba_is_loaded_with_a_warning(tmp_path: Path) -> None:
    """Photographs that are not aligned are read, and said to be cropped blindly."""
    if not (FACES / "celeba").is_dir():
        pytest.skip(f"needs the real faces in {FACES / 'celeba'}")
    faces = load_faces(open_source(f"celeba:{FACES / 'celeba'}"), pixels=16, cache=tmp_path)
    assert (len(faces.person_names), len(faces)) == (243, 5_104)
    (line,) = faces.warnings
    assert line.startswith("5104 photographs not aligned")


@pytest.mark.bench
def test_opening_ten_thousand_cached_faces_takes_under_a_second(tmp_path: Path) -> None:
    """From the source's listing to faces: 10,000 drawn ones, and LFW where it is."""
    drawn = Shades(people=(10,) * 1000, pixels=80)
    load(drawn, tmp_path)
    began = time.perf_counter()
    assert len(load(drawn, tmp_path)) == 10_000
    assert time.perf_counter() - began < 1
    if (FACES / "lfw").is_dir():
        load_faces(open_source(f"lfw:{FACES / 'lfw'}"), pixels=80, cache=tmp_path)
        began = time.perf_counter()
        assert len(load_faces(open_source(f"lfw:{FACES / 'lfw'}"), pixels=80, cache=tmp_path)) > 0
        assert time.perf_counter() - began < 1
