"""What a training that goes over several operators computes, against a plain loop over them."""

import deepinv
import pytest
import torch
from batteries import (
    identity_denoiser,
    images,
    refuses,
    relative,
    rng,
    smooth_images,
    solver,
    tiny_denoiser,
)
from deepinv.physics.generator import (
    BernoulliSplittingMaskGenerator,
    MotionBlurGenerator,
    SigmaGenerator,
)

import dipa
from dipa import Budget, LossWeights, ScalarSteps, distill, metrics, seeding
from dipa.operators.measure import measure
from dipa.preconditioners import CombinedSteps
from dipa.training import Phase
from dipa.training.pairs import Pairs

SIZE, N, K, STEPS, BATCH, RATE = (1, 8, 8), 6, 3, 5, 2, 0.05
X = images(N, *SIZE, seed=5)
RUN = dipa.FISTA(dipa.PnP(tiny_denoiser()), K, start="zero")
ONLY_IMAGES, ONLY_TEACHER = LossWeights(supervised=1.0), LossWeights(imitation=1.0)
BUDGET = Budget(steps=STEPS, batch_size=BATCH, learning_rate=RATE)


def masks(count: int, share: float = 0.6) -> torch.Tensor:
    return (torch.rand(count, *SIZE, generator=rng(11)) < share).float()


def inpainting(mask: torch.Tensor, sigma: float = 0.02):
    noise = deepinv.physics.GaussianNoise(sigma)
    return deepinv.physics.Inpainting(SIZE, mask=mask, noise_model=noise)


def trained(student, teacher=None, given=X, losses=ONLY_IMAGES, **options) -> torch.Tensor:
    options = {"budget": BUDGET, "validation": 0, "progress": False, "stepsize": 1.0} | options
    options |= {"teacher_stepsize": 0.7}
    return distill(RUN, ScalarSteps(K), student, teacher, given, losses=losses, **options)


def by_hand(student_at, teacher_at=None, stepsize=1.0) -> torch.Tensor:
    """Adam on the steps of plain FISTA runs, image by image: ``student_at(step, place, number)``
    is the operator of the image at a place of the batch, by its number.
    """
    P = ScalarSteps(K)
    adam = torch.optim.Adam(P.parameters(), lr=RATE)
    for step in range(STEPS):
        loss, index = 0.0, seeding.batch_indices(N, BATCH, step, 0)
        for place, number in enumerate(index):
            physics, x = student_at(step, place, number), X[number][None]
            y = measure(physics, x, seed=0, indices=number[None])
            if teacher_at:
                t = teacher_at(step)
                y_t = measure(t, x, seed=0, indices=number[None], stream="teacher noise")
                x = RUN(y_t, t, stepsize=0.7).x
            x_hat = RUN(y, physics, preconditioner=P, stepsize=stepsize, backward=None).x
            loss = loss + (x_hat - x).square().sum() / BATCH
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(P.parameters(), BUDGET.clip)
        adam.step()
    return P.steps.detach()


SEVERAL = [inpainting(mask[None]) for mask in masks(3)]
TEACHERS = [inpainting(mask[None]) for mask in masks(3, 0.9)]


def test_several_students_take_turns():
    fit = trained(SEVERAL)
    assert relative(fit.preconditioner.steps.detach(), by_hand(lambda s, *_: SEVERAL[s % 3])) < 1e-5
    assert fit.record["operators"] == {"students": 3, "for images": 1, "generator": None}
    assert fit.preconditioner.setting["operator is"] == "a family of operators"


@pytest.mark.parametrize("kind", ["two lists", "pairs", "a generator of pairs"])
def test_each_student_has_its_teacher(kind):
    pairs = list(zip(SEVERAL, TEACHERS, strict=True))
    student, teacher = {
        "two lists": (SEVERAL, TEACHERS),
        "pairs": (pairs, None),
        "a generator of pairs": ((pair for pair in pairs), None),
    }[kind]
    got = trained(student, teacher, losses=ONLY_TEACHER).preconditioner.steps.detach()
    wanted = by_hand(lambda s, *_: SEVERAL[s % 3], lambda s: TEACHERS[s % 3])
    assert relative(got, wanted) < 1e-5


def test_several_students_may_have_one_teacher():
    got = trained(SEVERAL, TEACHERS[0], losses=ONLY_TEACHER).preconditioner.steps.detach()
    assert relative(got, by_hand(lambda s, *_: SEVERAL[s % 3], lambda s: TEACHERS[0])) < 1e-5


def test_every_image_is_seen_by_its_own_mask():
    own = masks(N)
    got = trained(inpainting(own)).preconditioner.steps.detach()
    assert relative(got, by_hand(lambda s, _, number: inpainting(own[number][None]))) < 1e-5


@pytest.mark.parametrize("batch", [BATCH, N])
def test_every_image_has_noise_of_its_own_level(batch, monkeypatch):
    levels, mask = torch.linspace(0.0, 0.3, N), masks(1)
    monkeypatch.setitem(globals(), "BATCH", batch)

    def physics(sigma):
        noise = deepinv.physics.GaussianNoise(sigma)
        return deepinv.physics.Inpainting(SIZE, mask=mask, noise_model=noise)

    budget = Budget(steps=STEPS, batch_size=batch, learning_rate=RATE)
    got = trained(physics(levels), budget=budget).preconditioner.steps.detach()
    assert relative(got, by_hand(lambda s, _, number: physics(levels[number]))) < 1e-5


def test_a_family_may_be_saved_on_the_way_whatever_its_preconditioner(tmp_path):
    """A P that acts with its operator, of which it sees one image at the door."""
    whole = [
        distill(
            RUN, CombinedSteps(K, degree=2, widths=(1.0,)), inpainting(masks(N)), None, X,
            losses=ONLY_IMAGES, budget=BUDGET, validation=0, progress=False, **options,
        ).preconditioner.steps
        for options in ({}, {"checkpoint": tmp_path / "part"})
    ]  # fmt: skip
    assert torch.equal(*whole)


def test_a_generator_draws_for_every_image_of_every_step():
    generator = BernoulliSplittingMaskGenerator(SIZE, split_ratio=0.6)

    def student_at(step, place, _):
        seed = seeding.derive(0, "physics generator", step)
        return inpainting(generator.step(BATCH, seed=seed)["mask"][place][None])

    fit = trained(inpainting(masks(1)), physics_generator=generator)
    assert relative(fit.preconditioner.steps.detach(), by_hand(student_at)) < 1e-5
    drawn = [student_at(step, place, 0).mask for step in range(2) for place in range(2)]
    assert all(not torch.equal(drawn[0], other) for other in drawn[1:])


def test_the_step_of_drawn_operators_fits_the_largest():
    """Of filters with the sum 1 to 8 the largest L is the square of the largest sum drawn."""

    class Loud(deepinv.physics.generator.PhysicsGenerator):
        def step(self, batch_size=1, seed=None, **_):
            self.rng_manual_seed(seed)
            return {"filter": 1 + 7 * torch.rand(batch_size, 1, 1, 1, generator=self.rng)}

    physics = deepinv.physics.Blur(filter=torch.ones(1, 1, 1, 1), padding="valid")
    pairs = Pairs.of(physics, None, Loud(), X, N, 0)
    seeds = [seeding.derive(0, "physics generator", f"L {number}") for number in range(8)]
    largest = max(Loud().step(1, seed=seed)["filter"].item() ** 2 for seed in seeds)
    assert pairs.stepsize(RUN, "1/L", X) == pytest.approx(1 / largest, rel=1e-3)
    assert pairs.stepsize(RUN, 0.1, X) == 0.1 and len({*seeds}) == 8


@pytest.mark.parametrize("teacher", [None, TEACHERS[0], TEACHERS])
def test_a_stream_teaches_what_its_tensor_does(teacher):
    student = SEVERAL if isinstance(teacher, list) else SEVERAL[0]
    losses = LossWeights(supervised=1.0, imitation=0.5, gradient=0.2) if teacher else ONLY_IMAGES
    runs = [
        trained(student, teacher, given, losses).preconditioner.steps
        for given in (X, dipa.data.Streamed(list(X)))
    ]
    assert torch.equal(*runs)


@pytest.mark.filterwarnings("ignore:distill")
def test_what_a_stream_is_worth_is_measured_on_images_it_was_not_made_of():
    x = smooth_images(24)
    options = {"validation": 0.25, "stepsize": "1/L"}
    worth = [
        trained(inpainting(masks(1)), None, given, **options).record["worth"]
        for given in (x, dipa.data.Streamed(list(x)))
    ]
    assert worth[0]["closed_form"] == pytest.approx(worth[1]["closed_form"], abs=1e-6)


def test_one_image_is_trained_on_and_none_held_out():
    assert trained(SEVERAL[0], None, X[:1], validation=0.5).record["images"] == 1


def test_held_out_images_are_shared_out_to_the_students():
    x = smooth_images(12)
    options = {"validation": 0.5, "stepsize": "1/L"}
    fit = trained(SEVERAL, None, x, **options)
    looks = fit.record["validation"]["looks"]
    _, index = dipa.training.validation.held_out(12, 0.5, 0)
    psnr = []
    for place, number in enumerate(index):
        physics, image = SEVERAL[place % 3], x[number][None]
        y = measure(physics, image, seed=0, indices=number[None])
        psnr.append(metrics.psnr(RUN(y, physics, preconditioner=ScalarSteps(K)).x, image))
    assert looks[0][1] == pytest.approx(torch.cat(psnr).mean().item(), rel=1e-5)


def test_what_masks_taught_serves_a_mask_never_seen():
    x, run = smooth_images(40), solver(6, identity_denoiser, start="zero")
    generator = BernoulliSplittingMaskGenerator(SIZE, split_ratio=0.6)
    budget = Budget(steps=60, batch_size=8, learning_rate=0.05)
    P = CombinedSteps(6, degree=2, widths=(1.0,))
    phases = [Phase(budget, ONLY_IMAGES)]
    fit = distill(
        run, P, inpainting(masks(1)), None, x[:30], phases=phases, physics_generator=generator,
        validation=0, progress=False,
    )  # fmt: skip
    other, test = inpainting(masks(4)[3:]), x[30:]
    y = measure(other, test, seed=3)
    gain = metrics.psnr(run(y, other, preconditioner=fit).x, test) - metrics.psnr(
        run(y, other).x, test
    )
    assert gain.mean() > 3


@pytest.mark.parametrize("kind", ["generator", "several", "stream"])
def test_a_training_that_is_stopped_goes_on_to_the_bit(kind, tmp_path):
    generator = MotionBlurGenerator((3, 3))
    blur = deepinv.physics.Blur(filter=generator.step(1, seed=0)["filter"], padding="circular")
    student, options = (SEVERAL, {}) if kind == "several" else (blur, {})
    options |= {"physics_generator": generator} if kind == "generator" else {}
    given = dipa.data.Streamed(list(X)) if kind == "stream" else X
    budget = Budget(steps=STEPS, batch_size=BATCH, learning_rate=RATE, checkpoint_every=1)
    options |= {"budget": budget, "stepsize": "1/L"}
    whole = trained(student, None, given, **options)

    def stop(record):
        if record["step"] == 3:
            raise KeyboardInterrupt

    options |= {"checkpoint": tmp_path / "part"}
    with pytest.raises(KeyboardInterrupt):
        trained(student, None, given, report=stop, **options)
    again = trained(student, None, given, **options)
    assert torch.equal(again.preconditioner.steps, whole.preconditioner.steps)
    other = {"several": lambda: SEVERAL[:2], "generator": lambda: blur, "stream": lambda: blur}
    options |= {"physics_generator": MotionBlurGenerator((5, 5))}
    options = {name: value for name, value in options.items() if kind == "generator" or
               name != "physics_generator"}  # fmt: skip
    changed = dipa.data.Streamed(list(X.flip(0))) if kind == "stream" else given
    refuses(lambda: trained(other[kind](), None, changed, **options), "checkpoint")


def test_another_noise_is_another_training(tmp_path):
    options = {"checkpoint": tmp_path / "part"}
    trained(inpainting(masks(1)), physics_generator=SigmaGenerator(0.01, 0.1), **options)
    loud = SigmaGenerator(0.4, 0.9)
    refuses(
        lambda: trained(inpainting(masks(1)), physics_generator=loud, **options),
        "checkpoint",
        "physics_generator",
    )


def test_a_generator_that_changes_nothing_is_refused():
    blur = deepinv.physics.Blur(filter=torch.ones(1, 1, 3, 3) / 9, padding="circular")
    drawn = BernoulliSplittingMaskGenerator(SIZE, split_ratio=0.6)
    refuses(lambda: trained(blur, physics_generator=drawn), "physics_generator", "mask", "Blur")
    both = drawn + SigmaGenerator(0.01, 0.1)
    refuses(lambda: trained(blur, physics_generator=both), "physics_generator", "mask")

    class Anew(BernoulliSplittingMaskGenerator):
        def step(self, batch_size=1, seed=None, **options):
            return super().step(batch_size, seed=None, **options)

    anew = Anew(SIZE, split_ratio=0.6)
    refuses(lambda: trained(inpainting(masks(1)), physics_generator=anew), "draws anew")


def test_what_does_not_go_together_is_refused():
    fives = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(torch.full((5,), 0.1)))
    refuses(lambda: trained(fives), "student", "noise for 5 images", "6")
    refuses(lambda: trained([SEVERAL[0], fives]), "student's noise", "5 levels")
    refuses(lambda: trained(SEVERAL[0], fives, losses=ONLY_TEACHER), "teacher's noise", "5 levels")
    generator = BernoulliSplittingMaskGenerator(SIZE, split_ratio=0.6)
    refuses(lambda: trained([]), "student", "no operators")
    refuses(lambda: trained(SEVERAL, TEACHERS[:2], losses=ONLY_TEACHER), "teacher", "2", "3")
    refuses(lambda: trained([(SEVERAL[0], TEACHERS[0]), SEVERAL[1]]), "student", "pairs")
    refuses(lambda: trained([(SEVERAL[0], TEACHERS[0])], TEACHERS[0]), "teacher", "None")
    refuses(lambda: trained(SEVERAL, [SEVERAL[1]], losses=ONLY_TEACHER), "teacher", "separate")
    refuses(lambda: trained(SEVERAL, physics_generator=generator), "physics_generator", "several")
    refuses(lambda: trained(SEVERAL[0], physics_generator=3), "physics_generator", "int")
    refuses(lambda: trained(inpainting(masks(4))), "student", "4 images", "6")
    wrong = deepinv.physics.LinearPhysics(A=lambda x, **_: x, A_adjoint=lambda y, **_: y.flip(3))
    refuses(lambda: trained([SEVERAL[0], wrong]), "student[1]", "adjoint")
    hidden = masks(N)
    closure = deepinv.physics.LinearPhysics(
        A=lambda x, **_: hidden * x, A_adjoint=lambda y, **_: hidden * y
    )
    refuses(lambda: trained(closure), "student", "a row for every image")
