import gzip
import hashlib
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from batteries import images, refuses, relative

from dipa import data, storage
from dipa.data import embedded, embedded_mri, mnist, pixels

# --- embedded photographs -------------------------------------------------------------------------


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
    assert torch.equal(few.images, whole[:5]) and torch.equal(
        data.load("embedded", "test", size=32).take(5), whole[:5]
    )
    assert few.images.is_contiguous()


def test_loading_is_repeatable_and_hashed():
    a, b = (data.load("embedded", "test", size=32, count=7) for _ in range(2))
    assert torch.equal(a.images, b.images) and a.sha256 == b.sha256 == storage.sha256_tensors(
        {"images": a.images}
    )
    assert a.sha256 != data.load("embedded", "test", size=32, count=8).sha256
    assert (a.name, a.split) == ("embedded", "test")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("imagenet", "train"), ("dataset", "'imagenet'", ", ".join(data.DATASETS))),
        (("embeded", "train"), ("did you mean embedded",)),
        (("embedded-mri", "train", {"size": 97}), ("size", "97", "96")),
        (("embedded", "train", {"channels": 0}), ("channels", "0")),
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


# --- embedded MR slices ---------------------------------------------------------------------------


def raw_slices() -> np.ndarray:
    """The slices (24, 128, 96) of the first volume, read as NIfTI-1 lays them out: x fastest."""
    path = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    blob = gzip.decompress(path.read_bytes())
    (offset,) = struct.unpack_from("<f", blob, 108)
    values = np.frombuffer(blob, "<i2", offset=int(offset))
    return values.reshape(2, 24, 96, 128)[0].transpose(0, 2, 1)


def test_embedded_mri_slices_are_the_file_s_front_up_and_normalised():
    raw = raw_slices()
    head = np.flatnonzero(raw.max(axis=(0, 2)))
    assert head[0] >= 16 and head[-1] < 112  # nothing of the head is cut
    upright = raw[:, 16:112, ::-1].transpose(0, 2, 1).astype(np.float32)
    level = np.sort(upright.reshape(24, -1), axis=1)[:, round(0.995 * 96 * 96) - 1]
    want = torch.from_numpy(upright / level[:, None, None]).clamp(max=1)
    assert relative(data.load("embedded-mri", "test", size=96).images[:, 0], want[8:16]) < 1e-6
    assert embedded_mri.volume().amax(dim=(1, 2)).eq(1).all()


def test_embedded_mri_splits_leave_out_two_slices_between_them():
    train, test = (embedded_mri.SLICES[split] for split in data.SPLITS)
    assert min(abs(a - b) for a in train for b in test) == 3 and len(train) == 12 and len(test) == 8
    ours = [data.load("embedded-mri", split, size=64).images.flatten(1) for split in data.SPLITS]
    nearest = torch.cdist(ours[1], ours[0]).amin(dim=1) / ours[1].norm(dim=1)
    assert nearest.min() > 0.15


@pytest.mark.parametrize(
    ("size", "train", "test"),
    [(20, 1344, 40), (50, 1344, 40), (64, 1344, 40), (72, 480, 8), (96, 96, 8)],
)
def test_embedded_mri_windows_are_never_magnified(size, train, test):
    x, z = (data.load("embedded-mri", split, size=size).images for split in data.SPLITS)
    assert (len(x), len(z)) == (train, test) and x.shape[1:] == z.shape[1:] == (1, size, size)
    assert min(x.min(), z.min()) >= 0 and max(x.max(), z.max()) <= 1
    assert min(x.flatten(1).std(dim=1).min(), z.flatten(1).std(dim=1).min()) > embedded.MIN_CONTRAST


def test_embedded_mri_train_slices_come_in_all_eight_orientations():
    x = data.load("embedded-mri", "train", size=24).images[:, 0]
    known = {image.numpy().tobytes() for image in x}
    assert len(known) > 1300  # of 1344
    for turned in (x.mT, x.flip(1), torch.rot90(x, 1, (1, 2))):
        assert {image.numpy().tobytes() for image in turned.contiguous()} == known


def test_embedded_mri_needs_nibabel_s_files(monkeypatch, tmp_path):
    embedded_mri.volume.cache_clear()
    monkeypatch.setattr(nibabel, "__file__", str(tmp_path / "__init__.py"))
    refuses(lambda: data.load("embedded-mri", "test"), "example4d.nii.gz", "pip install")


# --- from pixels to images ------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5), (8, 5)])
def test_squares_are_centred(shape):
    x = images(2, 3, *shape)
    # a square and what lies inside it
    for image, square in ((x, pixels.centre_square(x)), (pixels.pad_square(x), x)):
        (height, width), (h, w) = image.shape[-2:], square.shape[-2:]
        top, left = (height - h) // 2, (width - w) // 2
        assert torch.equal(image[..., top : top + h, left : left + w], square)
        assert abs((height - h - top) - top) <= 1 and abs((width - w - left) - left) <= 1
    assert (
        pixels.centre_square(x).shape[-2:] == (min(shape),) * 2
        and pixels.pad_square(x).shape[-2:] == (max(shape),) * 2
    )
    assert pixels.pad_square(x).sum() == pytest.approx(x.sum().item(), rel=1e-6)


def test_resizing_averages_before_it_samples():
    stripes = torch.tensor([1.0, 0, 0, 1]).repeat(16).expand(1, 1, 64, 64)
    # sampling between the zeros would give 0
    assert (pixels.resized(stripes, 16)[..., 1:-1] - 0.5).abs().max() < 0.02
    ramp = torch.linspace(0, 1, 40).expand(1, 1, 40, 40)
    assert (
        relative(
            pixels.resized(ramp, 10)[..., 2:-2],
            ramp.reshape(1, 1, 10, 4, 10, 4).mean(dim=(3, 5))[..., 2:-2],
        )
        < 1e-5
    )
    assert torch.equal(pixels.resized(stripes, 64), stripes)


def test_normalised_divides_by_the_percentile_of_each_slice():
    x = (
        images(5, 20, 30, dtype=torch.float64)
        * torch.tensor([1, 10, 1e4, 1e-3, 0]).double()[:, None, None]
    )
    x[3] = 0
    x[3, 4, 5:7] = torch.tensor([3.0, 6.0]).double()  # two pixels alone: their percentile is 0
    got = pixels.normalised(x)
    for image, ours in zip(x[:3].numpy(), got[:3].numpy(), strict=True):
        level = np.percentile(image, 99.5, method="inverted_cdf")
        assert np.allclose(ours, np.minimum(image / level, 1))
    assert got[3, 4, 5:7].tolist() == [0.5, 1] and got[3].sum() == 1.5 and got[4].abs().max() == 0
    wave = torch.polar(x[:3], 6 * images(3, 20, 30, seed=1, dtype=torch.float64))
    assert relative(pixels.normalised(wave).abs(), got[:3]) < 1e-12
    assert relative(pixels.normalised(wave) / got[:3], wave / wave.abs()) < 1e-12


# --- MNIST ----------------------------------------------------------------------------------------


def digits(count: int, seed: int) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, 28, 28), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """Archives in the official format under DIPA_DATA: 7 train digits, of which 5 count, and 3
    test digits.
    """
    whole = {"train": digits(7, 0), "test": digits(3, 1)}
    (tmp_path / "mnist").mkdir()
    table = {}
    for split, part in whole.items():
        name, _ = mnist.FILES[split]
        raw = struct.pack(">IIII", 2051, len(part), 28, 28) + part.numpy().tobytes()
        (tmp_path / "mnist" / f"{name}.gz").write_bytes(gzip.compress(raw))
        table[split] = (name, hashlib.sha256(raw).hexdigest())
    monkeypatch.setattr(mnist, "FILES", table)
    monkeypatch.setattr(mnist, "TRAIN_COUNT", 5)
    monkeypatch.setenv("DIPA_DATA", str(tmp_path))
    return whole


def test_mnist_pads_without_touching_the_pixels(small_mnist):
    x = data.load("mnist", "test", size=32, resize="pad").images
    assert x.shape == (3, 1, 32, 32)
    assert torch.equal(x[:, 0, 2:30, 2:30], small_mnist["test"].float() / 255)
    x[:, 0, 2:30, 2:30] = 0
    assert x.abs().max() == 0
    odd = data.load("mnist", "test", size=31, resize="pad").images
    assert odd.shape[-2:] == (31, 31) and torch.equal(
        odd[:, 0, 1:29, 1:29], small_mnist["test"].float() / 255
    )


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
        assert torch.equal(
            data.load("mnist", "train", size=32, resize=resize, count=count).images, whole[:count]
        )
    assert resized == [1, 2, 5]


def test_mnist_archives_are_checked(small_mnist, tmp_path):
    path = tmp_path / "mnist" / f"{mnist.FILES['test'][0]}.gz"
    whole = path.read_bytes()
    flipped = whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]
    for damaged in (whole[:-10], whole + b"x", b"", b"<html>", flipped):
        path.write_bytes(damaged)
        refuses(lambda: mnist.digits("test"), str(path), "remove it and fetch it again")
    path.write_bytes(gzip.compress(gzip.decompress(whole) + b"x"))
    refuses(lambda: mnist.digits("test"), str(path), "SHA-256")
    path.write_bytes(gzip.compress(bytes(mnist.LARGEST * 4)))
    refuses(lambda: mnist.digits("test"), str(path), "SHA-256")
    path.unlink()
    refuses(
        lambda: mnist.digits("test"),
        path.name,
        "not found",
        "dipa data mnist --download",
        "DIPA_DATA",
    )


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("folder", ["mnist", "mnist/MNIST/raw", "MNIST/raw", "cache/MNIST/raw"])
def test_mnist_is_found_where_torchvision_leaves_it(
    small_mnist, tmp_path, monkeypatch, folder, packed
):
    name = mnist.FILES["test"][0]
    whole = (tmp_path / "mnist" / f"{name}.gz").read_bytes()
    (tmp_path / "mnist" / f"{name}.gz").unlink()
    monkeypatch.setenv("DIPA_CACHE", str(tmp_path / "cache"))
    path = tmp_path / folder / (f"{name}.gz" if packed else name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(whole if packed else gzip.decompress(whole))
    assert mnist.find(name) == path
    assert torch.equal(mnist.digits("test", 28)[:, 0], small_mnist["test"].float() / 255)
    if not packed:
        path.write_bytes(gzip.decompress(whole)[:-1] + b"\0")
        refuses(lambda: mnist.digits("test"), str(path), "SHA-256")


def test_a_failed_download_is_one_line(monkeypatch):
    import torchvision

    def offline(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(torchvision.datasets, "MNIST", offline)
    refuses(mnist.download, "download failed", "Name or service not known", "DIPA_DATA")


def test_official_digits(user_data, monkeypatch, request):
    """The real test file where DIPA_DATA has it (its label-free facts), else the small one:
    count and content.
    """
    if user_data and (user_data / "mnist" / f"{mnist.FILES['test'][0]}.gz").is_file():
        monkeypatch.setenv("DIPA_DATA", str(user_data))
        x = data.load("mnist", "test", size=28, resize="pad").images
        assert len(x) == 10_000 and x.mean().item() == pytest.approx(0.1325, abs=5e-4)
    else:
        request.getfixturevalue("small_mnist")
        x = data.load("mnist", "test", size=28, resize="pad").images
        assert len(x) == 3 and x.mean().item() == pytest.approx(0.5, abs=0.03)
    assert x.min() == 0 and x.max() == 1
