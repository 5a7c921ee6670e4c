"""Devices and precisions: what is chosen, what is refused, and that nothing of a run is left
behind on the processor.
"""

import pytest
import torch
from batteries import refuses, tiny_denoiser
from elsewhere import PLACES, Elsewhere, pretended

import dipa
from dipa import device, experiments
from dipa.experiments.methods import METHODS
from dipa.operators.measure import measure

CPU = torch.device("cpu")
elsewhere = pytest.mark.parametrize("elsewhere", PLACES.values(), ids=PLACES)
PRECONDITIONED = [
    name for name, method in METHODS.items() if not method.network and name != "baseline"
]
OTHER_TASKS = [
    (name, preset)
    for name in ("ridge", "l-dipa", "n-dipa")
    for preset in ("mri-baseline", "sr-baseline")
]
TINY = {
    "solver.precision": "float32",
    "data.train_count": 4,
    "data.ridge_count": 16,
    "data.test_count": 3,
    "training.steps": 2,
    "training.batch_size": 2,
}


def test_what_is_no_device_or_not_there_is_refused(monkeypatch):
    for asked in ("gpu", "cuda:", "cpu:0", "cuda:-1", "", 3, None):
        refuses(
            lambda asked=asked: device.choose(asked), "device", "auto, cpu, cuda, cuda:N or mps"
        )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device.choose() == device.choose("cpu") == CPU
    refuses(lambda: device.choose("cuda"), "'cuda'", "no GPU")
    refuses(lambda: device.choose("mps"), "'mps'", "no mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device.choose() == torch.device("cuda", 0)
    assert device.choose("cuda:1") == torch.device("cuda", 1)
    refuses(lambda: device.choose("cuda:2"), "'cuda:2'", "cuda:0 to cuda:1")


def test_each_process_of_several_takes_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert device.choose() == torch.device("cuda", 1)
    refuses(lambda: device.choose("cuda:0"), "'cuda:0'", "a GPU of its own")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert device.choose() == torch.device("cuda", 0) and device.choose("cuda:1") == torch.device(
        "cuda", 1
    )


def test_auto_is_what_the_hardware_multiplies(monkeypatch):
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda place: (8, 0))
    assert device.precision("auto", gpu) == "bf16"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda place: (7, 5))
    assert device.precision("auto", gpu) == "fp16"
    assert device.precision("bf16", gpu) == "bf16"
    assert device.precision("auto", torch.device("mps")) == "float32"
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for flags, expected in (
        ({"avx512_bf16"}, "bf16"),
        ({"amx_bf16"}, "bf16"),
        ({"avx512f"}, "float32"),
        (set(), "float32"),
    ):
        monkeypatch.setattr(device, "_flags", lambda flags=flags: frozenset(flags))
        assert device.precision("auto", CPU) == expected
    monkeypatch.setattr(device, "_flags", lambda: frozenset({"avx512_bf16"}))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert device.precision("auto", CPU) == "float32"
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert device.precision("auto", CPU) == "float32"


def test_the_setting_of_rounding_is_restored():
    before = torch.backends.cudnn.allow_tf32
    with device.rounding(not before):
        assert torch.backends.cudnn.allow_tf32 is not before
    assert torch.backends.cudnn.allow_tf32 is before


def test_the_gradient_through_fp16_does_not_vanish():
    denoiser = tiny_denoiser()
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    gradients = {}
    for precision in ("float32", "fp16"):
        images = x.clone().requires_grad_()
        (1e-7 * dipa.PnP(denoiser, precision=precision).denoise(images)).sum().backward()
        gradients[precision] = images.grad
    torch.testing.assert_close(gradients["fp16"], gradients["float32"], rtol=5e-3, atol=0)


@elsewhere
def test_noise_is_the_same_on_every_device(elsewhere, monkeypatch):
    physics = dipa.operators.single_pixel((1, 8, 8), ratio=0.5, noise_sigma=0.1)
    x = torch.rand(2, 1, 8, 8)
    here = measure(physics, x, seed=3)
    assert not torch.equal(here, physics.A(x))
    with elsewhere(monkeypatch) as place:
        assert torch.allclose(
            measure(physics.to(place), x.to(place), seed=3).cpu(), here, atol=1e-6
        )


def test_the_pretended_device_refuses_what_a_gpu_does(monkeypatch):
    with pretended(monkeypatch) as place:
        there = torch.ones(2, 3).to(place)
        for wrong in (
            lambda: there + torch.ones(2, 3),
            lambda: there.numpy(),
            lambda: there.normal_(generator=torch.Generator()),
        ):
            with pytest.raises((RuntimeError, TypeError)):
                wrong()
        assert (
            isinstance(there @ there.T, Elsewhere) and there[torch.tensor([1, 0])].device == place
        )


@elsewhere
@pytest.mark.parametrize(
    ("method", "preset"), [*((name, "baseline") for name in PRECONDITIONED), *OTHER_TASKS]
)
def test_a_run_leaves_nothing_on_the_processor(method, preset, elsewhere, monkeypatch, tmp_path):
    changes = TINY | {
        "method": method,
        "losses.imitation": 1.0,
        "losses.gradient": 1.0,
        "losses.convergence": 1e-3,
    }
    config = experiments.resolve(
        preset, "smoke", overrides=changes | {"network.features": 4, "network.blocks": 1}
    )
    here = experiments.run(config, tmp_path / "here", device="cpu", progress=False)
    monkeypatch.setenv("DIPA_CACHE", str(tmp_path / "another cache"))
    with elsewhere(monkeypatch) as place:
        there = experiments.run(config, tmp_path / "there", progress=False)
        assert (
            there.manifest["device"] == device.describe(place)["device"] != here.manifest["device"]
        )
    for role in ("baseline", "student", "teacher"):
        assert there.metrics[role]["psnr"] == pytest.approx(here.metrics[role]["psnr"], abs=0.02)
