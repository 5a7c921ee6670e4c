import dataclasses
import itertools
import json
import math

import pytest
import torch
from batteries import (
    Bare,
    Counting,
    downsampling,
    finite_difference,
    identity_denoiser,
    images,
    inpainting,
    refuses,
    relative,
    rng,
    smooth_images,
    solver,
    tiny_denoiser,
)
from members import PRIORS

import dipa
from dipa import Budget, LinearPreconditioner, LossWeights, losses
from dipa.cache import to_record
from dipa.identity import describe
from dipa.losses import TERMS
from dipa.operators import mri_pair, single_pixel
from dipa.operators.measure import measure
from dipa.preconditioners import Preconditioner, Traits
from dipa.preconditioners.linear import FORMS
from dipa.settings import SCHEDULES
from dipa.solvers import data_gradient
from dipa.training import (
    Differentiation,
    load_checkpoint,
    save_checkpoint,
    teacher,
    teacher_targets,
)
from dipa.training.checkpoint import write_checkpoint

SHAPE = (1, 8, 8)
EVERY_TERM = LossWeights(
    supervised=1.0, imitation=0.5, gradient=0.3, convergence=0.2, row_space=0.1
)
PENALTIES = {"convergence", "row_space"}  # beside a loss of almost no weight, as they need one
ONE_TERM = {
    name: LossWeights(**({"supervised": 1e-9} if name in PENALTIES else {}) | {name: 1.0})
    for name in TERMS
}


def cameras(noise_sigma: float = 0.0):
    return (single_pixel(SHAPE, ratio=ratio, noise_sigma=noise_sigma) for ratio in (0.3, 0.7))


def train(
    weights=None, *, form="low_rank", noise_sigma=0.0, solve=None, start=None, hook=None, **kwargs
):
    """A small distillation; ``kwargs`` go to the budget where it has the field, else to
    ``distill``.
    """
    student, teacher = cameras(noise_sigma)
    P = start or LinearPreconditioner.identity(student, form=form)
    if hook:
        P.matrix.register_hook(hook)
    names = {field.name for field in dataclasses.fields(Budget)}
    budget = Budget(
        **(
            {"steps": 6, "batch_size": 4}
            | {name: kwargs.pop(name) for name in names & kwargs.keys()}
        )
    )
    steps = {"stepsize": 0.4, "teacher_stepsize": 0.7}
    arguments = {"losses": weights or EVERY_TERM, "budget": budget, "progress": False}
    arguments |= steps | kwargs
    x = arguments.pop("images", smooth_images(10))
    return dipa.distill(
        solve or solver(3),
        P,
        arguments.pop("student", student),
        arguments.pop("teacher", teacher),
        x,
        **arguments,
        validation=0,
    )


# --- what is minimised ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [*ONE_TERM, "all"])
def test_the_loss_goes_down(name, form):
    """Every step sees all ten images, so each loss is comparable with the next."""
    weights = {"all": EVERY_TERM, **ONE_TERM}[name]
    start = LinearPreconditioner.identity(next(cameras()), form=form)
    if name == "row_space":  # zero at the identity: start from directions that leave the row space
        start.matrix.data += 0.05 * torch.randn(start.matrix.shape, generator=rng(0))
    fit = train(
        weights, start=start, steps=25, batch_size=10, learning_rate=3e-3, schedule="constant"
    )
    history = [record["loss"] for record in fit.history]
    assert history[-1] < 0.97 * history[0]
    assert fit.preconditioner is start, "trained in place"


def test_supervised_training_raises_psnr():
    fit = train(LossWeights(supervised=1.0), steps=40, batch_size=10, learning_rate=1e-2)
    assert fit.history[-1]["psnr"] > fit.history[0]["psnr"] + 1


def test_student_is_teacher_when_operators_and_stepsizes_match():
    student, teacher = (single_pixel(SHAPE, ratio=0.3) for _ in range(2))
    P = LinearPreconditioner.identity(student)
    budget = Budget(steps=1, batch_size=10)
    weights = LossWeights(imitation=1.0, gradient=1.0)
    fit = dipa.distill(
        solver(5),
        P,
        student,
        teacher,
        smooth_images(10),
        losses=weights,
        budget=budget,
        stepsize=0.4,
        teacher_stepsize=0.4,
        progress=False,
        validation=0,
    )
    assert fit.history[0]["imitation"] < 1e-8 and fit.history[0]["gradient"] < 1e-6


def reference_loss(
    matrix, V, denoiser, student, teacher, x, K=2, alpha=0.4, alpha_teacher=0.7
) -> torch.Tensor:
    """Algorithm 2 of D2GP written out for EVERY_TERM: Nesterov momentum, adjoint start, teacher
    without P.
    """

    def fista(physics, P, a):
        y = physics.A(x)
        x_k = z = physics.A_adjoint(y)
        t = 1.0
        for _ in range(K):
            x_next = denoiser(z - a * P(data_gradient(physics, y, z)), None)
            t_next = (1 + math.sqrt(1 + 4 * t * t)) / 2
            z, x_k, t = x_next + (t - 1) / t_next * (x_next - x_k), x_next, t_next
        return x_k, data_gradient(physics, y, x_k)

    def P(gradient):
        return (gradient.flatten(1) @ V.T @ matrix.T).reshape(gradient.shape)

    def project(direction):
        return (direction.flatten(1) @ V.T @ V).reshape(direction.shape)

    with torch.no_grad():
        x_t, g_t = fista(teacher, lambda g: g, alpha_teacher)
    x_s, g_s = fista(student, P, alpha)
    direction = P(g_s)
    cosine = torch.nn.functional.cosine_similarity(direction.flatten(1), g_t.flatten(1))
    update = P(student.A_adjoint(student.A(x))) - teacher.A_adjoint(teacher.A(x))
    terms = (
        1.0 * (x_s - x).square().sum((1, 2, 3))
        + 0.5 * (x_s - x_t).square().sum((1, 2, 3))
        + 0.3 * (1 - cosine) ** 2
    )
    outside = (direction - project(direction)).square().sum((1, 2, 3)) / direction.square().sum(
        (1, 2, 3)
    )
    return (terms + 0.2 * update.square().sum((1, 2, 3)) + 0.1 * outside).mean()


def test_one_step_has_the_loss_and_gradient_of_the_printed_algorithm():
    student, teacher = cameras()
    P = LinearPreconditioner.identity(student)
    P.matrix.data += 0.05 * torch.randn(P.matrix.shape, generator=rng(0))
    V = P.basis.image(torch.eye(P.basis.dim)).flatten(1).double()
    student.double(), teacher.double(), P.double()
    denoiser, x = tiny_denoiser().double(), smooth_images(6, dtype=torch.float64)
    matrix = P.matrix.detach().clone().requires_grad_()

    def loss(point):
        return reference_loss(point, V, denoiser, student, teacher, x)

    fit = dipa.distill(
        solver(2, denoiser),
        P,
        student,
        teacher,
        x,
        losses=EVERY_TERM,
        budget=Budget(steps=1, batch_size=6, clip=0),
        stepsize=0.4,
        teacher_stepsize=0.7,
        progress=False,
        validation=0,
    )
    expected = loss(matrix)
    expected.backward()
    assert fit.history[0]["loss"] == pytest.approx(expected.item(), rel=1e-6)
    assert relative(P.matrix.grad, matrix.grad) < 1e-6
    assert fit.history[0]["gradient_norm"] == pytest.approx(matrix.grad.norm().item(), rel=1e-6)
    for seed in range(3):
        along = torch.randn(matrix.shape, generator=rng(seed), dtype=torch.float64)
        numeric = finite_difference(lambda point: loss(point).item(), matrix.detach(), along)
        assert torch.sum(P.matrix.grad * along).item() == pytest.approx(numeric, rel=1e-5)


def test_history_holds_every_term_and_their_weighted_sum():
    seen = []
    fit = train(steps=4, report=seen.append)
    assert seen == fit.history and [record["step"] for record in seen] == [1, 2, 3, 4]
    for record in seen:
        weighted = sum(weight * record[name] for name, weight in EVERY_TERM.active().items())
        assert record["loss"] == pytest.approx(weighted, rel=1e-4)
        assert record["learning_rate"] == 1e-3 and record["gradient_norm"] > 0
    assert set(seen[0]) == {
        "step",
        "loss",
        *EVERY_TERM.active(),
        "psnr",
        "learning_rate",
        "gradient_norm",
    }
    assert set(train(LossWeights(supervised=1), steps=1).history[0]) & set(EVERY_TERM.active()) == {
        "supervised"
    }


def test_first_record_is_the_loss_at_the_start():
    student, _ = cameras()
    x = smooth_images(10)
    x_hat = solver(3)(student.A(x), student, stepsize=0.4).x
    record = train(LossWeights(supervised=1.0), steps=1, batch_size=10).history[0]
    assert record["supervised"] == pytest.approx(
        losses.supervised(x_hat, x).mean().item(), rel=1e-4
    )
    assert record["psnr"] == pytest.approx(dipa.metrics.psnr(x_hat, x).mean().item(), abs=1e-3)


def test_low_rank_and_dense_train_alike_to_first_order():
    """The first record is the same; Adam's later steps differ, its scaling depends on the
    coordinates.
    """
    records = [train(form=form, steps=1).history[0] for form in FORMS]
    assert records[0]["loss"] == pytest.approx(records[1]["loss"], rel=1e-5)


class LearnedStep(Preconditioner):
    """d = s_k gradient, one trainable number per iteration: any preconditioner can be trained."""

    traits = Traits(linear=True, iteration_dependent=True)

    def __init__(self, iterations: int):
        super().__init__()
        self.steps = torch.nn.Parameter(torch.ones(iterations))

    def forward(self, gradient, iterate, k):
        return self.steps[k - 1] * gradient


def test_the_data_fidelity_is_that_of_the_noisy_measurements_at_the_last_iterate():
    """Its first record and its gradient in P, by the solver run outside of training and by
    finite differences.
    """
    student, x = (
        single_pixel(SHAPE, ratio=0.3, noise_sigma=0.05).double(),
        smooth_images(6, dtype=torch.float64),
    )
    y, solve = measure(student, x, seed=3), solver(2, tiny_denoiser().double())
    assert relative(y, student.A(x)) > 0.01
    P = LinearPreconditioner.identity(student).double()
    P.matrix.data += 0.05 * torch.randn(P.matrix.shape, generator=rng(0), dtype=torch.float64)
    start = P.matrix.detach().clone()

    def loss(matrix):
        x_hat = solve(
            y, student, preconditioner=LinearPreconditioner(matrix, P.basis), stepsize=0.4
        ).x
        return (0.5 * (student.A(x_hat) - y).square().sum() / 6).item()

    budget = Budget(steps=1, batch_size=6, clip=0)
    fit = dipa.distill(
        solve,
        P,
        student,
        None,
        x,
        losses=LossWeights(data_fidelity=1.0),
        budget=budget,
        stepsize=0.4,
        seed=3,
        progress=False,
        validation=0,
    )
    assert (
        fit.history[0]["data_fidelity"]
        == fit.history[0]["loss"]
        == pytest.approx(loss(start), rel=1e-9)
    )
    along = torch.randn(start.shape, generator=rng(1), dtype=torch.float64)
    assert torch.sum(P.matrix.grad * along).item() == pytest.approx(
        finite_difference(loss, start, along), rel=1e-5
    )


class PartlyFrozen(Preconditioner):
    """d = s_k a * gradient + b * iterate: a trainable scalar, a trainable image, a frozen one,
    a number per iteration.
    """

    traits = Traits(linear=False, iteration_dependent=True)

    def __init__(self, iterations: int, img_size):
        super().__init__()
        self.scale, self.image = (
            torch.nn.Parameter(torch.tensor(1.0)),
            torch.nn.Parameter(torch.ones(img_size)),
        )
        self.frozen = torch.nn.Parameter(torch.full(img_size, 0.01), requires_grad=False)
        self.steps = LearnedStep(iterations)

    def forward(self, gradient, iterate, k):
        return self.steps(self.scale * self.image * gradient, iterate, k) + self.frozen * iterate


MRI_SIZES = {"complex": (2, 9, 12), "real": (1, 9, 12)}


@pytest.mark.parametrize("size", MRI_SIZES.values(), ids=MRI_SIZES)
@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_mri_any_prior_and_a_preconditioner_of_many_parts(size, prior, tmp_path):
    """Measurements have another shape than real images; parameters frozen, trainable and
    indexed by the iteration.
    """
    student, teacher = mri_pair(size, acceleration=4, teacher_acceleration=2, noise_sigma=0.01)
    x = smooth_images(6, 12)[..., :9, :].repeat(1, size[0], 1, 1)
    assert student.A(x).shape == (6, 2, 9, 12)
    solve = dipa.FISTA(prior(tiny_denoiser()), iterations=3, start="zero")
    settings = {
        "student": student,
        "teacher": teacher,
        "solve": solve,
        "images": x,
        "learning_rate": 0.01,
    }
    settings |= {"batch_size": 6, "checkpoint_every": 2}

    def fit(**kwargs):
        return train(EVERY_TERM, start=PartlyFrozen(3, size), **settings, **kwargs)

    whole = fit()
    P = whole.preconditioner
    assert (
        P.scale != 1
        and (P.image != 1).all()
        and (P.steps.steps != 1).all()
        and (P.frozen == 0.01).all()
    )
    assert whole.history[-1]["loss"] < whole.history[0]["loss"]
    with pytest.raises(Killed):
        fit(checkpoint=tmp_path / "run.checkpoint", report=kill_at(5))
    resumed = fit(checkpoint=tmp_path / "run.checkpoint")
    assert resumed.history == whole.history
    assert all(
        torch.equal(a, b)
        for a, b in zip(P.parameters(), resumed.preconditioner.parameters(), strict=True)
    )


def test_a_frozen_preconditioner_and_a_loss_that_ignores_it_are_refused():
    P = LearnedStep(3)
    P.steps.requires_grad_(False)
    refuses(
        lambda: train(start=P, teacher=single_pixel(SHAPE, ratio=0.7)),
        "preconditioner",
        "LearnedStep",
        "trainable",
    )

    class Deaf(LearnedStep):
        def forward(self, gradient, iterate, k):
            return gradient

    refuses(
        lambda: train(start=Deaf(3)), "training", "does not depend on the trainable parameters of P"
    )


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_recomputed_iterations_give_the_same_run_and_keep_less(prior):
    """Bitwise the same run, and of the numbers autograd keeps for the backward pass fewer than
    a third.
    """
    runs, kept = [], []
    for recomputed in (False, True):
        sizes = []
        solve = dipa.FISTA(prior(tiny_denoiser()), iterations=8)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
        ):
            runs.append(
                train(
                    solve=solve,
                    differentiation=Differentiation("checkpointed" if recomputed else "unrolled"),
                    steps=3,
                )
            )
        kept.append(sum(sizes))
    assert (
        runs[0].history == runs[1].history and runs[0].record["solver"] == runs[1].record["solver"]
    )
    assert torch.equal(runs[0].preconditioner.matrix, runs[1].preconditioner.matrix)
    assert 0 < kept[1] < kept[0] / 3


@pytest.mark.parametrize("make", [downsampling, inpainting])
def test_any_operator_and_any_preconditioner(make):
    student, teacher = make(16), make(16)
    P = LearnedStep(3)
    budget = Budget(steps=3, batch_size=2, learning_rate=0.05)
    fit = dipa.distill(
        solver(3, start="zero"),
        P,
        student,
        teacher,
        smooth_images(4, 16),
        losses=EVERY_TERM,
        budget=budget,
        progress=False,
        validation=0,
    )
    assert len(fit.history) == 3 and (P.steps != 1).all()


def test_images_with_channels():
    student, teacher = (single_pixel((2, 8, 8), ratio=ratio) for ratio in (0.3, 0.7))
    x = torch.cat([smooth_images(4), smooth_images(4, seed=1)], dim=1)
    P = LinearPreconditioner.identity(student)
    fit = dipa.distill(
        solver(2),
        P,
        student,
        teacher,
        x,
        losses=EVERY_TERM,
        budget=Budget(steps=2, batch_size=2),
        progress=False,
        validation=0,
    )
    assert math.isfinite(fit.history[-1]["loss"])


def test_bf16_denoiser_trains_close_to_float32():
    runs = [
        train(solve=dipa.FISTA(prior=dipa.PnP(tiny_denoiser(), precision=precision), iterations=3))
        for precision in ("float32", "bf16")
    ]
    a, b = (run.history[-1]["loss"] for run in runs)
    assert a != b and b == pytest.approx(a, rel=0.05)


# --- batches, noise, seeds ------------------------------------------------------------------------


def test_more_images_a_batch_than_there_are():
    fit = train(batch_size=25)
    assert len(fit.history) == 6
    again = train(batch_size=30, steps=1).history[0]["loss"]
    whole = train(batch_size=10, steps=1).history[0]["loss"]
    assert again == pytest.approx(whole, rel=1e-4), "thirty is each of the ten three times"


def test_one_seed_is_one_run_and_another_seed_another():
    runs = [train(seed=seed, noise_sigma=0.05) for seed in (0, 0, 1)]
    assert (
        torch.equal(runs[0].preconditioner.matrix, runs[1].preconditioner.matrix)
        and runs[0].history == runs[1].history
    )
    assert runs[0].history != runs[2].history


def test_the_global_generator_is_neither_read_nor_moved():
    solve = solver(3)
    torch.manual_seed(1)
    a = train(noise_sigma=0.05, solve=solve).history
    torch.manual_seed(2)
    state = torch.get_rng_state()
    b = train(noise_sigma=0.05, solve=solve).history
    assert a == b and torch.equal(state, torch.get_rng_state())


def test_noise_of_an_image_is_the_same_every_time_it_is_drawn():
    """With P frozen by a vanishing rate, an epoch's mean loss repeats: each image meets the
    same noise again.
    """
    history = train(
        LossWeights(supervised=1.0), noise_sigma=0.1, steps=4, batch_size=5, learning_rate=1e-30
    ).history
    epochs = [(history[i]["loss"] + history[i + 1]["loss"]) / 2 for i in (0, 2)]
    assert (
        epochs[0] == pytest.approx(epochs[1], rel=1e-5) and history[0]["loss"] != history[2]["loss"]
    )


# --- optimiser and schedules ----------------------------------------------------------------------


def stagnant(**kwargs):
    """Inpainting, adjoint start, D = I: the data gradient is exactly zero, P does nothing, the
    loss never moves.
    """
    student, x = inpainting(), images(4, *SHAPE)
    start, solve = LinearPreconditioner.identity(student), solver(2, identity_denoiser)
    settings = {
        "batch_size": 4,
        "student": student,
        "teacher": None,
        "start": start,
        "solve": solve,
        "images": x,
    }
    return train(LossWeights(supervised=1.0), **(settings | kwargs))


def rates(fit) -> list[float]:
    return [record["learning_rate"] for record in fit.history]


def test_plateau_lowers_the_rate_when_the_loss_stagnates():
    """Looks after steps 2, 4, ...: the first sets the record, then patience 1 allows one bad
    look and acts at the next.
    """
    fit = stagnant(
        steps=16, schedule="plateau", window=2, patience=1, factor=0.5, learning_rate=0.01
    )
    assert rates(fit) == pytest.approx([0.01] * 6 + [0.005] * 4 + [0.0025] * 4 + [0.00125] * 2)


def test_plateau_keeps_the_rate_while_the_loss_falls():
    fit = train(
        LossWeights(supervised=1.0),
        steps=12,
        batch_size=10,
        schedule="plateau",
        window=1,
        patience=0,
        learning_rate=1e-3,
    )
    history = [record["loss"] for record in fit.history]
    assert history == sorted(history, reverse=True) and rates(fit) == [1e-3] * 12


def test_plateau_looks_at_the_mean_of_its_window():
    """Batches of one image make single losses jump; whole epochs do not change, and the rate
    falls on schedule.
    """
    fit = stagnant(
        steps=16,
        batch_size=1,
        schedule="plateau",
        window=4,
        patience=0,
        factor=0.1,
        learning_rate=0.01,
    )
    assert len({round(record["loss"], 4) for record in fit.history}) == 4
    assert rates(fit) == pytest.approx([0.01] * 8 + [0.001] * 4 + [0.0001] * 4)


def test_cosine_and_constant_schedules():
    cosine = [0.01 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert rates(stagnant(steps=8, schedule="cosine", learning_rate=0.01)) == pytest.approx(cosine)
    assert rates(stagnant(steps=8, schedule="constant", learning_rate=0.01)) == [0.01] * 8


def test_adamw_decays_by_its_closed_form_and_adam_rests():
    """No gradient: Adam leaves P alone, AdamW multiplies it by (1 - rate * decay) at each step."""
    start = LinearPreconditioner.identity(inpainting()).matrix
    adam = stagnant(
        steps=5, optimizer="adam", schedule="constant", learning_rate=0.1
    ).preconditioner.matrix
    adamw = stagnant(
        steps=5, optimizer="adamw", weight_decay=0.2, schedule="constant", learning_rate=0.1
    ).preconditioner.matrix
    assert torch.equal(adam, start)
    assert relative(adamw, start * (1 - 0.1 * 0.2) ** 5) < 1e-6


def test_clip_bounds_the_gradient_that_is_applied():
    free, clipped = (train(steps=1, clip=clip) for clip in (0, 1e-3))
    assert free.history == clipped.history, "the record holds the norm before clipping"
    assert free.preconditioner.matrix.grad.norm().item() == pytest.approx(
        free.history[0]["gradient_norm"], rel=1e-5
    )
    assert clipped.preconditioner.matrix.grad.norm().item() == pytest.approx(1e-3, rel=1e-3)


# --- failure --------------------------------------------------------------------------------------


def poison_at(step: int):
    calls = itertools.count(1)
    return lambda gradient: gradient * (float("nan") if next(calls) == step else 1.0)


def test_a_gradient_that_is_not_finite_stops_and_leaves_the_checkpoint_usable(tmp_path):
    path = tmp_path / "run.checkpoint"
    whole = train(checkpoint_every=1)
    start = LinearPreconditioner.identity(next(cameras()))
    refuses(
        lambda: train(start=start, checkpoint=path, checkpoint_every=1, hook=poison_at(4)),
        "not finite",
        "step 4",
    )
    assert torch.isfinite(start.matrix).all(), "the bad gradient was not applied"
    resumed = train(checkpoint=path, checkpoint_every=1)
    assert (
        torch.equal(resumed.preconditioner.matrix, whole.preconditioner.matrix)
        and resumed.history == whole.history
    )


def test_a_diverging_student_stops_with_the_cause(tmp_path):
    path = tmp_path / "run.checkpoint"
    solve = solver(6, lambda x, sigma: 60 * x, start="zero")
    refuses(
        lambda: train(LossWeights(supervised=1), solve=solve, checkpoint=path),
        "stepsize or learning_rate",
        "step 1 ",
        "diverged at iteration",
    )
    assert not path.exists()


def test_a_student_that_diverges_later_is_told_with_its_step_and_keeps_the_checkpoint(tmp_path):
    """A rate of 1e3 keeps P finite and makes the second student run leave its bounds."""
    path = tmp_path / "run.checkpoint"
    settings = {"solve": solver(6, start="zero"), "learning_rate": 1e3, "checkpoint_every": 1}
    refuses(
        lambda: train(checkpoint=path, **settings), "at training step 2", "diverged at iteration"
    )
    saved = torch.load(path, weights_only=True)
    assert len(saved["history"]) == 1 and torch.isfinite(saved["module"]["matrix"]).all()


def test_a_step_that_breaks_p_is_not_saved(tmp_path):
    """AdamW multiplies P = 2 I by about -3e38: past float32, from a finite gradient."""
    path, seen = tmp_path / "run.checkpoint", []
    start = LinearPreconditioner.identity(next(cameras()), form="dense")
    start.matrix.data *= 2
    budget = {
        "checkpoint_every": 1,
        "optimizer": "adamw",
        "learning_rate": 3e37,
        "weight_decay": 10.0,
    }
    refuses(
        lambda: train(start=start, checkpoint=path, report=seen.append, **budget),
        "P is not finite after step 1",
    )
    assert not torch.isfinite(start.matrix).all() and not path.exists() and not seen


def test_a_diverging_teacher_stops_with_the_cause(tmp_path):
    solve = solver(6, lambda x, sigma: 60 * x, start="zero")
    refuses(
        lambda: train(solve=solve, cache=tmp_path),
        "teacher_stepsize",
        "0.7",
        "diverged at iteration",
    )
    assert not list(tmp_path.iterdir()), "and nothing of it is cached"


# --- checkpoints ----------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def kill_at(step: int):
    def report(record):
        if record["step"] == step:
            raise Killed

    return report


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_resumed_is_uninterrupted_bitwise(schedule, optimizer, tmp_path):
    path = tmp_path / "run.checkpoint"
    budget = {"steps": 7, "checkpoint_every": 2, "schedule": schedule, "optimizer": optimizer}
    budget |= {"window": 2, "patience": 0, "weight_decay": 0.01, "learning_rate": 0.01}
    whole = train(noise_sigma=0.05, **budget)
    # dies before, at and after a checkpoint; each time 2, 2 and 4 steps are safe
    for step in (3, 4, 6):
        with pytest.raises(Killed):
            train(noise_sigma=0.05, checkpoint=path, report=kill_at(step), **budget)
        torch.manual_seed(step)
    resumed = train(noise_sigma=0.05, checkpoint=path, **budget)
    assert torch.equal(resumed.preconditioner.matrix, whole.preconditioner.matrix)
    assert resumed.history == whole.history and len(resumed.history) == 7


def test_a_resumed_run_continues_where_the_checkpoint_is(tmp_path):
    path, steps = tmp_path / "run.checkpoint", []
    with pytest.raises(Killed):
        train(checkpoint=path, checkpoint_every=2, report=kill_at(5))
    train(checkpoint=path, checkpoint_every=2, report=lambda record: steps.append(record["step"]))
    assert steps == [5, 6]
    train(checkpoint=path, checkpoint_every=2, report=lambda record: steps.append(record["step"]))
    assert steps == [5, 6], "a finished run is not trained again"


def test_checkpointing_changes_nothing(tmp_path):
    plain, kept = train(), train(checkpoint=str(tmp_path / "run.checkpoint"), checkpoint_every=1)
    assert torch.equal(plain.preconditioner.matrix, kept.preconditioner.matrix)
    assert [path.name for path in tmp_path.iterdir()] == ["run.checkpoint"]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"learning_rate": 2e-3}, "settings"),
        ({"steps": 7}, "settings"),
        ({"seed": 1}, "stepsize or seed"),
        ({"stepsize": 0.41}, "stepsize or seed"),
        ({"teacher_stepsize": 0.71}, "settings"),
        ({"weights": LossWeights(supervised=1.0)}, "settings"),
        ({"images": smooth_images(10, seed=1)}, "images"),
        ({"noise_sigma": 0.1}, "operator, noise"),
        ({"form": "dense"}, "preconditioner"),
        ({"solve": solver(4)}, "solver"),
        ({"solve": solver(3, tiny_denoiser(seed=1))}, "solver"),
        (
            {"solve": dipa.FISTA(dipa.PnP(tiny_denoiser(), precision="bf16"), 3)},
            "precision, solver",
        ),
        ({"student": single_pixel(SHAPE, ratio=0.3, ordering="xy")}, "operator"),
        ({"teacher": single_pixel(SHAPE, ratio=0.6)}, "teacher's operator"),
        ({"differentiation": Differentiation("truncated", 1)}, "settings"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_a_checkpoint_of_another_run_is_refused_and_says_what_differs(change, part, tmp_path):
    path = tmp_path / "run.checkpoint"
    train(checkpoint=path)
    kept = path.read_bytes()
    change = dict(change)
    refuses(
        lambda: train(change.pop("weights", None), checkpoint=path, **change),
        "run.checkpoint",
        f"with other {part}",
    )
    assert path.read_bytes() == kept


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "run.checkpoint"
    train(checkpoint=path)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refuses(lambda: train(checkpoint=path), "run.checkpoint", "damaged or foreign")
    path.write_text("hello")
    refuses(lambda: train(checkpoint=path), "run.checkpoint", "damaged or foreign")


class Payload:
    def __reduce__(self):
        return exec, ("raise SystemExit('code in a checkpoint was run')",)


OWNER = {"settings": describe([1])}


@pytest.mark.parametrize(
    "state",
    [
        {"identity": to_record(OWNER), "history": Payload()},
        Payload(),
        {"identity": "k"},
        {"state": 1},
        [1, 2],
        torch.rand(2),
    ],
)
def test_a_checkpoint_with_code_or_without_owner_is_refused(state, tmp_path):
    path = tmp_path / "run.checkpoint"
    torch.save(state, path)
    refuses(lambda: load_checkpoint(path, OWNER), "run.checkpoint", "damaged or foreign")
    write_checkpoint(path, state)
    refuses(lambda: load_checkpoint(path, OWNER), "run.checkpoint", "damaged or foreign")


def test_one_flipped_bit_of_a_checkpoint_is_found(tmp_path):
    path = tmp_path / "run.checkpoint"
    save_checkpoint(path, OWNER, {"a": torch.zeros(100)})
    whole = path.read_bytes()
    for position in range(0, len(whole), 97):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
        refuses(lambda: load_checkpoint(path, OWNER), "run.checkpoint", "damaged or foreign")


def test_checkpoint_round_trip(tmp_path):
    path = tmp_path / "folder" / "run.checkpoint"
    assert load_checkpoint(path, OWNER) is None
    save_checkpoint(path, OWNER, {"a": torch.arange(3), "b": [1, "x", None]})
    state = load_checkpoint(path, OWNER)
    assert torch.equal(state["a"], torch.arange(3)) and state["b"] == [1, "x", None]
    other = {"settings": describe([2])}
    refuses(lambda: load_checkpoint(path, other), "run.checkpoint", "with other settings")


# --- the teacher ----------------------------------------------------------------------------------


def test_the_teacher_runs_once():
    denoiser = Counting(tiny_denoiser())
    train(
        solve=solver(3, denoiser),
        steps=6,
        batch_size=4,
        differentiation=Differentiation("unrolled"),
    )
    asked = 3 * 10 + 6 * 3 * 4
    assert denoiser.planes == 2 + asked, "one image twice, K on each of ten images and of a batch"
    denoiser = Counting(tiny_denoiser())
    way = Differentiation("unrolled")
    train(
        LossWeights(supervised=1.0),
        solve=solver(3, denoiser),
        steps=6,
        batch_size=4,
        differentiation=way,
    )
    assert denoiser.planes == 2 + 6 * 3 * 4, "no teacher where no loss needs it"


def teach(cache=None, denoiser=None, x=None, *, stepsize=0.7, seed=0, **solve):
    physics = solve.pop("physics", None) or single_pixel(
        SHAPE, ratio=0.7, noise_sigma=solve.pop("noise_sigma", 0.0)
    )
    x = smooth_images(10) if x is None else x
    return teacher_targets(
        solver(3, denoiser, **solve),
        physics,
        x,
        stepsize=stepsize,
        seed=seed,
        cache=cache,
        progress=False,
    )


def test_targets_are_the_solution_and_its_data_gradient():
    physics, x = single_pixel(SHAPE, ratio=0.7), smooth_images(10)
    y = physics.A(x)
    expected = solver(3)(y, physics, stepsize=0.7).x
    targets = teach()
    assert relative(targets.x, expected) < 1e-6
    assert relative(targets.gradient, data_gradient(physics, y, expected)) < 1e-4
    assert not targets.x.requires_grad and not targets.gradient.requires_grad


def test_teacher_and_student_draw_their_own_noise():
    """Everything measured, D = I: the target is the image plus the teacher's noise, not the
    student's.
    """
    physics, x = single_pixel(SHAPE, ratio=1.0, noise_sigma=0.1), smooth_images(4)
    noisy = teach(physics=physics, denoiser=identity_denoiser, x=x, seed=2).x
    students = physics.A_adjoint(measure(physics, x, seed=2))
    assert (noisy - x).std().item() == pytest.approx(0.1, rel=0.2)
    assert relative(noisy - x, students - x) > 0.5


def test_targets_do_not_depend_on_the_internal_batches():
    arguments = {"stepsize": 0.7, "progress": False, "seed": 3}
    physics = single_pixel(SHAPE, ratio=0.7, noise_sigma=0.1)
    a, b = (
        teacher_targets(solver(3), physics, smooth_images(10), batch_size=size, **arguments)
        for size in (3, 64)
    )
    assert relative(a.x, b.x) < 1e-5 and relative(a.gradient, b.gradient) < 1e-4


def test_a_cache_hit_is_bitwise_and_needs_no_denoiser_call(tmp_path, monkeypatch):
    fresh = teach(tmp_path / "cache", tiny_denoiser())
    assert len(list((tmp_path / "cache").iterdir())) == 1 and fresh.cached == 0
    failing = "the teacher ran although its targets are cached"
    monkeypatch.setattr(type(tiny_denoiser()), "forward", lambda *_: pytest.fail(failing))
    cached = teach(tmp_path / "cache", tiny_denoiser())
    assert (
        torch.equal(cached.x, fresh.x)
        and torch.equal(cached.gradient, fresh.gradient)
        and cached.cached == 10
    )


def blank(noise_sigma: float):
    noise = dipa.operators.single_pixel(SHAPE, ratio=1.0, noise_sigma=noise_sigma).noise_model
    physics = inpainting()
    physics.noise_model = noise
    return physics


CHANGES = {
    "stepsize": {"stepsize": 0.71},
    "weights": {"denoiser": tiny_denoiser(seed=1)},
    "images": {"x": smooth_images(10, seed=1)},
    "fewer images": {"x": smooth_images(10)[:9]},
    "momentum": {"momentum": "none"},
    "start": {"start": "zero"},
    "noise": {"noise_sigma": 0.1},
    "more noise": {"noise_sigma": 0.2},
    "seed": {"noise_sigma": 0.1, "seed": 1},
    "ratio": {"physics": single_pixel(SHAPE, ratio=0.69)},
    "ordering": {"physics": single_pixel(SHAPE, ratio=0.7, ordering="sequency")},
    "deepinv operator": {"physics": blank(0.1)},
    "its noise": {"physics": blank(0.2)},
}


def test_everything_that_shapes_the_targets_is_in_the_cache_key(tmp_path):
    teach(tmp_path)
    for count, (name, change) in enumerate(CHANGES.items(), start=2):
        teach(tmp_path, **change)
        assert len(list(tmp_path.iterdir())) == count, name


def test_one_hadamard_coefficient_more_is_another_operator(tmp_path):
    """A ramp as probe would have no energy on most of them."""
    for m in range(1, 65):
        teach(tmp_path, x=images(1, *SHAPE), physics=single_pixel(SHAPE, ratio=m / 64))
    assert len(list(tmp_path.iterdir())) == 64


class Weightless(torch.nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x, sigma):
        return self.factor * x


def test_a_function_is_not_cached_and_a_plain_attribute_tells_modules_apart(tmp_path):
    for denoiser in (identity_denoiser, lambda x, _: 0.5 * x, lambda x, _: 0.9 * x):
        assert torch.equal(teach(tmp_path, denoiser).x, teach(None, denoiser).x)
    assert not list(tmp_path.iterdir())
    for denoiser in (Weightless(0.5), Weightless(0.9)):
        assert torch.equal(teach(tmp_path, denoiser).x, teach(None, denoiser).x)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_checkpoint_says_that_it_cannot_check_a_function(tmp_path):
    path = tmp_path / "run.checkpoint"
    first = train(solve=solver(3, identity_denoiser), cache=tmp_path / "cache", checkpoint=path)
    with pytest.warns(
        UserWarning,
        match=r"run.checkpoint: cannot check .*solver: FISTA.prior.denoiser \(a function\)$",
    ):
        again = train(solve=solver(3, identity_denoiser), cache=tmp_path / "cache", checkpoint=path)
    assert again.history == first.history and not (tmp_path / "cache").exists()


def test_an_operator_that_is_made_again_continues_its_checkpoint(tmp_path):
    """The last digits of its norm, and so those of a basis of its range, are not the same in
    another process.
    """
    path = tmp_path / "run.checkpoint"

    def run(scale):
        student = inpainting()
        student.mask = student.mask * scale
        return train(student=student, checkpoint=path)

    first = run(1.0)
    assert run(1 + 1e-6).history == first.history
    refuses(lambda: run(1 + 1e-3), "run.checkpoint", "with other operator")


def test_the_teacher_runs_on_the_images_that_training_uses():
    denoiser = Counting(tiny_denoiser())
    fit = train(
        solve=solver(3, denoiser),
        images=smooth_images(40),
        steps=3,
        batch_size=4,
        differentiation=Differentiation("unrolled"),
    )
    assert denoiser.planes == 2 + 3 * 12 + 3 * 3 * 4 and fit.record["teacher_images"] == {
        "all": 12,
        "cached": 0,
    }


def test_targets_of_some_images_are_those_of_all(tmp_path):
    physics, x = single_pixel(SHAPE, ratio=0.7, noise_sigma=0.1), smooth_images(10)
    every = teach(physics=physics, x=x)
    options = {"stepsize": 0.7, "progress": False, "cache": tmp_path}
    some = teacher_targets(solver(3), physics, x, indices=torch.tensor([1, 4, 7]), **options)
    assert relative(some.of(torch.tensor([7, 1])).x, every.x[[7, 1]]) < 1e-5
    assert relative(some.of(torch.tensor([7, 1])).gradient, every.gradient[[7, 1]]) < 1e-4


def test_a_killed_teacher_goes_on_after_its_last_batch(tmp_path, monkeypatch):
    """Killed in the third of four batches: the first two are read, the others computed."""
    physics, x, options = (
        single_pixel(SHAPE, ratio=0.7),
        smooth_images(16),
        {"stepsize": 0.7, "progress": False, "batch_size": 4},
    )
    whole = teacher_targets(solver(3), physics, x, **options)
    solved = []

    def killed(*arguments):
        solved.append(1)
        if len(solved) == 3:
            raise Killed
        return solve(*arguments)

    solve = teacher._solve
    monkeypatch.setattr(teacher, "_solve", killed)
    with pytest.raises(Killed):
        teacher_targets(solver(3), physics, x, cache=tmp_path, **options)
    resumed = teacher_targets(solver(3), physics, x, cache=tmp_path, **options)
    assert resumed.cached == 8 and len(solved) == 3 + 2
    assert torch.equal(resumed.x, whole.x) and torch.equal(resumed.gradient, whole.gradient)


def test_any_prior_can_be_distilled(tmp_path):
    fit = train(
        solve=dipa.FISTA(Bare(), 3),
        cache=tmp_path / "cache",
        checkpoint=tmp_path / "run.checkpoint",
    )
    assert len(fit.history) == 6 and fit.record["solver"]["prior"] == {"kind": "Bare"}


def test_the_cache_may_be_named_by_text(tmp_path):
    assert torch.equal(teach(str(tmp_path)).x, teach(tmp_path).x)
    assert len(list(tmp_path.iterdir())) == 1
    assert len(train(cache=str(tmp_path)).history) == 6


def test_distillation_from_the_cache_is_the_same(tmp_path):
    runs = [train(cache=cache) for cache in (None, tmp_path, tmp_path)]
    assert runs[0].history == runs[1].history == runs[2].history


# --- doors and records ----------------------------------------------------------------------------


def test_arguments_that_do_not_fit_together():
    shared = single_pixel(SHAPE, ratio=0.3)
    refuses(lambda: train(student=shared, teacher=shared), "teacher", "separate physics object")
    for name in ("imitation", "gradient", "convergence"):
        refuses(lambda name=name: train(ONE_TERM[name], teacher=None), "teacher", name)
    assert len(train(LossWeights(supervised=1.0, row_space=0.1), teacher=None).history) == 6
    refuses(
        lambda: train(images=images(4, 1, 16, 16)), "student.img_size", "(1, 8, 8)", "(1, 16, 16)"
    )
    refuses(
        lambda: train(teacher=single_pixel((1, 16, 16), ratio=0.7)),
        "teacher.img_size",
        "(1, 16, 16)",
    )
    refuses(lambda: train(student=downsampling(16)), "student.img_size", "(1, 16, 16)", "(1, 8, 8)")
    refuses(lambda: train(images=smooth_images(4) * float("nan")), "images", "finite")
    refuses(lambda: train(images=smooth_images(4)[0]), "images.shape")
    refuses(lambda: train(stepsize=-1.0), "stepsize", "-1.0")
    refuses(
        lambda: dipa.distill(
            solver(), dipa.Identity(), *cameras(), smooth_images(4), losses=EVERY_TERM, validation=0
        ),
        "preconditioner",
        "Identity",
    )


def test_the_record_says_how_and_travels_with_the_file(tmp_path):
    fit = train(steps=2, seed=4)
    record = json.loads(json.dumps(fit.record))
    assert record["seed"] == 4 and record["budget"]["steps"] == 2 and record["images"] == 10
    assert record["losses"]["imitation"] == 0.5 and record["solver"]["iterations"] == 3
    assert (record["stepsize"], record["teacher_stepsize"]) == (0.4, 0.7) and record[
        "training_seconds"
    ] >= 0
    P, back = dipa.load(dipa.save(fit, tmp_path / "fit.safetensors"))
    assert torch.equal(P.matrix, fit.preconditioner.matrix) and back == record


def test_the_progress_bar_says_what_and_how_well(capsys):
    train(steps=2, progress=True)
    text = capsys.readouterr().err
    assert "running the teacher" in text and "training P" in text and "dB" in text
    train(steps=2, progress=False)
    assert capsys.readouterr().err == ""
