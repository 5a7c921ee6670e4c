"""The benchmarks' own arithmetic, and that the straightforward way trains what this package
trains.
"""

import json
import sys

import common
import eight_operators
import equilibrium
import gpu_step as step
import learned_steps
import pytest
import recipes
import reference
import torch

import dipa


@pytest.fixture(scope="module")
def setting():
    return common.Setting.make(
        common.parser("x").parse_args(["--device", "cpu"]), size=16, count=4, test=2
    )


def test_the_reference_computes_the_losses_of_this_package(setting):
    """deepinv's FISTA with autograd through all iterations beside ``distill`` with deepinv's
    momentum and start.
    """
    plain = reference.Reference(setting, reference.Matrix(256), iterations=4, learning_rate=1e-3)
    P = dipa.LinearPreconditioner.identity(setting.student, (1, 16, 16), form="dense")
    fit = dipa.distill(
        dipa.FISTA(dipa.PnP(setting.denoiser), 4, start="adjoint", momentum="deepinv"),
        P,
        setting.student,
        setting.teacher,
        setting.images,
        losses=dipa.LossWeights(supervised=1.0, imitation=1.0, gradient=1.0),
        budget=dipa.Budget(
            steps=3, batch_size=4, learning_rate=1e-3, schedule="constant", clip=0.0
        ),
        progress=False,
        **reference.AS_PRINTED,
    )
    assert [plain.step(setting.images) for _ in range(3)] == pytest.approx(
        [record["loss"] for record in fit.history], rel=1e-5
    )


def test_ratios_are_medians_of_pairs():
    assert common.ratio({"a": [2.0, 9.0, 8.0], "b": [1.0, 3.0, 1.0]}, "a", "b") == 3.0


def test_works_are_interleaved():
    calls = []
    times = common.interleaved({name: lambda name=name: calls.append(name) for name in "ab"}, 2)
    assert calls == list("ab" * 3) and {name: len(found) for name, found in times.items()} == {
        "a": 2,
        "b": 2,
    }


def test_exponents_of_powers():
    assert common.exponent([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2)


SMALL = (
    "--device cpu --size 16 --iterations 3 --batch 2 --test 2 --train-steps 3 --repeats 1 "
    "--precision float32 tf32 bf16"
)


def test_every_variant_of_a_step_trains_the_same_or_says_why_it_cannot(tmp_path, monkeypatch):
    monkeypatch.setattr(step, "peak", lambda precision, device, repeats: 1e9)
    words = [
        *SMALL.split(),
        "--launch",
        "package",
        "eager",
        "graph",
        "--json",
        str(tmp_path / "out.json"),
    ]
    monkeypatch.setattr(sys, "argv", ["gpu_step", *words])
    step.main()
    found = json.loads((tmp_path / "out.json").read_text())
    ran = {name: entry for name, entry in found["variants"].items() if "absent" not in entry}
    assert len(found["variants"]) == 27 and set(ran) == {
        f"{precision} {rest}"
        for precision in ("float32", "bf16")
        for rest in ("lean package", "lean eager", "channels_last eager", "contiguous eager")
    }
    assert (
        ran["float32 lean package"]["psnr"] == ran["float32 lean eager"]["psnr"] != found["start"]
    )
    assert all(
        abs(entry["psnr_difference"]) < (1e-3 if "float32" in name else 0.1)
        for name, entry in ran.items()
    )
    entry = ran["float32 lean eager"]
    took = 2 / entry["images_per_second"]
    assert entry["budget_seconds"] == pytest.approx(took * 2_500_000 / 2)
    assert entry["share_of_peak"] == pytest.approx(found["operations_per_step"] / took / 1e9)


def test_operations_are_counted_in_both_passes_of_every_iteration(monkeypatch):
    problem = step.Problem(step.arguments().parse_args(SMALL.split()))
    counted = step.operations(problem)
    # of one pass of DnCNN over one image of 16 x 16
    convolutions = 2 * 9 * 256 * (18 * 64 * 64 + 2 * 64)
    # forward and backward, 3 iterations, 2 images
    assert counted == pytest.approx(2 * 3 * 2 * convolutions, rel=0.02)


def test_a_device_that_cannot_be_measured_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="2"):
        common.parser("x").parse_args(["--device", "cuda"])
    assert "has no GPU" in capsys.readouterr().err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_memory_sees_what_was_held_for_a_moment():
    def hold(mib):
        torch.zeros(mib * 2**18).add_(1)

    hold(10)
    assert common.peak_mib(lambda: hold(200)) == pytest.approx(200, abs=16)
    assert common.peak_mib(lambda: hold(50)) == pytest.approx(50, abs=16), (
        "the high-water mark was set back"
    )


@pytest.mark.parametrize("name", eight_operators.OPERATORS)
def test_the_eight_operators_are_operators(name):
    physics, channels = eight_operators.operator(name, 16), eight_operators.OPERATORS[name][0]
    train, test = eight_operators.images("embedded", channels, 16, 8)
    dipa.physics.require_adjoint("physics", physics, train)
    assert train.shape == test.shape == (8, channels, 16, 16)
    again = eight_operators.operator(name, 16)
    assert torch.equal(physics.A(train), again.A(train)), "drawn the same each time"


def test_coils_see_every_pixel_alike():
    maps = eight_operators.coil_maps(4, 12)
    assert torch.allclose(maps.abs().square().sum(dim=1), torch.ones(1, 12, 12), atol=1e-5)


def test_a_comparison_that_was_stopped_goes_on(tmp_path, monkeypatch, capsys):
    """Operators that the file has of the same options are not compared again."""
    done = []

    def compared(name, options):
        done.append(name)
        return {"rows": [{"method": "1/L"}]}

    monkeypatch.setattr(eight_operators, "compared", compared)
    path = str(tmp_path / "out.json")
    for operators, size in (
        (["inpainting"], "16"),
        (["inpainting", "demosaicing"], "16"),
        (["inpainting"], "32"),
    ):
        eight_operators.main(
            ["--json", path, "--device", "cpu", "--size", size, "--operators", *operators]
        )
    assert done == ["inpainting", "demosaicing", "inpainting"]
    kept = json.loads((tmp_path / "out.json").read_text())
    assert list(kept["operators"]) == ["inpainting"] and kept["options"]["size"] == 32
    with pytest.raises(SystemExit, match="--operators"):
        eight_operators.main(["--operators", "lens"])


# --- learned step lengths -------------------------------------------------------------------------


@pytest.mark.parametrize("name", learned_steps.TASKS)
def test_step_lengths_are_measured_on_masks_of_their_own(name):
    """Coefficients and errors are those of the images, and the noise is in what is measured."""
    task = learned_steps.TASKS[name]
    x = torch.rand(4, task.channels, 16, 16)
    clean, noisy, other = (
        learned_steps.Problem.make(task, x, 3, draw, **changes)
        for draw, changes in (("test", {}), ("test", {"noise": 0.1}), ("train", {}))
    )
    error = 10 * torch.log10(0.5**2 * torch.ones(4))
    assert torch.allclose(clean.errors(1.5 * clean.truth), error, atol=1e-4)
    assert torch.allclose(clean.physics[0].A(clean.truth), x, atol=1e-5)
    difference = (noisy.y - clean.y).abs()
    measured = (clean.y != 0) if task.masks else torch.ones_like(clean.y, dtype=torch.bool)
    assert 0.07 < difference[measured].square().mean().sqrt() < 0.13
    assert difference[~measured].sum() == 0
    if task.masks:
        masks = [problem.physics[1].mask.flatten(1) for problem in (clean, noisy, other)]
        assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])
        assert not torch.equal(masks[0][0], masks[0][1])


def test_step_lengths_run_from_training_to_their_file(tmp_path, capsys):
    small = "--size 16 --count 6 --test 3 --features 2 --iterations 2 --steps 2 --batch 4"
    file = tmp_path / "steps.json"
    learned_steps.main(["inpainting", *small.split(), "--device", "cpu", "--json", str(file)])
    found = json.loads(file.read_text())
    curves = found["tests"]["50 %"]
    assert len(curves["FISTA"]["nmse"]) == 101 and len(curves["step"]["nmse"]) == 41
    assert len(curves["direct"]["nmse"]) == 1 and found["manifest"]["versions"]
    assert found["training"]["step"]["nmse"][0] == pytest.approx(0.0, abs=1e-4)
    # ten times lambda is another problem, with the same measurements
    other = found["tests"]["ten times lambda"]
    assert other["FISTA"]["nmse"][-1] != curves["FISTA"]["nmse"][-1]
    assert other["direct"]["nmse"] == curves["direct"]["nmse"]
    assert json.loads(capsys.readouterr().out)["FISTA"] == round(curves["FISTA"]["nmse"][-1], 3)


def test_halving_keeps_the_better_half_and_doubles_the_seconds(monkeypatch):
    names = [f"{n}" for n in range(5)]
    quality = {("0", 1): 3, ("1", 1): 5, ("2", 1): 1, ("3", 1): 4, ("4", 1): 0}
    quality |= {("1", 2): 6, ("3", 2): 7, ("3", 4): 2}

    def fake(problem, recipe, seconds):
        return {"name": recipe, "seconds": seconds, "psnr": quality[recipe, seconds]}

    monkeypatch.setattr(recipes, "trial", fake)
    found = recipes.halved(None, names, 1)
    assert [(trial["name"], trial["seconds"], trial["round"]) for trial in found] == [
        *((name, 1, 1) for name in "13024"),
        ("3", 2, 2),
        ("1", 2, 2),
        ("3", 4, 3),
    ]


def test_recipes_are_tried_on_images_held_out(tmp_path):
    file = tmp_path / "out.json"
    small = "--count 40 --held 4 --seconds 0.2 --recipes 2 --device cpu"
    recipes.main([*small.split(), "--json", str(file)])
    found = json.loads(file.read_text())
    assert [trial["round"] for trial in found["trials"]] == [1, 1, 2]
    assert found["trials"][0]["psnr"] >= found["trials"][1]["psnr"]
    assert {trial["batch_size"] for trial in found["trials"]} == {16, 32}
    for trial in found["trials"]:
        assert trial["steps"] >= recipes.WARM and trial["psnr"] != found["closed form"]


@pytest.mark.parametrize("task", equilibrium.NOISE)
def test_learning_at_equilibrium_runs_to_its_file(task, tmp_path, capsys):
    """The bias is bounded, and of a tail of 64 smaller than of one application; levels that were
    trained are others.
    """
    file = tmp_path / "out.json"
    small = "--size 16 --count 6 --test 3 --steps 4 --batch 3 --curvature 0.1 --device cpu"
    equilibrium.main([task, *small.split(), "--json", str(file)])
    found = json.loads(file.read_text())
    for bias in found["bias"].values():
        errors, bounds = bias["errors"].values(), bias["bounds"].values()
        assert all(error <= bound for error, bound in zip(errors, bounds, strict=True))
        assert bias["errors"]["64"] < 0.5 * bias["errors"]["1"]
        assert bias["contraction"] <= bias["q"] * 1.01
    ways, levels = found["ways"], found["ways"]["untrained"]["levels"]
    assert set(ways) == {"untrained", "unrolled, K = 20", *equilibrium.WAYS}
    assert all(way["levels"] != levels for name, way in ways.items() if name != "untrained")
    assert ways["tail 1, restart"]["iterations"] <= ways["tail 1, from the start"]["iterations"]
    assert json.loads(capsys.readouterr().out)["untrained"] > 0
