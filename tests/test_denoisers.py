import http.client
import io
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from batteries import images, refuses, rng

from dipa import cli, data, denoisers, files, paths

SIGMA = 2 / 255
# dB, measured with deepinv's weights on the same patches and noise (Set12: see
# book/results/denoiser)
GAIN_OF_DEEPINV = 3.30


def psnr_gain(denoiser, clean: torch.Tensor) -> float:
    """Gain in dB (mean over images) of denoising at sigma = 2/255."""
    noisy = clean + SIGMA * torch.randn(clean.shape, generator=rng(0))
    mse = [((x - clean) ** 2).mean((1, 2, 3)) for x in (noisy, denoiser(noisy, SIGMA))]
    return (10 * torch.log10(mse[0] / mse[1])).mean().item()


# --- the packaged one -----------------------------------------------------------------------------


def test_packaged_denoiser_is_frozen_and_keeps_shapes():
    denoiser = denoisers.load()
    assert not denoiser.training and not any(p.requires_grad for p in denoiser.parameters())
    for shape in ((1, 1, 32, 32), (3, 1, 16, 24)):
        assert denoiser(images(*shape), SIGMA).shape == shape
    assert denoisers.fingerprint(denoiser) == denoisers.fingerprint(denoisers.load("dncnn-bsds500"))


def test_packaged_denoiser_has_the_papers_architecture():
    shapes = [tuple(p.shape) for p in denoisers.load().parameters() if p.ndim == 4]
    assert shapes == [(64, 1, 3, 3), *[(64, 64, 3, 3)] * 18, (1, 64, 3, 3)]


def test_packaged_denoiser_denoises_photographs_it_has_not_seen():
    clean = data.load("embedded", "test", size=64).images
    assert psnr_gain(denoisers.load(), clean) > GAIN_OF_DEEPINV - 0.5


def test_packaged_weights_carry_their_training_record():
    record = denoisers.training_record()
    assert record["photographs"] == 200, "BSDS500 train and nothing else"
    assert record["recipe"]["sigma"] == pytest.approx(SIGMA) and record["recipe"]["depth"] == 20
    assert record["seconds"] > 0 and {"torch", "deepinv", "python"} <= set(record["versions"])
    steps = [step for step, _ in record["training_psnr"]]
    assert steps[-1] == record["recipe"]["steps"]


# --- deepinv's ------------------------------------------------------------------------------------


@pytest.fixture
def deepinv_weights(user_data, tmp_path, monkeypatch):
    """deepinv's file where DIPA_DATA has it, else one of the same shape with checksum and size
    adjusted.
    """
    if user_data and (user_data / "weights" / "dncnn_sigma2_gray.pth").is_file():
        return user_data / "weights" / "dncnn_sigma2_gray.pth"
    path = tmp_path / "data" / "weights" / "dncnn_sigma2_gray.pth"
    path.parent.mkdir(parents=True)
    torch.save(denoisers.DnCNN(1, 1, pretrained=None).state_dict(), path)
    monkeypatch.setattr(denoisers, "DEEPINV_SHA256", files.sha256_file(path))
    monkeypatch.setattr(denoisers, "DEEPINV_BYTES", path.stat().st_size)
    return path


@pytest.fixture
def address(monkeypatch):
    """What the address of deepinv's file answers: bytes, or an error; the addresses that were
    asked are kept.
    """

    class Address:
        def __init__(self):
            self.answer, self.asked = urllib.error.URLError("no route"), []

        def open(self, url, timeout):
            self.asked.append(url)
            if isinstance(self.answer, Exception):
                raise self.answer
            return io.BytesIO(self.answer)

    made = Address()
    monkeypatch.setattr(urllib.request, "urlopen", made.open)
    return made


@pytest.mark.parametrize("variable", ["DIPA_DNCNN", "DIPA_DATA"])
def test_deepinv_weights_come_from_a_local_file(deepinv_weights, variable, monkeypatch):
    monkeypatch.setenv(
        variable, str(deepinv_weights if variable == "DIPA_DNCNN" else deepinv_weights.parents[1])
    )
    denoiser = denoisers.load("dncnn-deepinv")
    stored = torch.load(deepinv_weights, weights_only=True)
    assert all(torch.equal(value, stored[name]) for name, value in denoiser.state_dict().items())
    assert not denoiser.training and not any(p.requires_grad for p in denoiser.parameters())
    assert denoiser(images(2, 1, 16, 16), SIGMA).shape == (2, 1, 16, 16)


@pytest.mark.parametrize("origin", ["DIPA_DNCNN", "download"])
@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda whole: whole[:-100], "truncated: {} of"),
        (lambda whole: b"", "an empty file"),
        (lambda whole: b"\n<!doctype html><html>not found</html>", "an HTML page"),
        (lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]), "another file"),
        (lambda whole: whole + b"\0", "another file"),
        (lambda whole: b"version https://git-lfs.github.com/spec/v1", "another file"),
    ],
)
def test_what_is_not_deepinv_s_file_is_named(
    deepinv_weights, address, tmp_path, monkeypatch, origin, damage, what
):
    content = damage(deepinv_weights.read_bytes())
    words = (what.format(f"{len(content):,}"), denoisers.DEEPINV_SHA256, "fetch it again")
    if origin == "download":
        address.answer = content
        refuses(lambda: denoisers.load("dncnn-deepinv"), denoisers.DEEPINV_URL, *words)
        assert not list(paths.cache_directory().rglob("*")), "nothing wrong is kept"
    else:
        (tmp_path / "damaged.pth").write_bytes(content)
        monkeypatch.setenv("DIPA_DNCNN", str(tmp_path / "damaged.pth"))
        refuses(lambda: denoisers.load("dncnn-deepinv"), "damaged.pth", *words)
        assert not address.asked


def test_a_missing_local_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DIPA_DNCNN", str(tmp_path / "nowhere.pth"))
    refuses(lambda: denoisers.load("dncnn-deepinv"), "DIPA_DNCNN", "nowhere.pth")


def test_the_checksum_is_the_whole_one_and_the_address_a_revision():
    assert re.fullmatch("[0-9a-f]{64}", denoisers.DEEPINV_SHA256)
    assert re.fullmatch(
        r"https://huggingface\.co/deepinv/dncnn/resolve/[0-9a-f]{40}/dncnn_sigma2_gray\.pth",
        denoisers.DEEPINV_URL,
    )


def test_a_download_is_kept_verified_and_fetched_again_where_it_is_damaged(
    deepinv_weights, address
):
    address.answer = deepinv_weights.read_bytes()
    first = denoisers.fingerprint(denoisers.load("dncnn-deepinv"))
    kept = paths.cache_directory() / "weights" / "dncnn_sigma2_gray.pth"
    assert kept.read_bytes() == address.answer
    assert (
        denoisers.fingerprint(denoisers.load("dncnn-deepinv")) == first and len(address.asked) == 1
    )
    kept.write_bytes(address.answer[:-1])
    assert (
        denoisers.fingerprint(denoisers.load("dncnn-deepinv")) == first and len(address.asked) == 2
    )
    assert kept.read_bytes() == address.answer


def test_a_cache_that_cannot_be_written_is_one_warning(
    deepinv_weights, address, tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DIPA_CACHE", str(tmp_path / "file"))
    address.answer = deepinv_weights.read_bytes()
    with pytest.warns(UserWarning, match="DIPA_CACHE") as caught:
        assert denoisers.load("dncnn-deepinv")(images(1, 1, 8, 8), SIGMA).shape == (1, 1, 8, 8)
    assert len(caught) == 1


def test_without_a_home_folder_the_cache_is_asked_for(address, monkeypatch):
    monkeypatch.delenv("DIPA_CACHE")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    refuses(lambda: denoisers.load("dncnn-deepinv"), "DIPA_CACHE", "no home folder")


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("no route"),
        TimeoutError("timed out"),
        ConnectionResetError(),
        http.client.IncompleteRead(b""),
    ],
)
def test_a_failed_download_says_what_works_offline(error, address):
    address.answer = error
    refuses(
        lambda: denoisers.load("dncnn-deepinv"),
        "dncnn-deepinv",
        type(error).__name__,
        "DIPA_DNCNN",
        "dncnn-bsds500",
    )


class Harmful:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["torch's cache", "our cache", "DIPA_DNCNN", "DIPA_DATA"])
def test_nothing_in_a_file_of_weights_is_executed(place, address, tmp_path, monkeypatch, capsys):
    """A pickle with a payload under the name of deepinv's file, wherever it may lie, and the
    command that asks for it.
    """
    path = {
        "torch's cache": Path(os.environ["TORCH_HOME"])
        / "hub"
        / "checkpoints"
        / "dncnn_sigma2_gray.pth",
        "our cache": paths.cache_directory() / "weights" / "dncnn_sigma2_gray.pth",
        "DIPA_DATA": tmp_path / "weights" / "dncnn_sigma2_gray.pth",
    }.get(place, tmp_path / "mine.pth")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state": Harmful(tmp_path / "ran")}, path)
    if place.startswith("DIPA"):
        monkeypatch.setenv(place, str(path if place == "DIPA_DNCNN" else tmp_path))
    command = ["run", "idea", "--profile", "smoke", "--quiet", "--out", str(tmp_path / "runs")]
    assert cli.main([*command, "--set", "solver.denoiser=dncnn-deepinv"]) == 2
    err = capsys.readouterr().err
    assert (
        err.count("\n") == 1
        and (path.name if place.startswith("DIPA") else "could not be downloaded") in err
    )
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists(), "the payload works where it is let"


def test_unknown_names_are_refused():
    refuses(
        lambda: denoisers.load("dncnn-bsd500"),
        "denoiser",
        "did you mean dncnn-bsds500",
        *denoisers.NAMES,
    )


def test_missing_or_damaged_packaged_weights_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(denoisers, "PACKAGED", tmp_path / "weights.safetensors")
    refuses(denoisers.load, "weights.safetensors")
    (tmp_path / "weights.safetensors").write_bytes(b"\0" * 64)
    refuses(denoisers.load, "weights.safetensors")


def test_fingerprint_tells_weights_apart():
    nets = [denoisers.DnCNN(1, 1, depth=3, nf=4, pretrained=None) for _ in range(2)]
    assert denoisers.fingerprint(nets[0]) != denoisers.fingerprint(nets[1])
    nets[1].load_state_dict(nets[0].state_dict())
    assert denoisers.fingerprint(nets[0]) == denoisers.fingerprint(
        nets[1].to(memory_format=torch.channels_last)
    )
