"""Sources: folders, digits, and torchvision's loaders on miniature files of the true layout."""

import gzip
import hashlib
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from snn_artsy.config import ConfigError, DataConfig
from snn_artsy.data import FolderSplit, ImageSource, build_stream, load_source, sources
from snn_artsy.data import folders as folders_module
from snn_artsy.data.sources import ArraySplit


def write_image(path: Path, seed: int, mode: str = "RGB", size: tuple[int, int] = (6, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels, mode=None).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Classes b (3 images) and a (2), one nested; one test image each in val/."""
    root = tmp_path / "images"
    for i, name in enumerate(("b/2.png", "b/10.PNG", "b/images/1.jpg", "a/x.png", "a/y.bmp")):
        write_image(root / "train" / name, i)
    for i, name in enumerate(("a/x.png", "b/x.png")):
        write_image(root / "val" / name, 10 + i)
    (root / "train" / "a" / "notes.txt").write_text("not an image")
    (root / "train" / ".hidden").mkdir()
    return root


def open_folder(root: Path | str) -> ImageSource:
    return load_source(DataConfig(name="imagefolder", root=str(root)))


def refusal(config: DataConfig) -> str:
    with pytest.raises(ConfigError) as error:
        load_source(config)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_imagefolder(folder: Path) -> None:
    source = open_folder(folder)
    assert source.class_names == ("a", "b")
    assert source.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert isinstance(source.train, FolderSplit)
    assert source.train.paths == ("a/x.png", "a/y.bmp", "b/10.PNG", "b/2.png", "b/images/1.jpg")
    assert len(source.test) == 2
    image = source.train.load(3)
    assert (image.mode, image.size) == ("RGB", (6, 5))
    np.testing.assert_array_equal(
        np.asarray(image), np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    )


def test_test_folder_goes_before_val(folder: Path) -> None:
    for name in ("a", "b"):
        for i in range(2):
            write_image(folder / "test" / name / f"{i}.png", i)
    assert len(open_folder(folder).test) == 4


def test_grey_and_transparent_images_become_rgb(folder: Path) -> None:
    write_image(folder / "train" / "a" / "x.png", 0, mode="L")
    assert open_folder(folder).train.load(0).mode == "RGB"


def test_fingerprint_follows_the_content_only(folder: Path, tmp_path: Path) -> None:
    first = open_folder(folder).train.fingerprint()
    os.utime(folder / "train" / "a" / "x.png", (1, 1))
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    assert open_folder(moved).train.fingerprint() == first
    content = bytearray((moved / "train" / "a" / "y.bmp").read_bytes())
    content[-1] ^= 1  # same size, one bit
    (moved / "train" / "a" / "y.bmp").write_bytes(bytes(content))
    assert open_folder(moved).train.fingerprint() != first


def test_large_folders_are_fingerprinted_by_a_sample(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders_module, "FULL_HASH_BYTES", 0)
    monkeypatch.setattr(folders_module, "SAMPLED_FILES", 3)
    split = open_folder(folder).train
    first = split.fingerprint()
    assert split.fingerprint() == first
    # the first file is always in the sample, whatever its time says
    file = folder / "train" / "a" / "x.png"
    kept = file.stat().st_mtime_ns
    write_image(file, 99)
    os.utime(file, ns=(kept, kept))
    assert split.fingerprint() != first


def test_every_file_of_a_large_folder_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose content is not looked at is replaced by another of the same size."""
    monkeypatch.setattr(folders_module, "FULL_HASH_BYTES", 0)
    monkeypatch.setattr(folders_module, "SAMPLED_FILES", 1)
    split = open_folder(folder).train
    for name in split.paths[1:]:
        first = split.fingerprint()
        content = bytearray((folder / "train" / name).read_bytes())
        content[-1] ^= 1
        (folder / "train" / name).write_bytes(bytes(content))
        assert split.fingerprint() != first
    moved = folder.with_name("elsewhere")
    first = split.fingerprint()
    folder.rename(moved)
    assert open_folder(moved).train.fingerprint() == first


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda root: (root / "train").rename(root / "training"), ["no train/", "training/, val/"]),
        (lambda root: (root / "val").rename(root / "v"), ["no test/ or val/", "train/, v/"]),
        (lambda root: (root / "train" / "c").mkdir(), ["are not in val/", "(c)"]),
        (lambda root: (root / "val" / "d").mkdir(), ["are not in train/", "(d)"]),
        (
            lambda root: [(root / s / "empty").mkdir() for s in ("train", "val")],
            ["no images in the class folder", "empty", ".png"],
        ),
    ],
)
def test_imagefolder_refusals(folder: Path, break_it, words: list[str]) -> None:  # type: ignore[no-untyped-def]
    break_it(folder)
    message = refusal(DataConfig(name="imagefolder", root=str(folder)))
    for word in ("data.root", *words):
        assert word in message


def test_no_such_folder_or_source(tmp_path: Path) -> None:
    message = refusal(DataConfig(name="imagefolder", root="tinyimgnet"))
    assert "data.root: no folder 'tinyimgnet' here; give the directory that holds train/" in message
    assert "data.root: not given" in refusal(DataConfig(name="imagefolder"))
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    assert "no class folders" in refusal(DataConfig(name="imagefolder", root=str(tmp_path)))
    message = refusal(DataConfig(name="imagenet"))
    assert "data.name: 'imagenet'" in message
    assert "digits" in message


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n truncated"])
def test_unreadable_image_is_named(folder: Path, content: bytes) -> None:
    (folder / "train" / "b" / "2.png").write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot read the image .*2\.png"):
        open_folder(folder).train.load(3)


def test_truncated_and_16_bit_images_are_refused(folder: Path) -> None:
    path = folder / "train" / "a" / "x.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ConfigError, match="cannot read the image"):
        open_folder(folder).train.load(0)
    Image.fromarray(np.full((4, 4), 3000, dtype=np.uint16)).save(path)
    with pytest.raises(ConfigError, match="not 8 bits deep"):
        open_folder(folder).train.load(0)


def test_digits() -> None:
    source = load_source(DataConfig())
    assert (len(source.train), len(source.test)) == (1347, 450)
    assert source.class_names == tuple("0123456789")
    image = source.train.load(0)
    assert (image.mode, image.size) == ("RGB", (8, 8))
    assert np.asarray(image).max() > 200  # 0..16 is spread over 0..255
    # Stratified: every class has a quarter of its images in the test split, give or take one.
    train, test = (np.bincount(s.labels) for s in (source.train, source.test))
    assert np.abs(test - (train + test) / 4).max() <= 1
    again = load_source(DataConfig())
    assert again.train.fingerprint() == source.train.fingerprint() != source.test.fingerprint()
    stream = build_stream(DataConfig(), source, seed=0)
    assert [len(task.classes) for task in stream.tasks] == [2] * 5


def test_digits_and_their_split_are_scikit_learn_s(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    parts = train_test_split(
        np.arange(len(labels)), test_size=0.25, random_state=0, stratify=labels
    )
    for _ in ("read from its file", "loaded by it"):
        source = load_source(DataConfig())
        for split, part in zip((source.train, source.test), parts, strict=True):
            assert isinstance(split, ArraySplit)
            assert np.array_equal(split.images, images[np.sort(part)])
            assert np.array_equal(split.labels, labels[np.sort(part)])
        monkeypatch.setattr(sources, "find_spec", lambda _: None)


def fake_cifar(root: Path, dataset: type, monkeypatch: pytest.MonkeyPatch, n_classes: int) -> None:
    """The pickled batches of CIFAR's python version, two images a class in each file."""
    fine = n_classes == 100
    folder = root / dataset.base_folder  # type: ignore[attr-defined]
    folder.mkdir(parents=True)

    def write(name: str, entry: dict[str, object]) -> str:
        (folder / name).write_bytes(pickle.dumps(entry))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    rng = np.random.default_rng(0)
    for attribute in ("train_list", "test_list"):
        files = []
        for name, _ in getattr(dataset, attribute):
            entry: dict[str, object] = {
                "data": rng.integers(0, 256, (2 * n_classes, 3 * 32 * 32), dtype=np.uint8),
                "fine_labels" if fine else "labels": list(range(n_classes)) * 2,
            }
            files.append([name, write(name, entry)])
        monkeypatch.setattr(dataset, attribute, files)
    meta = dict(dataset.meta)  # type: ignore[attr-defined]
    meta["md5"] = write(meta["filename"], {meta["key"]: [f"name{i}" for i in range(n_classes)]})
    monkeypatch.setattr(dataset, "meta", meta)


@pytest.mark.parametrize(("name", "n_classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar(name: str, n_classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = getattr(torchvision.datasets, name.upper())
    fake_cifar(tmp_path, dataset, monkeypatch, n_classes)
    source = load_source(DataConfig(name=name, root=str(tmp_path)))
    assert len(source.class_names) == n_classes
    n_files = len(dataset.train_list)
    assert (len(source.train), len(source.test)) == (2 * n_classes * n_files, 2 * n_classes)
    assert source.train.labels[:3].tolist() == [0, 1, 2]
    # Rows are red, green and blue planes of 32 x 32.
    first = pickle.loads((tmp_path / dataset.base_folder / dataset.train_list[0][0]).read_bytes())
    np.testing.assert_array_equal(
        np.asarray(source.train.load(1)), first["data"][1].reshape(3, 32, 32).transpose(1, 2, 0)
    )
    stream = build_stream(DataConfig(name=name, increment=n_classes // 10), source, seed=1993)
    assert len(stream.tasks) == 10

    path = tmp_path / dataset.base_folder / dataset.train_list[0][0]
    path.write_bytes(path.read_bytes()[:-1])
    message = refusal(DataConfig(name=name, root=str(tmp_path)))
    assert "data.root" in message
    assert "data.download" in message


@pytest.mark.parametrize(
    ("name", "folder"),
    [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")],
)
def test_mnist_family(name: str, folder: str, tmp_path: Path) -> None:
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = np.tile(np.arange(10, dtype=np.uint8), 2)
    for split in ("train", "t10k"):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            content = header + array.tobytes()
            (raw / f"{split}-{kind}-ubyte").write_bytes(content)
            (raw / f"{split}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
    source = load_source(DataConfig(name=name, root=str(tmp_path)))
    assert len(source.class_names) == 10
    assert source.test.labels.tolist() == labels.tolist()
    image = np.asarray(source.train.load(7))
    for channel in range(3):
        np.testing.assert_array_equal(image[..., channel], images[7])


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 20), dtype=np.uint8)
    labels = np.tile(np.arange(1, 11, dtype=np.uint8), 2)[:, None]  # the digit 0 is stored as 10
    splits = {}
    for split in ("train", "test"):
        path = tmp_path / f"{split}_32x32.mat"
        scipy_io.savemat(path, {"X": images, "y": labels})
        splits[split] = ["", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", splits)
    source = load_source(DataConfig(name="svhn", root=str(tmp_path)))
    assert source.train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] * 2
    np.testing.assert_array_equal(np.asarray(source.train.load(4)), images[..., 4])


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "svhn"])
def test_torchvision_files_missing(name: str, tmp_path: Path) -> None:
    message = refusal(DataConfig(name=name, root=str(tmp_path)))
    assert name in message
    assert "data.download: true" in message
    assert "data.root: not given" in refusal(DataConfig(name=name))


def test_failed_download_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: object, **kwargs: object) -> None:
        raise OSError("<urlopen error Name or service not known>")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", no_network)
    message = refusal(DataConfig(name="cifar10", root=str(tmp_path), download=True))
    assert "could not be downloaded" in message
    assert "Name or service not known" in message


def test_tiny_imagenet() -> None:
    """The development data, where it is at hand: the layout the README speaks of."""
    data = os.environ.get("SNN_ARTSY_DATA")
    root = Path(data or "") / "tiny-imagenet-200-subset"
    if not data or not root.is_dir():
        pytest.skip("SNN_ARTSY_DATA does not name a folder with tiny-imagenet-200-subset/")
    source = open_folder(root)
    assert (len(source.class_names), len(source.train), len(source.test)) == (200, 20000, 4000)
    config = DataConfig(name="imagefolder", class_range=[100, 200], n_tasks=10)
    stream = build_stream(config, source, seed=1993)
    assert (len(stream.train_index), len(stream.test_index)) == (10000, 2000)
    assert source.train.load(0).size == (64, 64)


# --- published layouts, as miniature fakes --------------------------------------------------------


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    root = tmp_path / "tiny-imagenet-200"
    for k, wnid in enumerate(("n02", "n01")):
        for i in range(3):
            write_image(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", 10 * k + i)
    lines = []
    for i, wnid in enumerate(("n02", "n01", "n02", "n02")):
        write_image(root / "val" / "images" / f"val_{i}.JPEG", 50 + i)
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    return root


def test_tiny_imagenet_as_published(tiny: Path) -> None:
    source = load_source(DataConfig(name="tiny_imagenet", root=str(tiny)))
    assert source.class_names == ("n01", "n02")
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.test.labels.tolist() == [1, 0, 1, 1]
    assert source.test.load(3).size == (6, 5)
    (tiny / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn09\n")
    assert "line 1" in refusal(DataConfig(name="tiny_imagenet", root=str(tiny)))
    (tiny / "val" / "val_annotations.txt").unlink()
    assert "val_annotations.txt" in refusal(DataConfig(name="tiny_imagenet", root=str(tiny)))


def test_cub_as_published(tmp_path: Path) -> None:
    root = tmp_path / "CUB_200_2011"
    images = ["001.A/a_1.jpg", "001.A/a_2.jpg", "002.B/b_1.jpg", "002.B/b_2.jpg", "002.B/b_3.jpg"]
    for i, name in enumerate(images):
        write_image(root / "images" / name, i)

    def table(name: str, values: list[str]) -> None:
        text = "".join(f"{i} {value}\n" for i, value in enumerate(values, start=1))
        (root / name).write_text(text)

    table("images.txt", images)
    table("classes.txt", ["001.A", "002.B"])
    table("image_class_labels.txt", ["1", "1", "2", "2", "2"])
    table("train_test_split.txt", ["1", "0", "1", "0", "1"])
    source = load_source(DataConfig(name="cub200", root=str(root)))
    assert source.class_names == ("001.A", "002.B")
    assert isinstance(source.train, FolderSplit) and isinstance(source.test, FolderSplit)
    assert source.train.paths == (images[0], images[2], images[4])
    assert source.train.labels.tolist() == [0, 1, 1] and source.test.labels.tolist() == [0, 1]
    assert source.test.paths == (images[1], images[3])
    table("train_test_split.txt", ["1", "0"])
    assert "do not list the same images" in refusal(DataConfig(name="cub200", root=str(root)))
    (root / "images.txt").write_text("1\n")
    assert "line 1" in refusal(DataConfig(name="cub200", root=str(root)))


@pytest.mark.parametrize("name", ["imagenet_a", "imagenet_r"])
def test_a_data_set_without_a_split_gets_a_fixed_one(name: str, tmp_path: Path) -> None:
    root = tmp_path / name
    for k, wnid in enumerate(("n01", "n02")):
        for i in range(10 if k else 3):
            write_image(root / wnid / f"{i}.jpg", 100 * k + i)
    (root / "README.txt").write_text("not a class")
    first, again = (load_source(DataConfig(name=name, root=str(root))) for _ in range(2))
    assert first.name == name and first.class_names == ("n01", "n02")
    assert isinstance(first.train, FolderSplit) and isinstance(first.test, FolderSplit)
    assert np.bincount(first.test.labels).tolist() == [1, 2]
    assert np.bincount(first.train.labels).tolist() == [2, 8]
    assert not set(first.train.paths) & set(first.test.paths)
    assert isinstance(again.test, FolderSplit) and again.test.paths == first.test.paths
    for path in ("train/n01/a.jpg", "test/n01/b.jpg"):
        write_image(tmp_path / "cut" / path, 1)
    for known in (name, "cub200"):
        cut = load_source(DataConfig(name=known, root=str(tmp_path / "cut")))
        assert (cut.name, len(cut.train), len(cut.test)) == (known, 1, 1)
    write_image(tmp_path / "lone" / "n01" / "0.jpg", 1)
    assert "needs 2" in refusal(DataConfig(name=name, root=str(tmp_path / "lone")))
