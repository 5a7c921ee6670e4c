import urllib.error

import pytest
import torch
from batteries import images, refuses, rng

from dipa import data, denoisers, files

SIGMA = 2 / 255
GAIN_OF_DEEPINV = 3.30  # dB, measured with deepinv's weights on the same patches and noise (Set12: see book/results/denoiser)


def psnr_gain(denoiser, clean: torch.Tensor) -> float:
    """Gain in dB (mean over images) of denoising at sigma = 2/255."""
    noisy = clean + SIGMA * torch.randn(clean.shape, generator=rng(0))
    mse = [((x - clean) ** 2).mean((1, 2, 3)) for x in (noisy, denoiser(noisy, SIGMA))]
    return (10 * torch.log10(mse[0] / mse[1])).mean().item()


# --- the packaged one ------------------------------------------------------------------------------------------------


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


# --- deepinv's -------------------------------------------------------------------------------------------------------


@pytest.fixture
def deepinv_weights(user_data, tmp_path, monkeypatch):
    """deepinv's file where DIPA_DATA has it, else one of the same shape with the checksum adjusted."""
    if user_data and (user_data / "weights" / "dncnn_sigma2_gray.pth").is_file():
        return user_data / "weights" / "dncnn_sigma2_gray.pth"
    path = tmp_path / "data" / "weights" / "dncnn_sigma2_gray.pth"
    path.parent.mkdir(parents=True)
    torch.save(denoisers.DnCNN(1, 1, pretrained=None).state_dict(), path)
    monkeypatch.setattr(denoisers, "DEEPINV_SHA256", files.sha256_file(path)[:8])
    return path


@pytest.mark.parametrize("variable", ["DIPA_DNCNN", "DIPA_DATA"])
def test_deepinv_weights_come_from_a_local_file(deepinv_weights, variable, monkeypatch):
    monkeypatch.setenv(variable, str(deepinv_weights if variable == "DIPA_DNCNN" else deepinv_weights.parents[1]))
    denoiser = denoisers.load("dncnn-deepinv")
    stored = torch.load(deepinv_weights, weights_only=True)
    assert all(torch.equal(value, stored[name]) for name, value in denoiser.state_dict().items())
    assert not denoiser.training and not any(p.requires_grad for p in denoiser.parameters())
    assert denoiser(images(2, 1, 16, 16), SIGMA).shape == (2, 1, 16, 16)


def test_a_damaged_or_missing_local_file_is_named(deepinv_weights, tmp_path, monkeypatch):
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(deepinv_weights.read_bytes()[:-100])
    monkeypatch.setenv("DIPA_DNCNN", str(damaged))
    refuses(lambda: denoisers.load("dncnn-deepinv"), "damaged.pth", denoisers.DEEPINV_SHA256)
    monkeypatch.setenv("DIPA_DNCNN", str(tmp_path / "nowhere.pth"))
    refuses(lambda: denoisers.load("dncnn-deepinv"), "DIPA_DNCNN", "nowhere.pth")


@pytest.mark.parametrize("error", [urllib.error.URLError("no route"), TimeoutError("timed out"), ConnectionResetError()])
def test_a_failed_download_says_what_works_offline(error, monkeypatch):
    def offline(*args, **kwargs):
        raise error

    monkeypatch.setattr(denoisers, "DnCNN", offline)
    refuses(lambda: denoisers.load("dncnn-deepinv"), "dncnn-deepinv", type(error).__name__, "DIPA_DNCNN", "dncnn-bsds500")


def test_unknown_names_are_refused():
    refuses(lambda: denoisers.load("dncnn-bsd500"), "denoiser", "did you mean dncnn-bsds500", *denoisers.NAMES)


def test_missing_or_damaged_packaged_weights_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(denoisers, "PACKAGED", tmp_path / "weights.safetensors")
    refuses(denoisers.load, "weights.safetensors")
    (tmp_path / "weights.safetensors").write_bytes(b"\0" * 64)
    refuses(denoisers.load, "weights.safetensors")


def test_fingerprint_tells_weights_apart():
    nets = [denoisers.DnCNN(1, 1, depth=3, nf=4, pretrained=None) for _ in range(2)]
    assert denoisers.fingerprint(nets[0]) != denoisers.fingerprint(nets[1])
    nets[1].load_state_dict(nets[0].state_dict())
    assert denoisers.fingerprint(nets[0]) == denoisers.fingerprint(nets[1].to(memory_format=torch.channels_last))
