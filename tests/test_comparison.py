"""``dipa.compare`` beside runs made by hand: what is chosen, what is told, what is refused."""

import dataclasses
import json
import math
import warnings
from importlib import import_module
from typing import Any

import deepinv
import pytest
import torch
from batteries import identity_denoiser, images, refuses, smooth_images

import dipa
from dipa import comparison, linalg, metrics
from dipa.comparison import Comparison, Row, curves, ways
from dipa.comparison.curves import Curve, Group, Watch, shares
from dipa.comparison.ways import Way
from dipa.operators import single_pixel
from dipa.operators.measure import measure
from dipa.solvers.loop import State
from dipa.solvers.proximal import started

SIZE = (1, 8, 8)
FAST = {"total_variation": False, "progress": False, "held": 4}


def operator(noise: float = 0.05) -> deepinv.physics.LinearPhysics:
    kernel = deepinv.physics.functional.gaussian_blur(sigma=(1.0, 1.0))
    return deepinv.physics.BlurFFT(
        SIZE, filter=kernel, noise_model=deepinv.physics.GaussianNoise(noise)
    )


def smoothing(x, sigma):
    """A denoiser that does something."""
    mean = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return 0.7 * x + 0.3 * mean


def solver(iterations: int = 5, denoiser=smoothing) -> dipa.FISTA:
    return dipa.FISTA(dipa.PnP(denoiser), iterations)


def compared(physics=None, x=None, **options) -> Comparison:
    x = smooth_images(20) if x is None else x
    return dipa.compare(
        operator() if physics is None else physics, x, **{"solver": solver(), **FAST, **options}
    )


def row(found: Comparison, method: str) -> Row:
    return next(row for row in found.rows if row.method == method)


# --- what is measured -----------------------------------------------------------------------------


def test_the_plain_run_is_the_one_made_by_hand():
    """The setting and k of the highest PSNR on the images to choose by, told on the others."""
    physics, x = operator(), smooth_images(20)
    found = row(compared(physics, x, methods=["1/L"]), "1/L")
    _, choose, test = shares(20, 4, 0)
    best = []
    for momentum in dipa.solvers.MOMENTA:
        run = dataclasses.replace(solver(5 * ways.PATIENCE), momentum=momentum)
        quality = [
            [
                metrics.psnr(iterate, x[index]).mean().item()
                for iterate in run(
                    measure(physics, x[index], seed=0, indices=index), physics, iterates=True
                ).iterates
            ]
            for index in (choose, test)
        ]
        highest = max(quality[0])
        k = next(k for k, psnr in enumerate(quality[0]) if psnr > highest - curves.LEAST)
        best.append((quality[0][k], momentum, k, quality[1]))
    validation, momentum, k, curve = max(best)
    assert (found.setting, found.k) == (momentum, k)
    assert found.validation == pytest.approx(validation, abs=1e-4)
    assert found.psnr == pytest.approx(curve[k], abs=1e-4)
    seen = [psnr for _, psnr in found.curve]
    assert seen == pytest.approx(curve[: k + 1], abs=1e-4)


def test_tikhonov_is_the_dense_solution():
    physics, x = operator(), smooth_images(20)
    found = row(compared(physics, x, methods=["CG-Tikhonov"]), "CG-Tikhonov")
    A = linalg.dense(physics.A, SIZE, device="cpu").double()
    _, _, test = shares(20, 4, 0)
    y = measure(physics, x[test], seed=0, indices=test).flatten(1).double()
    norm = dipa.physics.lipschitz(physics, SIZE)
    damping = float(found.setting.split()[0]) * norm
    solved = torch.linalg.solve(A.T @ A + damping * torch.eye(64), A.T @ y.T).T
    wanted = metrics.psnr(solved.reshape(-1, *SIZE).float(), x[test]).mean().item()
    assert found.psnr == pytest.approx(wanted, abs=1e-3) and found.k == 1


@pytest.mark.parametrize("name", ["HQS", "DRS"])
def test_deepinv_s_rows_are_deepinv_s_own(name):
    physics, x = operator(), smooth_images(20)
    found = row(compared(physics, x, methods=[name]), name)
    _, _, test = shares(20, 4, 0)
    y = measure(physics, x[test], seed=0, indices=test)
    factor = float(found.setting.split()[0])
    model = getattr(deepinv.optim, name)(
        data_fidelity=deepinv.optim.L2(),
        prior=deepinv.optim.PnP(denoiser=smoothing),
        stepsize=factor / dipa.physics.lipschitz(physics, SIZE),
        sigma_denoiser=2 / 255,
        max_iter=max(found.k, 1),
    )
    with torch.no_grad():
        start = started("scaled_adjoint", y, physics)
        wanted = metrics.psnr(model(y, physics, init=(start, start)), x[test]).mean().item()
    assert found.k > 0 and found.psnr == pytest.approx(wanted, abs=1e-3)


def test_steps_in_closed_form_are_those_of_fit_steps():
    physics, x = operator(), smooth_images(20)
    found = row(compared(physics, x, methods=["combined steps"]), "combined steps")
    fit, _, test = shares(20, 4, 0)
    run = dataclasses.replace(solver(), momentum=found.setting, start="zero")
    P = dipa.fit_steps(dipa.CombinedSteps(5), run, physics, x[fit]).preconditioner
    y = measure(physics, x[test], seed=0, indices=test)
    x_hat = run(y, physics, preconditioner=P, iterates=True).iterates[found.k]
    assert found.psnr == pytest.approx(metrics.psnr(x_hat, x[test]).mean().item(), abs=1e-3)
    assert found.numbers == P.parameter_count and found.fit > 0 and found.learned


def by_ridge(physics, x, run):
    """L-DIPA's start, solver and phase: of the starts that is better on held-out images."""
    runs = [dataclasses.replace(run, start=start) for start in ("scaled_adjoint", "zero")]
    fits = [dipa.training.fit_ridge(run, physics, x) for run in runs]
    quality = [max(trial["psnr"] for trial in fit.record["trials"]) for fit in fits]
    best = quality.index(max(quality))
    options = {"differentiation": dipa.training.Differentiation("straight_through")}
    return fits[best].preconditioner, runs[best], options


def behind_steps(physics, x, run):
    """N-DIPA's start, solver and phase."""
    run = dataclasses.replace(run, start="zero")
    steps = dipa.fit_steps(dipa.CombinedSteps(5), run, physics, x).preconditioner
    options = {"features": 16, "blocks": 2, "code_dim": 32}
    network = dipa.NeuralPreconditioner("convnext", img_size=SIZE, **options)
    P = dipa.ComposedPreconditioner(steps.requires_grad_(False), network)
    return P, run, {"stretch": 1, "before_prior": True, "teacher_iterates": True}


@pytest.mark.parametrize("teacher", [single_pixel(SIZE, ratio=0.8), None])
@pytest.mark.parametrize(("name", "start"), [("L-DIPA", by_ridge), ("N-DIPA", behind_steps)])
def test_training_is_the_one_of_distill(name, start, teacher):
    physics, x = single_pixel(SIZE, ratio=0.3), smooth_images(20)
    budget = dipa.Budget(steps=3, batch_size=4)
    found = compared(physics, x, methods=[name], budget=budget, teacher=teacher, held=8)
    fit, _, test = shares(20, 8, 0)
    P, run, options = start(physics, x[fit], solver())
    losses = dipa.LossWeights(supervised=1.0, imitation=1.0 if teacher else 0.0)
    phase = dipa.Phase(budget, losses, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dipa.distill(run, P, physics, teacher, x[fit], phases=[phase], progress=False)
    y, chosen = measure(physics, x[test], seed=0, indices=test), row(found, name)
    x_hat = run(y, physics, preconditioner=P, iterates=True).iterates[chosen.k]
    assert chosen.psnr == pytest.approx(metrics.psnr(x_hat, x[test]).mean().item(), abs=1e-3)
    assert not found.absent and chosen.numbers == P.parameter_count and chosen.fit > 0


@pytest.mark.parametrize(("budget", "most"), [(None, 1024), (dipa.Budget(steps=1), 2304)])
def test_matrices_are_for_small_images(budget, most):
    for side, small in ((int(most**0.5), True), (int(most**0.5) + 1, False)):
        x = torch.zeros(1, 1, side, side)
        problem = ways.Problem(solver(), operator(), x, None, budget, 0)
        reasons = [
            method.absent(problem)
            for method in ways.METHODS
            if "matrix" in method.needs and (budget or "budget" not in method.needs)
        ]
        assert reasons and all(
            reason == ("" if small else f"more than {most:,} numbers in an image")
            for reason in reasons
        )


def test_a_method_that_breaks_says_why_it_is_absent(monkeypatch):
    def breaks(problem):
        raise AssertionError

    module = import_module("dipa.comparison.compare")
    methods = tuple(dataclasses.replace(one, ways=breaks) for one in module.METHODS[1:2])
    monkeypatch.setattr(module, "METHODS", (module.METHODS[0], *methods))
    found = compared(methods=["1/L", "Hessian"])
    assert found.absent == {"Hessian": "AssertionError"}
    assert "left out: Hessian (AssertionError)" in str(found)


def test_total_variation_is_chosen_by_its_level():
    found = compared(methods=["1/L"], total_variation=True)
    with_tv = next(row for row in found.rows if row.prior)
    assert float(with_tv.prior.split()[1]) in ways.LEVELS and with_tv.name.startswith("1/L, TV 0.")
    assert {row.name for row in found.rows} == {"1/L", with_tv.name}


def test_test_images_choose_nothing():
    x, others = smooth_images(20), images(6, *SIZE, seed=9)
    options = {"methods": ["1/L", "Hessian", "learned scalars"], "held": 8}
    one, two = (compared(x=x, test=test, **options) for test in (others, 1 - others))
    chosen = [
        sorted((row.method, row.setting, row.k, row.validation) for row in found.rows)
        for found in (one, two)
    ]
    assert chosen[0] == chosen[1]
    assert row(one, "1/L").psnr != row(two, "1/L").psnr
    assert one.counts == {"to fit": 18, "to choose": 2, "to test": 6}


def test_no_image_has_two_uses():
    for count, held, apart in ((8, 8, False), (40, 8, False), (40, 8, True), (9, 2, False)):
        parts = shares(count, held, 3, apart)
        together = torch.cat(parts)
        assert sorted(together.tolist()) == list(range(count)) and all(map(len, parts))
        assert len(parts) == 3 - apart


# --- curves ---------------------------------------------------------------------------------------


def test_a_curve_knows_when_it_arrives():
    curve = Curve([20.0, 24.0, 23.0, 25.0], [0.0, 1.0, 2.0, 3.0], [0.5, 0.009, 0.02, 0.01])
    assert curve.best == 3 and curve.upto(1).psnr == [20.0, 24.0]
    assert curve.soonest == 3 and Curve([20.0, 24.99, 24.5, 25.0], [], []).soonest == 1
    assert (curve.seconds_to(23.5), curve.seconds_to(24.5), curve.seconds_to(26)) == (1, 3, None)
    assert curve.seconds_within(0.01) == 3.0 and curve.seconds_within(0.6) == 0.0
    assert curve.seconds_within(0.001) is None
    assert dataclasses.replace(curve, distance=[]).seconds_within(1.0) is None


def test_the_watch_s_own_seconds_do_not_count(monkeypatch):
    x = images(2, *SIZE)
    clock = iter([0.0, 1.0, 11.0, 13.0, 23.0])  # begin; state, done; state, done
    monkeypatch.setattr(curves.time, "perf_counter", lambda: next(clock))
    watch = Watch(Group(operator(), x, x))
    for k in range(2):
        watch(State(k, x, x))
    assert watch.curve.seconds == [1.0, 3.0]


def modelled(denoiser, target: float, exactly: int = 0, count: int = 3) -> tuple[Any, ...]:
    """A run of deepinv's HQS watched, and its group: at most 40 iterations."""
    x = images(count, *SIZE)
    group = dataclasses.replace(Group.of(operator(), x, torch.arange(count), 0), target=target)

    def make(iterations: int) -> deepinv.optim.HQS:
        prior = deepinv.optim.PnP(denoiser=denoiser)
        return deepinv.optim.HQS(
            deepinv.optim.L2(), prior=prior, stepsize=0.7, sigma_denoiser=0.05, max_iter=iterations
        )

    return curves.modelled(make, "zero", 40, group, exactly), group, make


def test_a_model_of_deepinv_is_watched_as_its_own_metrics_see_it():
    curve, group, make = modelled(deepinv.models.MedianFilter(), 99.0, exactly=12)
    begin = torch.zeros_like(group.x)
    told = make(12)(group.y, group.physics, init=(begin, begin), x_gt=group.x, compute_metrics=True)
    seen = told[1]["psnr"]
    assert curve.psnr == pytest.approx(torch.tensor(seen).mean(dim=0).tolist(), abs=1e-4)
    assert len(curve.psnr) == 13 and curve.seconds == sorted(curve.seconds)
    assert 0 <= curve.seconds[0] < curve.seconds[-1]


def test_a_model_of_deepinv_that_diverges_is_told_until_then():
    class Diverging(torch.nn.Module):
        def forward(self, x, sigma=None):
            self.calls = getattr(self, "calls", 0) + 1
            return x if self.calls < 4 else x * math.nan

    curve, *_ = modelled(Diverging(), -math.inf)
    assert len(curve.psnr) == 4 == len(curve.seconds)
    assert all(math.isfinite(psnr) for psnr in curve.psnr)


def test_a_model_of_deepinv_runs_on_only_while_it_gets_better():
    still, *_ = modelled(deepinv.models.MedianFilter(), 99.0)
    assert len(still.psnr) == curves.WAIT + 1  # 99 dB cannot be reached
    whole, *_ = modelled(deepinv.models.MedianFilter(), -math.inf)
    assert curves.WAIT + 1 <= len(whole.psnr) <= 41


def test_a_run_of_so_many_iterations_has_them_exactly():
    x = images(2, *SIZE)
    group = Group(operator(), x, x, target=99.0)
    lengths = [
        len(curves.solved(solver(denoiser=identity_denoiser), group, None, 1e-9, 50, n).psnr)
        for n in (1, 7, 31)
    ]
    assert lengths == [2, 8, 32]


def test_a_run_that_gets_no_better_ends():
    x = images(2, *SIZE)
    watch = Watch(Group(operator(), x, x))
    states = [State(k, x + 0.1, x) for k in range(curves.WAIT + 1)]
    for state in states[:-1]:
        watch(state)
    with pytest.raises(curves.Enough):
        watch(states[-1])
    flat = curves.solved(solver(denoiser=identity_denoiser), watch.group, None, 1e-9, 50)
    assert len(flat.psnr) == curves.WAIT + 1


def rising(target: float, pace: float, iterations: int = 40) -> int:
    """Iterations that are watched of a run from 20 dB that gains ``pace`` dB in each."""
    x = torch.zeros(2, *SIZE)
    watch = Watch(dataclasses.replace(Group(operator(), x, x), target=target), 0, iterations)
    for k in range(iterations + 1):
        try:
            watch(State(k, x + 10 ** (-(20 + pace * k) / 20), x))
        except curves.Enough:
            return k
    return iterations


def test_a_run_that_cannot_reach_the_best_before_it_ends():
    assert rising(-math.inf, 0.1) == 40
    assert rising(23.9, 0.1) == 40  # it will have 24 dB
    assert rising(24.85, 0.1) == 32  # 23.2 dB, and 24.8 at twice its pace
    assert rising(27.5, 0.1) == 10  # 21 dB, and 27 at twice its pace
    assert rising(25.95, 0.1) == 21  # 22.1 dB, and 25.9 at twice its pace


def test_settings_are_tried_against_the_best_before_them():
    targets, qualities = [], iter([20.0, 22.0, 21.0])

    def run(group, least):
        targets.append(group.target)
        return Curve([next(qualities)], [0.0], [])

    ways = [Way(name, run) for name in "abc"]
    tried = import_module("dipa.comparison.compare")._tried(
        ways, Group(operator(), images(2, *SIZE), images(2, *SIZE))
    )
    assert targets == [-math.inf, 20.0, 22.0]
    assert [(quality, way.text) for quality, way, _ in tried] == [(20, "a"), (22, "b"), (21, "c")]


def test_the_variant_of_the_best_setting_is_tried():
    group, run = Group(operator(), images(2, *SIZE), images(2, *SIZE)), {}

    def way(name, psnr, variant=None):
        def seen(group, exactly):
            run[name] = group.target
            return Curve([psnr], [0.0], [])

        return Way(name, seen, variant=variant)

    settings = [way("a", 20.0, way("A", 25.0)), way("b", 22.0, way("B", 21.0)), way("c", 21.0)]
    tried = import_module("dipa.comparison.compare")._tried(settings, group)
    assert [one.text for _, one, _ in tried] == ["a", "b", "c", "B"] and run["B"] == 22.0
    found = compared(methods=["Hessian", "Nyström", "polynomial"])
    assert all(row.setting.split(", ")[1] in ("none", "chambolle_dossal") for row in found.rows)


def test_the_limit_is_the_end_of_the_plain_run():
    physics, x = operator(), smooth_images(4)
    group = Group(physics, x, measure(physics, x)).with_limit(solver(), 300)
    again = group.with_limit(solver(), 600).limit
    assert (group.limit - again).norm() < 1e-3 * again.norm()
    assert Group(physics, x, x).with_limit(solver(), 0).limit is None
    found = compared(methods=["1/L", "Hessian"], limit=300, solver=solver(40))
    assert row(found, "1/L").to_limit > 0


# --- what is told ---------------------------------------------------------------------------------


def made(method: str, family: str, psnr: float, to_target: float | None, **more) -> Row:
    values = {
        "prior": "",
        "setting": "none",
        "k": 3,
        "validation": psnr,
        "seconds": 1.0,
        "setup": 0.0,
        "fit": 0.0,
        "numbers": 0,
        "to_limit": None,
        "curve": [(0.0, 10.0), (1.0, psnr)],
    }
    return Row(method, family, psnr=psnr, to_target=to_target, **{**values, **more})


def told(*rows: Row) -> Comparison:
    return Comparison("Blur", SIZE, {"to fit": 4}, rows, {"L-DIPA": "no budget was given"})


def test_the_advice_is_what_reaches_the_target_first():
    learned = made("combined steps", "closed form", 30.0, 0.5, fit=7.0)
    plain, fast = made("1/L", "untrained", 29.95, 2.0), made("Hessian", "untrained", 29.95, 0.2)
    assert told(learned, plain).advice == (
        "Use combined steps, 3 iterations: 0.50 s to 29.90 dB after 7 s of fitting; 1/L takes "
        "2.00 s. Highest: combined steps, 30.00 dB."
    )
    assert told(fast, learned).advice.startswith(
        "Do not train: use Hessian, 3 iterations (0.20 s to 29.90 dB); learned ones reach 30.00 dB"
    )
    alone = told(learned, made("1/L", "untrained", 25.0, None)).advice
    assert "without learning 25.00 dB are reached" in alone


def test_the_advice_says_what_was_not_compared():
    learned = made("combined steps", "closed form", 30.0, 0.5, fit=7.0, k=1)
    assert "Use combined steps, 1 iteration: " in told(learned).advice
    assert "; nothing without learning was compared. Highest" in str(told(learned))
    plain = told(made("1/L", "untrained", 29.95, 2.0)).advice
    assert plain.startswith("Use 1/L, 3 iterations (2.00 s to 29.85 dB); nothing that has learned ")
    assert "nan" not in plain and "train:" not in plain


def test_where_nothing_runs_the_reasons_are_said():
    text = refuses(lambda: compared(methods=["L-DIPA", "N-DIPA"]), "methods", "none that can run")
    assert "L-DIPA (no budget was given); N-DIPA (no budget was given)" in text
    prior = dipa.Prox(deepinv.optim.L1Prior(), 0.01)
    found = compared(methods=["HQS", "1/L"], solver=dipa.FISTA(prior, 5))
    assert found.absent == {"HQS": "a prior by its denoiser, not Prox"}


@pytest.mark.parametrize("units", [30.0, 1 / 30])
def test_no_row_depends_on_the_units_of_the_operator(units):
    """Nor does what is chosen: the same blur, noise along, in other units."""
    kernel = units * deepinv.physics.functional.gaussian_blur(sigma=(1.0, 1.0))
    noise = deepinv.physics.GaussianNoise(0.05 * units)
    other = deepinv.physics.BlurFFT(SIZE, filter=kernel, noise_model=noise)
    methods = ["1/L", "Hessian", "Nyström", "CG-Tikhonov", "HQS", "DRS", "combined steps", "ridge"]
    one, two = (compared(physics, methods=methods) for physics in (operator(), other))
    assert not one.absent and not two.absent
    for method in methods:
        first, second = row(one, method), row(two, method)
        assert (first.setting, first.k) == (second.setting, second.k)
        assert first.psnr == pytest.approx(second.psnr, abs=0.01)


def holes(side: int = 8):
    """What a start leaves in them is in no gradient."""
    mask = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0)) < 0.5
    return deepinv.physics.Inpainting((1, side, side), mask=mask)


def test_the_ridge_predictor_has_its_better_start():
    """On holes zero; each start is tried, once, and training leaves it as it was."""
    x = smooth_images(40)
    found = compared(holes(), x, methods=["ridge", "1/L"])
    chosen = row(found, "ridge")
    assert chosen.setting.startswith("zero, ") and chosen.psnr > row(found, "1/L").psnr + 3
    problem = ways.Problem(solver(), holes(), x[:30], None, dipa.Budget(steps=2, batch_size=4), 0)
    forms = problem.closed_forms
    assert [form.start for form in forms] == ["scaled_adjoint", "zero"]
    assert forms[1].quality > forms[0].quality and problem.closed_forms is forms
    before = forms[1].fit.preconditioner.matrix.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (way,) = ways.l_dipa(problem)
    assert way.text.startswith("zero, ") and way.fit > forms[1].seconds
    assert torch.equal(forms[1].fit.preconditioner.matrix, before)
    alone = dataclasses.replace(problem, solver=dataclasses.replace(solver(), start="zero"))
    assert len(alone.closed_forms) == 1


def test_a_denoiser_that_keeps_something_is_refused():
    class Stateful(torch.nn.Module):
        calls = 0

        def forward(self, x, sigma=None):
            self.calls += 1
            return x * (1 - 0.05 * (self.calls % 2))

    run = solver(denoiser=Stateful())
    refuses(lambda: compared(methods=["1/L"], solver=run), "denoiser", "asked the same again")
    x = smooth_images(20)
    refuses(lambda: dipa.fit_steps(dipa.ScalarSteps(3), run, operator(), x), "denoiser")
    refuses(lambda: dipa.training.fit_ridge(run, operator(), x), "denoiser")


def test_rows_are_sorted_by_seconds_to_the_target():
    found = compared(methods=["1/L", "Hessian", "CG-Tikhonov", "polynomial"])
    times = [row.to_target for row in found.rows]
    reached = [at for at in times if at is not None]
    assert reached == sorted(reached) and times[len(reached) :] == [None] * (
        len(times) - len(reached)
    )
    assert found.target == pytest.approx(max(row.psnr for row in found.rows) - 0.1)
    long = solver(40, identity_denoiser)  # gains less than 0.1 dB at the end
    slow = compared(operator(0.001), methods=["1/L"], solver=long)
    for told_of, one in [(found, one) for one in found.rows] + [(slow, slow.first)]:
        there = next((one.setup + at for at, psnr in one.curve if psnr >= told_of.target), None)
        assert one.to_target == (None if there is None else pytest.approx(there))
    assert slow.first.to_target < slow.first.seconds


def test_set_up_counts_until_the_target():
    found = compared(methods=["Nyström"])
    (one,) = found.rows
    assert one.setup > 0
    curve = Curve([psnr for _, psnr in one.curve], [at for at, _ in one.curve], [])
    assert one.to_target == pytest.approx(one.setup + curve.seconds_to(found.target))


def test_a_comparison_is_a_table_a_figure_and_plain_values():
    found = compared(methods=["1/L", "learned scalars", "L-DIPA"])
    text = str(found)
    assert "BlurFFT, images (1, 8, 8) (14 to fit, 2 to choose, 4 to test)" in text
    assert "left out: L-DIPA (no budget was given)" in text and text.endswith(found.advice)
    plain = json.loads(json.dumps(found.plain()))
    assert plain["target"] == pytest.approx(found.target)
    again = Comparison.read(plain)
    assert str(again) == text and again.plain() == found.plain()
    assert again.first.curve == [pytest.approx(point, rel=1e-5) for point in found.first.curve]
    axis = found.plot().axes[0]
    labels = {line.get_label() for line in axis.lines}
    assert {"1/L", "learned scalars"} <= labels and axis.get_xlabel() == "seconds"


def test_what_it_refuses():
    x = smooth_images(20)
    refuses(lambda: compared(x=x[:7]), "images", "7", "8")
    refuses(lambda: compared(methods=["Newton"]), "methods", "Newton", "CG-Tikhonov")
    refuses(lambda: compared(methods=[]), "methods")
    refuses(lambda: compared(budget=3), "budget", "Budget")
    refuses(lambda: dipa.compare(operator(), 3), "images")
    told = dipa.compare(operator(), list(x), methods=["CG-Tikhonov"], progress=False)
    assert told.rows[0].prior == "", "the packaged denoiser, beside a list"
    refuses(lambda: compared(test=torch.rand(4, 1, 9, 8)), "test.shape", "(B, 1, 8, 8)")
    refuses(lambda: compared(methods=["L-DIPA"]), "methods", "none that can run here")
    wrong = deepinv.physics.LinearPhysics(
        A=lambda x, **_: 2 * x, A_adjoint=lambda y, **_: y.flip(3)
    )
    refuses(lambda: compared(wrong), "adjoint")
    assert comparison.compare is dipa.compare
