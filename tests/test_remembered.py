import gc

import torch
from batteries import downsampling, images, inpainting

import dipa
from dipa import linalg
from dipa.physics import require_adjoint
from dipa.remembered import Remembered, kind_of


def test_remembering_keeps_nothing_alive_and_looks_at_uncounted_tensors():
    known, physics, x = Remembered(), inpainting(), images(1, 1, 8, 8)
    known.put(physics, "it", 5)
    assert known.get(physics, "it") == 5
    assert known.get(inpainting(), "it") is None and known.get(physics, "another") is None
    known.put(3, "it", 5)
    assert known.get(3, "it") is None
    del physics
    gc.collect()
    assert len(known._known) == 0
    with torch.inference_mode():
        frozen = inpainting()
    known.put(frozen, "it", 5)
    assert known.get(frozen, "it") == 5
    with torch.inference_mode():
        frozen.mask[0, 0, 0] += 1
    assert known.get(frozen, "it") is None
    require_adjoint("physics", frozen, x)


def test_a_module_is_forgotten_when_a_tensor_is_written_to_or_another():
    known, physics = Remembered(), inpainting()
    for change in (
        lambda: physics.mask.mul_(2),
        lambda: setattr(physics, "mask", physics.mask.flip(-1)),
        lambda: setattr(physics, "mask", physics.mask.double()),
        lambda: setattr(physics, "mask", physics.mask[:, :, 1:]),
    ):
        known.put(physics, "it", 5)
        change()
        assert known.get(physics, "it") is None


def test_tensors_of_the_same_numbers_are_the_same():
    """deepinv's Downsampling makes its filter's transform anew at every call."""
    known, physics = Remembered(), inpainting()
    known.put(physics, "it", 5)
    physics.mask = physics.mask.clone()
    assert known.get(physics, "it") == 5
    physics.mask.mul_(1)
    assert known.get(physics, "it") == 5
    sampling, x = downsampling(8), images(1, 1, 8, 8)
    known.put(sampling, "it", 6)
    sampling.A_adjoint(sampling.A(x))
    assert known.get(sampling, "it") == 6


def test_the_norm_is_computed_once(monkeypatch):
    counted, sampling = [], downsampling(8)
    monkeypatch.setattr(linalg, "squared_norm", lambda *a, **b: counted.append(1) or 1.0)
    for _ in range(3):
        dipa.physics.lipschitz(sampling)
        sampling.A_adjoint(sampling.A(images(1, 1, 8, 8)))
    assert len(counted) == 1


def test_images_are_told_apart_by_size_and_dtype_not_by_number_or_content():
    x = images(2, 1, 8, 8)
    assert kind_of(x) == kind_of(images(5, 1, 8, 8, seed=3))
    assert kind_of(x) != kind_of(x.double()) and kind_of(x) != kind_of(images(2, 1, 8, 7))
