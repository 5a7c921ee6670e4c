import gc

import torch
from batteries import images, inpainting

from dipa.physics import require_adjoint
from dipa.remembered import Remembered, kind_of


def test_remembering_keeps_nothing_alive_and_trusts_no_uncounted_tensor():
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
    assert known.get(frozen, "it") is None
    require_adjoint("physics", frozen, x)


def test_a_module_is_forgotten_when_a_tensor_is_written_to_or_another():
    known, physics = Remembered(), inpainting()
    for change in (
        lambda: physics.mask.mul_(1),
        lambda: setattr(physics, "mask", physics.mask.clone()),
    ):
        known.put(physics, "it", 5)
        change()
        assert known.get(physics, "it") is None


def test_images_are_told_apart_by_size_and_dtype_not_by_number_or_content():
    x = images(2, 1, 8, 8)
    assert kind_of(x) == kind_of(images(5, 1, 8, 8, seed=3))
    assert kind_of(x) != kind_of(x.double()) and kind_of(x) != kind_of(images(2, 1, 8, 7))
