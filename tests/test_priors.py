import pytest
import torch
from batteries import Counting, identity_denoiser, images, refuses, relative, tiny_denoiser

import dipa


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_each_channel_is_denoised_alone(channels):
    prior = dipa.PnP(tiny_denoiser())
    x = images(2, channels, 8, 8)
    together = prior.denoise(x)
    assert together.shape == x.shape
    for c in range(channels):
        assert relative(together[:, c : c + 1], prior.denoise(x[:, c : c + 1])) < 1e-6


def test_the_denoiser_gets_grey_images_and_sigma():
    seen = []

    def denoiser(x, sigma):
        seen.append((tuple(x.shape), sigma))
        return x

    dipa.PnP(denoiser, sigma=0.05).denoise(images(2, 3, 8, 4))
    assert seen == [((6, 1, 8, 4), 0.05)]


def test_step_is_the_denoised_gradient_step():
    z, direction = images(2, 1, 8, 8), images(2, 1, 8, 8, seed=1)
    assert torch.equal(dipa.PnP(identity_denoiser).step(z, direction, 0.3), z - 0.3 * direction)
    denoiser = tiny_denoiser()
    assert relative(dipa.PnP(denoiser).step(z, direction, 0.3), denoiser(z - 0.3 * direction)) < 1e-6


def test_bf16_is_close_keeps_the_dtype_and_is_really_used():
    x = images(2, 2, 16, 16)
    full, half = (dipa.PnP(tiny_denoiser(), precision=precision).denoise(x) for precision in ("float32", "bf16"))
    assert half.dtype == full.dtype == torch.float32
    assert 0 < relative(half, full) < 1e-2


def test_float64_stays_float64():
    x = images(1, 1, 8, 8, dtype=torch.float64)
    assert dipa.PnP(tiny_denoiser().double()).denoise(x).dtype == torch.float64


def test_one_call_per_step_whatever_the_batch():
    denoiser = Counting(identity_denoiser)
    dipa.PnP(denoiser).denoise(images(5, 2, 8, 8))
    assert (denoiser.calls, denoiser.planes) == (1, 10)


def test_description_is_plain():
    assert dipa.PnP(identity_denoiser, sigma=0.1).describe() == {"kind": "PnP", "sigma": 0.1, "precision": "float32"}


def test_refuses():
    refuses(lambda: dipa.PnP(identity_denoiser, precision="fp16"), "precision", "'fp16'", "float32, bf16")
    refuses(lambda: dipa.PnP(None), "denoiser", "None", "callable")
    refuses(lambda: dipa.PnP(identity_denoiser, sigma=-0.1), "sigma", "-0.1")
    refuses(lambda: dipa.PnP(identity_denoiser, sigma=float("nan")), "sigma", "nan")
