"""Image folders as people have them: links, odd names, other files, broken ones."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from snn_artsy.config import ConfigError, DataConfig
from snn_artsy.data import FolderSplit, ImageSource, load_source
from snn_artsy.data import folders as folders_module
from snn_artsy.data.folders import IMAGE_SUFFIXES, LeftOut, list_classes, list_images

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and FIFOs of POSIX")


def picture(path: Path | str, seed: int = 0, size: tuple[int, int] = (6, 5)) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Classes x and y with three training images and one test image each, all different."""
    for seed, (split, name, i) in enumerate(
        (s, n, i) for s, k in (("train", 3), ("test", 1)) for n in "xy" for i in range(k)
    ):
        picture(tmp_path / "data" / split / name / f"{i}.png", seed)
    return tmp_path / "data"


def opened(root: Path) -> ImageSource:
    source = load_source(DataConfig(name="imagefolder", root=str(root), n_tasks=2))
    source.train.check(np.arange(len(source.train)))
    source.test.check(np.arange(len(source.test)))
    return source


def train_paths(source: ImageSource) -> tuple[str, ...]:
    assert isinstance(source.train, FolderSplit)
    return source.train.paths


PLAIN = ("x/0.png", "x/1.png", "x/2.png", "y/0.png", "y/1.png", "y/2.png")


def refusal(root: Path) -> str:
    with pytest.raises(ConfigError) as error:
        opened(root)
    message = str(error.value)
    assert message.startswith("data.root: ") and message.isprintable()
    return message


def test_nothing_strange(root: Path) -> None:
    source = opened(root)
    assert train_paths(source) == PLAIN
    assert source.notes == ()


def test_names_of_any_bytes(root: Path) -> None:
    odd = os.fsencode(root / "train" / "x") + b"/caf\xe9\n.png"
    os.rename(root / "train" / "x" / "0.png", odd)
    source = opened(root)
    assert len(source.train) == 6
    assert source.train.fingerprint() == opened(root).train.fingerprint()
    assert sum(source.train.load(i).size == (6, 5) for i in range(6)) == 6
    with open(odd, "wb") as file:
        file.write(b"no image")
    message = refusal(root)
    assert "caf" in message and "none of BMP, JPEG, PNG, PPM, TIFF, WEBP" in message


def test_the_fingerprint_of_plain_names_is_what_it_was(tmp_path: Path) -> None:
    """SHA-256 of "<path>\\0<size>\\n" for every file, then of all contents, as from the start."""
    import hashlib

    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "é.png").write_bytes(b"123")
    (tmp_path / "x" / "b.png").write_bytes(b"45")
    split = FolderSplit(tmp_path, ["x/b.png", "x/é.png"], np.zeros(2, dtype=np.int64))
    text = "x/b.png\x002\nx/é.png\x003\n45123"
    assert split.fingerprint() == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("name", ["9.png", "more", "9.txt"])
@pytest.mark.parametrize("target", ["/nowhere/x.png", "itself"])
def test_links_that_lead_nowhere(root: Path, name: str, target: str) -> None:
    link = root / "train" / "x" / name
    link.symlink_to(link if target == "itself" else target)
    assert f"{link} is a link that leads nowhere" in refusal(root)


def test_a_class_that_is_a_link_to_nowhere(root: Path) -> None:
    for split in ("train", "test"):
        (root / split / "z").symlink_to("/nowhere")
    assert f"{root / 'train' / 'z'} is a link that leads nowhere" in refusal(root)


@pytest.mark.parametrize("target", [".", "../x", "sub/.."])
def test_circular_links_add_nothing(root: Path, target: str) -> None:
    (root / "train" / "x" / "sub").mkdir()
    (root / "train" / "x" / "loop").symlink_to(target)
    assert train_paths(opened(root)) == PLAIN


def test_a_file_that_a_class_has_twice_by_links_counts_once(root: Path) -> None:
    (root / "train" / "x" / "again.png").symlink_to("1.png")
    (root / "train" / "y" / "sub").mkdir()
    picture(root / "train" / "y" / "sub" / "9.png", 99)
    (root / "train" / "y" / "also").symlink_to("sub")
    source = opened(root)
    assert train_paths(source) == (*PLAIN, "y/sub/9.png")
    assert source.notes == ("data: 1 links lead to images of the same class, counted once",)


def test_links_to_images_elsewhere_are_images(root: Path) -> None:
    picture(root / "pool" / "a.png", 77)
    picture(root / "pool" / "b" / "b.png", 78)
    (root / "train" / "x" / "3.png").symlink_to(root / "pool" / "a.png")
    (root / "train" / "x" / "b").symlink_to(root / "pool" / "b")
    assert train_paths(opened(root)) == (*PLAIN[:3], "x/3.png", "x/b/b.png", *PLAIN[3:])


@pytest.mark.parametrize("link", ["train/y/up", "train/y/other", "train/y/9.png"])
def test_a_link_that_puts_an_image_into_two_classes(root: Path, link: str) -> None:
    target = {"up": "..", "other": "../x", "9.png": "../x/1.png"}[link.rpartition("/")[2]]
    (root / link).symlink_to(target)
    message = refusal(root)
    assert str(root / "train" / "y") in message and "is also in class 'x', by a link" in message


@pytest.mark.parametrize("closed", ["train/y", "train/x/more", "train/x/0.png", "train"])
def test_what_cannot_be_read_is_named(closed: str) -> None:
    # not below pytest's own folder, which nobody else may enter
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        root = Path(folder)
        for seed, (split, name) in enumerate((s, n) for s in ("train", "test") for n in "xy"):
            picture(root / split / name / "0.png", seed)
        picture(root / "train" / "x" / "more" / "0.png", 9)
        os.chmod(root / closed, 0)
        try:
            was = os.geteuid()
            if was == 0:
                os.seteuid(65534)
            try:
                message = refusal(root)
            finally:
                os.seteuid(was)
        finally:
            os.chmod(root / closed, stat.S_IRWXU)
    assert str(root / closed) in message
    assert "Permission denied" in message


def test_other_kinds_are_counted_and_hidden_ones_are_not(root: Path) -> None:
    for name in ("a.gif", "b.HEIC", "c.heic", "notes", ".hidden.png", "._0.png"):
        (root / "train" / "x" / name).write_bytes(b"x")
    (root / "train" / "x" / ".cache").mkdir()
    picture(root / "train" / "x" / ".cache" / "0.png", 50)
    (root / "train" / "classes.csv").write_text("x,y")
    picture(root / "train" / "x" / "3.JPG", 51)
    source = opened(root)
    assert train_paths(source) == (*PLAIN[:3], "x/3.JPG", *PLAIN[3:])
    assert source.notes == (
        "data: left out 5 files of other kinds: .csv 1, .gif 1, .heic 2, no suffix 1",
    )


def test_an_empty_class_says_what_it_holds(root: Path) -> None:
    for split in ("train", "test"):
        (root / split / "z").mkdir()
        (root / split / "z" / "a.heic").write_bytes(b"x")
    message = refusal(root)
    assert f"no images in the class folder {root / 'train' / 'z'} (it holds .heic 1)" in message


def test_test_images_that_are_training_images_are_counted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (root / "train" / "x" / "1.png").read_bytes()
    (root / "test" / "x" / "copy.png").write_bytes(data)
    (root / "test" / "y" / "other.png").write_bytes(data[:-1] + b"x")  # of the same size
    source = load_source(DataConfig(name="imagefolder", root=str(root)))
    assert source.notes == ("data: 1 of 4 test images are also training images, byte by byte",)
    monkeypatch.setattr(folders_module, "FULL_HASH_BYTES", 0)  # too much to read
    assert load_source(DataConfig(name="imagefolder", root=str(root))).notes == ()


# --- files ----------------------------------------------------------------------------------------


def test_a_fifo_is_named_and_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "train" / "x" / "9.png")
    assert f"{root / 'train' / 'x' / '9.png'} is no regular file" in refusal(root)
    # one that takes a file's place later
    os.unlink(root / "train" / "x" / "9.png")
    source = opened(root)
    os.unlink(root / "train" / "x" / "0.png")
    os.mkfifo(root / "train" / "x" / "0.png")
    for use in (
        lambda: source.train.load(0),
        lambda: source.train.fingerprint(),
        lambda: source.train.check(np.arange(2)),
    ):
        with pytest.raises(ConfigError, match=r"0\.png \(it is no regular file\)"):
            use()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"not an image", "none of BMP, JPEG, PNG, PPM, TIFF, WEBP"),
        (EPS, "none of BMP, JPEG, PNG, PPM, TIFF, WEBP"),
        (b"GIF89a" + bytes(40), "none of BMP"),
        (b"version https://git-lfs.github.com/spec/v1\n", "none of BMP"),
    ],
)
def test_what_is_no_image_is_named_before_anything_is_read(
    root: Path, content: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    def started(*args: object, **kwargs: object) -> None:
        raise AssertionError("a program was started for an image")

    monkeypatch.setattr(subprocess, "Popen", started)
    file = root / "train" / "x" / "1.png"
    file.write_bytes(content)
    message = refusal(root)
    assert f"cannot read the image {file} (" in message and words in message


def test_a_gif_called_png_and_a_jpeg_called_png(root: Path) -> None:
    Image.new("RGB", (4, 4)).save(root / "train" / "x" / "1.png", format="JPEG")
    assert opened(root).train.load(1).size == (4, 4)
    Image.new("P", (4, 4)).save(root / "train" / "x" / "1.png", format="GIF")
    assert "1.png (its content is none of" in refusal(root)


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_named_suffix_can_be_read(root: Path, suffix: str) -> None:
    mode = "L" if suffix == ".pgm" else "RGB"
    Image.new(mode, (4, 3)).save(root / "train" / "x" / f"9{suffix.upper()}")
    source = opened(root)
    assert source.train.load(train_paths(source).index(f"x/9{suffix.upper()}")).size == (4, 3)


def test_several_are_named_at_once(root: Path) -> None:
    for name in "xy":
        for i in range(3):
            (root / "train" / name / f"{i}.png").write_bytes(b"")
    message = refusal(root)
    assert "cannot read 6 images: " in message and "x/0.png (it is empty)" in message
    assert "y/2.png" not in message and ", ...; replace or remove these files" in message


def test_too_many_pixels(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 29)  # the images have 30
    message = refusal(root)
    assert "x/0.png (" in message and "30 pixels" in message
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 14)
    with pytest.raises(ConfigError, match=r"0\.png .*30 pixels"):
        load_source(DataConfig(name="imagefolder", root=str(root))).train.load(0)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tiff", ".webp", ".ppm"])
def test_truncated_files_are_named(root: Path, suffix: str, share: float) -> None:
    file = root / "train" / "x" / f"0{suffix}"
    picture(file, size=(50, 40))
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    source = load_source(DataConfig(name="imagefolder", root=str(root)))
    number = train_paths(source).index(f"x/0{suffix}")
    with pytest.raises(ConfigError) as error:
        source.train.load(number)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


@settings(max_examples=60, deadline=None)
@given(
    suffix=st.sampled_from(sorted(IMAGE_SUFFIXES)),
    at=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_files_are_read_or_named(suffix: str, at: list[tuple[float, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"0{suffix}"
        Image.new("L", (9, 9), 77).save(file)
        content = bytearray(file.read_bytes())
        for share, value in at:
            content[int(share * (len(content) - 1))] = value
        file.write_bytes(bytes(content))
        split = FolderSplit(Path(folder), [file.name], np.zeros(1, dtype=np.int64))
        for use in (lambda: split.check(np.arange(1)), lambda: split.load(0)):
            try:
                use()
            except ConfigError as error:
                assert str(file) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_their_exif_says(root: Path, orientation: int) -> None:
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:8, :8] = 255  # top left of what is stored
    tag = Image.Exif()
    tag[0x0112] = orientation
    Image.fromarray(pixels).save(root / "train" / "x" / "0.png", exif=tag)
    loaded = np.asarray(opened(root).train.load(0))
    # EXIF 2.32, tag 274: where the stored first row and first column are in the scene
    upright = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: pixels.transpose(1, 0, 2)[:, ::-1],
        7: pixels.transpose(1, 0, 2)[::-1, ::-1],
        8: pixels.transpose(1, 0, 2)[::-1],
    }
    np.testing.assert_array_equal(loaded, upright[orientation])


# --- random folders -------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c.png", "d.JPG", "e.gif", ".h.png", "f", "g\n.png", "é.bmp"])
ODD = b"\xff\xfe.png"
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("file"), st.lists(NAMES, min_size=1, max_size=3)),
        st.tuples(st.just("odd"), st.lists(NAMES, max_size=2)),
        st.tuples(
            st.just("link"), st.lists(NAMES, min_size=1, max_size=3), st.lists(NAMES, max_size=3)
        ),
        st.tuples(st.just("fifo"), st.lists(NAMES, min_size=1, max_size=2)),
    ),
    max_size=12,
)


def make(top: bytes, steps: list[tuple[object, ...]]) -> None:
    """Carry out what can be carried out."""
    for kind, path, *target in steps:
        place = os.path.join(top, *(os.fsencode(name) for name in path))  # type: ignore[union-attr,attr-defined]
        if kind == "odd":
            place = os.path.join(place, ODD)
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            if kind == "link":
                names = (os.fsencode(name) for name in target[0])  # type: ignore[attr-defined]
                os.symlink(os.path.join(top, *names), place)
            elif kind == "fifo":
                os.mkfifo(place)
            else:
                with open(place, "xb") as file:
                    file.write(b"content")
        except OSError:
            pass


def naive(top: str) -> set[str] | None:
    """Real paths of all images below a folder by recursion over every path that is no longer than
    a loop needs; None if anything in it has to be refused."""
    found: set[str] = set()

    def descend(folder: str, above: tuple[str, ...]) -> bool:
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if name.startswith("."):
                continue
            if not os.path.exists(path):
                return False
            real = os.path.realpath(path)
            if os.path.isdir(path):
                if real not in above and not descend(path, (*above, real)):
                    return False
            elif "." + name.rpartition(".")[2].lower() in IMAGE_SUFFIXES and "." in name:
                if not os.path.isfile(path):
                    return False
                found.add(real)
        return True

    return found if descend(top, (os.path.realpath(top),)) else None


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_random_folders_have_the_images_of_a_naive_listing(
    steps: list[tuple[object, ...]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder) / "class"
        top.mkdir()
        make(os.fsencode(top), steps)
        expected = naive(str(top))
        try:
            split = list_images(Path(folder), ["class"], LeftOut())
        except ConfigError as error:
            assert str(error).isprintable()
            assert not expected
            return
        listed = [os.path.realpath(split.root / path) for path in split.paths]
        assert sorted(listed) == sorted(expected or ())
        assert list(split.paths) == sorted(split.paths)
        assert split.fingerprint() == split.fingerprint()


def test_class_names_are_folders_and_nothing_else(root: Path) -> None:
    os.mkdir(os.fsencode(root / "train") + b"/\xff")
    (root / "train" / "z.png").write_bytes(b"x")
    (root / "train" / ".git").mkdir()
    left_out = LeftOut()
    assert list_classes(root / "train", left_out) == ["x", "y", os.fsdecode(b"\xff")]
    assert dict(left_out.by_suffix) == {".png": 1}
