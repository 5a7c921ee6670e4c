import json

import pytest
import torch
import torch.nn.functional as F
from batteries import (
    check_preconditioner,
    finite_difference,
    images,
    refuses,
    relative,
    rng,
    smooth_images,
    solver,
)
from torch import nn

import dipa
from dipa import networks
from dipa.networks import BACKBONES, CODES, sinusoidal
from dipa.networks.backbone import Head, Stem, pad_to_multiple
from dipa.networks.convnext import ConvNeXtBlock
from dipa.networks.depthwise import depthwise_conv
from dipa.networks.plain import SelfAttention
from dipa.networks.vit import TransformerLayer
from dipa.operators import single_pixel
from dipa.preconditioners import NeuralPreconditioner

SHAPE = (2, 8, 8)
TINY = {"features": 4, "blocks": 2, "code_dim": 6}
# PyTorch itself calls torch.jit.script, which it deprecates, at its first forward-mode derivative
forward_mode = pytest.mark.filterwarnings("ignore:`torch.jit.script:FutureWarning")


def neural(name: str = "convnext", **options) -> NeuralPreconditioner:
    return NeuralPreconditioner(name, **{"img_size": SHAPE, "start": "random", **TINY, **options})


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=rng(seed), dtype=dtype)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", BACKBONES)
def test_contract(name, code):
    check_preconditioner(neural(name, code=code), SHAPE)


# --- parameters -----------------------------------------------------------------------------------


def pair(inputs, middle, outputs):
    """InDI's two 3x3 convolutions without bias, each followed by a group norm."""
    return 9 * inputs * middle + 2 * middle + 9 * middle * outputs + 2 * outputs


def indi_unet(c, blocks, d):
    down = [(c, 2 * c), (2 * c, 4 * c), (4 * c, 4 * c)]
    up = [(8 * c, 2 * c), (4 * c, c), (2 * c, c)]
    total = pair(1, c, c) + c + 1
    total += sum(pair(i, i, i) + pair(i, o, o) + (d + 1) * o * (d > 0) for i, o in down)
    total += sum(pair(i, i, i) + pair(i, i // 2, o) + (d + 1) * o * (d > 0) for i, o in up)
    return (
        total
        + pair(4 * c, 8 * c, 8 * c)
        + blocks * pair(8 * c, 8 * c, 8 * c)
        + pair(8 * c, 4 * c, 4 * c)
    )


def unet(c, blocks, d):
    def two(inputs, outputs):
        return 9 * inputs * outputs + outputs + 9 * outputs**2 + outputs

    widths = [c * 2**level for level in range(blocks)]
    total = sum(two(i, o) for i, o in zip([1, *widths[:-1]], widths, strict=True)) + two(
        widths[-1], 2 * widths[-1]
    )
    total += sum(4 * 2 * w * w + w + two(w, w) for w in widths)
    return total + c + 1 + (d + 1) * 2 * widths[-1] * (d > 0)


COUNTS = {
    "convnext": lambda n, c, b, d: (
        10 * c
        + 9 * c
        + 1
        + b * (50 * c + 2 * c + 4 * c * c + 4 * c + 4 * c * c + c + 1 + (d + 1) * c * (d > 0))
    ),
    "mlp": lambda n, c, b, d: n * c + c + b * (c * c + c) + c * n + n + (d + 1) * c * (d > 0),
    "cnn": lambda n, c, b, d: (
        10 * c + b * (9 * c * c + c + 2 * c) + 9 * c + 1 + (d + 1) * c * (d > 0)
    ),
    "cnn_attention": lambda n, c, b, d: (
        10 * c + b * (2 * (c + 1) * (c // 8) + (c + 1) * c + 1) + 9 * c + 1 + (d + 1) * c * (d > 0)
    ),
    "unet": lambda n, c, b, d: unet(c, b, d),
    "multiscale": lambda n, c, b, d: (
        10 * c + b * (9 * c * c + c) + 4 * c + 1 + (d + 1) * c * (d > 0)
    ),
    "indi_unet": lambda n, c, b, d: indi_unet(c, b, d),
    "vit": lambda n, c, b, d: (
        17 * c
        + b * (4 * c * c + 4 * c + 64 * c * c + 33 * c + 4 * c)
        + 16 * c
        + 1
        + (d + 1) * c * (d > 0)
    ),
}


def test_published_counts():
    """858 758 and, with one network per channel, 1 717 516; a learned code adds its 256 numbers."""
    size = (1, 32, 32)
    assert NeuralPreconditioner("convnext", img_size=size).parameter_count == 858_758
    assert NeuralPreconditioner("convnext", img_size=(2, 50, 50)).parameter_count == 1_717_516
    assert (
        NeuralPreconditioner("convnext", img_size=size, code="learned").parameter_count
        == 858_758 + 256
    )
    assert (
        NeuralPreconditioner("convnext", img_size=size, code="none").parameter_count
        == 858_758 - 5 * 257 * 128
    )


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("features, blocks, d", [(8, 1, 0), (16, 2, 6)])
def test_counts_follow_from_the_widths(name, features, blocks, d):
    net = networks.build(name, img_size=(1, 6, 10), features=features, blocks=blocks, code_dim=d)
    assert count(net) == COUNTS[name](60, features, blocks, d)


def test_every_backbone_has_a_published_size():
    assert {*COUNTS} == {*BACKBONES} == {*networks.PUBLISHED_SIZES}


# --- start and randomness -------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", BACKBONES)
def test_identity_at_the_start_and_able_to_leave_it(name, precision):
    P = neural(name, start="identity", precision=precision, scaling="none")
    gradient = noise(3, *SHAPE)
    direction = P(gradient, gradient, 3)
    assert torch.equal(direction, gradient)
    (direction - 0.5 * gradient).square().sum().backward()
    assert all(net.head.weight.grad.norm() > 0 for net in P.networks)


def test_the_seed_decides_the_weights_and_the_global_generator_rests():
    state = torch.get_rng_state()
    first, again, other = (neural(code="learned", seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], again[key]) for key in first)
    changed = [key for key in first if not torch.equal(first[key], other[key])]
    assert {"code.weight", "networks.0.stem.weight", "networks.1.head.weight"} <= {*changed}
    assert not torch.equal(first["networks.0.stem.weight"], first["networks.1.stem.weight"])


# --- iteration codes ------------------------------------------------------------------------------


def test_sinusoidal_code_is_the_formula():
    k, d = 7, 256
    code = sinusoidal(k, d)
    frequency = [10000 ** (-2 * i / d) for i in range(d // 2)]
    expected = torch.tensor([[k * w for w in frequency]], dtype=torch.float64)
    assert torch.allclose(code, torch.cat([expected.sin(), expected.cos()], dim=1)[0], atol=1e-12)
    # sin 7: the raw k, the first frequency 1
    assert code[0].item() == pytest.approx(0.6569865987187891, abs=1e-12)
    # cos 7, after all sines
    assert code[128].item() == pytest.approx(0.7539022543433046, abs=1e-12)


def test_learned_code_is_w_k():
    code = networks.build_code("learned", 5)
    assert torch.allclose(code(6), 6 * code.weight) and count(code) == 5
    assert (
        networks.build_code("none", 5) is None and count(networks.build_code("sinusoidal", 6)) == 0
    )


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", BACKBONES)
def test_k_changes_the_output_unless_there_is_no_code(name, code):
    P, gradient = neural(name, code=code), noise(2, *SHAPE)
    assert torch.equal(P(gradient, gradient, 4), P(gradient, gradient, 4))
    assert torch.equal(P(gradient, gradient, 4), P(gradient, gradient, 5)) == (code == "none")
    assert P.traits.iteration_dependent == (code != "none") and not P.traits.linear


@pytest.mark.parametrize("code", CODES)
def test_a_direction_is_that_of_each_channels_network_told_the_code_of_k(code):
    """Sines, then cosines, of k times falling frequencies; or the learned vector times k; or
    nothing.
    """
    P, gradient = neural(code=code, scaling="none"), noise(3, *SHAPE)
    frequencies = torch.tensor([10000 ** (-i / 3) for i in range(3)], dtype=torch.float64)
    for k in (1, 2, 5):
        told = {
            "sinusoidal": torch.cat([(k * frequencies).sin(), (k * frequencies).cos()]).float(),
            "none": None,
        }
        told["learned"] = k * P.code.weight if code == "learned" else None
        expected = torch.cat(
            [net(gradient[:, c : c + 1], told[code]) for c, net in enumerate(P.networks)], dim=1
        )
        assert relative(P(gradient, torch.zeros_like(gradient), k), expected) < 1e-6


def test_the_two_networks_of_a_complex_image_start_apart():
    first, second = (net.state_dict() for net in neural().networks)
    assert all(
        not torch.equal(first[name], second[name]) for name in ("stem.weight", "head.weight")
    )


def test_unet_is_its_recursion():
    """Two levels: convolutions, the maximum over 2 x 2, the bottom with the code, and back up
    with the skips added.
    """
    net = networks.build(
        "unet", img_size=(1, 8, 8), features=4, blocks=2, code_dim=6, start="random"
    ).double()
    x, code = noise(2, 1, 8, 8, dtype=torch.float64), sinusoidal(3, 6)
    fine = net.down[0](x)
    coarse = net.down[1](F.max_pool2d(fine, 2))
    bottom = (
        net.bottom(F.max_pool2d(coarse, 2))
        + net.shift.linear(code * torch.sigmoid(code))[:, None, None]
    )
    up = net.up[1](net.grow[1](net.up[0](net.grow[0](bottom) + coarse)) + fine)
    assert torch.allclose(
        net(x, code), x + F.conv2d(up, net.head.weight, net.head.bias), atol=1e-12
    )


def test_gradient_reaches_the_learned_code():
    P = neural(code="learned").double()
    gradient, along = noise(2, *SHAPE, dtype=torch.float64), noise(6, seed=1, dtype=torch.float64)
    P(gradient, gradient, 3).square().sum().backward()
    start = P.code.weight.data.clone()

    def value(weight):
        P.code.weight.data = weight
        return P(gradient, gradient, 3).square().sum().item()

    assert (P.code.weight.grad @ along).item() == pytest.approx(
        finite_difference(value, start, along), rel=1e-6
    )


# --- derivatives ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKBONES)
def test_gradients_against_finite_differences(name):
    """In every parameter at once and in the input, along random directions, float64, an odd
    size.
    """
    net = networks.build(name, img_size=(1, 5, 7), start="random", **TINY).double()
    x, code = noise(2, 1, 5, 7, dtype=torch.float64), sinusoidal(2, TINY["code_dim"])
    parameters = [x, *net.parameters()]
    for gamma in (p for key, p in net.named_parameters() if key.endswith("gamma")):
        nn.init.constant_(gamma, 0.7)
    along = [noise(*p.shape, seed=seed, dtype=torch.float64) for seed, p in enumerate(parameters)]
    target, start = (
        noise(2, 1, 5, 7, seed=99, dtype=torch.float64),
        [p.detach().clone() for p in parameters],
    )

    def value(step):
        for p, p0, a in zip(parameters, start, along, strict=True):
            p.data = p0 + step * a
        return (net(x, code) * target).sum()

    wanted = finite_difference(
        lambda t: value(t).item(), torch.zeros((), dtype=torch.float64), torch.ones(())
    )
    x.requires_grad_()
    grads = torch.autograd.grad(value(0.0), parameters)
    got = sum((g * a).sum().item() for g, a in zip(grads, along, strict=True))
    assert got == pytest.approx(wanted, rel=1e-5)


def depthwise_arguments(dtype=torch.float64):
    maps = noise(3, 5, 6, 4, dtype=dtype).permute(0, 3, 1, 2)
    return tuple(
        t.requires_grad_()
        for t in (maps, noise(4, 1, 7, 7, seed=1, dtype=dtype), noise(4, seed=2, dtype=dtype))
    )


def test_depthwise_convolution_is_conv2d_with_its_gradients():
    x, weight, bias = depthwise_arguments()
    cotangent = noise(3, 4, 5, 6, seed=3, dtype=torch.float64)
    ours, truth = depthwise_conv(x, weight, bias), F.conv2d(x, weight, bias, padding=3, groups=4)
    assert torch.allclose(ours, truth)
    grads = (torch.autograd.grad(y, (x, weight, bias), cotangent) for y in (ours, truth))
    assert all(torch.allclose(a, b) for a, b in zip(*grads, strict=True))


@forward_mode
def test_depthwise_convolution_has_first_second_and_forward_derivatives():
    arguments = tuple(
        t[..., :3, :3].detach().clone().requires_grad_() if t.ndim == 4 else t
        for t in depthwise_arguments()
    )
    assert torch.autograd.gradcheck(
        depthwise_conv, arguments, check_forward_ad=True, check_batched_grad=True
    )
    assert torch.autograd.gradgradcheck(depthwise_conv, arguments)


@forward_mode
def test_forward_mode_jacobian_equals_reverse_mode():
    net = networks.build("convnext", img_size=(1, 4, 5), start="random", **TINY).double()
    code, x = sinusoidal(2, 6), noise(1, 1, 4, 5, dtype=torch.float64)
    forward, reverse = (
        jacobian(lambda z: net(z, code))(x) for jacobian in (torch.func.jacfwd, torch.func.jacrev)
    )
    assert relative(forward, reverse) < 1e-12


# --- the layers against plain definitions ---------------------------------------------------------


def test_convnext_block_is_its_formula():
    """Unfolded: scale and shift as separate steps, the pointwise layers as matrix products, the
    norm by hand.
    """
    block = ConvNeXtBlock(4, 6).double()
    nn.init.constant_(block.scale, 0.6)
    nn.init.normal_(block.norm.weight, generator=rng(4))
    x, code = noise(2, 4, 9, 8, dtype=torch.float64), sinusoidal(3, 6)
    mixed = F.conv2d(x, block.depthwise.weight, block.depthwise.bias, padding=3, groups=4).movedim(
        1, -1
    )
    centred = mixed - mixed.mean(-1, keepdim=True)
    normal = (
        centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * block.norm.weight
        + block.norm.bias
    )
    hidden = F.gelu(normal @ block.expand.weight.flatten(1).T + block.expand.bias)
    branch = (hidden @ block.reduce.weight.flatten(1).T + block.reduce.bias).movedim(-1, 1)
    shift = block.shift.linear.weight @ (code * torch.sigmoid(code)) + block.shift.linear.bias
    assert torch.allclose(block(x, code), x + 0.6 * branch + shift[:, None, None], atol=1e-12)


def test_stem_and_head_are_plain_convolutions():
    stem, head, x = Stem(4).double(), Head(4).double(), noise(2, 1, 5, 7, dtype=torch.float64)
    maps = stem(x)
    assert torch.allclose(maps, F.conv2d(x, stem.weight, stem.bias, padding=1))
    assert maps.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(head(maps), F.conv2d(maps, head.weight, head.bias, padding=1))


def test_convnext_sees_as_far_as_stated():
    """Receptive field 5 + 6 blocks: a pixel 2 + 3 blocks away still counts, the next one does
    not.
    """
    net = networks.build(
        "convnext", img_size=(1, 1, 31), features=8, blocks=2, code_dim=0, start="random"
    ).double()
    x = noise(1, 1, 1, 31, dtype=torch.float64).requires_grad_()
    (row,) = torch.autograd.grad(net(x)[0, 0, 0, 15], x)
    reach = row[0, 0, 0].nonzero()[:, 0] - 15
    assert (reach.min().item(), reach.max().item()) == (-8, 8)


def test_transformer_layer_is_the_one_of_pytorch():
    ours = TransformerLayer(8).double()
    theirs = nn.TransformerEncoderLayer(
        8, 4, dim_feedforward=256, dropout=0.0, batch_first=True
    ).double()
    attention = {
        "self_attn.in_proj_": ours.qkv,
        "self_attn.out_proj.": ours.out,
        "norm1.": ours.attention_norm,
    }
    others = {"linear1.": ours.expand, "linear2.": ours.reduce, "norm2.": ours.norm}
    weights = {
        f"{key}{kind}": getattr(layer, kind)
        for key, layer in (attention | others).items()
        for kind in ("weight", "bias")
    }
    theirs.load_state_dict(weights)
    tokens = noise(2, 5, 8, dtype=torch.float64)
    assert torch.allclose(ours(tokens), theirs(tokens), atol=1e-12)


def test_self_attention_position_by_position():
    layer, x = SelfAttention(8).double(), noise(1, 8, 2, 3, dtype=torch.float64)
    nn.init.constant_(layer.gamma, 0.5)
    query, key, value = (part(x)[0].flatten(1) for part in (layer.query, layer.key, layer.value))
    out = torch.empty(8, 6, dtype=torch.float64)
    for i in range(6):
        weights = torch.stack([(query[:, i] * key[:, j]).sum() for j in range(6)]).exp()
        out[:, i] = (value * weights / weights.sum()).sum(1)
    assert torch.allclose(layer(x), x + 0.5 * out.reshape(1, 8, 2, 3), atol=1e-12)


def test_padding_repeats_the_border():
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert torch.equal(pad_to_multiple(x, 4)[0, 0, :, 3], torch.tensor([2.0, 5.0, 5.0, 5.0]))
    assert torch.equal(pad_to_multiple(x, 1), x)


# --- sizes, channels, precision -------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (7, 13), (11, 8)])
@pytest.mark.parametrize("name", BACKBONES)
def test_any_size(name, size):
    net, x = networks.build(name, img_size=(1, *size), start="random", **TINY), noise(2, 1, *size)
    y = net(x, sinusoidal(1, 6).float())
    assert y.shape == x.shape and y.dtype == x.dtype and torch.isfinite(y).all()
    assert relative(y, x) > 1e-3


def test_each_channel_has_its_own_network_and_one_network_serves_all_channels():
    P, gradient = neural(), noise(2, *SHAPE)
    changed = gradient.clone()
    changed[:, 1] += 1
    before, after = P(gradient, gradient, 2), P(changed, changed, 2)
    assert torch.equal(before[:, 0], after[:, 0]) and not torch.equal(before[:, 1], after[:, 1])
    swapped = P(gradient.flip(1), gradient, 2).flip(1)
    assert relative(swapped, before) > 1e-3
    shared = neural(img_size=(1, 8, 8))
    apart = torch.cat([shared(gradient[:, c : c + 1], gradient, 2) for c in range(2)], dim=1)
    assert relative(shared(gradient, gradient, 2), apart) < 1e-5


@pytest.mark.parametrize("name", BACKBONES)
def test_bf16_is_close_to_float32(name):
    options = {"features": 8, "scaling": "none"}
    exact, rounded = neural(name, **options), neural(name, **options, precision="bf16")
    rounded.load_state_dict(exact.state_dict())
    gradient = noise(2, *SHAPE)
    results = []
    for P in (exact, rounded):
        direction = P(gradient, gradient, 3)
        direction.square().mean().backward()
        assert direction.dtype == torch.float32
        results.append((direction, torch.cat([p.grad.flatten() for p in P.parameters()])))
    (exact_direction, exact_grad), (direction, grad) = results
    assert 0 < relative(direction - gradient, exact_direction - gradient) < 0.03
    assert relative(grad, exact_grad) < 0.05


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", BACKBONES)
def test_saved_and_loaded(name, code, tmp_path):
    P = neural(name, code=code, seed=5)
    assert json.loads(json.dumps(P.header())) == P.header()
    loaded, record = dipa.load(dipa.save(P, tmp_path / "p.safetensors", {"steps": 3}))
    gradient = noise(2, *SHAPE)
    assert torch.equal(loaded(gradient, gradient, 4), P(gradient, gradient, 4))
    assert record == {"steps": 3} and loaded.header() == P.header() and loaded.traits == P.traits


def test_a_file_of_another_size_is_refused(tmp_path):
    P = neural()
    header = {"kind": "neural", **P.header(), "made_by": {}}
    path = tmp_path / "p.safetensors"
    for wrong in (
        {"features": 8},
        {"name": "conv"},
        {"img_size": [1, 8, 8]},
        {"code": "learned"},
        {"seed": "x"},
    ):
        dipa.storage.write_tensors(path, P.state_dict(), header | wrong)
        refuses(lambda: dipa.load(path), "p.safetensors", "neural")


# --- refusals -------------------------------------------------------------------------------------


def test_refusals():
    refuses(lambda: neural("convnet"), "backbone", "convnext")
    refuses(lambda: neural(code="sinusoid"), "code", "sinusoidal")
    refuses(lambda: neural(precision="fp16"), "precision", "bf16")
    refuses(lambda: neural(start="zero"), "start", "identity")
    refuses(lambda: neural(code_dim=7), "code_dim", "7", "even")
    refuses(lambda: neural(features=0), "features", "0")
    refuses(lambda: neural(blocks=0), "blocks", "0")
    refuses(lambda: neural(img_size=(8, 8)), "img_size", "(C, H, W)")
    refuses(lambda: neural(img_size=(1, 8, 0)), "img_size", "0")
    refuses(lambda: neural("vit", features=6), "features", "6", "multiple of 4")
    refuses(lambda: neural(seed=-1), "seed", "-1")


def test_refusals_of_a_call():
    P, gradient = neural(), noise(2, *SHAPE)
    refuses(lambda: P(gradient[:, :1], gradient, 1), "gradient.shape", "(2, 1, 8, 8)")
    refuses(lambda: P(gradient, gradient, 0), "k", "0")
    net, code = P.networks[0], sinusoidal(1, 6).float()
    refuses(lambda: net(gradient, code), "x.shape", "(B, 1, H, W)")
    refuses(lambda: net(gradient[:, :1]), "code.shape", "(6,)")
    refuses(lambda: net(gradient[:, :1], code[:4]), "code.shape", "(4,)")


# --- in use ---------------------------------------------------------------------------------------


def test_distilled_for_a_few_steps():
    """Training from the identity lowers the supervised loss of the student on its own images."""
    P = NeuralPreconditioner(
        "convnext", img_size=(1, 8, 8), features=8, blocks=1, code_dim=16, precision="bf16"
    )
    student, x = single_pixel((1, 8, 8), ratio=0.3), smooth_images(8)
    budget = dipa.Budget(steps=12, batch_size=8, learning_rate=5e-3, schedule="constant")
    fit = dipa.distill(
        solver(),
        P,
        student,
        None,
        x,
        losses=dipa.LossWeights(supervised=1.0),
        budget=budget,
        progress=False,
        validation=0,
    )
    assert fit.history[-1]["loss"] < 0.8 * fit.history[0]["loss"]


def test_iterate_is_not_used():
    P, gradient = neural(), noise(2, *SHAPE)
    assert torch.equal(P(gradient, images(2, *SHAPE), 1), P(gradient, images(2, *SHAPE, seed=1), 1))
