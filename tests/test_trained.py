"""Trained modules in files: what is saved is loaded, and what is neither learned nor whole is
refused.
"""

import resource
import time

import pytest
import torch
from batteries import images, refuses
from members import SHAPE, perturbed, shaken, student
from safetensors.torch import save_file

import dipa
from dipa import storage
from dipa.preconditioners import Preconditioner, ScalarSteps, Traits


def test_a_class_with_a_kind_of_its_own_can_be_saved(tmp_path):
    class Doubled(ScalarSteps):
        def forward(self, gradient, iterate, k):
            return 2 * super().forward(gradient, iterate, k)

    refuses(lambda: dipa.save(Doubled(2), tmp_path / "p.safetensors"), "Doubled", "learned")

    class Damped(Preconditioner):
        kind, traits = "test_damped", Traits(linear=True, iteration_dependent=False)

        def __init__(self, factor: float):
            super().__init__()
            self.factor, self.weight = factor, torch.nn.Parameter(torch.ones(()))

        def forward(self, gradient, iterate, k):
            return self.factor * self.weight * gradient

        def header(self):
            return {"factor": self.factor}

    try:
        P, x = shaken(Damped(0.5)), images(2, *SHAPE)
        again, _ = dipa.load(dipa.save(P, tmp_path / "p.safetensors"))
        assert type(again) is Damped and torch.equal(again(x, x, 1), P(x, x, 1))
    finally:
        del storage.KINDS["test_damped"]
    refuses(
        lambda: dipa.load(tmp_path / "p.safetensors"),
        "p.safetensors",
        "test_damped",
        "scalar_steps",
    )


def test_the_record_travels(tmp_path):
    record = {"losses": {"imitation": 1.0}, "seed": 3, "budget": None}
    path = dipa.save(perturbed(student(), "low_rank"), tmp_path / "p.safetensors", record)
    assert dipa.load(str(path))[1] == record


def test_missing_truncated_and_foreign_files_are_refused_by_name(tmp_path):
    refuses(lambda: dipa.load(tmp_path / "missing.safetensors"), "missing.safetensors")
    whole = dipa.save(perturbed(student(), "low_rank"), tmp_path / "whole.safetensors").read_bytes()
    for length in (0, 20, len(whole) // 2):
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        refuses(lambda: dipa.load(tmp_path / "cut.safetensors"), "cut.safetensors")
    save_file({"matrix": torch.rand(2, 2)}, tmp_path / "foreign.safetensors")
    refuses(lambda: dipa.load(tmp_path / "foreign.safetensors"), "foreign.safetensors")
    storage.write_tensors(
        tmp_path / "other.safetensors", {"matrix": torch.rand(2, 2)}, {"kind": "denoiser"}
    )
    refuses(lambda: dipa.load(tmp_path / "other.safetensors"), "other.safetensors", "denoiser")
    storage.write_tensors(tmp_path / "empty.safetensors", {"a": torch.rand(2)}, {"kind": "linear"})
    refuses(lambda: dipa.load(tmp_path / "empty.safetensors"), "empty.safetensors")
    save_file({"a": torch.rand(2)}, tmp_path / "list.safetensors", metadata={"record": "[1, 2]"})
    refuses(
        lambda: dipa.load(tmp_path / "list.safetensors"),
        "list.safetensors",
        "not a file written by dipa",
    )
    for record in ({}, {"kind": ["linear"]}, {"kind": None}):
        storage.write_tensors(tmp_path / "odd.safetensors", {"a": torch.rand(2)}, record)
        refuses(lambda: dipa.load(tmp_path / "odd.safetensors"), "odd.safetensors", "linear_steps")


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.tensor([1.0, torch.nan, 1.0]), ("steps", "NaN or infinite")),
        (torch.tensor([1.0, -torch.inf, 1.0]), ("steps", "NaN or infinite")),
        (torch.ones(3, dtype=torch.int64), ("steps", "int64", "float32")),
        (torch.ones(3, dtype=torch.complex64), ("steps.dtype", "complex64")),
        (torch.ones(3).to(torch.float8_e4m3fn), ("steps.dtype", "float8")),
        (torch.ones(4), ("steps", "(4,)", "(3,)")),
        (torch.ones(3, 1), ("steps", "(3, 1)", "(3,)")),
    ],
)
def test_weights_of_another_kind_are_refused_whole_as_their_file_is(tmp_path, tensor, words):
    path = storage.write_tensors(
        tmp_path / "a.safetensors", {"steps": tensor}, {"kind": "scalar_steps", "iterations": 3}
    )
    refuses(lambda: dipa.load(path), "a.safetensors", *words)
    good = storage.write_tensors(
        tmp_path / "b.safetensors",
        {"steps": torch.ones(3)},
        {"kind": "scalar_steps", "iterations": 3},
    )
    assert torch.equal(dipa.load(good)[0].steps, torch.ones(3))


def test_tensors_that_no_module_asks_for_are_refused(tmp_path):
    P = dipa.LinearPreconditioner.identity(dipa.operators.single_pixel((1, 4, 4), ratio=0.5))
    record = {"kind": "linear", **P.header()}
    path = storage.write_tensors(
        tmp_path / "a.safetensors", P.state_dict() | {"other": torch.ones(2)}, record
    )
    refuses(lambda: dipa.load(path), "a.safetensors", "other", "no such tensor")
    for name, wrong in (
        ("basis.index", P.basis.index + 16),
        ("basis.index", P.basis.index.float()),
        ("matrix", P.matrix.detach()[:4]),
    ):
        storage.write_tensors(path, P.state_dict() | {name: wrong}, record)
        refuses(lambda: dipa.load(path), "a.safetensors")


@pytest.mark.parametrize(
    "record",
    [
        {"kind": "pointwise_steps", "iterations": 100_000, "img_size": [1, 200, 200]},
        {"kind": "convolutional_steps", "iterations": 4000, "size": 1001},
        {"kind": "neural", "name": "cnn", "img_size": [10**6, 8, 8]},
        {"kind": "neural", "name": "vit", "img_size": [64, 8, 8], "features": 512, "blocks": 64},
        {"kind": "linear", "basis": "hadamard", "img_size": [1, 2**15, 2**15]},
        {"kind": "linear", "basis": "pixel", "img_size": [1, 10**6, 10**6]},
        {
            "kind": "end-to-end",
            "network": {"name": "u-net", "img_size": [1, 8, 8], "features": 512, "blocks": 5},
        },
        {
            "kind": "end-to-end",
            "network": {"name": "restormer", "img_size": [1, 8, 8], "features": 512, "blocks": 16},
        },
    ],
)
def test_a_small_file_that_describes_a_large_module_is_refused_without_making_it(tmp_path, record):
    tensors = {"steps": torch.ones(3), "matrix": torch.ones(4, 2), "basis.index": torch.arange(2)}
    path = storage.write_tensors(tmp_path / "a.safetensors", tensors, record)
    began = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refuses(lambda: dipa.load(path), "a.safetensors")
    assert time.monotonic() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024, "KiB"


def test_numbers_that_could_not_be_read_back_are_not_saved(tmp_path):
    P = dipa.ScalarSteps(2)
    P.steps.data[0] = torch.nan
    refuses(lambda: dipa.save(P, tmp_path / "a"), "trained", "steps", "NaN")
    network = dipa.endtoend.build("u-net", (1, 8, 8), features=2, blocks=2)
    next(network.parameters()).data.fill_(torch.inf)
    refuses(lambda: dipa.save(network, tmp_path / "a"), "trained", "infinite")
    assert not any(tmp_path.iterdir())
