"""Phases of a training: what each compares, and how far its gradient goes, against plain loops."""

import signal
from dataclasses import replace

import pytest
import torch
from batteries import images, refuses, smooth_images, tiny_denoiser
from members import SHAPE, neural

import dipa
from dipa import Budget, LossWeights
from dipa.interrupt import Interrupted
from dipa.operators import single_pixel
from dipa.preconditioners import ScalarSteps
from dipa.training import Differentiation, Phase
from dipa.training.distillation import Distillation
from dipa.training.pairs import Pairs
from dipa.training.schedules import Plan
from dipa.training.student import StudentRun
from dipa.training.teacher import TeacherTargets
from dipa.training.validation import Validation

K, ALPHA, BETA = 4, 0.4, {1: 0.0, 2: 1 / 5, 3: 2 / 6, 4: 3 / 7}  # Chambolle and Dossal's weights
X = images(3, *SHAPE, seed=2).double()
INDEX = torch.arange(3)
STUDENT, TEACHER = single_pixel(SHAPE, ratio=0.3).double(), single_pixel(SHAPE, ratio=0.8).double()


class Counted(torch.nn.Module):
    """A denoiser that counts its calls."""

    def __init__(self):
        super().__init__()
        self.net, self.calls = tiny_denoiser().double(), 0

    def forward(self, x, sigma):
        self.calls += 1
        return self.net(x, sigma)


def problem(phase: Phase, denoiser=None, iterations: int = K) -> Distillation:
    prior = dipa.PnP(denoiser or tiny_denoiser().double())
    solver = dipa.FISTA(prior, iterations, momentum="chambolle_dossal", start="adjoint")
    return Distillation(solver, Pairs((STUDENT,), (TEACHER,)), (phase,), ALPHA, 0.7, 0.0, 0)


def steps() -> ScalarSteps:
    P = ScalarSteps(K).double()
    P.steps.data = torch.tensor([1.3, 0.7, 1.1, 0.9]).double()
    return P


def compared(phase: Phase, P=None, denoiser=None, targets=None):
    """Loss, its terms and the gradient of P's parameters on the images X."""
    P = P or steps()
    loss, record = StudentRun(problem(phase, denoiser), phase, P)(X, INDEX, targets, 0)
    return loss, record, torch.autograd.grad(loss, list(P.parameters()))


def by_hand(P, term, *, iterations=K, stretch=0, before=False, denoiser=None):
    """The same loss by a plain loop: ``term(image, z, direction, k)`` where a stretch ends."""
    net = denoiser or tiny_denoiser().double()
    y, terms = STUDENT.A(X), []
    x = previous = STUDENT.A_adjoint(y)
    for k in range(1, iterations + 1):
        z = x if k == 1 else x + BETA[k - 1] * (x - previous)
        direction = P.step(k) * STUDENT.A_adjoint(STUDENT.A(z) - y)
        given = z - ALPHA * direction
        x, previous = net(given, 2 / 255), x
        if k % (stretch or iterations) == 0:
            terms.append(term(given if before else x, z, direction, k))
            x, previous = x.detach(), previous.detach()
    loss = sum(terms) / len(terms)
    return loss, torch.autograd.grad(loss, list(P.parameters()))


def error(image, *_):
    return (image - X).square().sum() / len(X)


def plain(**options) -> Phase:
    """A phase that keeps every feature map, so that gradients are those of torch."""
    losses = options.pop("losses", LossWeights(supervised=1.0))
    return Phase(losses=losses, differentiation=Differentiation("unrolled"), **options)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("stretch", [0, 1, 2, 4])
@pytest.mark.parametrize("iterations", [0, 1, 2])
def test_loss_and_gradient_are_those_of_a_plain_loop(iterations, stretch, before):
    length = iterations or K
    phase = plain(iterations=iterations, stretch=stretch, before_prior=before)
    if stretch and length % stretch:
        refuses(lambda: phase.length(K), "phase.stretch", str(stretch), f"{length} iterations")
        return
    loss, record, found = compared(phase)
    wanted, gradient = by_hand(steps(), error, iterations=length, stretch=stretch, before=before)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-9)
    assert record["supervised"] == pytest.approx(wanted.item(), rel=1e-9)
    assert torch.allclose(found[0], gradient[0], rtol=1e-7, atol=1e-12)
    assert torch.count_nonzero(found[0]) == length, "every iteration that is run learns"


def test_a_stretch_of_the_whole_run_is_the_whole_run():
    for way in ("unrolled", "checkpointed"):
        whole = Phase(differentiation=Differentiation(way))
        stretch = Phase(differentiation=Differentiation(way), stretch=K)
        (one, _, first), (two, _, second) = compared(whole), compared(stretch)
        assert one.item() == two.item() and torch.equal(first[0], second[0])


def test_the_first_iteration_before_the_prior_calls_no_denoiser():
    counted = Counted()
    compared(Phase(iterations=1, before_prior=True), denoiser=counted)
    assert counted.calls == 0
    compared(Phase(stretch=1, before_prior=True), denoiser=counted)
    assert counted.calls == K - 1, "where the run ends nothing is left to be denoised"


def test_the_way_holds_within_a_stretch():
    """With the identity for the denoiser's Jacobian, and values that are its own."""
    straight = Phase(differentiation=Differentiation("straight_through"), stretch=2)
    loss, _, found = compared(straight)
    net = tiny_denoiser().double()

    def through(x, sigma):
        return x + (net(x, sigma) - x).detach()

    wanted, gradient = by_hand(steps(), error, stretch=2, denoiser=through)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-9)
    assert torch.allclose(found[0], gradient[0], rtol=1e-7)


def test_the_gradient_loss_on_the_way_is_the_cosine_at_the_same_point():
    phase = plain(losses=LossWeights(gradient=1.0), stretch=1, before_prior=True)
    loss, _, found = compared(phase)

    def term(image, z, direction, k):
        aim = TEACHER.A_adjoint(TEACHER.A(z.detach()) - TEACHER.A(X))
        cosine = torch.nn.functional.cosine_similarity(direction.flatten(1), aim.flatten(1), dim=1)
        return (1 - cosine).square().mean()

    wanted, gradient = by_hand(steps(), term, stretch=1, before=True)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-9)
    assert torch.allclose(found[0], gradient[0], atol=1e-12)


def test_imitation_on_the_way_is_of_the_teachers_iterate_or_of_its_output():
    phase = plain(losses=LossWeights(imitation=1.0), stretch=2, teacher_iterates=True)
    made = problem(phase)
    result = made.solver(TEACHER.A(X), TEACHER, stepsize=0.7, iterates=True)
    loss, _, _ = compared(phase)

    def near(image, z, direction, k):
        return (image - result.iterates[k]).square().sum() / len(X)

    assert loss.item() == pytest.approx(by_hand(steps(), near, stretch=2)[0].item(), rel=1e-9)
    output = TeacherTargets(result.x, X, INDEX)
    loss, _, _ = compared(plain(losses=LossWeights(imitation=1.0), stretch=2), targets=output)

    def far(image, z, direction, k):
        return (image - result.x).square().sum() / len(X)

    assert loss.item() == pytest.approx(by_hand(steps(), far, stretch=2)[0].item(), rel=1e-9)


def test_a_teacher_that_nothing_compares_with_does_not_run(monkeypatch):
    asked = plain(losses=LossWeights(supervised=1.0), stretch=1, teacher_iterates=True)
    monkeypatch.setattr(StudentRun, "_teacher_iterates", None)
    loss, _, _ = compared(asked)
    assert loss.item() == compared(plain(losses=LossWeights(supervised=1.0), stretch=1))[0].item()


def test_a_plan_counts_steps_through_its_budgets():
    plan = Plan((Budget(steps=2, batch_size=3), Budget(steps=3, batch_size=2)))
    assert plan.steps == 5
    assert [plan.place(step) for step in range(6)] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (1, 2),
        (1, 3),
    ]
    first, second = plan.batch(6, 1, 7), plan.batch(6, 2, 7)
    assert torch.equal(first, dipa.seeding.batch_indices(6, 3, 1, 7)) and len(second) == 2
    whole = torch.cat([plan.batch(50, step, 7) for step in range(5)])
    assert torch.equal(plan.drawn(50, 7), whole.unique())
    assert not torch.equal(plan.batch(50, 2, 7), dipa.seeding.batch_indices(50, 2, 0, 7)), "anew"


def phases() -> list[Phase]:
    budget = Budget(
        steps=3, batch_size=4, learning_rate=0.05, schedule="cosine", checkpoint_every=1
    )
    losses = LossWeights(imitation=1.0, gradient=0.1)
    return [
        Phase(budget, LossWeights(supervised=1.0), iterations=1, before_prior=True),
        Phase(budget, losses, stretch=1, teacher_iterates=True),
        Phase(budget, losses),
    ]


def trained(told, **options):
    solver = dipa.FISTA(dipa.PnP(tiny_denoiser()), K, momentum="none")
    P = neural("cnn", start="identity")
    student, teacher = single_pixel(SHAPE, ratio=0.3), single_pixel(SHAPE, ratio=0.8)
    options = {"phases": told, "stepsize": ALPHA, "progress": False} | options
    return dipa.distill(solver, P, student, teacher, smooth_images(20), validation=0, **options)


def test_a_history_goes_through_all_phases_each_with_a_fresh_optimiser():
    fit = trained(phases())
    assert [record["step"] for record in fit.history] == list(range(1, 10))
    assert [record["phase"] for record in fit.history] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    rates = [record["learning_rate"] for record in fit.history]
    assert rates[:3] == rates[3:6] == rates[6:] and rates[0] == 0.05 and rates[2] < rates[0]
    assert {"supervised"} <= set(fit.history[0]) and "imitation" not in fit.history[0]
    assert [made["stretch"] for made in fit.record["phases"]] == [0, 1, 0]


def test_phases_are_trainings_one_after_the_other():
    """The first phase alone ends where the whole training was after it."""
    whole, first = trained(phases()), trained(phases()[:1])
    assert [r["loss"] for r in first.history] == [r["loss"] for r in whole.history[:3]]


@pytest.mark.parametrize("step", [2, 3, 4, 6, 7])
def test_a_stopped_training_goes_on_to_the_same_bits(step, tmp_path):
    def stop(record):
        if record["step"] == step:
            raise Interrupted(signal.SIGINT)

    kinds = [("adam", "cosine"), ("adamw", "one_cycle"), ("adam", "plateau")]
    told = [
        replace(phase, budget=replace(phase.budget, optimizer=optimizer, schedule=schedule))
        for phase, (optimizer, schedule) in zip(phases(), kinds, strict=True)
    ]
    whole = trained(told)
    with pytest.raises(Interrupted):
        trained(told, checkpoint=tmp_path / "c.pt", report=stop)
    resumed = trained(told, checkpoint=tmp_path / "c.pt")
    pairs = zip(whole.trained.parameters(), resumed.trained.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert [r["loss"] for r in whole.history] == [r["loss"] for r in resumed.history]


def test_a_checkpoint_of_other_phases_is_refused(tmp_path):
    trained(phases()[:2], checkpoint=tmp_path / "c.pt")
    refuses(lambda: trained(phases(), checkpoint=tmp_path / "c.pt"), "c.pt", "settings")


def test_only_looks_in_the_last_phase_end_a_training():
    """Nothing is ever better than the start: the fourth look after step 6 is the last one."""
    told = Budget(steps=6, batch_size=4), Budget(steps=9, batch_size=2)
    made = replace(problem(Phase()), phases=(Phase(told[0]), Phase(told[1])))
    steps, apart, since = made.looks(torch.arange(3))
    assert (steps, apart, since) == (15, 2, 6)
    qualities = iter([30.0] + 15 * [20.0])
    looks, module = Validation(lambda: next(qualities), steps, 1, since), torch.nn.Linear(1, 1)
    ended = []
    for step in range(11):
        looks.look(module, step)
        ended.append(looks.exhausted)
    assert ended == 10 * [False] + [True]


def test_what_does_not_go_together_is_refused_by_name():
    refuses(lambda: trained(phases(), losses=LossWeights(supervised=1.0)), "phases", "losses")
    refuses(lambda: trained(phases(), budget=Budget()), "phases", "budget")
    refuses(lambda: trained(None), "losses", "phases")
    refuses(lambda: trained([]), "phases", "at least one Phase")
    refuses(lambda: trained([Budget()]), "phases", "Phase")
    refuses(lambda: trained([Phase(iterations=K + 1)]), "phase.iterations", "5", "4")
    refuses(lambda: trained([Phase(stretch=3)]), "phase.stretch", "3", "4 iterations")
    for along in ({"stretch": 1}, {"before_prior": True}, {"teacher_iterates": True}):
        refuses(lambda: Phase(differentiation=Differentiation("truncated"), **along), "way")  # noqa: B023
    refuses(lambda: Phase(before_prior=True, losses=LossWeights(1.0, row_space=1.0)), "row_space")
    refuses(lambda: Phase(before_prior=1), "phase.before_prior", "1")
    refuses(lambda: Phase(budget=3), "phase.budget", "int")


def test_no_teacher_is_run_where_no_phase_needs_its_output():
    """The teacher is asked for its gradient at the student's points, and for nothing else."""
    losses = LossWeights(supervised=1.0, gradient=1.0)
    fit = trained([Phase(Budget(steps=1, batch_size=2), losses, iterations=1, before_prior=True)])
    assert "teacher_images" not in fit.record
    assert "teacher_images" in trained([Phase(Budget(steps=1, batch_size=2), losses)]).record
