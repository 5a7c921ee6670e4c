"""Data sets read from the user's folder: small ones in the official formats, written here,
under DIPA_DATA.
"""

import gzip
import hashlib
import io
import itertools
import pickle
import struct
import tarfile
import zipfile

import deepinv
import numpy as np
import pytest
import torch
import torchvision
from batteries import images, refuses, relative
from PIL import Image
from train_denoiser import read_photographs

from dipa import cli, data, encoded
from dipa.data import mnist, pictures, slices, splits

PATIENTS = np.repeat([3, 11, 5, 2], [9, 8, 12, 6])  # 35 slices; 11 is the last fifth


def jpeg(seed: int, height: int = 24, width: int = 16) -> bytes:
    """A small RGB photograph of blocks, different for every seed."""
    blocks = (images(1, 3, 6, 4, seed=seed)[0] * 255).byte().permute(1, 2, 0).numpy()
    held = io.BytesIO()
    Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC).save(
        held, "JPEG", quality=95
    )
    return held.getvalue()


def write_tar(path, members: dict[str, bytes]):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def opened(content: bytes, mode: str = "RGB") -> torch.Tensor:
    """The pixels (C, H, W) in [0, 1] of an encoded picture."""
    values = torch.from_numpy(
        np.asarray(Image.open(io.BytesIO(content)).convert(mode), np.float32) / 255
    )
    return values.reshape(*values.shape[:2], -1).permute(2, 0, 1)


BSDS = {part: {f"{part}/{n}.jpg": jpeg(1000 + n) for n in numbers} for part, numbers in
        {"train": (100, 9, 20), "test": (8, 70), "val": (30, 4)}.items()}  # fmt: skip
FACES = {f"image_{n:04d}.jpg": jpeg(n, 20, 18) for n in range(1, 161)}


def write_bsds(root):
    for part, members in BSDS.items():
        write_tar(root / "bsds500" / f"bsds500_{part}.tar", members)


def write_mnist(root, monkeypatch):
    table = {}
    for seed, (split, (name, _)) in enumerate(mnist.FILES.items()):
        raw = (images(12, 28, 28, seed=seed) * 255).byte().numpy().tobytes()
        content = struct.pack(">IIII", 2051, 12, 28, 28) + raw
        (root / "mnist").mkdir(exist_ok=True)
        (root / "mnist" / f"{name}.gz").write_bytes(gzip.compress(content))
        table[split] = (name, hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(mnist, "FILES", table)


def write_celeba(root, monkeypatch):
    """Six faces, every list in the official format, their checksums in place of torchvision's."""
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{n:06d}.jpg" for n in range(1, 7)]
    for n, name in enumerate(names):
        (folder / "img_align_celeba" / name).write_bytes(jpeg(300 + n, 26, 20))
    rows = {"attr": "1 -1", "bbox": "1 2 3 4", "landmarks_align": " ".join("1234567890")}
    for kind, row in rows.items():
        text = f"{len(names)}\n{row}\n" + "".join(f"{name} {row}\n" for name in names)
        (folder / f"list_{kind}_celeba.txt").write_text(text)
    for file, values in (
        ("identity_CelebA", range(1, 7)),
        ("list_eval_partition", (0, 0, 2, 1, 0, 2)),
    ):
        (folder / f"{file}.txt").write_text(
            "".join(f"{a} {b}\n" for a, b in zip(names, values, strict=True))
        )
    sums = {
        path.name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        for path in folder.glob("*.txt")
    }
    official = torchvision.datasets.CelebA.file_list
    assert (
        {name for _, _, name in official if name.endswith(".txt")}
        == set(sums)
        == set(pictures.CELEBA[1:])
    )
    monkeypatch.setattr(
        torchvision.datasets.CelebA,
        "file_list",
        [(i, sums.get(name, md5), name) for i, md5, name in official],
    )


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DIPA_DATA", str(tmp_path))
    pictures._celeba_names.cache_clear()
    return tmp_path


@pytest.fixture
def everything(root, monkeypatch):
    """Every data set, small."""
    write_bsds(root)
    write_tar(root / "faces" / "faces.tar", FACES)
    write_mnist(root, monkeypatch)
    write_celeba(root, monkeypatch)
    for folder in ("fastmri", "mri"):
        (root / folder).mkdir()
    torch.save(images(40, 24, 24, seed=5), root / "fastmri" / "knee.pt")
    np.savez(
        root / "mri" / "brain.npz", images=images(35, 26, 20, seed=6).numpy(), patient=PATIENTS
    )


# --- every data set -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", data.DATASETS)
def test_every_data_set_keeps_the_contract(everything, name):
    for split in data.SPLITS:
        whole = data.load(name, split, size=32)
        x = whole.images
        assert x.shape[1:] == (1, 32, 32) and x.dtype == torch.float32 and x.is_contiguous()
        assert x.min() >= 0 and x.max() <= 1 and x.flatten(1).std(dim=1).min() > 0.02
        assert data.lengths(name)[split] == len(x)
        assert torch.equal(data.load(name, split, size=32, count=2).images, x[:2])
        assert whole.sha256 == data.load(name, split, size=32).sha256
        two = data.load(name, split, size=32, count=2, channels=2).images
        assert (
            torch.equal(two[:, :1], x[:2])
            and two.shape == (2, 2, 32, 32)
            and two[:, 1].abs().max() == 0
        )
        refuses(
            lambda split=split: data.load(name, split, count=10**6),
            "count",
            "1000000",
            "at most",
            name,
        )
    train, test = (data.load(name, split, size=32).images.flatten(1) for split in data.SPLITS)
    assert torch.cdist(test, train).min() > 0.05


@pytest.mark.parametrize("name", data.DATASETS)
def test_a_data_set_is_here_or_says_how_to_get_it(name):
    if name.startswith("embedded"):
        assert len(data.load(name, "test").images) == data.lengths(name)["test"]
        return
    for call in (lambda: data.load(name, "train"), lambda: data.lengths(name)):
        refuses(call, name, data.SOURCES[name].get)


@pytest.mark.parametrize("name", data.DATASETS)
def test_file_and_channels_only_where_they_mean_something(everything, name):
    source = data.SOURCES[name]
    if 3 in source.channels:
        assert data.load(name, "test", size=16, count=1, channels=3).images.shape == (1, 3, 16, 16)
    else:
        refuses(lambda: data.load(name, "test", channels=3), "channels", "3", "1 or 2")
    if source.pattern:
        assert data.here(name) != [""]
        refuses(lambda: data.load(name, "test", file="absent"), "absent", data.here(name)[0])
    else:
        refuses(lambda: data.load(name, "test", file="absent"), "file", "absent")


def test_downloads_that_do_not_exist_or_fail_are_one_line(monkeypatch, tmp_path):
    assert data.downloads() == ["mnist", "bsds500"]
    refuses(lambda: data.download("celeba"), "no download", "img_align_celeba")

    def offline(*arguments, **options):
        raise OSError("Name or service not known")

    monkeypatch.setenv("DIPA_CACHE", str(tmp_path))
    monkeypatch.setattr(deepinv.datasets.bsds500, "download_archive", offline)
    for _ in range(2):  # what an interrupted download leaves is not taken for a whole one
        refuses(
            lambda: data.download("bsds500"),
            "download failed",
            "Name or service not known",
            "DIPA_DATA",
        )
        (tmp_path / "BSDS500" / "download.zip").write_bytes(b"half")


# --- photographs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["tar", "cache"])
def test_bsds500_has_the_splits_order_and_pixels_of_deepinv(root, source, monkeypatch):
    cache = root / "cache"
    monkeypatch.setenv("DIPA_CACHE", str(cache))
    for members in BSDS.values():
        for name, content in members.items():
            path = cache / pictures.BSDS500_TREE / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    (cache / "BSDS500" / "download.zip").touch()
    if source == "tar":
        write_bsds(root)
    for split in data.SPLITS:
        theirs = deepinv.datasets.BSDS500(
            cache / "BSDS500", train=split == "train", use_dict_output=True
        )
        ours = data.load("bsds500", split, size=16, channels=3).images
        assert len(ours) == len(theirs) == {"train": 5, "test": 2}[split]
        want = torch.stack(
            [torch.from_numpy(np.array(pair["x"])).permute(2, 0, 1) / 255 for pair in theirs]
        )
        assert torch.equal(ours, want[:, :, 4:20])  # 24 x 16: the centre square needs no resizing


def test_grey_is_luma_and_sizes_average(root):
    write_bsds(root)
    full, small = (data.load("bsds500", "test", size=size).images for size in (16, 8))
    contents = [BSDS["val"][f"val/{n}.jpg"] for n in (4, 30)]
    assert torch.equal(full, torch.stack([opened(content, "L")[:, 4:20] for content in contents]))
    assert relative(small.mean(dim=(1, 2, 3)), full.mean(dim=(1, 2, 3))) < 0.02


def test_only_the_pictures_asked_for_are_decoded(everything, monkeypatch):
    decoded, original = [], pictures.decode
    monkeypatch.setattr(
        pictures,
        "decode",
        lambda *arguments: decoded.append(arguments[0].name) or original(*arguments),
    )
    for name in ("bsds500", "faces", "celeba"):
        data.load(name, "test", size=16, count=1)
    assert len(decoded) == 3


def test_archives_are_read_in_memory_and_entries_that_are_no_files_are_left_out(root, monkeypatch):
    path = write_tar(
        root / "faces" / "odd.tar",
        {"../../up.jpg": jpeg(1), "/abs.png": jpeg(2), "notes.txt": b"x"},
    )
    with tarfile.open(path, "a") as archive:
        for kind, name in (
            (tarfile.SYMTYPE, "link.jpg"),
            (tarfile.LNKTYPE, "hard.jpg"),
            (tarfile.DIRTYPE, "dir.jpg"),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
    before = sorted(root.rglob("*"))
    found = encoded.in_tar(path)
    assert sorted(picture.read() for picture in found) == sorted([jpeg(1), jpeg(2)])
    assert sorted(root.rglob("*")) == before


def test_companions_that_macos_makes_are_no_pictures(root, monkeypatch):
    """AppleDouble files: in a tar, beside the photographs of deepinv's tree, in the folder the
    denoiser is trained on.
    """
    write_tar(
        root / "faces" / "faces.tar", {f"a/._{name}": b"\0\5\x16\7" for name in FACES} | FACES
    )
    assert (
        len(pictures.faces("train")) + len(pictures.faces("test"))
        == len(FACES) - pictures.FACES_GAP
    )
    monkeypatch.setenv("DIPA_CACHE", str(root / "cache"))
    for part, members in BSDS.items():
        for name, content in members.items():
            path = root / "cache" / pictures.BSDS500_TREE / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
        assert len(pictures._bsds500_part(part)) == len(members)
    found = read_photographs(root / "cache" / pictures.BSDS500_TREE / "train")
    assert sorted(found) == sorted(name.rpartition("/")[2] for name in BSDS["train"])


def test_entries_that_promise_more_than_the_archive_holds_are_refused(root):
    path = root / "a.tar"
    sparse, huge, endless = (
        tarfile.TarInfo("a.png"),
        tarfile.TarInfo("a.png"),
        tarfile.TarInfo("9" * 5000 + ".png"),
    )
    sparse.pax_headers = {"GNU.sparse.map": "0,4", "GNU.sparse.size": str(2**50)}
    huge.size = 2**50
    for entry, word in (
        (sparse, "sparse"),
        (huge, "not a whole tar"),
        (endless, "5,004 characters"),
    ):
        blob = entry.tobuf(tarfile.PAX_FORMAT if entry is not huge else tarfile.GNU_FORMAT)
        path.write_bytes(blob + bytes(2048))
        refuses(lambda: encoded.in_tar(path), "a.tar", word)


def test_a_tar_whose_entries_go_back_ends(root, monkeypatch):
    """Old versions of Python read a negative size as a way back, for ever."""
    path = write_tar(root / "a.tar", {"1.png": b"x" * 600, "2.png": b"y"})
    with tarfile.open(path) as archive:
        first, second = archive.getmembers()

    entries = itertools.islice(itertools.cycle([first, second]), 1000)
    monkeypatch.setattr(tarfile.TarFile, "__iter__", lambda self: entries)
    refuses(lambda: encoded.in_tar(path), "a.tar", "not a whole tar")


def test_numbers_of_any_length_are_sorted_by_value():
    names = ["a2", "a10", "a9", "a" + "9" * 5000, "a" + "1" + "0" * 5000, "a009", "b1"]
    assert sorted(names, key=encoded.by_number) == [
        "a2",
        "a9",
        "a009",
        "a10",
        "a" + "9" * 5000,
        "a1" + "0" * 5000,
        "b1",
    ]


def test_damaged_archives_and_pictures_are_named(root):
    whole = write_tar(root / "faces" / "faces.tar", FACES)
    content = whole.read_bytes()
    for damaged in (b"", b"not a tar" * 100, content[: len(content) // 2]):
        whole.write_bytes(damaged)
        refuses(lambda: data.load("faces", "train"), "faces.tar", "not a whole tar")
    write_tar(whole, {"notes.txt": b"text"})
    refuses(lambda: data.load("faces", "train"), "faces.tar", "no pictures")
    write_tar(whole, FACES | {"image_0001.jpg": jpeg(1)[:60], "image_0002.jpg": b"text"})
    for picture in encoded.in_tar(whole)[:2]:
        refuses(
            lambda picture=picture: pictures.decode(picture, 16, 1),
            "faces.tar",
            "image_000",
            "not a readable picture",
        )


def test_faces_of_one_person_stay_in_one_split(root):
    write_tar(root / "faces" / "faces.tar", FACES)
    parts = {split: {picture.name for picture in pictures.faces(split)} for split in data.SPLITS}
    numbers = {split: sorted(int(name[-8:-4]) for name in names) for split, names in parts.items()}
    assert numbers["train"] == list(range(1, 99)) and numbers["test"] == list(range(129, 161))
    few = {name: FACES[name] for name in list(FACES)[:30]}
    write_tar(root / "faces" / "faces.tar", few)
    refuses(lambda: data.load("faces", "train"), "faces", "30")


def test_celeba_has_the_official_splits_and_centre_squares(root, monkeypatch):
    write_celeba(root, monkeypatch)
    for split, seeds in {"train": (300, 301, 304), "test": (302, 305)}.items():
        want = torch.stack([opened(jpeg(seed, 26, 20))[:, 3:23] for seed in seeds])
        assert torch.equal(data.load("celeba", split, size=20, channels=3).images, want)


def test_celeba_says_what_is_missing_or_wrong(root, monkeypatch):
    write_celeba(root, monkeypatch)
    table = root / "celeba" / "identity_CelebA.txt"
    table.write_text(table.read_text() + "\n")
    refuses(lambda: data.load("celeba", "test"), "MD5", "DIPA_DATA/celeba")
    table.unlink()
    text = refuses(
        lambda: data.load("celeba", "test"), "not found: identity_CelebA.txt;", "DIPA_DATA/celeba"
    )
    assert "list_attr" not in text


# --- MR slices ------------------------------------------------------------------------------------


def test_fastmri_is_split_as_in_the_papers_and_kept_as_it_is(root):
    assert [len(slices.fastmri_indices(973, split)) for split in data.SPLITS] == [900, 73]
    (root / "fastmri").mkdir()
    x = images(40, 24, 24)
    torch.save(x, root / "fastmri" / "knee.pt")
    assert torch.equal(data.load("fastmri", "train", size=24).images[:, 0], x[:37])
    assert torch.equal(data.load("fastmri", "test", size=24).images[:, 0], x[37:])
    torch.save(7 * x, root / "elsewhere.pt")
    raw = data.load("fastmri", "test", size=24, file=str(root / "elsewhere.pt")).images[:, 0]
    level = x[37:].flatten(1).sort(dim=1).values[:, round(0.995 * 576) - 1]
    assert relative(raw, (x[37:] / level[:, None, None]).clamp(max=1)) < 1e-6


class Harmful:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.path),)


def test_files_are_read_without_unpickling_objects(root):
    for folder in ("fastmri", "mri"):
        (root / folder).mkdir()
    torch.save(Harmful(root / "ran"), root / "fastmri" / "a.pt")
    refuses(lambda: data.load("fastmri", "test"), "a.pt", "tensors")
    np.savez(root / "mri" / "a.npz", images=np.array([Harmful(root / "ran")], dtype=object))
    refuses(lambda: data.load("mri-npz", "test"), "a.npz", "plain arrays")
    (root / "mri" / "a.npz").write_bytes(pickle.dumps(Harmful(root / "ran")))
    refuses(lambda: data.load("mri-npz", "test"), "a.npz", "plain arrays")
    assert not (root / "ran").exists()


def test_one_changed_byte_of_a_file_of_slices_is_found(root):
    for name, folder in (("fastmri", "fastmri"), ("mri-npz", "mri")):
        (root / folder).mkdir()
        path = root / folder / ("a.pt" if name == "fastmri" else "a.npz")
        slices = torch.rand(20, 16, 16)
        torch.save(slices, path) if name == "fastmri" else np.savez(path, images=slices.numpy())
        whole = bytearray(path.read_bytes())
        whole[len(whole) // 2] ^= 1  # in the numbers
        path.write_bytes(whole)
        refuses(lambda name=name: data.load(name, "test"), path.name, "not a")


@pytest.mark.parametrize("name", ["fastmri", "mri-npz"])
def test_every_corrupt_file_of_slices_is_one_line_and_leaves_the_listing_whole(root, capsys, name):
    """And `dipa data` lists the others."""
    folder, ending = ("fastmri", "pt") if name == "fastmri" else ("mri", "npz")
    (root / folder).mkdir()
    path, good = root / folder / f"damaged.{ending}", root / folder / f"good.{ending}"
    torch.save(images(20, 8, 8), good) if name == "fastmri" else np.savez_compressed(
        good, images=images(20, 8, 8).numpy()
    )
    whole = good.read_bytes()
    for content in (
        b"",
        b"text",
        b"<html></html>",
        whole[:-1],
        whole[:100],
        whole[: len(whole) // 2],
        b"PK\3\4" + whole[:50],
    ):
        path.write_bytes(content)
        refuses(lambda: data.load(name, "test", file=str(path)), path.name, "not a")
        assert cli.main(["data", name]) == 0
        found = capsys.readouterr().out
        assert f"damaged.{ending}: not available" in found and f"good.{ending}: " in found


def test_damaged_compression_is_one_line(root):
    """zlib's own error: the stream is wrong, whatever the checksums beside it."""
    path = root / "a.npz"
    np.savez_compressed(path, images=images(20, 16, 16).numpy())
    whole = bytearray(path.read_bytes())
    start = 30 + len("images.npy") + struct.unpack("<H", whole[28:30])[0]
    whole[start : start + 8] = b"\xff" * 8
    path.write_bytes(whole)
    refuses(lambda: slices.npz(str(path)), "a.npz", "not a .npz")


def npy(header: dict, content: bytes = b"") -> bytes:
    text = repr(header).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


@pytest.mark.parametrize(
    "members",
    [
        {"images.npy": npy({"descr": "<f4", "fortran_order": False, "shape": (10**6, 1000, 1000)})},
        {
            "images.npy": npy(
                {"descr": "<f4", "fortran_order": False, "shape": (2, 4, 4)}, bytes(60)
            )
        },
        {
            "images.npy": npy(
                {"descr": "<f4", "fortran_order": False, "shape": (2, 4, 4)}, bytes(132)
            )
        },
        {
            "images.npy": npy(
                {"descr": "<f4", "fortran_order": False, "shape": (-2, 4, -4)}, bytes(128)
            )
        },
        {
            "images.npy": npy(
                {"descr": "|O", "fortran_order": False, "shape": (2, 4, 4)}, bytes(256)
            )
        },
        {
            "images.npy": npy(
                {"descr": "<f4", "fortran_order": False, "shape": (2**62, 2**62, 4)}, bytes(64)
            )
        },
        {"images.npy": b"\x93NUMPY\x09\x00"},
        {"images.npy": b"[" * 9000},
    ],
)
def test_npz_headers_are_compared_with_what_the_archive_holds(root, members):
    with zipfile.ZipFile(root / "a.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    refuses(lambda: slices.npz(str(root / "a.npz")), "a.npz", "not a .npz of plain arrays")


def test_an_npz_with_a_key_twice_is_refused(root):
    with zipfile.ZipFile(root / "a.npz", "w") as archive:
        for name in ("images.npy", "images"):
            archive.writestr(
                name, npy({"descr": "<f4", "fortran_order": False, "shape": (2, 2, 2)}, bytes(32))
            )
    refuses(lambda: slices.npz(str(root / "a.npz")), "a.npz", "every key once")


def test_a_parameter_is_read_as_its_numbers(root):
    x = images(20, 8, 8)
    torch.save(torch.nn.Parameter(x), root / "a.pt")
    found = slices.fastmri(str(root / "a.pt"))
    assert torch.equal(found, x) and not found.requires_grad


def quantized() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.rand(9, 8, 8), 0.1, 0, torch.quint8)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.rand(9, 8, 8).to_sparse(), ("layout", "dense")),
        (quantized, ("dtype", "quint8")),
        (lambda: torch.zeros(1).expand(10**6, 10**3, 10**3), ("shape", "at most")),
        (lambda: torch.full((9, 8, 8), torch.inf), ("infinite",)),
        (lambda: torch.full((9, 8, 8), 1e300, dtype=torch.float64), ("infinite",)),
        (
            lambda: torch.rand(9, 8, 8, 2).view(9, 8, 16).to(torch.complex64).to(torch.complex32),
            ("dtype", "complex32"),
        ),
        (lambda: [torch.rand(9, 8, 8)], ("list", "(N, H, W)")),
        (lambda: "text", ("str", "(N, H, W)")),
    ],
)
def test_tensors_of_other_kinds_are_refused(root, make, words):
    torch.save(make(), root / "a.pt")
    refuses(lambda: slices.fastmri(str(root / "a.pt")), "a.pt", *words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"x": torch.zeros(3)}, ("dict", "(N, H, W)")),
        (torch.rand(2, 2, 8, 8), ("(2, 2, 8, 8)", "(N, H, W)")),
        (torch.rand(0, 8, 8), ("(0, 8, 8)",)),
        (torch.full((9, 8, 8), torch.nan), ("NaN",)),
        (-torch.rand(9, 8, 8), ("negative",)),
        (torch.rand(1, 8, 8), ("images", "1", "two splits")),
    ],
)
def test_fastmri_refuses(root, content, words):
    (root / "fastmri").mkdir()
    torch.save(content, root / "fastmri" / "knee.pt")
    refuses(lambda: data.load("fastmri", "test"), *words)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.ones((9, 8, 8)), "y": np.ones(2)}, ("keys", "x, y", "'images'")),
        ({"images": np.ones((8, 8))}, ("(8, 8)", "(N, H, W)")),
        ({"images": np.full((9, 8, 8), "a")}, ("dtype",)),
        ({"images": np.ones((9, 8, 8)), "patient": np.ones(8)}, ("patient.shape", "(8,)", "(9,)")),
        ({"images": np.ones((9, 8, 8)), "patient": np.ones(9)}, ("patients", "1", "at least 2")),
        ({"images": np.ones((2, 8, 8))}, ("images", "2", "two splits")),
    ],
)
def test_npz_refuses(root, arrays, words):
    path = root / "mine.npz"
    np.savez(path, **arrays)
    refuses(lambda: data.load("mri-npz", "train", file=str(path)), *words)


def test_npz_never_has_a_patient_in_both_splits(root):
    (root / "mri").mkdir()
    x = images(35, 20, 20, seed=6).numpy()
    x[:, 0, 0] = 0.4 * np.arange(35) / 35  # a mark that survives the normalisation as an order
    np.savez(root / "mri" / "brain.npz", images=x, patient=PATIENTS)
    parts = {split: slices.npz_indices(35, PATIENTS, split) for split in data.SPLITS}
    assert {PATIENTS[i] for i in parts["test"]} == {11} and {
        PATIENTS[i] for i in parts["train"]
    } == {2, 3, 5}
    assert sorted(parts["train"] + parts["test"]) == list(range(35)) and parts["train"] != sorted(
        parts["train"]
    )
    level = np.sort(x.reshape(35, -1), axis=1)[:, 397]
    for split, part in parts.items():
        marks = data.load("mri-npz", split, size=20, file="brain").images[:, 0, 0, 0]
        assert np.allclose(marks, (x[:, 0, 0] / level)[part], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
def test_npz_takes_scanner_units(root, dtype):
    path = root / "slices.npz"
    x = (images(15, 12, 9).numpy() * 250).astype(dtype)
    np.savez(path, images=x)
    got = data.load("mri-npz", "train", size=12, file=str(path)).images
    assert got.shape == (10, 1, 12, 12) and got.amax(dim=(1, 2, 3)).eq(1).all()
    assert (
        got[..., :1].abs().max() == 0
        and got[..., 10:].abs().max() == 0
        and got[..., 1:10].mean() > 0.3
    )


def test_npz_keeps_the_phase_of_complex_slices(root):
    path = root / "slices.npz"
    x = torch.polar(0.1 + images(15, 12, 12), 6 * images(15, 12, 12, seed=1))
    np.savez(path, images=x.numpy())
    two = data.load("mri-npz", "test", size=12, channels=2, file=str(path)).images
    one = data.load("mri-npz", "test", size=12, channels=1, file=str(path)).images
    order = slices.npz_indices(15, None, "test")
    assert (
        relative(torch.view_as_complex(two.movedim(1, -1).contiguous()).angle(), x[order].angle())
        < 1e-4
    )
    assert (
        relative(two.square().sum(dim=1, keepdim=True).sqrt(), one) < 1e-6 and one.max() <= 1 + 1e-6
    )
    smaller = [
        data.load("mri-npz", "test", size=8, channels=c, file=str(path)).images for c in (1, 2)
    ]
    assert smaller[1].norm() < 0.9 * smaller[0].norm()  # magnitudes are averaged, not random phases


# --- splits ---------------------------------------------------------------------------------------


def test_blocks_never_overlap_and_keep_their_gap():
    for count in range(2, 60):
        for gap in range(0, 4):
            if not gap < int(count * 0.8) < count:
                refuses(
                    lambda n=count, g=gap: splits.blocks("set", n, "train", gap=g),
                    "set",
                    str(count),
                )
                continue
            train, test = (splits.blocks("set", count, split, gap=gap) for split in data.SPLITS)
            assert len(train) >= 1 and len(test) >= 1 and test.stop == count and train.start == 0
            assert test.start - train.stop == gap


def test_several_files_need_a_name(root):
    (root / "mri").mkdir()
    for name in "ab":
        np.savez(root / "mri" / f"{name}.npz", images=images(15, 8, 8).numpy())
    refuses(lambda: data.load("mri-npz", "train"), "file not given", "a.npz, b.npz")
    assert data.here("mri-npz") == ["a.npz", "b.npz"]
    assert (
        data.load("mri-npz", "train", size=8, file="b.npz").sha256
        == data.load("mri-npz", "train", size=8, file="a").sha256
    )
