"""Varied copies of images: mirrored, shifted, turned and scaled as said, drawn by seed, number and
image alone; closed forms and trainings of them.
"""

import math
import signal
import sys

import pytest
import torch
from batteries import images, refuses, smooth_images, tiny_denoiser
from members import SHAPE, neural

import dipa
from dipa import Budget, LossWeights, Variations, seeding
from dipa.interrupt import Interrupted
from dipa.operators import mri, single_pixel
from dipa.physics import lipschitz
from dipa.preconditioners import LinearPreconditioner, linear
from dipa.training import Phase
from dipa.training.validation import held_out
from dipa.variations import varied

X = images(6, 2, 16, 12).double()
ALL = Variations(flip=True, shift=1.5, rotation=10, zoom=0.2)


def drawn(draw: int, number: int, seed: int = 0) -> list[float]:
    """The five numbers of an image: mirror, shifts, angle, scale."""
    stream = seeding.generator(seed, "varied", draw, number)
    return (2 * torch.rand(5, generator=stream, dtype=torch.float64) - 1).tolist()


def test_nothing_varies_by_default():
    assert not Variations().active and not Variations(copies=3).active
    assert varied(X, Variations(copies=3)) is X


def test_a_mirrored_image_is_flipped_or_is_itself():
    """To the bit, by its own draw, all channels together; both happen."""
    copies = varied(X, Variations(flip=True), draw=4)
    mirrored = [drawn(4, number)[0] < 0 for number in range(6)]
    assert {*mirrored} == {True, False}
    for image, copy, turned in zip(X, copies, mirrored, strict=True):
        assert torch.equal(copy, torch.flip(image, [-1]) if turned else image)


@pytest.mark.parametrize("border", ["zeros", "edge"])
def test_a_whole_shift_is_a_roll_with_the_border_outside(border, monkeypatch):
    draws = torch.zeros(6, 5, dtype=torch.float64)
    draws[:, 1], draws[:, 2] = 1.0, 0.5
    monkeypatch.setattr("dipa.variations._draws", lambda *_: draws)
    copies = varied(X, Variations(shift=2, border=border))  # from 2 to the right and 1 below
    outside = 0.0 * X if border == "zeros" else X[:, :, -1:, -1:].expand_as(X)
    assert copies[:, :, :-1, :-2].allclose(X[:, :, 1:, 2:])
    assert copies[:, :, -1, -1].allclose(outside[:, :, -1, -1])


def bump(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """A smooth image of the places, in pixels from the centre, not alike in any direction."""
    return torch.exp(-((rows + 1.5) ** 2 + (columns - 2) ** 2 / 3) / 30)


def test_copies_are_the_image_at_the_turned_scaled_and_shifted_places():
    """On an image known between its pixels, of unequal sides."""
    rows, columns = torch.meshgrid(
        torch.arange(60).double() - 29.5, torch.arange(50).double() - 24.5, indexing="ij"
    )
    told = Variations(shift=2.5, rotation=25, zoom=0.3)
    copies = varied(bump(rows, columns).expand(5, 1, 60, 50), told, draw=2, seed=5)
    far = 0.0
    for number, copy in enumerate(copies[:, 0]):
        _, right, down, angle, scale = drawn(2, number, seed=5)
        theta, s = math.radians(25) * angle, 1.3**scale
        x = (math.cos(theta) * columns - math.sin(theta) * rows) / s + 2.5 * right
        y = (math.sin(theta) * columns + math.cos(theta) * rows) / s + 2.5 * down
        assert (copy - bump(y, x)).abs().max() < 1e-2
        far = max(far, (copy - bump(rows, columns)).abs().max().item())
    assert far > 0.2, "they did move"


def test_a_copy_depends_on_seed_number_and_image_alone():
    whole = varied(X, ALL, seed=3, draw=7)
    assert torch.equal(whole, varied(X, ALL, seed=3, draw=7))
    some = torch.tensor([4, 1])
    torch.testing.assert_close(varied(X[some], ALL, seed=3, draw=7, indices=some), whole[some])
    for other in ({"seed": 4, "draw": 7}, {"seed": 3, "draw": 8}):
        assert (varied(X, ALL, **other) - whole).abs().flatten(1).amax(1).min() > 1e-3


def test_single_numbers_stay_single():
    made = varied(X.float(), ALL)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made, varied(X, ALL).float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"variations": "all"}, ("variations", "Variations")),
        ({"seed": -1}, ("seed", "-1")),
        ({"draw": 0.5}, ("draw", "0.5")),
        ({"indices": torch.arange(5)}, ("indices", "6 whole numbers")),
        ({"indices": torch.rand(6)}, ("indices", "6 whole numbers")),
        ({"images": X[0]}, ("images",)),
    ],
)
def test_copies_refuse(bad, words):
    refuses(lambda: varied(**({"images": X, "variations": ALL} | bad)), *words)


# --- the closed form ------------------------------------------------------------------------------


def ridge(variations=None, of=None, seed=0, planes=False):
    physics = single_pixel(SHAPE, ratio=0.3) if of is None else of
    size = SHAPE if of is None else (2, 12, 12)
    told = {"stepsize": 0.4, "regularization": 1e-3, "planes": planes, "seed": seed}
    return LinearPreconditioner.ridge(
        physics,
        smooth_images(20 * size[0], size[1]).reshape(20, *size),
        variations=variations,
        **told,
    )


def test_copies_that_do_not_vary_leave_the_closed_form_as_it_is():
    plain = ridge()
    assert torch.equal(ridge(Variations(shift=2)).matrix, plain.matrix), "no copies"
    torch.testing.assert_close(ridge(Variations(copies=3)).matrix, plain.matrix)


@pytest.mark.parametrize("planes", [False, True])
def test_the_closed_form_is_that_of_images_and_copies_together(planes):
    """As from a list that holds them all."""
    physics = mri((2, 12, 12), acceleration=3)
    told = Variations(flip=True, shift=1, rotation=5, copies=2)
    made = ridge(told, of=physics, seed=9, planes=planes)
    clean = smooth_images(40, 12).reshape(20, 2, 12, 12)
    whole = [clean, *(varied(clean, told, seed=9, draw=draw) for draw in (1, 2))]
    options = {"stepsize": 0.4, "regularization": 1e-3, "planes": planes}
    listed = LinearPreconditioner.ridge(physics, torch.cat(whole), **options)
    torch.testing.assert_close(made.matrix, listed.matrix, rtol=1e-4, atol=1e-5)
    other = ridge(told, of=physics, seed=8, planes=planes)
    assert not torch.equal(made.matrix, other.matrix)


def test_copies_help_where_moved_images_are_as_likely():
    """Twelve smooth images against the same with copies, on others."""
    physics, test = single_pixel(SHAPE, ratio=0.3), smooth_images(50, SHAPE[1], seed=7)
    errors = []
    for variations in (None, Variations(flip=True, shift=3, copies=40)):
        P = LinearPreconditioner.ridge(
            physics, smooth_images(12, SHAPE[1]), stepsize=0.4, variations=variations
        )
        guess = 0.4 * P(physics.A_adjoint_A(test), test, 1)
        errors.append((guess - test).square().mean().item())
    assert errors[1] < 0.8 * errors[0], errors


def test_batches_are_the_images_then_their_copies_each_by_its_own_number():
    told = Variations(flip=True, shift=1, copies=2)
    whole = torch.cat(list(linear._samples(X, 4, told, 5)))
    wanted = torch.cat([X, *(varied(X, told, seed=5, draw=draw) for draw in (1, 2))])
    torch.testing.assert_close(whole, wanted)


def test_the_closed_form_chosen_on_held_out_images_is_that_of_the_copies_of_the_others():
    solver = dipa.FISTA(dipa.PnP(tiny_denoiser()), 2)
    physics, told = single_pixel(SHAPE, ratio=0.3), Variations(flip=True, copies=2)
    clean, options = smooth_images(20), {"stepsize": 0.4, "validation": 0.2, "seed": 3}
    fit = dipa.training.fit_ridge(solver, physics, clean, variations=told, **options)
    best = max(fit.record["trials"], key=lambda trial: trial["psnr"])
    chosen = {"regularization": best["regularization"] * lipschitz(physics, SHAPE) ** 2}
    kept = clean[held_out(20, 0.2, 3)[0]]
    made = LinearPreconditioner.ridge(
        physics,
        kept,
        stepsize=0.4,
        null_weight=best["null_weight"],
        variations=told,
        seed=3,
        **chosen,
    )
    torch.testing.assert_close(fit.preconditioner.matrix, made.matrix)
    assert fit.record["variations"]["copies"] == 2
    plain = dipa.training.fit_ridge(solver, physics, clean, **options)
    assert "variations" not in plain.record
    refuses(
        lambda: dipa.training.fit_ridge(solver, physics, clean, variations=2),
        "variations",
        "Variations",
    )


def test_the_closed_form_refuses_other_variations():
    refuses(lambda: ridge({"shift": 1}), "variations", "Variations")
    refuses(lambda: ridge(ALL, seed=-1), "seed", "-1")


# --- training -------------------------------------------------------------------------------------

BUDGET = Budget(steps=6, batch_size=4, learning_rate=0.01, checkpoint_every=1)


def trained(variations, **options):
    solver = dipa.FISTA(dipa.PnP(tiny_denoiser()), 2, momentum="none", start="zero")
    student, teacher = single_pixel(SHAPE, ratio=0.3), single_pixel(SHAPE, ratio=0.8)
    phase = Phase(BUDGET, LossWeights(supervised=1.0), iterations=1, before_prior=True)
    told = {"phases": [phase], "stepsize": 0.4, "progress": False, "validation": 0} | options
    P = neural("cnn", start="identity")
    return dipa.distill(
        solver, P, student, teacher, smooth_images(10), variations=variations, **told
    )


def network(variations, **options):
    made = dipa.endtoend.build("u-net", SHAPE, features=4, blocks=2)
    told = {"budget": BUDGET, "progress": False, "variations": variations} | options
    return dipa.train_network(made, single_pixel(SHAPE, ratio=0.3), smooth_images(10), **told)


def curve(fit) -> list[float]:
    return [record["loss"] for record in fit.history]


@pytest.mark.parametrize("train", [trained, network])
def test_a_stopped_training_on_varied_images_goes_on_to_the_same_bits(train, tmp_path):
    def stop(record):
        if record["step"] == 3:
            raise Interrupted(signal.SIGINT)

    whole = train(ALL)
    with pytest.raises(Interrupted):
        train(ALL, checkpoint=tmp_path / "c.pt", report=stop)
    refuses(lambda: train(None, checkpoint=tmp_path / "c.pt"), "c.pt")
    resumed = train(ALL, checkpoint=tmp_path / "c.pt")
    assert curve(whole) == curve(resumed)
    pairs = zip(whole.trained.parameters(), resumed.trained.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert whole.record["variations"]["shift"] == 1.5


@pytest.mark.parametrize("train", [trained, network])
def test_every_step_varies_its_images_anew_and_none_where_nothing_varies(train, monkeypatch):
    seen = []

    def noted(batch, variations, *, seed, draw, indices):
        seen.append((variations, seed, draw, indices.tolist()))
        return varied(batch, variations, seed=seed, draw=draw, indices=indices)

    module = "dipa.training.distillation" if train is trained else "dipa.training.network"
    monkeypatch.setattr(sys.modules[module], "varied", noted)
    moved = train(ALL, seed=3)
    drawn_images = [seeding.batch_indices(10, 4, step, 3).tolist() for step in range(6)]
    assert seen == [(ALL, 3, step, own) for step, own in enumerate(drawn_images)]
    plain, still = train(None, seed=3), train(Variations(copies=2), seed=3)
    assert curve(plain) == curve(still) != curve(moved)
    assert "variations" not in plain.record and "variations" not in still.record


def test_the_loss_of_a_step_is_that_of_its_varied_images():
    """P starts as the identity: the first step compares H^T H x' of the varied x' with x'."""
    clean, physics = smooth_images(10), single_pixel(SHAPE, ratio=0.3)
    own = seeding.batch_indices(10, 4, 0, 0)
    moved = varied(clean[own], ALL, draw=0, indices=own)
    error = (0.4 * physics.A_adjoint_A(moved) - moved).square().flatten(1).sum(1).mean()
    assert trained(ALL).history[0]["loss"] == pytest.approx(error.item(), rel=1e-4)


@pytest.mark.filterwarnings("ignore:distill")
def test_held_out_images_are_not_varied():
    """The look before the first step is the same."""
    looks = [trained(told, validation=0.3).record["validation"]["looks"][0] for told in (None, ALL)]
    assert looks[0] == looks[1]


def test_a_teacher_whose_outputs_are_computed_once_takes_no_varied_images():
    phase = Phase(BUDGET, LossWeights(imitation=1.0))
    refuses(lambda: trained(ALL, phases=[phase]), "variations", "teacher's outputs")
    along = Phase(BUDGET, LossWeights(imitation=1.0), stretch=1, teacher_iterates=True)
    assert len(trained(ALL, phases=[along]).history) == 6
    refuses(lambda: trained("all"), "variations", "Variations")
    refuses(lambda: network("all"), "variations", "Variations")
