"""Runs redone by hand from their configuration, in plain torch, and compared with what
``experiments.run`` made.

By hand: which images, the seeds of order and noise, the solver's recursion, the losses, clip,
optimiser and schedule, the teacher, the metrics, the audit. From the package: operators, images and
denoiser by name, first weights, closed form.
"""

import hashlib
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from dipa import data, denoisers, endtoend, experiments, storage
from dipa.operators import mri_pair, single_pixel, super_resolution
from dipa.preconditioners import LinearPreconditioner, NeuralPreconditioner, PointwiseSteps

COMMON = {
    "task.noise_sigma": 0.02,
    "data.name": "embedded",
    "data.train_count": 6,
    "data.test_count": 9,
    "solver.denoiser": "dncnn-bsds500",
    "solver.precision": "float32",
    "training.steps": 6,
    "training.batch_size": 4,
    "training.learning_rate": 1e-2,
    "seed": 3,
}
SINGLE_PIXEL = COMMON | {
    "method": "l-dipa",
    "task.kind": "single_pixel",
    "task.size": 8,
    "task.ratio": 0.3,
    "task.teacher_ratio": 0.8,
    "task.ordering": "zig_zag",
    "data.ridge_count": 20,
    "data.test_count": 67,  # two batches, of 64 and 3
    "solver.iterations": 3,
    "solver.stepsize": 0.45,
    "solver.teacher_stepsize": 0.65,
    "preconditioner.null_weight": 0.6,
    "preconditioner.regularization": 0.02,
    "losses.supervised": 1.0,
    "losses.imitation": 0.7,
    "losses.gradient": 2.0,
    "losses.convergence": 0.3,
    "losses.row_space": 1.5,
    "losses.data_fidelity": 0.4,
    "training.schedule": "plateau",
    "training.window": 2,
    "training.patience": 0,
    "training.factor": 0.25,
    "training.clip": 0.5,
    "shifts": {
        "noisier": {"task": {"noise_sigma": 0.1}},
        "longer": {"solver": {"iterations": 5, "momentum": "none"}},
    },
}
MRI = COMMON | {
    "method": "n-dipa",
    "task.kind": "mri",
    "task.size": 12,
    "task.acceleration": 4.0,
    "task.teacher_acceleration": 2.0,
    "task.mask_seed": 3,
    "task.nested": False,
    "data.name": "embedded-mri",
    "solver.iterations": 4,
    "solver.momentum": "deepinv",
    "solver.start": "adjoint",
    "solver.restart": 2,
    "network.features": 8,
    "network.blocks": 1,
    "network.code_dim": 8,
    "network.start": "random",
    "losses.supervised": 1.0,
    "losses.imitation": 0.5,
    "losses.gradient": 3.0,
    "training.optimizer": "adamw",
    "training.weight_decay": 0.3,
    "training.schedule": "cosine",
}
SUPER_RESOLUTION = COMMON | {
    "method": "pointwise",
    "task.kind": "super_resolution",
    "task.size": 12,
    "task.factor": 3,
    "task.teacher_factor": 2,
    "solver.iterations": 3,
    "solver.momentum": "none",
    "solver.prior": "red",
    "solver.red_weight": 0.3,
    "solver.stepsize": "1/L",
    "solver.teacher_stepsize": 0.9,
    "losses.imitation": 1.0,
    "losses.data_fidelity": 2.0,
    "training.schedule": "constant",
    "training.clip": 0.0,
}
END_TO_END = SINGLE_PIXEL | {
    "method": "fista-net",
    "network.features": 8,
    "network.blocks": 3,
    "solver.start": "adjoint",
}
END_TO_END |= {"data.test_count": 9, "shifts": {}}
CONFIGURATIONS = {
    "single pixel": SINGLE_PIXEL,
    "MRI": MRI,
    "super-resolution": SUPER_RESOLUTION,
    "end to end": END_TO_END,
}


# --- the pieces -----------------------------------------------------------------------------------


def seeded(*stream) -> torch.Generator:
    """A generator from the first eight bytes of the SHA-256 of seed and names, halved."""
    text = "/".join(map(str, stream))
    return torch.Generator().manual_seed(
        int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) // 2
    )


def batch(step: int, count: int, size: int, seed: int) -> torch.Tensor:
    """The images of a step: epochs one after the other, each in an order of its own."""
    epochs = [
        torch.randperm(count, generator=seeded(seed, "epoch", epoch))
        for epoch in range(1 + (step + 1) * size // count)
    ]
    return torch.cat(epochs)[step * size : (step + 1) * size]


def pair(config):
    task, size = config.task, config.task.size
    if task.kind == "mri":
        rates = {
            "acceleration": task.acceleration,
            "teacher_acceleration": task.teacher_acceleration,
        }
        return mri_pair((2, size, size), **rates, mask_seed=task.mask_seed, nested=task.nested)
    if task.kind == "super_resolution":
        return tuple(
            super_resolution((1, size, size), factor=factor)
            for factor in (task.factor, task.teacher_factor)
        )
    return tuple(
        single_pixel((1, size, size), ratio=ratio, ordering=task.ordering)
        for ratio in (task.ratio, task.teacher_ratio)
    )


def measured(config, physics, images, indices, stream) -> torch.Tensor:
    """H x and noise that depends on the seed, what it is for, and the image's number; none
    where nothing is measured.
    """
    clean = physics.A(images)
    noise = [
        torch.randn((1, *clean.shape[1:]), generator=seeded(config.seed, stream, int(i)))
        for i in indices
    ]
    return getattr(physics, "mask", 1) * (clean + torch.cat(noise) * config.task.noise_sigma)


def weights(rule: str, restart: int, count: int) -> list[float]:
    """The momentum after each iteration, 0 where it starts again."""
    t = [1.0, 1.0]
    for _ in range(count):
        t.append((1 + math.sqrt(1 + 4 * t[-1] ** 2)) / 2)
    rules = {
        "none": lambda k: 0.0,
        "nesterov": lambda k: (t[k] - 1) / t[k + 1],
        "deepinv": lambda k: (k + 1) / (k + 2),
    }
    within = [(k - 1) % restart + 1 if restart else k for k in range(1, count + 1)]
    return [0.0 if restart and k == restart else rules[rule](k) for k in within]


def solved(config, physics, y, stepsize, P=None, iterations=None) -> list[torch.Tensor]:
    """Every iterate of preconditioned FISTA from its start."""
    told, denoiser = config.solver, denoisers.load(config.solver.denoiser)
    alpha = 1 / physics.norm_sq if stepsize == "1/L" else stepsize
    x = z = (
        physics.A_adjoint(y) if told.start == "adjoint" else torch.zeros_like(physics.A_adjoint(y))
    )
    made, count = [x], iterations or told.iterations
    for k, beta in enumerate(weights(told.momentum, told.restart, count), start=1):
        gradient = physics.A_adjoint(physics.A(z) - y)
        direction = gradient if P is None else P(gradient, k)
        point = z - alpha * direction if told.prior == "pnp" else z
        planes = denoiser(point.reshape(-1, 1, *point.shape[2:]), None).reshape(point.shape)
        following = (
            planes
            if told.prior == "pnp"
            else z - alpha * (direction + told.red_weight * (z - planes))
        )
        z, x = following + beta * (following - x), following
        made.append(x)
    return made


def code(k: int, dim: int) -> torch.Tensor:
    """Sines and cosines of k at falling frequencies."""
    angles = k * 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    return torch.cat([torch.sin(angles), torch.cos(angles)]).float()


def method(config, student, closed_form):
    """The untrained module of a method, and how it is applied to a gradient at iteration k."""
    told, net, size = config.preconditioner, config.network, (1, config.task.size, config.task.size)
    if config.method == "l-dipa":
        options = {"regularization": told.regularization, "null_weight": told.null_weight}
        module = LinearPreconditioner.ridge(
            student, closed_form, stepsize=config.solver.stepsize, **options
        )
        return module, lambda g, k: (module.basis.coordinates(g) @ module.matrix.T).reshape(g.shape)
    if config.method == "pointwise":
        module = PointwiseSteps(config.solver.iterations, size)
        return module, lambda g, k: module.steps[min(k, config.solver.iterations) - 1] * g
    sizes = {"features": net.features, "blocks": net.blocks}
    if config.method == "fista-net":
        return endtoend.build(
            "fista-net", size, **sizes, start=config.solver.start, seed=config.seed
        ), None
    options = {"code": net.code, "code_dim": net.code_dim, "start": net.start, "seed": config.seed}
    module = NeuralPreconditioner(net.backbone, img_size=(2, *size[1:]), **sizes, **options)

    def direction(g, k):
        return torch.cat(
            [of(g[:, c : c + 1], code(k, net.code_dim)) for c, of in enumerate(module.networks)],
            dim=1,
        )

    return module, direction


# --- training -------------------------------------------------------------------------------------


def squares(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1).square().sum(dim=1)


def terms(
    config, P, student, teacher, x_hat, x, y, x_teacher, g_teacher
) -> dict[str, torch.Tensor]:
    """Every loss of the configuration, image by image; P is taken at the last iteration."""
    K = config.solver.iterations
    found = {"supervised": squares(x_hat - x), "imitation": squares(x_hat - x_teacher)}
    found["data_fidelity"] = 0.5 * squares(student.A(x_hat) - y)
    if config.losses.gradient or config.losses.row_space:
        direction = P(student.A_adjoint(student.A(x_hat) - y), K)
        a, b = direction.flatten(1), g_teacher.flatten(1)
        found["gradient"] = (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).square()
        found["row_space"] = squares(direction - student.A_adjoint(student.A(direction))) / squares(
            direction
        )
    if config.losses.convergence:
        update = P(student.A_adjoint(student.A(x)), K)
        found["convergence"] = squares(update - teacher.A_adjoint(teacher.A(x)))
    return {name: term for name, term in found.items() if name in config.losses.active()}


def optimiser(config, module):
    told, parameters = config.training, list(module.parameters())
    if told.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=told.learning_rate, weight_decay=told.weight_decay)
    return torch.optim.Adam(parameters, lr=told.learning_rate, weight_decay=told.weight_decay)


class Schedule:
    """The rate of the next step, from the losses so far."""

    def __init__(self, config):
        self.told, self.rate, self.losses = config.training, config.training.learning_rate, []
        self.best, self.bad = math.inf, 0

    def after(self, loss: float) -> float:
        told = self.told
        self.losses.append(loss)
        step = len(self.losses)
        if told.schedule == "cosine":
            return told.learning_rate * (1 + math.cos(math.pi * step / told.steps)) / 2
        if told.schedule == "plateau" and step % told.window == 0:
            self._look(sum(self.losses[-told.window :]) / told.window)
        return self.rate

    def _look(self, mean: float) -> None:
        better = mean < self.best * (1 - 1e-4)
        self.best, self.bad = (mean, 0) if better else (self.best, self.bad + 1)
        if self.bad > self.told.patience:
            self.rate, self.bad = self.rate * self.told.factor, 0


def train(config, module, objective, count: int) -> list[dict]:
    """Steps on batches, clipped: loss and terms, rate and gradient norm of each."""
    told, steps, schedule = config.training, optimiser(config, module), Schedule(config)
    history = []
    for step in range(told.steps):
        found = objective(batch(step, count, told.batch_size, config.seed))
        means = {name: term.mean() for name, term in found.items()}
        loss = sum(getattr(config.losses, name) * mean for name, mean in means.items())
        steps.zero_grad()
        loss.backward()
        norm = torch.stack([p.grad.norm() for p in module.parameters()]).norm()
        for parameter in module.parameters():
            parameter.grad.mul_((told.clip / (norm + 1e-6)).clamp(max=1.0) if told.clip else 1.0)
        history.append(
            {
                "loss": loss.item(),
                "learning_rate": steps.param_groups[0]["lr"],
                "gradient_norm": norm.item(),
            }
        )
        history[-1] |= {name: mean.item() for name, mean in means.items()}
        steps.step()
        steps.param_groups[0]["lr"] = schedule.after(loss.item())
    return history


def distilled(config, module, P, student, teacher, images) -> list[dict]:
    count, told = len(images), config.solver
    with torch.no_grad():
        y_teacher = measured(config, teacher, images, range(count), "teacher noise")
        x_teacher = solved(config, teacher, y_teacher, told.teacher_stepsize)[-1]
        g_teacher = teacher.A_adjoint(teacher.A(x_teacher) - y_teacher)

    def objective(index):
        x, y = images[index], measured(config, student, images[index], index, "noise")
        x_hat = solved(config, student, y, told.stepsize, P)[-1]
        return terms(config, P, student, teacher, x_hat, x, y, x_teacher[index], g_teacher[index])

    return train(config, module, objective, count)


def fitted(config, network, student, images) -> list[dict]:
    def objective(index):
        y = measured(config, student, images[index], index, "noise")
        return {"supervised": squares(network(y, student) - images[index])}

    return train(config, network, objective, len(images))


# --- the comparison -------------------------------------------------------------------------------


class Hand:
    """A configuration done by hand: what was trained, and how."""

    def __init__(self, config):
        self.config, (self.student, self.teacher) = config, pair(config)
        told, channels = config.data, 2 if config.task.kind == "mri" else 1
        options = {"size": config.task.size, "channels": channels}
        self.images = data.load(
            told.name, "train", count=max(told.train_count, told.ridge_count), **options
        ).images
        self.test = data.load(told.name, "test", count=told.test_count, **options).images
        self.module, self.P = method(config, self.student, self.images[: told.ridge_count])
        images = self.images[: told.train_count]
        if self.P is None:
            self.history = fitted(config, self.module, self.student, images)
        else:
            self.history = distilled(
                config, self.module, self.P, self.student, self.teacher, images
            )

    @torch.no_grad()
    def iterates(
        self, role: str, count=None, config=None, student=None, iterations=None
    ) -> tuple[torch.Tensor, ...]:
        """Measurements of the first test images, and every iterate of a role on them."""
        config, student = config or self.config, student or self.student
        physics = self.teacher if role == "teacher" else student
        x, told = self.test[:count], config.solver
        y = measured(config, physics, x, range(len(x)), "test noise")
        if role == "student" and self.P is None:
            return y, torch.stack([self.module(y, physics)])
        stepsize, P = (
            told.teacher_stepsize if role == "teacher" else told.stepsize,
            self.P if role == "student" else None,
        )
        # as many at once as a run tests: convolutions of other batches differ in the last digit
        halves = y.split(64)
        return y, torch.cat(
            [
                torch.stack(solved(config, physics, part, stepsize, P, iterations))
                for part in halves
            ],
            dim=1,
        )


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def both(request, tmp_path_factory):
    """A run of the package and the same by hand."""
    overrides = {"data.ridge_count": 6} | CONFIGURATIONS[request.param]
    config = experiments.resolve(
        "baseline", "smoke", overrides={k: v for k, v in overrides.items() if k != "seed"}, seed=3
    )
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("DIPA_CACHE", str(tmp_path_factory.mktemp("cache")))
        run = experiments.run(config, tmp_path_factory.mktemp("runs"), progress=False)
    return run, Hand(config)


def test_every_step_is_the_one_by_hand(both):
    run, hand = both
    assert len(run.history) == len(hand.history) == run.config.training.steps
    for made, wanted in zip(run.history, hand.history, strict=True):
        rate = wanted.pop("learning_rate")
        assert made["learning_rate"] == pytest.approx(rate, rel=1e-12)
        assert {name: made[name] for name in wanted} == wanted


def test_what_was_trained_is_the_same_to_the_bit(both):
    run, hand = both
    trained = run.network() if hand.P is None else run.preconditioner()
    ours = dict(hand.module.named_parameters())
    assert [name for name, p in trained.named_parameters() if not torch.equal(p, ours[name])] == []
    assert run.manifest["counts"]["parameters"] == sum(p.numel() for p in ours.values())


def psnr(x: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Of each image."""
    return -10 * (x - truth).square().flatten(1).mean(dim=1).log10()


def norms(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1).norm(dim=1)


def ssim(x: torch.Tensor, truth: torch.Tensor) -> float:
    """Wang's structural similarity for data of range 1: Gaussian windows of 11 pixels, borders
    mirrored.
    """
    a, b = x.double().flatten(0, 1).numpy(), truth.double().flatten(0, 1).numpy()

    def mean(images):
        return gaussian_filter(images, (0, 1.5, 1.5), mode="mirror", truncate=3.5)

    of_a, of_b = mean(a), mean(b)
    spread, shared = mean(a * a) - of_a**2 + mean(b * b) - of_b**2, mean(a * b) - of_a * of_b
    c, d = 0.01**2, 0.03**2
    return float(
        np.mean((2 * of_a * of_b + c) * (2 * shared + d) / ((of_a**2 + of_b**2 + c) * (spread + d)))
    )


@pytest.mark.parametrize("role", ["baseline", "student", "teacher"])
def test_tested_images_and_their_numbers_are_those_by_hand(both, role):
    run, hand = both
    y, iterates = hand.iterates(role)
    x, truth, found = iterates[-1], hand.test, run.metrics[role]
    shown = run.examples[role]
    assert np.array_equal(run.examples["truth"], truth[: len(shown)].numpy())
    assert np.array_equal(shown, x[: len(shown)].numpy()) and len(shown) == min(8, len(truth))
    values = psnr(x, truth)
    assert found["psnr"] == pytest.approx(values.mean().item(), abs=5e-4)
    assert found["psnr_sd_images"] == pytest.approx(values.std().item(), abs=5e-4)
    parts = zip(x.split(64), truth.split(64), strict=True)  # batches as long as those of the test
    pooled = sum(len(a) * psnr(a.reshape(1, -1), b.reshape(1, -1)).item() for a, b in parts) / len(
        x
    )
    assert found["psnr_batch_mse"] == pytest.approx(pooled, abs=5e-4)
    if x.shape[1] == 2:
        moduli = (
            torch.view_as_complex(images.movedim(1, -1).contiguous()).abs()[:, None]
            for images in (x, truth)
        )
        assert found["psnr_magnitude"] == pytest.approx(psnr(*moduli).mean().item(), abs=5e-4)
    assert found["ssim"] == pytest.approx(ssim(x, truth), abs=1e-4)
    assert found["status"] == "completed"
    physics = hand.teacher if role == "teacher" else hand.student
    assert found["audit"] == pytest.approx(audited(x, truth, y, physics), rel=1e-4)


def audited(x, truth, y, physics) -> dict[str, float]:
    """The residual, and the error inside and outside the range, by the pseudo-inverse: the
    projector on the range is H^+ H.
    """
    error = x - truth
    seen = physics.A_dagger(physics.A(error))
    shares = {
        "residual": norms(physics.A(x) - y) / norms(y),
        "error_range": norms(seen) / norms(truth),
    }
    shares["error_null"] = norms(error - seen) / norms(truth)
    return {name: share.mean().item() for name, share in shares.items()}


@pytest.mark.parametrize("role", ["baseline", "student", "teacher"])
def test_curves_are_those_of_the_iterates(both, role):
    run, hand = both
    curve = run.metrics[role]["curve"]
    if role == "student" and hand.P is None:
        assert curve == {} and "student_iterates" not in run.examples
        return
    y, iterates = hand.iterates(role)
    physics, truth = hand.teacher if role == "teacher" else hand.student, hand.test
    assert {len(values) for values in curve.values()} == {run.config.solver.iterations + 1}
    assert curve["psnr"] == pytest.approx(
        [psnr(x, truth).mean().item() for x in iterates], abs=5e-4
    )
    residual = [(norms(physics.A(x) - y) / norms(y)).mean().item() for x in iterates]
    assert curve["residual"] == pytest.approx(residual, abs=2e-6)
    assert curve["change"] == pytest.approx(mean_changes(iterates), abs=2e-6)
    kept = run.examples[f"{role}_iterates"]
    assert np.array_equal(kept, iterates[:, :1].numpy().astype("float16"))


def mean_changes(iterates: torch.Tensor) -> list[float]:
    """Relative changes of whole batches of 64, averaged by their sizes; 0 at the start."""
    parts = iterates.split(64, dim=1)
    changes = [
        [0.0, *(((b - a).norm() / b.norm()).item() for a, b in zip(part, part[1:], strict=False))]
        for part in parts
    ]
    sizes = [part.shape[1] for part in parts]
    return [
        sum(size * change[k] for size, change in zip(sizes, changes, strict=True)) / sum(sizes)
        for k in range(len(iterates))
    ]


def test_the_falsification_test_runs_three_times_as_long_at_the_students_stepsize(both):
    run, hand = both
    found = run.metrics["student"].get("falsification")
    assert (found is None) == (hand.P is None)
    if found is None:
        return
    count, length = min(8, len(hand.test)), 3 * run.config.solver.iterations
    assert (found["images"], found["iterations"]) == (count, length)
    truth, physics = hand.test[:count], hand.student
    y, iterates = hand.iterates("student", count, iterations=length)
    assert found["residuals"] == pytest.approx(
        [(norms(physics.A(x) - y) / norms(y)).mean().item() for x in iterates], rel=1e-4
    )
    assert {
        name: found[name] for name in ("residual", "error_range", "error_null")
    } == pytest.approx(audited(iterates[-1], truth, y, physics), rel=1e-4)
    _, plain = hand.iterates("baseline", count, iterations=length)
    assert found["baseline"] == pytest.approx(audited(plain[-1], truth, y, physics), rel=1e-4)
    assert found["truth_residual"] == pytest.approx(
        (norms(physics.A(truth) - y) / norms(y)).mean().item(), rel=1e-4
    )


def test_shifts_are_the_changed_task_or_solver_on_the_same_images(both):
    run, hand = both
    assert set(run.metrics.get("shifts", {})) == set(run.config.shifts)
    for name in run.config.shifts:
        config = run.config.shifted(name)
        student, _ = pair(config)
        for role in ("baseline", "student"):
            y, iterates = hand.iterates(role, config=config, student=student)
            found, x = run.metrics["shifts"][name][role], iterates[-1]
            assert found["psnr"] == pytest.approx(psnr(x, hand.test).mean().item(), abs=5e-4)
            assert found["audit"] == pytest.approx(audited(x, hand.test, y, student), rel=1e-4)


def test_the_manifest_names_the_images_of_its_splits(both):
    run, hand = both
    told, hashes = run.config.data, run.manifest["sha256"]
    train, test = hand.images, hand.test
    assert hashes["train"] == storage.sha256_tensors({"images": train}) != hashes["test"]
    assert hashes["test"] == storage.sha256_tensors({"images": test})
    assert (run.manifest["counts"]["train"], run.manifest["counts"]["test"]) == (
        told.train_count,
        told.test_count,
    )
    distances = torch.cdist(train.flatten(1), test.flatten(1))
    assert distances.min() > 1e-3, "an image is in both"
    y = hand.student.A(torch.rand(1, *test.shape[1:]))
    assert run.manifest["counts"]["measurements"] == int((y != 0).sum()), (
        "numbers that are measured, of one image"
    )
