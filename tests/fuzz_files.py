"""Files from outside, damaged at random: each must give one clear line with the file's name, or
what was in it. Soon.

:func:`saved_module` damages what dipa saves (safetensors), :func:`foreign_file` what others made
(png, jpg, tif, tar, npz, pt, pth, gz, yaml, json). Both are functions of a number, so that a case
that fails can be tried again.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import random
import struct
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from batteries import downsampling, images
from members import END_TO_END, FITTED, SHAPE, SMALL, STEP_NETWORKS, neural, student
from PIL import Image
from safetensors.torch import load, save
from tried import check_message

import dipa
from dipa import denoisers, encoded, endtoend, experiments, files, storage
from dipa.data import mnist, slices

SECONDS = 5.0
COUNTS: Counter[str] = Counter()
NASTY = (
    0,
    -1,
    1,
    2,
    7,
    2**31,
    2**63,
    10**30,
    0.5,
    1e308,
    "",
    "x",
    "F64",
    "I64",
    None,
    True,
    [],
    {},
    [2**40, 2**40],
    [10**9] * 3,
)


def outcome(call: Callable[[], object], path: Path) -> object:
    """What ``call`` returns, or None where it is refused in one line that names ``path``;
    nothing else, and within seconds.
    """
    began = time.monotonic()
    try:
        return call()
    except dipa.InputError as error:
        check_message(str(error))
        assert path.name in str(error), str(error)
        return None
    finally:
        assert time.monotonic() - began < SECONDS, f"{path.name}: {time.monotonic() - began:.1f} s"


def bytes_damaged(rng: random.Random, whole: bytes, early: int) -> bytes:
    """Bits turned, an end lost or grown, a stretch zeroed, repeated or random; half of the time
    in the first ``early`` bytes.
    """
    content = bytearray(whole)
    reach = min(len(content), early) if rng.random() < 0.5 else len(content)
    at = rng.randrange(max(reach, 1))
    stretch = slice(at, at + rng.choice((1, 2, 4, 8, 64)))
    how = rng.randrange(7)
    if how < 3:
        for _ in range(rng.choice((1, 1, 1, 4, 16))):
            content[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    elif how == 3:
        del content[at:]
    elif how == 4:
        content[stretch] = bytes(len(content[stretch]))
    elif how == 5:
        content[stretch] = content[stretch] * 3
    else:
        content[stretch] = rng.randbytes(len(content[stretch]))
    return bytes(content)


# --- what dipa saves ------------------------------------------------------------------------------

MODULES = {name: lambda make=make: make(student(), SHAPE, 2) for name, make in FITTED.items()}
MODULES |= {
    "linear, kronecker": lambda: FITTED["linear, low rank"](SMALL["super-resolution"](), None, 2),
    "linear steps, MRI": lambda: FITTED["linear steps, low rank"](SMALL["complex MRI"](), None, 2),
    "linear, polyphase": lambda: FITTED["linear, low rank"](downsampling(8), None, 2),
    "fourier, one radial": lambda: dipa.FourierSteps(1, radial=True),
    "neural": lambda: neural("cnn", features=2),
}
MODULES |= {
    name: lambda name=name, size=size: endtoend.build(name, SHAPE, **size)
    for name, size in END_TO_END.items()
}
MODULES |= {name: lambda make=make: make(SHAPE) for name, make in STEP_NETWORKS.items()}


@functools.cache
def saved(kind: str) -> tuple[bytes, str]:
    """A saved module: its bytes, and a hash of what loading them gives."""
    module, record = MODULES[kind](), {"config": {"seed": 3, "note": "é"}}
    with tempfile.TemporaryDirectory() as folder:
        content = dipa.save(module, Path(folder) / "saved", record).read_bytes()
    return content, module_hash((module, record))


def module_hash(loaded: tuple[torch.nn.Module, dict]) -> str:
    module, record = loaded
    return files.sha256_json([storage.sha256_tensors(module.state_dict()), module.header(), record])


def header_damaged(rng: random.Random, whole: bytes) -> tuple[bytes, bool]:
    """The header of a safetensors file edited as text or as values, its length made right
    again; whether it was signed anew.
    """
    (length,) = struct.unpack("<Q", whole[:8])
    text, how = whole[8 : 8 + length].decode(), rng.random()
    header = json.loads(text)
    record = json.loads(header["__metadata__"]["record"])
    if how < 0.4:
        values_damaged(rng, record)
        return resigned(rng, whole, record), True
    if how < 0.6:
        values_damaged(rng, record)
        header["__metadata__"]["record"] = json.dumps(record)
    elif how < 0.8:
        values_damaged(rng, header)
    content = (text_damaged(rng, text) if how >= 0.8 else json.dumps(header)).encode(
        "utf-8", "surrogatepass"
    )
    return struct.pack(
        "<Q", max(len(content) + rng.choice((0, 0, 0, 1, -1, 2**40)), 0)
    ) + content + whole[8 + length :], False


def text_damaged(rng: random.Random, text: str) -> str:
    """A key twice, deep nesting, or other characters somewhere in JSON or YAML text."""
    at = rng.randrange(len(text))
    extra = rng.choice(
        (
            '"a":1,"a":2,',
            "[" * 3000,
            "{" * 3000,
            "\0",
            '"',
            "NaN",
            "1e999",
            "9" * 5000,
            "\ud800",
            "&a [*a]",
            "\n",
        )
    )
    return text[:at] + extra + text[at:]


def values_damaged(rng: random.Random, value: dict) -> None:
    """One entry, at any depth, becomes something else or goes."""
    key = rng.choice(sorted(value))
    if isinstance(value[key], dict) and value[key] and rng.random() < 0.8:
        values_damaged(rng, value[key])
    elif isinstance(value[key], list) and value[key] and rng.random() < 0.7:
        value[key][rng.randrange(len(value[key]))] = rng.choice(NASTY)
    elif rng.random() < 0.2:
        del value[key]
    else:
        value[key] = rng.choice(NASTY)


def resigned(rng: random.Random, whole: bytes, record: dict) -> bytes:
    """A file that is whole and says something else: its record, kinds, sizes or numbers of its
    tensors; the checksum is right.
    """
    tensors = load(whole)
    name = rng.choice(sorted(tensors))
    change = rng.randrange(8)
    old = tensors[name]
    tensors[name] = {
        0: lambda: torch.full_like(old, 0) / 0 if old.is_floating_point() else old,
        1: lambda: old.long(),
        2: lambda: old.double(),
        3: lambda: old.reshape(-1)[:-1].clone(),
        4: lambda: old.to(torch.complex64),
        5: lambda: torch.cat([old.reshape(-1)] * 2),
    }.get(change, lambda: old)()
    if change == 6:
        tensors["other"] = torch.ones(3)
    record.pop("sha256", None)
    text = json.dumps(
        record | {"sha256": files.sha256_json([storage.sha256_tensors(tensors), record])}
    )
    return save(tensors, metadata={"record": text})


def saved_module(number: int, folder: Path) -> None:
    """Damage one saved module and load it: refused by name, or what was saved; or, if signed
    anew, something that works.
    """
    rng = random.Random(f"safetensors {number}")
    kind = rng.choice(sorted(MODULES))
    whole, before = saved(kind)
    anew = False
    if rng.random() < 0.4:
        damaged = bytes_damaged(rng, whole, early=1500)
    else:
        damaged, anew = header_damaged(rng, whole)
    path = folder / "damaged.safetensors"
    path.write_bytes(damaged)
    loaded = outcome(lambda: dipa.load(path), path)
    COUNTS[f"safetensors {'refused' if loaded is None else 'read'}"] += 1
    if loaded is None:
        return
    assert anew or module_hash(loaded) == before, f"case {number}: silently different"
    module = loaded[0]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in module.state_dict().values())
    if isinstance(module, dipa.Preconditioner):
        basis = getattr(module, "basis", module)
        x = images(1, *getattr(basis, "img_size", (1, 8, 8))).to(next(module.parameters()).dtype)
        assert module(x, x, 1).shape == x.shape


# --- what others made -----------------------------------------------------------------------------


def picture(kind: str, **options) -> bytes:
    held, grey = io.BytesIO(), (images(1, 1, 20, 24)[0, 0] * 255).byte().numpy()
    Image.fromarray(
        np.stack([grey, grey.T[:20, :20].repeat(2, axis=1)[:, :24], 255 - grey], axis=2)
    ).save(held, kind, **options)
    return held.getvalue()


def tar_of_pictures() -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("a/1.png", "a/2.jpg", "ü" * 60 + "/3.png"):
            content = picture("JPEG" if name.endswith("jpg") else "PNG")
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return held.getvalue()


def npz(save_with: Callable) -> bytes:
    held = io.BytesIO()
    save_with(held, images=images(20, 6, 5).numpy(), patient=np.repeat([4, 1, 8, 3], 5))
    return held.getvalue()


def torch_saved(value: object, **options) -> bytes:
    held = io.BytesIO()
    torch.save(value, held, **options)
    return held.getvalue()


@functools.cache
def digits() -> bytes:
    return (
        struct.pack(">IIII", 2051, 12, 28, 28) + (images(12, 28, 28) * 255).byte().numpy().tobytes()
    )


@functools.cache
def weights() -> bytes:
    return torch_saved(denoisers.DnCNN(1, 1, depth=3, nf=2, pretrained=None).state_dict())


@functools.cache
def configuration() -> dict:
    return asdict(experiments.resolve("idea", "smoke"))


@functools.cache
def made(kind: str) -> bytes:
    return {
        "png": lambda: picture("PNG"),
        "jpg": lambda: picture("JPEG", exif=Image.Exif()),
        "tif": lambda: picture("TIFF"),
        "tar": tar_of_pictures,
        "npz": lambda: npz(np.savez),
        "zipped.npz": lambda: npz(np.savez_compressed),
        "pt": lambda: torch_saved(images(20, 6, 6)),
        "legacy.pt": lambda: torch_saved(images(20, 6, 6), _use_new_zipfile_serialization=False),
        "gz": lambda: gzip.compress(digits()),
        "pth": weights,
        "yaml": lambda: yaml.safe_dump(configuration(), sort_keys=False).encode(),
        "json": lambda: json.dumps(
            {"psnr": 27.79, "curve": [1.0, 2.5], "status": "completed"}, indent=2
        ).encode(),
    }[kind]()


def read(kind: str, path: Path) -> object:
    """What the reader of a kind gives back, as something that can be compared."""
    if kind in ("png", "jpg", "tif"):
        values, white = encoded.numbers(encoded.Picture(str(path), path.read_bytes), 3)
        return values.tobytes(), values.shape, white
    if kind == "tar":
        return [encoded.numbers(entry, 1)[0].tobytes() for entry in encoded.in_tar(path)]
    if kind.endswith("npz"):
        whole, patients = slices.npz(str(path))
        return whole.numpy().tobytes(), whole.shape, None if patients is None else patients.tolist()
    if kind.endswith("pt"):
        return slices.fastmri(str(path)).numpy().tobytes()
    if kind == "gz":
        return mnist.content("test")
    if kind == "pth":
        return denoisers._verified(str(path), denoisers._read(path))
    return files.read_yaml(path) if kind == "yaml" else files.read_json(path)


KINDS = (
    "png",
    "jpg",
    "tif",
    "tar",
    "npz",
    "zipped.npz",
    "pt",
    "legacy.pt",
    "gz",
    "pth",
    "yaml",
    "json",
)
# whose format, or whose reader, has a checksum
CHECKED = ("png", "npz", "zipped.npz", "pt", "gz", "pth")


def foreign_file(number: int, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Damage one file of another kind and read it: refused by name, or read; unchanged where
    there is a checksum.
    """
    kind = KINDS[number % len(KINDS)]
    rng, whole = random.Random(f"foreign {number}"), made(kind)
    patch.setenv("DIPA_DATA", str(folder))
    patch.setattr(mnist, "FILES", {"test": ("digits", hashlib.sha256(digits()).hexdigest())})
    patch.setattr(denoisers, "DEEPINV_SHA256", hashlib.sha256(weights()).hexdigest())
    path = folder / "mnist" / "digits.gz" if kind == "gz" else folder / f"damaged.{kind}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(whole)
    before = read(kind, path)
    if kind in ("yaml", "json") and rng.random() < 0.5:
        path.write_bytes(text_damaged(rng, whole.decode()).encode("utf-8", "surrogatepass"))
    else:
        path.write_bytes(bytes_damaged(rng, whole, early=400))
    found = outcome(lambda: read(kind, path), path)
    COUNTS[f"{kind} {'refused' if found is None else 'read'}"] += 1
    assert found is None or kind not in CHECKED or found == before, (
        f"case {number}: silently different"
    )
