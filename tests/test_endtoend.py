import itertools
import json

import deepinv
import pytest
import torch
from batteries import (
    downsampling,
    images,
    inpainting,
    matrix_physics,
    refuses,
    relative,
    rng,
    smooth_images,
)
from members import END_TO_END, UNEVEN

import dipa
from dipa import Budget, endtoend, linalg, storage
from dipa.operators import mri, single_pixel
from dipa.operators.measure import measure
from dipa.solvers import STARTS
from dipa.training import train_network

CONVOLUTIONS = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)


def network(name, img_size, *, shaken=False, seed=0, **size):
    """A small network; ``shaken`` moves every parameter, so that no layer is at its zero start."""
    net = endtoend.build(name, img_size, seed=seed, **(END_TO_END[name] | size))
    if shaken:
        for i, parameter in enumerate(net.parameters()):
            parameter.data += 0.1 * torch.randn(
                parameter.shape, generator=rng(i), dtype=parameter.dtype
            )
    return net.eval()


def pictures(count, img_size, dtype=torch.float32):
    channels, height, width = img_size
    planes = smooth_images(count * channels, max(height, width), dtype=dtype)[..., :height, :width]
    return planes.reshape(count, channels, height, width)


# --- every network, every operator ----------------------------------------------------------------


@pytest.mark.parametrize("name", END_TO_END)
@pytest.mark.parametrize("problem", UNEVEN)
def test_image_sizes_odd_and_even_and_every_image_alone(name, problem):
    physics = UNEVEN[problem]()
    x = pictures(3, physics.img_size)
    y, net = measure(physics, x), network(name, physics.img_size, shaken=True)
    x_hat = net(y, physics)
    assert x_hat.shape == x.shape and x_hat.dtype == x.dtype and torch.isfinite(x_hat).all()
    alone = torch.cat([net(one[None], physics) for one in y])
    assert relative(x_hat, alone) < 1e-4
    assert relative(net.train()(y, physics), x_hat) < 1e-5, "nothing depends on the mode"


@pytest.mark.parametrize("name", END_TO_END)
@pytest.mark.parametrize("problem", UNEVEN)
def test_a_few_steps_lower_the_loss(name, problem):
    physics = UNEVEN[problem]()
    net = network(name, physics.img_size)
    budget = Budget(steps=12, batch_size=4, learning_rate=1e-3, schedule="constant")
    fit = train_network(net, physics, pictures(4, physics.img_size), budget=budget, progress=False)
    history = [record["loss"] for record in fit.history]
    assert history[-1] < history[0] and fit.network is net and not net.training


@pytest.mark.parametrize("name", END_TO_END)
def test_one_network_runs_on_other_operators(name):
    """Trained weights meet another ratio and another kind of operator; the result is that
    operator's, not the first one's.
    """
    x = pictures(2, (1, 16, 16))
    net = network(name, (1, 16, 16), shaken=True)
    operators = [
        single_pixel((1, 16, 16), ratio=0.3),
        single_pixel((1, 16, 16), ratio=0.1),
        inpainting(16),
        downsampling(16),
    ]
    results = [net(physics.A(x), physics) for physics in operators]
    assert all(result.shape == x.shape for result in results)
    assert all(relative(a, b) > 1e-3 for a, b in itertools.combinations(results, 2))


@pytest.mark.parametrize("name", END_TO_END)
def test_gradients_reach_every_parameter_and_are_true(name):
    """In float64, along random directions of all parameters together, against finite
    differences.
    """
    physics = single_pixel((1, 8, 8), ratio=0.5).double()
    net = network(name, (1, 8, 8), shaken=True).double()
    x = pictures(2, (1, 8, 8), torch.float64)
    y, parameters = physics.A(x), list(net.parameters())

    def loss():
        return (net(y, physics) - x).square().sum()

    gradients = torch.autograd.grad(loss(), parameters)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    along = [
        torch.randn(p.shape, generator=rng(i), dtype=p.dtype) for i, p in enumerate(parameters)
    ]
    step, values = 1e-7, []
    for sign in (1, -2):
        for parameter, direction in zip(parameters, along, strict=True):
            parameter.data += sign * step * direction
        values.append(loss().item())
    slope = sum(
        torch.sum(gradient * direction).item()
        for gradient, direction in zip(gradients, along, strict=True)
    )
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4)


@pytest.mark.parametrize("name", END_TO_END)
def test_weights_come_from_the_seed_alone(name):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    a = network(name, (1, 16, 16)).state_dict()
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    b, c = (network(name, (1, 16, 16), seed=seed).state_dict() for seed in (0, 1))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)


@pytest.mark.parametrize("name", ["restormer", "u-net"])
@pytest.mark.parametrize("start", STARTS)
def test_untrained_direct_networks_give_their_start(name, start):
    physics, x = downsampling(16), pictures(2, (1, 16, 16))
    y = physics.A(x)
    assert torch.equal(
        network(name, (1, 16, 16), start=start)(y, physics), STARTS[start](y, physics)
    )


# --- FISTA-Net ------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", UNEVEN)
def test_hessian_step_is_the_dense_solve(problem):
    r"""(H^T H + lambda I)^-1 H^T (H z - y) against a dense factorisation, at the operator's own
    accuracy.
    """
    physics = UNEVEN[problem]().double()
    size, damping = tuple(physics.img_size), 0.05
    net = network("fista-net", size, regularization=damping).double()
    z, x = (torch.randn((2, *size), generator=rng(seed), dtype=torch.float64) for seed in (1, 2))
    y = measure(physics, x)
    H = linalg.dense(physics.A, size, dtype=torch.float64)
    hessian = H.T @ H + damping * torch.eye(H.shape[1], dtype=torch.float64)
    expected = torch.linalg.solve(hessian, H.T @ (physics.A(z) - y).flatten(1).T).T.reshape(z.shape)
    assert relative(net.direction(z, y, physics), expected) < 1e-3


def test_the_gradient_through_the_hessian_step_is_the_dense_one():
    """By CG on a dense matrix: d <w, direction(z)> / dz = H^T H (H^T H + lambda I)^-1 w."""
    matrix = torch.randn(20, 36, generator=rng(0), dtype=torch.float64)
    physics = matrix_physics(matrix, (1, 6, 6)).double()
    physics.max_iter, physics.tol = 500, 1e-12
    net = network("fista-net", (1, 6, 6), regularization=0.5).double()
    z, w = (torch.randn(3, 1, 6, 6, generator=rng(seed), dtype=torch.float64) for seed in (1, 2))
    y = torch.randn(3, 20, generator=rng(3), dtype=torch.float64)
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(torch.sum(w * net.direction(z, y, physics)), z)
    gram = matrix.T @ matrix
    expected = gram @ torch.linalg.solve(
        gram + 0.5 * torch.eye(36, dtype=torch.float64), w.flatten(1).T
    )
    assert relative(gradient.flatten(1), expected.T) < 1e-6


def test_fista_net_is_the_printed_recursion():
    """A projector, where the inverse Hessian is 1 / (1 + lambda): the untrained network by
    hand, momentum and all.
    """
    physics, x = single_pixel((1, 8, 8), ratio=0.4), pictures(2, (1, 8, 8))
    y, net = (
        physics.A(x),
        network("fista-net", (1, 8, 8), blocks=4, start="zero", regularization=0.25),
    )

    def softplus(value):
        return torch.log1p(torch.exp(torch.tensor(value)))

    x_k = z = torch.zeros_like(x)
    for k in range(4):
        x_next = z - softplus(0.1 - 0.2 * k) / 1.25 * physics.A_adjoint(physics.A(z) - y)
        z = x_next + (1 - softplus(0.0) / softplus(0.5 * k)) * (x_next - x_k)
        x_k = x_next
    assert relative(net(y, physics), x_k) < 1e-5


def test_every_layer_of_fista_net_has_its_own_numbers():
    """The recursion by hand with a block at work: stepsize, threshold and momentum of layer k
    are softplus of a line at k.
    """
    physics, x = single_pixel((1, 8, 8), ratio=0.4).double(), pictures(2, (1, 8, 8), torch.float64)
    net = network(
        "fista-net", (1, 8, 8), blocks=3, start="zero", regularization=0.25, shaken=True
    ).double()
    net.stepsize.data, net.threshold.data = (
        torch.tensor([0.7, -0.3]).double(),
        torch.tensor([-1.5, 0.2]).double(),
    )
    net.momentum.data, y = torch.tensor([0.9, 0.1]).double(), physics.A(x)

    def numbers(line):
        return [torch.log1p(torch.exp(line[0] * k + line[1])) for k in range(3)]

    steps, thresholds, momenta = (
        numbers(line) for line in (net.stepsize, net.threshold, net.momentum)
    )
    x_k = z = torch.zeros_like(x)
    for k in range(3):
        r = z - steps[k] / 1.25 * physics.A_adjoint(physics.A(z) - y)
        features = net.block.forth(net.block.enter(r))
        kept = torch.nn.functional.softshrink(features, thresholds[k].item())
        x_next = r + net.block.head(net.block.back(kept))
        z, x_k = x_next + (1 - momenta[0] / momenta[k]) * (x_next - x_k), x_next
    assert relative(net(y, physics), x_k) < 1e-6
    assert (
        min(
            abs(a - b)
            for numbers in (steps, thresholds, momenta)
            for a, b in itertools.pairwise(numbers)
        )
        > 0.1
    )


def test_fista_net_thresholds_its_features():
    """With a threshold above every feature the block adds its biases alone, whatever the image."""
    physics = single_pixel((1, 8, 8), ratio=0.4)
    net = network("fista-net", (1, 8, 8), shaken=True)
    a, b = pictures(2, (1, 8, 8)).split(1)
    assert relative(net.block(a, torch.tensor(0.0)), net.block(b, torch.tensor(0.0))) > 1e-3
    assert torch.equal(net.block(a, torch.tensor(1e6)), net.block(b, torch.tensor(1e6)))
    assert physics.A(net(physics.A(a), physics)).shape == physics.A(a).shape


def test_published_sizes():
    """FISTA-Net's 74,599 parameters; E2E-VarNet's 29.5 M in 12 cascades; Restormer's 26.1 M."""
    assert endtoend.build("fista-net", (1, 32, 32)).parameter_count == 74_599
    assert (
        round(endtoend.build("e2e-varnet", (2, 320, 320), blocks=12).parameter_count / 1e6, 1)
        == 29.5
    )
    grey = deepinv.models.Restormer(1, 1, pretrained=None)
    assert endtoend.build("restormer", (1, 32, 32)).parameter_count == sum(
        p.numel() for p in grey.parameters()
    )


# --- VarNet ---------------------------------------------------------------------------------------


def test_the_scales_of_the_unet_double_in_width():
    convolutions = [
        layer
        for layer in network("u-net", (1, 16, 16), features=4, blocks=3).modules()
        if isinstance(layer, CONVOLUTIONS)
    ]
    assert {layer.out_channels for layer in convolutions} == {1, 4, 8, 16}


def test_varnet_in_k_space():
    """The published recursion on k-space, with the network's own parts, for a masked unitary
    Fourier transform.
    """
    size = (2, 13, 18)
    physics = mri(size, acceleration=3, noise_sigma=0.05)
    fourier = deepinv.physics.MRI(img_size=size)
    net = network("e2e-varnet", size, shaken=True)
    y = measure(physics, pictures(2, size))
    k_space = y
    for step, part in zip(net.steps, net.networks, strict=True):
        k_space = (
            k_space
            - step * physics.mask * (k_space - y)
            + fourier.A(part(fourier.A_adjoint(k_space)))
        )
    assert relative(net(y, physics), fourier.A_adjoint(k_space)) < 1e-4


def test_varnet_cascades_are_not_shared():
    counts = [
        network("e2e-varnet", (2, 16, 16), blocks=blocks).parameter_count for blocks in (1, 2, 5)
    ]
    assert counts[1] == 2 * counts[0] and counts[2] == 5 * counts[0]
    net = network("e2e-varnet", (2, 16, 16), blocks=2)
    first, second = (dict(part.named_parameters()) for part in net.networks)
    assert not torch.equal(first["levels.down.0.weight"], second["levels.down.0.weight"])


def test_varnet_output_scales_with_its_input():
    """Its U-Nets see images of mean 0 and deviation 1: k-space a thousand times larger gives
    such an image.
    """
    physics = mri((2, 13, 18), acceleration=3)
    net, y = network("e2e-varnet", (2, 13, 18), shaken=True), physics.A(pictures(2, (2, 13, 18)))
    assert relative(net(1e3 * y, physics), 1e3 * net(y, physics)) < 1e-4


@pytest.mark.parametrize("side", [1, 2, 3, 5, 16, 17, 33])
def test_varnet_on_small_images(side):
    """As many halvings as leave two pixels; an imaginary part that is zero everywhere stays
    finite, its gradient too.
    """
    physics = deepinv.physics.Inpainting((2, side, 8), mask=(images(1, side, 8) > 0.3).float())
    x = pictures(2, (2, side, 8)) * torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    net = network("e2e-varnet", (2, side, 8), shaken=True)
    loss = net(physics.A(x), physics).square().sum()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


# --- files and doors ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", END_TO_END)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_files_give_back_the_network(name, dtype, tmp_path):
    physics = single_pixel((1, 16, 16), ratio=0.3).to(dtype)
    y = physics.A(pictures(2, (1, 16, 16), dtype))
    net = network(name, (1, 16, 16), shaken=True, start="adjoint").to(dtype)
    back, record = dipa.load(dipa.save(net, tmp_path / "net.safetensors", {"seed": 3}))
    assert (
        type(back) is type(net)
        and back.header() == net.header()
        and record == {"seed": 3}
        and not back.training
    )
    assert torch.equal(back(y, physics), net(y, physics))


def test_files_of_earlier_versions_load(tmp_path):
    """Until 0.3.0 every network was of one kind, its name and sizes one level down."""
    net = network("u-net", (1, 16, 16), shaken=True)
    header = {
        "kind": "end-to-end",
        "network": {"name": "u-net", **net.header()},
        "made_by": {"seed": 3},
    }
    path = storage.write_tensors(tmp_path / "net.safetensors", net.state_dict(), header)
    back, record = dipa.load(path)
    assert type(back) is type(net) and back.header() == net.header() and record == {"seed": 3}
    storage.write_tensors(path, net.state_dict(), header | {"network": {"name": "v-net"}})
    refuses(lambda: dipa.load(path), "net.safetensors", "'v-net'", "u-net")
    storage.write_tensors(path, net.state_dict(), header | {"network": 3})
    refuses(lambda: dipa.load(path), "net.safetensors", "'end-to-end'")


def test_files_that_are_refused(tmp_path):
    path = dipa.save(network("u-net", (1, 16, 16)), tmp_path / "net.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    refuses(lambda: dipa.load(path), "net.safetensors", "damaged")
    path.write_bytes(whole.replace(b'\\"features\\": 4', b'\\"features\\": 5'))
    refuses(lambda: dipa.load(path), "net.safetensors", "damaged")
    path.write_bytes(whole)
    tensors, record = storage.read_tensors(path)
    storage.write_tensors(path, tensors, record | {"features": 5})
    refuses(lambda: dipa.load(path), "net.safetensors", "(4,)", "(5,)", "as the header says")
    storage.write_tensors(path, tensors, record | {"kind": "endlessly!"})
    refuses(lambda: dipa.load(path), "net.safetensors", "endlessly!", "u-net")
    refuses(lambda: dipa.load(tmp_path / "none.safetensors"), "none.safetensors")
    refuses(lambda: dipa.save(torch.nn.Linear(2, 2), path), "trained", "Linear")


@pytest.mark.parametrize("name", END_TO_END)
def test_sizes_that_are_refused(name):
    for what, bad in itertools.product(("features", "blocks"), (0, 1.5, True)):
        refuses(
            lambda what=what, bad=bad: network(name, (1, 16, 16), **{what: bad}), what, repr(bad)
        )
    refuses(lambda: network(name, (16, 16)), "img_size")
    refuses(lambda: network(name, (1, 16, 0)), "img_size", "0")
    refuses(lambda: network(name, (1, 16, 16), start="adjunct"), "start", "adjunct", "adjoint")
    refuses(lambda: network(name, (1, 16, 16), feature=3), "network size", "'feature'", "features")


def test_names_and_special_sizes_that_are_refused():
    refuses(lambda: endtoend.build("varnet", (1, 16, 16)), "network", "'varnet'", "e2e-varnet")
    refuses(lambda: network("restormer", (1, 16, 16), features=5), "features", "5", "even")
    refuses(lambda: network("u-net", (1, 16, 16), blocks=1), "blocks", "1", "2 scales")
    for bad in (0, -1, float("nan"), "1"):
        refuses(
            lambda bad=bad: network("fista-net", (1, 16, 16), regularization=bad),
            "regularization",
            repr(bad),
        )


@pytest.mark.parametrize("name", END_TO_END)
def test_measurements_that_are_refused(name):
    physics, net = single_pixel((1, 16, 16), ratio=0.3), network(name, (1, 16, 16))
    refuses(lambda: net("y", physics), "y", "str")
    refuses(lambda: net(torch.full((1, 1, 16, 16), float("nan")), physics), "y", "finite")
    refuses(lambda: net(torch.rand(2, 7, 5, 3), physics), "y", "SinglePixel")
    refuses(
        lambda: net(torch.rand(2, 3, 8, 8), single_pixel((3, 8, 8), ratio=0.5)),
        "physics",
        "(3, 8, 8)",
        "1 channels",
    )


# --- training -------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def kill_at(step):
    def report(record):
        if record["step"] == step:
            raise Killed

    return report


def fit_small(name="u-net", *, seed=0, x=None, physics=None, net=None, **kwargs):
    budget = Budget(
        steps=7, batch_size=3, checkpoint_every=2, learning_rate=kwargs.pop("learning_rate", 1e-3)
    )
    physics = physics or single_pixel((1, 16, 16), ratio=0.3, noise_sigma=0.05)
    net = net or network(name, (1, 16, 16))
    x = pictures(5, (1, 16, 16)) if x is None else x
    return train_network(net, physics, x, budget=budget, seed=seed, progress=False, **kwargs)


@pytest.mark.parametrize("name", END_TO_END)
def test_a_killed_run_ends_in_the_same_tensors(name, tmp_path):
    path = tmp_path / "run.checkpoint"
    whole = fit_small(name)
    for step in (3, 6):
        with pytest.raises(Killed):
            fit_small(name, checkpoint=path, report=kill_at(step))
        torch.manual_seed(step)
    resumed = fit_small(name, checkpoint=path)
    pairs = zip(whole.network.parameters(), resumed.network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert resumed.history == whole.history and len(whole.history) == 7


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"learning_rate": 2e-3},
        {"x": pictures(4, (1, 16, 16))},
        {"physics": single_pixel((1, 16, 16), ratio=0.3, noise_sigma=0.06)},
        {"physics": single_pixel((1, 16, 16), ratio=0.2, noise_sigma=0.05)},
        {"net": network("u-net", (1, 16, 16), seed=1)},
        {"net": network("u-net", (1, 16, 16), start="adjoint")},
    ],
    ids=lambda change: "+".join(change),
)
def test_a_checkpoint_of_another_training_is_refused(change, tmp_path):
    path = tmp_path / "run.checkpoint"
    fit_small(checkpoint=path)
    refuses(lambda: fit_small(checkpoint=path, **change), "run.checkpoint", "a run with other")


def test_history_and_record():
    seen = []
    fit = fit_small(report=seen.append)
    assert seen == fit.history and [record["step"] for record in seen] == list(range(1, 8))
    assert set(seen[0]) == {"step", "loss", "supervised", "psnr", "learning_rate", "gradient_norm"}
    record = json.loads(json.dumps(fit.record))
    assert (
        record["network"] == {"name": fit.network.kind, **fit.network.header()}
        and record["images"] == 5
        and record["budget"]["steps"] == 7
    )


def test_a_trained_network_is_ready_to_be_used():
    fit = fit_small()
    assert not any(module.training for module in fit.network.modules())


@pytest.mark.parametrize("name", END_TO_END)
def test_noise_belongs_to_the_image_whatever_its_place_in_the_batch(name):
    """A step that sees every image: their order in the batch, which the seed decides, leaves
    the loss as it is.
    """
    physics, x = single_pixel((1, 16, 16), ratio=0.3, noise_sigma=0.5), pictures(5, (1, 16, 16))
    net, budget = network(name, (1, 16, 16), shaken=True), Budget(steps=1, batch_size=5)
    expected = (net(measure(physics, x, seed=2), physics) - x).square().sum((1, 2, 3)).mean().item()
    fit = train_network(net, physics, x, budget=budget, seed=2, progress=False)
    assert fit.history[0]["loss"] == pytest.approx(expected, rel=1e-4)


def test_the_first_loss_is_that_of_the_start():
    """An untrained U-Net gives the adjoint of the noisy measurements: ||H^T y - x||^2, averaged
    over the images.
    """
    physics, x = single_pixel((1, 16, 16), ratio=0.3, noise_sigma=0.05), pictures(3, (1, 16, 16))
    y = measure(physics, x, seed=4)
    expected = (physics.A_adjoint(y) - x).square().sum((1, 2, 3)).mean().item()
    fit = fit_small(
        net=network("u-net", (1, 16, 16), start="adjoint"), physics=physics, x=x, seed=4
    )
    assert fit.history[0]["loss"] == pytest.approx(expected, rel=1e-4)


class Scale(torch.nn.Module):
    """A network of anybody's: x = s H^T y."""

    def __init__(self, value=1.0, size=None):
        super().__init__()
        self.value, self.size = torch.nn.Parameter(torch.tensor(value)), size

    def forward(self, y, physics):
        return self.value * physics.A_adjoint(y)[..., : self.size, :]


def test_any_module_can_be_trained_and_what_does_not_fit_is_refused(tmp_path):
    """The best scale of a noiseless projector's adjoint is 1; training moves towards it."""
    physics, x = single_pixel((1, 16, 16), ratio=0.3), pictures(4, (1, 16, 16))
    fit = fit_small(net=Scale(0.9), physics=physics, x=x, learning_rate=0.01)
    assert 0.9 < fit.network.value.item() < 1 and fit.record["network"] == {"kind": "Scale"}
    refuses(lambda: fit_small(net=Scale(size=8)), "network", "(3, 1, 8, 16)", "(3, 1, 16, 16)")
    refuses(lambda: fit_small(net=Scale().requires_grad_(False)), "network", "Scale", "trainable")
    refuses(
        lambda: fit_small(x=pictures(4, (1, 8, 8))), "physics.img_size", "(1, 16, 16)", "(1, 8, 8)"
    )
    refuses(lambda: fit_small(x=x[0]), "images.shape")
    path = tmp_path / "run.checkpoint"
    refuses(
        lambda: fit_small(net=Scale(float("inf")), checkpoint=path),
        "training",
        "not finite at step 1",
    )
    refuses(
        lambda: fit_small(net=Scale(), learning_rate=3e37, checkpoint=path),
        "training",
        "not finite at step 2",
    )
    assert not path.exists()


# --- a mask for every image, other targets --------------------------------------------------------


class Scaled(torch.nn.Module):
    """A multiple of the adjoint."""

    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(1.3))

    def forward(self, y, physics):
        return self.factor * physics.A_adjoint(y)


def masked(count: int):
    masks = (pictures(count, (1, 8, 8)) > 0.5).float()
    return masks, deepinv.physics.Inpainting((1, 8, 8), mask=masks)


def first_loss(physics, x, **options) -> float:
    """Of a batch of some of the images, in the order that they are drawn."""
    budget = Budget(steps=1, batch_size=3)
    fit = dipa.train_network(Scaled(), physics, x, budget=budget, progress=False, **options)
    return fit.history[0]["loss"]


@pytest.mark.parametrize("targets", [None, pictures(5, (1, 8, 8)) ** 2])
def test_every_image_is_seen_by_its_own_mask_and_compared_with_its_target(targets):
    x = pictures(5, (1, 8, 8)).roll(1, dims=0)
    masks, physics = masked(5)
    index = dipa.seeding.batch_indices(5, 3, 0, 0)
    wanted = x if targets is None else targets
    expected = (1.3 * masks[index] * x[index] - wanted[index]).square().flatten(1).sum(dim=1).mean()
    assert first_loss(physics, x, targets=targets) == pytest.approx(expected.item(), rel=1e-5)


def test_targets_that_are_refused():
    (_, physics), x = masked(5), pictures(5, (1, 8, 8))
    refuses(lambda: first_loss(physics, x[:4]), "physics", "5")
    refuses(lambda: first_loss(physics, x, targets=x[:4]), "targets.shape", "(4, 1, 8, 8)")
    varied = dipa.Variations(flip=True)
    refuses(lambda: first_loss(physics, x, targets=x, variations=varied), "targets", "variations")
