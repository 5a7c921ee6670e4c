import gzip
import hashlib
import struct

import pytest
import torch
from batteries import refuses, relative

from dipa import data, files
from dipa.data import embedded, mnist

# --- embedded photographs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", data.SPLITS)
def test_embedded_patches_are_images_with_contrast(split):
    x = data.load("embedded", split, size=32).images
    assert x.shape[1:] == (1, 32, 32) and x.dtype == torch.float32
    assert x.min() >= 0 and x.max() <= 1
    assert x.flatten(1).std(dim=1).min() >= embedded.MIN_CONTRAST
    assert len(x) >= {"train": 500, "test": 60}[split]


def test_embedded_splits_share_no_photograph_and_no_patch():
    assert not set(embedded.PHOTOGRAPHS["train"]) & set(embedded.PHOTOGRAPHS["test"])
    train, test = (data.load("embedded", split, size=32).images.flatten(1) for split in data.SPLITS)
    assert torch.cdist(test, train).min() > 0.5


def test_embedded_patches_are_cut_where_they_say():
    photo = embedded.photograph("camera")
    assert photo.shape == (256, 256)
    corners = [photo[:128, :128], photo[:128, 128:], photo[128:, :128], photo[128:, 128:]]
    cut = embedded.patches("test", 128)
    assert all(any(torch.equal(corner, patch[0]) for patch in cut) for corner in corners)
    overlapping = embedded.patches("test", 128, stride=64)
    assert any(torch.equal(photo[:128, 64:192], patch[0]) for patch in overlapping)


def test_train_patches_come_in_all_eight_orientations():
    upright = torch.arange(9.0).reshape(1, 1, 3, 3)
    ways = embedded.orientations(upright)
    assert len({tuple(way.flatten().tolist()) for way in ways}) == 8
    assert all(sorted(way.flatten().tolist()) == sorted(upright.flatten().tolist()) for way in ways)
    assert len(embedded.patches("train", 128)) % 8 == 0


def test_count_takes_the_first_of_the_shuffled_patches():
    whole = data.load("embedded", "test", size=32).images
    few = data.load("embedded", "test", size=32, count=5)
    assert torch.equal(few.images, whole[:5]) and torch.equal(data.load("embedded", "test", size=32).take(5), whole[:5])
    assert few.images.is_contiguous()


def test_loading_is_repeatable_and_hashed():
    a, b = (data.load("embedded", "test", size=32, count=7) for _ in range(2))
    assert torch.equal(a.images, b.images) and a.sha256 == b.sha256 == files.sha256_tensors({"images": a.images})
    assert a.sha256 != data.load("embedded", "test", size=32, count=8).sha256
    assert (a.name, a.split) == ("embedded", "test")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("celeba", "train"), ("dataset", "'celeba'", "embedded, mnist")),
        (("embeded", "train"), ("did you mean embedded",)),
        (("embedded", "validation"), ("split", "train, test")),
        (("embedded", "test", {"size": 7}), ("size", "7")),
        (("embedded", "test", {"size": 129}), ("size", "129")),
        (("embedded", "test", {"count": 0}), ("count", "0")),
        (("embedded", "test", {"count": 10**6}), ("count", "1000000", "at most")),
        (("mnist", "test", {"resize": "lanczos"}), ("resize", "'lanczos'", "bilinear")),
        (("mnist", "test", {"resize": "pad", "size": 27}), ("size", "27", "28")),
    ],
)
def test_load_refuses(arguments, words):
    name, split, *options = arguments
    refuses(lambda: data.load(name, split, **(options[0] if options else {})), *words)


# --- MNIST -----------------------------------------------------------------------------------------------------------


def pixels(count: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 28, 28), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """Archives in the official format under DIPA_DATA: 7 train digits, of which 5 count, and 3 test digits."""
    digits = {"train": pixels(7, 0), "test": pixels(3, 1)}
    (tmp_path / "mnist").mkdir()
    table = {}
    for split, images in digits.items():
        name, _ = mnist.FILES[split]
        blob = gzip.compress(struct.pack(">IIII", 2051, len(images), 28, 28) + images.numpy().tobytes())
        (tmp_path / "mnist" / name).write_bytes(blob)
        table[split] = (name, hashlib.md5(blob, usedforsecurity=False).hexdigest())
    monkeypatch.setattr(mnist, "FILES", table)
    monkeypatch.setattr(mnist, "TRAIN_COUNT", 5)
    monkeypatch.setenv("DIPA_DATA", str(tmp_path))
    return digits


def test_mnist_pads_without_touching_the_pixels(small_mnist):
    x = data.load("mnist", "test", size=32, resize="pad").images
    assert x.shape == (3, 1, 32, 32)
    assert torch.equal(x[:, 0, 2:30, 2:30], small_mnist["test"].float() / 255)
    x[:, 0, 2:30, 2:30] = 0
    assert x.abs().max() == 0
    odd = data.load("mnist", "test", size=31, resize="pad").images
    assert odd.shape[-2:] == (31, 31) and torch.equal(odd[:, 0, 1:29, 1:29], small_mnist["test"].float() / 255)


def test_mnist_train_is_the_first_part_of_the_file(small_mnist):
    x = data.load("mnist", "train", size=28, resize="pad").images
    assert torch.equal(x[:, 0], small_mnist["train"][:5].float() / 255)
    assert torch.equal(data.load("mnist", "train", size=28, resize="pad", count=2).images, x[:2])
    refuses(lambda: data.load("mnist", "train", size=28, count=6), "count", "6", "5 images")


@pytest.mark.parametrize("resize", mnist.RESIZES)
def test_mnist_resizes_stay_in_range(small_mnist, resize):
    x = data.load("mnist", "test", size=32, resize=resize).images
    assert x.shape == (3, 1, 32, 32) and x.min() >= 0 and x.max() <= 1
    same = data.load("mnist", "test", size=28, resize=resize).images
    assert relative(same[:, 0], small_mnist["test"].float() / 255) < 1e-6


@pytest.mark.parametrize("resize", mnist.RESIZES)
def test_mnist_resizes_only_what_is_asked(small_mnist, resize, monkeypatch):
    whole = data.load("mnist", "train", size=32, resize=resize).images
    resized, original = [], mnist._resize

    def spy(images, *arguments):
        resized.append(len(images))
        return original(images, *arguments)

    monkeypatch.setattr(mnist, "_resize", spy)
    for count in (1, 2, 5):
        assert torch.equal(data.load("mnist", "train", size=32, resize=resize, count=count).images, whole[:count])
    assert resized == [1, 2, 5]


def test_mnist_archives_are_checked(small_mnist, tmp_path):
    path = tmp_path / "mnist" / mnist.FILES["test"][0]
    whole = path.read_bytes()
    for damaged in (whole[:-10], whole + b"x", b""):
        path.write_bytes(damaged)
        refuses(lambda: mnist.digits("test"), str(path), "MD5")
    path.unlink()
    refuses(lambda: mnist.digits("test"), path.name, "not found", "dipa data mnist --download", "DIPA_DATA")


def test_mnist_is_found_in_the_cache_too(small_mnist, tmp_path, monkeypatch):
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    name = mnist.FILES["test"][0]
    (tmp_path / "mnist" / name).rename(tmp_path / "MNIST" / "raw" / name)
    monkeypatch.setenv("DIPA_CACHE", str(tmp_path))
    assert mnist.archive("test") == tmp_path / "MNIST" / "raw" / name
    monkeypatch.delenv("DIPA_DATA")
    assert len(mnist.digits("test")) == 3


def test_a_failed_download_is_one_line(monkeypatch):
    import torchvision

    def offline(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(torchvision.datasets, "MNIST", offline)
    refuses(lambda: mnist.archive("test", download=True), "download failed", "Name or service not known", "DIPA_DATA")


def test_official_digits(user_data, monkeypatch, request):
    """The real test file where DIPA_DATA has it (its label-free facts), else the small one: count and content."""
    if user_data and (user_data / "mnist" / mnist.FILES["test"][0]).is_file():
        monkeypatch.setenv("DIPA_DATA", str(user_data))
        x = data.load("mnist", "test", size=28, resize="pad").images
        assert len(x) == 10_000 and x.mean().item() == pytest.approx(0.1325, abs=5e-4)
    else:
        request.getfixturevalue("small_mnist")
        x = data.load("mnist", "test", size=28, resize="pad").images
        assert len(x) == 3 and x.mean().item() == pytest.approx(0.5, abs=0.03)
    assert x.min() == 0 and x.max() == 1
