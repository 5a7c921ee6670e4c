import deepinv
import torch
from batteries import downsampling, inpainting, refuses

from dipa.declared import declared_size, image_size, numbers_like
from dipa.operators import single_pixel


def test_image_size_is_read_wherever_the_operator_keeps_it():
    nameless = deepinv.physics.Blur(filter=torch.ones(1, 1, 3, 3) / 9, padding="circular")
    for physics in (single_pixel((1, 16, 16), ratio=0.5), downsampling(16), inpainting(16)):
        assert declared_size(physics) == image_size(physics) == (1, 16, 16)
    assert declared_size(nameless) is declared_size(None) is None
    assert image_size(nameless, [1, 4, 8]) == (1, 4, 8)
    refuses(lambda: image_size(nameless), "img_size", "(C, H, W)")
    flat = inpainting(16)
    flat.img_size = (16, 16)
    assert declared_size(flat) is None, "not the size of an image (C, H, W)"


def test_numbers_are_those_of_the_first_tensor_that_has_a_fraction():
    module = torch.nn.Module()
    module.register_buffer("index", torch.arange(3))
    assert numbers_like(module).dtype == torch.get_default_dtype() and numbers_like(module).numel() == 0
    module.register_parameter("weight", torch.nn.Parameter(torch.zeros(2, dtype=torch.float64, device="meta")))
    like = numbers_like(module)
    assert (like.dtype, like.device.type, like.numel()) == (torch.float64, "meta", 0)
    assert numbers_like(single_pixel((1, 8, 8), ratio=0.5).double()).dtype == torch.float64
