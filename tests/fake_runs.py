"""Runs with numbers made up for a test, and the cells of the tables that are made of them."""

from pathlib import Path
from types import SimpleNamespace

from dipa import experiments


def fake_run(
    preset,
    student=30.0,
    baseline=20.0,
    teacher=40.0,
    *,
    seed=0,
    shifts=None,
    parameters=1024,
    magnitude=False,
    **overrides,
):
    """A run with given numbers, to check a table's arithmetic by hand; the batch PSNR is 1 dB
    below, the modulus 3 dB.
    """

    def numbers(psnr):
        modulus = {"psnr_magnitude": psnr - 3} if magnitude else {}
        audit = {"residual": 0.125, "error_range": 0.25, "error_null": 0.5}
        return modulus | {"psnr": psnr, "psnr_batch_mse": psnr - 1, "ssim": 0.75, "audit": audit}

    def roles(**values):
        return {role: numbers(psnr) for role, psnr in values.items()}

    config = experiments.resolve(preset, "smoke", seed=seed, overrides=overrides)
    metrics = roles(baseline=baseline, student=student, teacher=teacher)
    if shifts:
        metrics["shifts"] = {
            name: roles(baseline=pair[0], student=pair[1]) for name, pair in shifts.items()
        }
    manifest = {"counts": {"parameters": parameters}, "training_seconds": 61.0}
    path = Path(f"{preset}-smoke-s{seed}-d{seed}")
    return SimpleNamespace(
        config=config, path=path, metrics=metrics, manifest=manifest, precision=f"p{seed}"
    )


def parse(table):
    """Head and rows; every row has the head's length."""
    lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines()]
    assert all(len(line) == len(lines[0]) for line in lines)
    return lines[0], lines[2:]
