import dataclasses
import io
import math
import tarfile

import numpy as np
import pytest
import torch
import train_denoiser as denoiser
from batteries import images, refuses
from PIL import Image
from train_denoiser import (
    DenoiserRecipe,
    budget,
    build,
    draw_patches,
    pyramid,
    read_photographs,
    stretch,
    train,
)

from dipa import denoisers, storage
from dipa.training.schedules import one_cycle

TINY = DenoiserRecipe(
    depth=3, features=8, steps=8, batch_size=4, patch=12, scales=(1.0, 0.5), precision="float32"
)


def photograph(seed: int, height: int = 40, width: int = 48) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 7), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def photographs() -> dict[str, Image.Image]:
    return {f"{seed}.jpg": photograph(seed) for seed in range(3)}


@pytest.fixture
def folder(tmp_path, photographs):
    (tmp_path / "bsds" / "deeper").mkdir(parents=True)
    for name, photo in photographs.items():
        photo.convert("RGB").save(tmp_path / "bsds" / "deeper" / name)
    (tmp_path / "bsds" / "NOTICE.md").write_text("not a photograph")
    return tmp_path / "bsds"


def test_folder_and_tar_give_the_same_grey_photographs(folder, tmp_path, photographs):
    with tarfile.open(tmp_path / "bsds.tar", "w") as tar:
        tar.add(folder, arcname="train")
    for found in (read_photographs(folder), read_photographs(str(tmp_path / "bsds.tar"))):
        assert list(found) == ["0.jpg", "1.jpg", "2.jpg"]
        assert all(photo.mode == "L" and photo.size == (48, 40) for photo in found.values())
        difference = np.asarray(found["1.jpg"], float) - np.asarray(photographs["1.jpg"], float)
        assert np.abs(difference).mean() < 3, "up to JPEG's loss"


def test_pyramid_has_every_scale(photographs):
    levels = pyramid(photographs, (1.0, 0.5))
    assert [tuple(level.shape) for level in levels] == [(40, 48), (20, 24)] * 3
    assert all(level.dtype == torch.uint8 for level in levels)
    assert torch.equal(levels[0], torch.from_numpy(np.array(photographs["0.jpg"])))


def test_learning_rate_schedule(photographs, tmp_path):
    """Up a line for 5 percent of the steps, then half a cosine from 1 to 0.01 of the peak."""
    assert [one_cycle(progress) for progress in (0, 0.025, 0.05)] == pytest.approx([0, 0.5, 1])
    assert one_cycle(0.05 + 0.95 / 2) == pytest.approx(0.505) and one_cycle(1) == pytest.approx(
        0.01
    )
    quarter = 0.01 + 0.99 * (1 + math.cos(math.pi / 3)) / 2
    assert one_cycle(0.05 + 0.95 / 3) == pytest.approx(quarter)
    assert budget(TINY).schedule == "one_cycle"


def test_patches_depend_on_seed_and_step_alone(photographs):
    levels = pyramid(photographs, TINY.scales)
    torch.manual_seed(0)
    clean, noisy = draw_patches(levels, TINY, 3)
    torch.manual_seed(1)
    again = draw_patches(levels, TINY, 3)
    assert torch.equal(clean, again[0]) and torch.equal(noisy, again[1])
    assert clean.shape == noisy.shape == (4, 1, 12, 12) and clean.min() >= 0 and clean.max() <= 1
    for other in (
        draw_patches(levels, TINY, 4),
        draw_patches(levels, dataclasses.replace(TINY, seed=1), 3),
    ):
        assert not torch.equal(other[0], clean)


def test_noise_has_the_recipes_standard_deviation(photographs):
    recipe = dataclasses.replace(TINY, batch_size=64, sigma=0.1)
    clean, noisy = draw_patches(pyramid(photographs, (1.0,)), recipe, 0)
    assert (noisy - clean).std().item() == pytest.approx(0.1, rel=0.03)


def test_patches_are_patches_of_the_photographs():
    """Each one, turned, mirrored and inverted in all sixteen ways, is a window of the only
    photograph.
    """
    level = torch.from_numpy(np.array(photograph(0, 20, 20)))
    clean, _ = draw_patches(
        [level], dataclasses.replace(TINY, batch_size=8, patch=8, stretched=0.0), 0
    )
    windows = level.float().div(255).unfold(0, 8, 1).unfold(1, 8, 1).reshape(-1, 64)
    for patch in clean[:, 0]:
        turned = [
            torch.rot90(mirrored, turns) for mirrored in (patch, patch.T) for turns in range(4)
        ]
        ways = torch.stack([way.flatten() for p in turned for way in (p, 1 - p)])
        assert torch.cdist(ways, windows, compute_mode="donot_use_mm_for_euclid_dist").min() < 1e-6


def test_stretching_blackens_the_asked_share_and_sets_the_brightest():
    patch = torch.linspace(0.2, 0.9, 64).reshape(8, 8)
    dark = stretch(patch, level=0.5, top=0.6)
    assert (dark == 0).float().mean() == 0.5
    assert dark.max() == pytest.approx(0.6)
    flat = torch.full((8, 8), 0.3)
    assert torch.equal(stretch(flat, 0.5, 1.0), flat)


def test_half_the_patches_are_stretched():
    level = torch.from_numpy(np.array(photograph(0, 20, 20))).clamp(10, 255).to(torch.uint8)
    recipe = dataclasses.replace(TINY, batch_size=200, patch=8, stretched=0.5)
    clean, _ = draw_patches([level], recipe, 0)
    share = (clean.flatten(1).min(dim=1).values == 0).float().mean()
    assert 0.4 < share < 0.6


def test_the_untrained_network_is_the_identity_and_seeded():
    net, x = build(TINY), images(2, 1, 12, 12)
    assert torch.equal(net(x), x)
    again, other = build(TINY).state_dict(), build(dataclasses.replace(TINY, seed=1)).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in net.state_dict().items())
    assert not torch.equal(net.in_conv.weight, other["in_conv.weight"])


def test_training_denoises(photographs, tmp_path):
    recipe = dataclasses.replace(TINY, steps=80, sigma=0.1, batch_size=8, learning_rate=5e-3)
    net, record = train(photographs, recipe, tmp_path / "run.checkpoint")
    clean, noisy = draw_patches(pyramid(photographs, (1.0,)), recipe, 10**6)
    with torch.no_grad():
        assert ((net(noisy) - clean) ** 2).mean() < 0.7 * ((noisy - clean) ** 2).mean()
    ((last, psnr),) = record["training_psnr"]
    assert last == 80 and psnr > -20 * math.log10(recipe.sigma) and record["seconds"] > 0


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_resumed_is_uninterrupted_bitwise(precision, photographs, tmp_path, monkeypatch):
    recipe = dataclasses.replace(TINY, precision=precision)
    every_second = dataclasses.replace(budget(recipe), checkpoint_every=2)
    monkeypatch.setattr(denoiser, "budget", lambda _: every_second)
    whole, record = train(photographs, recipe, tmp_path / "whole.checkpoint")

    class Killed(BaseException):
        pass

    def dying(levels, recipe, step):
        if step == 5:
            raise Killed
        return draw_patches(levels, recipe, step)

    with monkeypatch.context() as patch:
        patch.setattr(denoiser, "draw_patches", dying)
        with pytest.raises(Killed):
            train(photographs, recipe, tmp_path / "cut.checkpoint")
    torch.manual_seed(9)
    resumed, again = train(photographs, recipe, tmp_path / "cut.checkpoint")
    assert all(
        torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items()
    )
    assert [step for step, _ in again["training_psnr"]] == [
        step for step, _ in record["training_psnr"]
    ]


def test_a_checkpoint_of_another_recipe_is_refused(photographs, tmp_path):
    path = tmp_path / "run.checkpoint"
    train(photographs, TINY, path)
    refuses(
        lambda: train(photographs, dataclasses.replace(TINY, seed=1), path),
        "run.checkpoint",
        "other recipe",
    )


# --- the command ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Small(DenoiserRecipe):
    depth: int = 3
    features: int = 4
    steps: int = 4
    batch_size: int = 2
    patch: int = 8
    scales: tuple[float, ...] = (1.0,)
    precision: str = "float32"


def test_command_writes_the_weights_with_their_record(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(denoiser, "DenoiserRecipe", Small)
    out = tmp_path / "weights" / "net.safetensors"
    assert (
        denoiser.main(["--bsds", str(folder), "--out", str(out), "--seed", "3", "--steps", "5"])
        == 0
    )
    assert f"wrote {out}" in capsys.readouterr().out
    assert [path.name for path in out.parent.iterdir()] == ["net.safetensors"], (
        "the checkpoint is gone"
    )
    tensors, record = storage.read_tensors(out)
    assert (
        record["photographs"] == 3
        and record["recipe"]["seed"] == 3
        and record["recipe"]["steps"] == 5
    )
    assert record["versions"]["torch"] == torch.__version__ and record["threads"] == 1
    packaged = denoisers.training_record()
    assert (record["data"], record["terms"]) == (packaged["data"], packaged["terms"])
    net = build(Small(seed=3))
    net.load_state_dict(tensors)
    expected, _ = train(
        read_photographs(folder), Small(seed=3, steps=5), tmp_path / "again.checkpoint"
    )
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in tensors.items())


def one_line(capsys) -> str:
    text = capsys.readouterr().err
    assert text.startswith("error: ") and text.count("\n") == 1, text
    return text


def test_command_refuses_a_bad_path_with_one_line(tmp_path, capsys):
    out = str(tmp_path / "net.safetensors")
    assert denoiser.main(["--bsds", str(tmp_path / "nowhere"), "--out", out]) == 2
    assert "nowhere" in one_line(capsys)
    (tmp_path / "empty").mkdir()
    assert denoiser.main(["--bsds", str(tmp_path / "empty"), "--out", out]) == 2
    assert ".jpg" in one_line(capsys)
    with tarfile.open(tmp_path / "empty.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("notes.txt"), io.BytesIO())
    assert denoiser.main(["--bsds", str(tmp_path / "empty.tar"), "--out", out]) == 2
    assert "empty.tar" in one_line(capsys)
    assert not (tmp_path / "net.safetensors").exists()


def test_command_refuses_a_number_of_steps_with_one_line(folder, tmp_path, capsys):
    for steps in ("0", "-5"):
        assert (
            denoiser.main(
                [
                    "--bsds",
                    str(folder),
                    "--out",
                    str(tmp_path / "net.safetensors"),
                    "--steps",
                    steps,
                ]
            )
            == 2
        )
        assert f"--steps: got {steps}" in one_line(capsys)
    assert not list(tmp_path.glob("net.*"))


def test_command_refuses_unreadable_photographs_with_one_line(
    folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(denoiser, "DenoiserRecipe", Small)

    def refused(source) -> str:
        assert (
            denoiser.main(["--bsds", str(source), "--out", str(tmp_path / "net.safetensors")]) == 2
        )
        return one_line(capsys)

    (tmp_path / "notes.tar").write_text("no tar file")
    assert "--bsds" in (text := refused(tmp_path / "notes.tar")) and "notes.tar" in text
    with tarfile.open(tmp_path / "whole.tar", "w") as tar:
        tar.add(folder, arcname="train")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[:900])
    assert "cut.tar" in refused(tmp_path / "cut.tar")
    whole = (folder / "deeper" / "1.jpg").read_bytes()
    for blob in (b"no photograph", whole[: len(whole) // 2], b""):
        (folder / "deeper" / "1.jpg").write_bytes(blob)
        assert "--bsds: " in (text := refused(folder)) and "1.jpg: not a readable picture" in text


def test_command_refuses_a_photograph_smaller_than_a_patch_with_one_line(
    folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(denoiser, "DenoiserRecipe", Small)
    photograph(5, 7, 30).save(folder / "small.jpg")
    assert denoiser.main(["--bsds", str(folder), "--out", str(tmp_path / "net.safetensors")]) == 2
    assert (
        "small.jpg of 30 x 7 pixels" in (text := one_line(capsys))
        and "at least 8 pixels at scale 1" in text
    )


@pytest.mark.parametrize("junk", [b"junk", b"", None])
def test_command_refuses_a_junk_checkpoint_with_one_line(
    junk, folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(denoiser, "DenoiserRecipe", Small)
    checkpoint = tmp_path / "net.checkpoint"
    checkpoint.write_bytes(junk) if junk is not None else torch.save({"net": 1}, checkpoint)
    assert denoiser.main(["--bsds", str(folder), "--out", str(tmp_path / "net.safetensors")]) == 2
    assert "net.checkpoint: damaged or foreign" in one_line(capsys)
    assert checkpoint.exists(), "the user decides"


def test_a_loss_that_is_not_finite_is_told_with_its_step(photographs, tmp_path):
    recipe = dataclasses.replace(TINY, learning_rate=1e30)
    text = refuses(
        lambda: train(photographs, recipe, tmp_path / "run.checkpoint"),
        "training",
        "step",
        "learning rate",
    )
    assert "--learning-rate" not in text


def test_command_without_arguments_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stopped:
        denoiser.main([])
    assert stopped.value.code == 2 and "--bsds" in capsys.readouterr().err
