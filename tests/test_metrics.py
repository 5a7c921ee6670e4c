import math

import pytest
import torch
from batteries import images, refuses
from scipy.ndimage import gaussian_filter

from dipa import metrics


def test_psnr_is_minus_ten_log_mse_without_clipping():
    x_true = images(3, 1, 16, 16)
    x = x_true + torch.tensor([0.1, -0.5, 3.0]).reshape(3, 1, 1, 1)
    expected = [-20 * math.log10(error) for error in (0.1, 0.5, 3.0)]
    assert metrics.psnr(x, x_true).tolist() == pytest.approx(expected, abs=1e-3)


def test_psnr_of_identical_images_is_finite():
    x = images(2, 1, 16, 16)
    assert metrics.psnr(x, x).tolist() == pytest.approx([80.0, 80.0])


def test_psnr_batch_mse_by_hand():
    """Five images, batches of 2, 2, 1: PSNR of each batch's MSE, weighted by its size."""
    x_true = torch.zeros(5, 1, 16, 16)
    errors = torch.tensor([0.1, 0.3, 0.2, 0.2, 0.5])
    x = x_true + errors.reshape(5, 1, 1, 1)
    batches = [(0.01 + 0.09) / 2, (0.04 + 0.04) / 2, 0.25]
    expected = (
        sum(-10 * math.log10(mse) * count for mse, count in zip(batches, (2, 2, 1), strict=True))
        / 5
    )
    assert metrics.psnr_batch_mse(x, x_true, 2) == pytest.approx(expected, abs=1e-5)


def test_psnr_batch_mse_is_the_mean_psnr_for_batches_of_one_and_below_it_otherwise():
    x_true = images(6, 1, 16, 16)
    x = x_true + images(6, 1, 1, 1, seed=1)
    mean = metrics.psnr(x, x_true).mean().item()
    assert metrics.psnr_batch_mse(x, x_true, 1) == pytest.approx(mean, abs=1e-4)
    assert metrics.psnr_batch_mse(x, x_true, 3) < mean - 1e-3
    assert metrics.psnr_batch_mse(x, x_true, 6) == metrics.psnr_batch_mse(x, x_true, 100)


def test_psnr_batch_mse_of_identical_images_is_80_db():
    x = images(3, 1, 16, 16)
    assert metrics.psnr_batch_mse(x, x, 2) == pytest.approx(80.0)
    assert all(map(math.isfinite, metrics.summary(x, x, 2).values()))


def test_ssim_is_one_for_identical_images_and_falls_with_noise():
    x = images(2, 1, 16, 16)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    values = [metrics.ssim(x + level * noise, x).mean().item() for level in (0.0, 0.1, 0.5)]
    assert values[0] == pytest.approx(1.0, abs=1e-5)
    assert values[0] > values[1] > values[2]


def test_summary_joins_them():
    x_true = images(4, 1, 16, 16)
    x = x_true + images(4, 1, 1, 1, seed=1)
    report = metrics.summary(x, x_true, 2)
    values = metrics.psnr(x, x_true)
    assert report["psnr"] == pytest.approx(values.mean().item())
    assert report["psnr_sd_images"] == pytest.approx(values.std().item())
    assert report["psnr_batch_mse"] == pytest.approx(metrics.psnr_batch_mse(x, x_true, 2))
    assert report["ssim"] == pytest.approx(metrics.ssim(x, x_true).mean().item())
    assert metrics.summary(x[:1], x_true[:1], 2)["psnr_sd_images"] == 0.0


PAIRED = {
    "psnr": metrics.psnr,
    "ssim": metrics.ssim,
    "psnr_batch_mse": lambda x, x_true: metrics.psnr_batch_mse(x, x_true, 2),
    "summary": lambda x, x_true: metrics.summary(x, x_true, 2),
}


@pytest.mark.parametrize("metric", PAIRED)
@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda x: x[:1], "x_true.shape"),
        (lambda x: x[..., :8], "x_true.shape"),
        (lambda x: x[:, :1], "x_true.shape"),
        (lambda x: x[0], "x_true.shape"),
        (lambda x: x[:0], "x_true.shape"),
        (lambda x: x.double(), "x_true.dtype"),
        (lambda x: x.to(torch.uint8), "x_true.dtype"),
        (lambda x: x.to(torch.complex64), "x_true.dtype"),
        (lambda x: x.to("meta"), "x_true.device"),
        (lambda x: x.tolist(), "x_true"),
        (lambda x: None, "x_true"),
    ],
)
def test_images_that_would_broadcast_or_fail_inside_torch_are_refused_by_name(metric, change, part):
    x = images(2, 2, 16, 16)
    refuses(lambda: PAIRED[metric](x, change(x)), part)


def test_metrics_refuse_what_they_cannot_measure():
    x = images(2, 1, 5, 16)
    refuses(lambda: metrics.ssim(x, x), "x.shape", "window of SSIM")
    assert metrics.ssim(images(1, 1, 6, 6), images(1, 1, 6, 6)).item() == pytest.approx(1)
    refuses(lambda: metrics.magnitude(x), "images.shape", "(B, 2, H, W)")
    for bad in (0, 1.5, None, "2", True):
        refuses(lambda bad=bad: metrics.psnr_batch_mse(x, x, bad), "batch_size", repr(bad))


def test_ssim_is_wangs_for_data_of_range_one():
    """By scipy's Gaussian filter: windows of 11 pixels and deviation 1.5, borders mirrored."""
    x_true = images(3, 1, 16, 16, dtype=torch.float64)
    x = x_true + 0.1 * torch.randn(
        x_true.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )

    def mean(planes):
        return torch.from_numpy(
            gaussian_filter(planes.numpy(), (0, 0, 1.5, 1.5), mode="mirror", truncate=3.5)
        )

    of_x, of_true = mean(x), mean(x_true)
    spread, shared = (
        mean(x * x) - of_x**2 + mean(x_true * x_true) - of_true**2,
        mean(x * x_true) - of_x * of_true,
    )
    c, d = 0.01**2, 0.03**2
    expected = (
        (2 * of_x * of_true + c) * (2 * shared + d) / ((of_x**2 + of_true**2 + c) * (spread + d))
    )
    assert metrics.ssim(x, x_true).tolist() == pytest.approx(
        expected.mean((1, 2, 3)).tolist(), abs=1e-6
    )


def test_modulus_by_hand():
    planes = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    assert metrics.magnitude(planes).tolist() == [[[[5.0]]]]
