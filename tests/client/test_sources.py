"""Every kind of source: small files that the tests write, and real sets where they are."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from veilface_client import sources
from veilface_client.images import Crop
from veilface_client.sources import Source, open_source
from veilface_common.errors import ConfigError, DataError

FACES = Path(__file__).parents[2].parent / "shared" / "faces"
GREY = np.full((8, 8, 3), 90, dtype=np.uint8)


def encoded(kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, kind)
    return buffer.getvalue()


def write_photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(GREY).save(path)


def write_photos(root: Path, *names: str) -> None:
    for name in names:
        write_photo(root / name)


def listed(source: Source) -> list[tuple[str, str]]:
    return [(photograph.person, photograph.name) for photograph in source.photographs()]


def real(name: str) -> Path:
    if not (FACES / name).is_dir():
        pytest.skip(f"needs the real faces in {FACES / name}")
    return FACES / name


def write_records(folder: Path, people: dict[str, bytes], name: str = "train") -> None:
    """Write a RecordIO pair without a counting record; no picture here holds the magic."""
    written, index = b"", ""
    for key, (person, picture) in enumerate(people.items()):
        data = struct.pack("<IfQQ", 0, float(person), key, 0) + picture
        index += f"{key}\t{len(written)}\n"
        written += struct.pack("<II", 0xCED7230A, len(data)) + data + bytes(-len(data) % 4)
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.rec").write_bytes(written)
    (folder / f"{name}.idx").write_text(index)


def test_folder_of_people(tmp_path: Path) -> None:
    """A folder for each person, any image type, at any depth: ImageFolder's layout, sorted."""
    names = ["b/1.jpg", "a/2.PNG", "a/10.webp", "a/deep/er/3.bmp", "c/1.tif", "c/2.gif", "c/3.ppm"]
    write_photos(tmp_path, *names)
    source = open_source(f"folder:{tmp_path}")
    assert [name for _, name in listed(source)] == [
        "a/10.webp", "a/2.PNG", "a/deep/er/3.bmp", "b/1.jpg", "c/1.tif", "c/2.gif", "c/3.ppm"
    ]  # fmt: skip
    assert {person for person, _ in listed(source)} == {"a", "b", "c"}
    assert source.warnings == ()
    assert all(photograph.load().shape == (8, 8, 3) for photograph in source.photographs())


def test_what_is_no_photograph_is_counted_and_named(tmp_path: Path) -> None:
    """Files that are not images, empty folders and files beside the folders are not silent."""
    write_photos(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "a" / "more.txt").write_text("x")
    (tmp_path / "README.txt").write_text("x")
    (tmp_path / "nobody").mkdir()
    assert open_source(f"folder:{tmp_path}").warnings == (
        "1 file left out: beside the person folders (first: README.txt)",
        "2 files left out: not named like an image (first: a/more.txt)",
        "1 person folder left out: without a photograph (first: nobody)",
    )


def test_symlink_out_of_the_folder_is_skipped_and_named(tmp_path: Path) -> None:
    """Links to files and folders outside are not followed, whatever their form."""
    write_photos(tmp_path, "outside/1.jpg", "root/a/1.jpg")
    root = tmp_path / "root"
    (root / "a" / "2.jpg").symlink_to(tmp_path / "outside" / "1.jpg")
    (root / "a" / "3.jpg").symlink_to("../../outside/1.jpg")
    (root / "b").symlink_to(tmp_path / "outside")
    (root / "a" / "inner").symlink_to(tmp_path / "outside")
    (root / "a" / "4.jpg").symlink_to("5.jpg")  # a link to a link that leads out
    (root / "a" / "5.jpg").symlink_to("../../outside/1.jpg")
    (root / "a" / "6.jpg").symlink_to("nowhere.jpg")
    source = open_source(f"folder:{root}")
    assert listed(source) == [("a", "a/1.jpg")]
    assert source.warnings == (
        "6 symbolic links left out: leading out of the folder (first: a/2.jpg)",
        "1 symbolic link left out: leading nowhere (first: a/6.jpg)",
    )


def test_symlinks_within_the_folder_are_followed(tmp_path: Path) -> None:
    """Links to photographs and people in the same folder are allowed, and the root may be one."""
    write_photos(tmp_path, "root/a/1.jpg")
    (tmp_path / "root" / "a" / "2.jpg").symlink_to("1.jpg")
    (tmp_path / "root" / "b").symlink_to("a")
    (tmp_path / "link").symlink_to("root")
    source = open_source(f"folder:{tmp_path / 'link'}")
    assert [name for _, name in listed(source)] == ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"]
    assert source.warnings == ()
    assert [photograph.load().shape for photograph in source.photographs()] == [(8, 8, 3)] * 4


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    """Folders that link to each other are read once for each person."""
    write_photos(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "a" / "b").symlink_to("../b")
    (tmp_path / "b" / "a").symlink_to("../a")
    (tmp_path / "a" / "self").symlink_to("self")
    source = open_source(f"folder:{tmp_path}")
    assert [name for _, name in listed(source)] == ["a/1.jpg", "a/b/1.jpg", "b/1.jpg", "b/a/1.jpg"]
    assert any("read already" in line for line in source.warnings)


def test_names_that_terminals_obey_are_escaped(tmp_path: Path) -> None:
    """A file's name cannot rewrite the terminal, and a name that is not UTF-8 can be reported."""
    write_photo(tmp_path / "a" / "1.png")
    for name in (b"\x1b[2J.png", b"\xff.png"):
        Path(os.fsdecode(os.fsencode(tmp_path / "a") + b"/" + name)).write_bytes(encoded())
    names = [name for _, name in listed(open_source(f"folder:{tmp_path}"))]
    assert names == ["a/1.png", "a/\\udcff.png", "a/\\x1b[2J.png"]
    assert "".join(names).encode().decode("ascii").isprintable()


def test_folder_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """A forbidden folder is a warning; the others are read."""
    write_photos(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "b").chmod(0)
    if os.access(tmp_path / "b", os.R_OK):
        pytest.skip("needs a user whom permissions bind")
    try:
        warnings = open_source(f"folder:{tmp_path}").warnings
    finally:
        (tmp_path / "b").chmod(0o700)
    assert "1 folder left out: it cannot be opened (first: b)" in warnings


@pytest.mark.parametrize("argument", ["", "photos", "folder:", "folder: ", "zip:x", "drawn:10x2"])
def test_malformed_argument_is_refused_with_the_kinds(argument: str) -> None:
    """What is not KIND:WHERE, or an unknown kind, gives the list of kinds."""
    with pytest.raises(ConfigError) as caught:
        open_source(argument)
    assert caught.value.hint
    assert "folder:PATH" in caught.value.hint


@pytest.mark.parametrize("kind", sorted(sources.KINDS))
def test_missing_path_file_and_empty_folder_are_refused(tmp_path: Path, kind: str) -> None:
    """Every kind says that there is nothing, a file, or no photograph, and what to do."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for where, message in (
        ("missing", "got nothing there"), ("file", "got a file"), ("empty", "it is empty")
    ):  # fmt: skip
        with pytest.raises(DataError, match=message) as caught:
            open_source(f"{kind}:{tmp_path / where}")
        assert caught.value.hint


@pytest.mark.parametrize("where", ["a\0b", "x" * 5000, "loop/x"])
def test_paths_that_no_file_can_have_are_refused(tmp_path: Path, where: str) -> None:
    """Paths that the system refuses end in a DataError, not a traceback."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError):
        open_source(f"folder:{tmp_path}/{where}")


def test_pictures_without_person_folders_are_refused(tmp_path: Path) -> None:
    """Loose pictures show nobody that can be named."""
    write_photos(tmp_path, "1.jpg", "2.jpg")
    with pytest.raises(DataError, match="2 files left out: beside the person folders"):
        open_source(f"folder:{tmp_path}")


def test_share_of_the_picture_can_be_given(tmp_path: Path) -> None:
    """`@SHARE` sets the crop's side; a path with an @ in it that exists is taken as it is."""
    write_photos(tmp_path, "x/a/1.jpg", "x@0.5/b/1.jpg")
    assert open_source(f"folder:{tmp_path}/x@0.7").crop == Crop(share=0.7)
    assert open_source(f"lfw:{tmp_path}/x@1").crop == Crop(share=1, within_pixels=160)
    plain = open_source(f"folder:{tmp_path}/x@0.5")
    assert (plain.crop.share, listed(plain)) == (1.0, [("b", "b/1.jpg")])
    for share in ("0", "1.5"):
        with pytest.raises(ConfigError, match="share"):
            open_source(f"folder:{tmp_path}/x@{share}")


def test_fingerprint_follows_the_photographs(tmp_path: Path) -> None:
    """It changes with what is read or warned of, not with where the folder is."""
    write_photos(tmp_path, "x/a/1.jpg", "x/b/1.jpg")
    seen = [open_source(f"folder:{tmp_path}/x").fingerprint]
    (tmp_path / "x").rename(tmp_path / "y")
    assert open_source(f"folder:{tmp_path}/y").fingerprint == seen[0]
    os.utime(tmp_path / "y/a/1.jpg", ns=(1, 1))
    seen.append(open_source(f"folder:{tmp_path}/y").fingerprint)
    (tmp_path / "y/a/1.jpg").rename(tmp_path / "y/a/2.jpg")
    seen.append(open_source(f"folder:{tmp_path}/y").fingerprint)
    (tmp_path / "y/notes.txt").write_text("x")
    seen.append(open_source(f"folder:{tmp_path}/y").fingerprint)
    (tmp_path / "y/a/2.jpg").write_bytes(encoded("BMP"))
    seen.append(open_source(f"folder:{tmp_path}/y").fingerprint)
    assert len(set(seen)) == 5


def test_orl_reads_pgm_alone(tmp_path: Path) -> None:
    """ORL is pgm files in s1, s2, ..."""
    for name in ("s1/1.pgm", "s1/2.pgm", "s10/1.pgm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(GREY[..., 0]).save(tmp_path / name)
    write_photo(tmp_path / "s1" / "x.jpg")
    source = open_source(f"orl:{tmp_path}")
    assert listed(source) == [("s1", "s1/1.pgm"), ("s1", "s1/2.pgm"), ("s10", "s10/1.pgm")]
    assert source.warnings == ("1 file left out: not named like an image (first: s1/x.jpg)",)


@pytest.mark.parametrize("pictures", ["", "img_align_celeba/"])
@pytest.mark.parametrize("identities", ["celeba", "."])
def test_celeba_with_its_identity_file(tmp_path: Path, pictures: str, identities: str) -> None:
    """Flat pictures, here or one folder below, with the identity file here or one above."""
    root = tmp_path / "celeba"
    write_photos(root, *(f"{pictures}00000{number}.jpg" for number in (1, 2, 3, 4)))
    lines = "000001.jpg 22\n000002.jpg 7\nnonsense\n000003.jpg 22\n../../x.jpg 9\n"
    (tmp_path / identities / "identity_CelebA.txt").write_text(lines)
    source = open_source(f"celeba:{root}")
    assert listed(source) == [("22", "000001.jpg"), ("22", "000003.jpg"), ("7", "000002.jpg")]
    assert source.warnings == (
        "1 line of identity_CelebA.txt left out: not FILE PERSON (first: line 3)",
        "1 photograph left out: not in identity_CelebA.txt (first: 000004.jpg)",
        "1 photograph missing that identity_CelebA.txt names (first: ../../x.jpg)",
    )


def test_celeba_by_person_and_without_identities(tmp_path: Path) -> None:
    """A folder for each person will do; flat pictures need the identity file."""
    write_photos(tmp_path, "people/07/1.jpg", "flat/1.jpg")
    assert listed(open_source(f"celeba:{tmp_path}/people")) == [("07", "07/1.jpg")]
    with pytest.raises(DataError) as caught:
        open_source(f"celeba:{tmp_path}/flat")
    assert "identity_CelebA.txt" in (caught.value.hint or "")


def test_vggface2_with_and_without_train(tmp_path: Path) -> None:
    """PATH may hold the person folders or the folder `train` with them."""
    write_photos(tmp_path, "train/n000002/0001_01.jpg", "test/n000001/0001_01.jpg")
    expected = [("n000002", "n000002/0001_01.jpg")]
    assert listed(open_source(f"vggface2:{tmp_path}")) == expected
    assert listed(open_source(f"vggface2:{tmp_path}/train")) == expected


@pytest.mark.parametrize(("kind", "name"), [("vggface2", "train"), ("celeba", "img_align_celeba")])
def test_known_subfolder_that_leads_out_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    """The folder that a set's layout names is no way out either."""
    write_photos(tmp_path, "outside/a/1.jpg")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / name).symlink_to("../outside")
    with pytest.raises(DataError, match="leads out"):
        open_source(f"{kind}:{tmp_path}/root")


@pytest.mark.parametrize("kind", ["casia", "ms1m"])
def test_recordio_pair_and_folders(tmp_path: Path, kind: str) -> None:
    """A folder with the pair, the path of the .rec file, or a folder for each person."""
    write_records(tmp_path / "pair", {"3": encoded("JPEG"), "12": encoded()})
    for where in ("pair", "pair/train.rec"):
        source = open_source(f"{kind}:{tmp_path / where}")
        assert listed(source) == [("3", "record 0"), ("12", "record 1")]
        assert all(photograph.load().shape == (8, 8, 3) for photograph in source.photographs())
    write_photos(tmp_path, "folders/0000045/001.jpg")
    assert listed(open_source(f"{kind}:{tmp_path}/folders")) == [("0000045", "0000045/001.jpg")]


def test_damaged_record_is_a_photograph_that_does_not_load(tmp_path: Path) -> None:
    """One damaged record does not lose the rest."""
    write_records(tmp_path, {"0": encoded(), "1": encoded(), "nan": encoded(), "2": b"no picture"})
    photographs = list(open_source(f"casia:{tmp_path}").photographs())
    assert [photograph.person for photograph in photographs] == ["0", "1", "", "2"]
    for photograph in photographs[2:]:
        with pytest.raises(DataError):
            photograph.load()


def test_ambiguous_lonely_and_escaping_record_files_are_refused(tmp_path: Path) -> None:
    """Two sets in a folder, a .rec without .idx, and links out of the folder."""
    write_records(tmp_path / "two", {"0": encoded()}, "a")
    write_records(tmp_path / "two", {"0": encoded()}, "b")
    with pytest.raises(DataError, match=r"got a\.rec, b\.rec"):
        open_source(f"casia:{tmp_path}/two")
    (tmp_path / "two" / "b.idx").unlink()
    with pytest.raises(DataError, match="side by side"):
        open_source(f"casia:{tmp_path}/two/b.rec")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "train.rec").symlink_to(tmp_path / "two" / "a.rec")
    (tmp_path / "link" / "train.idx").symlink_to(tmp_path / "two" / "a.idx")
    with pytest.raises(DataError, match="leads out"):
        open_source(f"casia:{tmp_path}/link")


def test_real_lfw_is_listed() -> None:
    """All of LFW, without a warning."""
    source = open_source(f"lfw:{real('lfw')}")
    people = [person for person, _ in listed(source)]
    assert (len(people), len(set(people)), source.warnings) == (10_358, 4_566, ())


def test_real_orl_and_celeba_are_listed() -> None:
    """All of ORL, and of the CelebA that comes by person."""
    for name, people, photographs in (("orl", 40, 400), ("celeba", 243, 5_104)):
        found = listed(open_source(f"{name}:{real(name)}"))
        assert (len({person for person, _ in found}), len(found)) == (people, photographs)
