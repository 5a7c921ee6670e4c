"""Every field of a configuration changes what it should, and nothing else.

A configuration is run whole, on images and with denoisers that stand in for the real ones. ``seen``
notes all that can be seen of it, from the operators to the tested images; two configurations that
differ in one field are then compared.
"""

import dataclasses
import hashlib

import pytest
import torch
from batteries import relative, rng, smooth_images, tiny_denoiser

from dipa import LossWeights, data, denoisers, experiments, losses, training
from dipa.experiments import evaluation
from dipa.experiments.config import Config
from dipa.experiments.evaluation import Kept, evaluate
from dipa.experiments.methods import METHODS
from dipa.experiments.problem import Problem
from dipa.experiments.tasks import TASKS
from dipa.operators.measure import measure
from dipa.preconditioners import LinearPreconditioner

COMMON = {
    "preset": "wiring",
    "profile": "tiny",
    "task.size": 16,
    "task.noise_sigma": 0.05,
    "data.name": "embedded",
    "data.train_count": 5,
    "data.ridge_count": 12,
    "data.test_count": 3,
    "solver.iterations": 3,
    "solver.denoiser": "dncnn-bsds500",
    "solver.precision": "float32",
    "losses.supervised": 1.0,
    "training.steps": 2,
    "training.batch_size": 2,
    "training.learning_rate": 1e-2,
    "training.schedule": "constant",
    "training.checkpoint_every": 2,
}
EVERY_LOSS = {f"losses.{name}": 0.5 for name in losses.TERMS if name != "supervised"}
SINGLE_PIXEL = {"task.kind": "single_pixel", "task.ratio": 0.3}
MRI = {"task.kind": "mri", "task.acceleration": 4.0, "task.teacher_acceleration": 2.0}
SUPER_RESOLUTION = {"task.kind": "super_resolution", "task.factor": 3, "task.teacher_factor": 2}
NETWORK = {
    "network.features": 4,
    "network.blocks": 1,
    "network.code_dim": 4,
    "losses.gradient": 1.0,
}

BASES = {
    "linear": SINGLE_PIXEL | EVERY_LOSS | {"method": "l-dipa"},
    "identity": MRI
    | {"method": "l-dipa", "preconditioner.start": "identity", "losses.imitation": 1.0},
    "ridge": MRI | {"method": "ridge"},
    "hessian": SUPER_RESOLUTION | {"method": "hessian"},
    "polynomial": SUPER_RESOLUTION | {"method": "polynomial"},
    "pointwise": SUPER_RESOLUTION | {"method": "pointwise", "losses.imitation": 1.0},
    "network": SINGLE_PIXEL | NETWORK | {"method": "n-dipa", "network.start": "random"},
    "end to end": MRI | NETWORK | {"method": "fista-net", "solver.start": "adjoint"},
}
BASES["shifted"] = BASES["linear"] | {"shifts": {"easier": {"task": {"ratio": 0.5}}}}
BASES["moved"] = SUPER_RESOLUTION | {"method": "pointwise"}
BASES["varied"] = SINGLE_PIXEL | {"method": "l-dipa"}
BASES["varied"] |= {"variations.shift": 1.0, "variations.copies": 2}
BASES["red"] = BASES["linear"] | {"solver.prior": "red"}
BASES["decayed"] = BASES["linear"] | {"training.optimizer": "adamw", "training.weight_decay": 0.05}
BASES["truncated"] = BASES["linear"] | {
    "differentiation.way": "truncated",
    "differentiation.tail": 1,
}
BASES["plateau"] = BASES["linear"] | {
    "training.steps": 6,
    "training.schedule": "plateau",
    "training.patience": 0,
}
# losses rise and fall with the batch alone
BASES["plateau"] |= {"training.window": 1, "training.learning_rate": 1e-5}

# what is seen of a configuration, in the groups that change together
TESTED = {"student", "falsification", "shifts"}
FIT = {"losses", "trained"} | TESTED
EVERYWHERE = {"start", "baseline", "teacher"} | FIT
IMAGES = {
    "student operator",
    "teacher operator",
    "student noise",
    "teacher noise",
    "training images",
    "test images",
}
OPERATORS = {"student operator", "student noise", "baseline"}
TEACHER = {"teacher operator", "teacher noise", "teacher"}

CASES = [
    ("preset", "linear", "another", set()),
    ("profile", "linear", "another", set()),
    ("method", "linear", "scalar", {"start", "kind"} | FIT),
    ("seed", "linear", 1, {"seed", "baseline", "teacher"} | FIT),
    ("seed", "network", 1, {"seed", "start", "baseline", "teacher"} | FIT),
    ("seed", "end to end", 1, {"seed", "start", "baseline", "teacher"} | FIT),
    ("seed", "varied", 1, {"seed", "start", "baseline", "teacher"} | FIT),
    ("shifts", "shifted", {"easier": {"task": {"ratio": 0.6}}}, {"shifts"}),
    ("shifts", "shifted", {"easier": {"solver": {"iterations": 2}}}, {"shifts"}),
    # its images and its P fit both
    ("single_pixel.kind", "network", "super_resolution", OPERATORS | TEACHER | FIT),
    ("single_pixel.size", "linear", 8, EVERYWHERE | IMAGES),
    ("single_pixel.ratio", "linear", 0.4, OPERATORS | {"start"} | FIT),
    ("single_pixel.teacher_ratio", "linear", 0.6, TEACHER | FIT),
    ("single_pixel.ordering", "linear", "zig_zag", OPERATORS | TEACHER | {"start"} | FIT),
    (
        "single_pixel.noise_sigma",
        "linear",
        0.1,
        {"student noise", "teacher noise", "baseline", "teacher"} | FIT,
    ),
    ("mri.kind", "identity", "super_resolution", EVERYWHERE | IMAGES),
    ("mri.size", "identity", 14, EVERYWHERE | IMAGES),
    ("mri.acceleration", "identity", 3.0, OPERATORS | {"start"} | FIT),
    ("mri.teacher_acceleration", "identity", 1.5, TEACHER | FIT),
    ("mri.mask_seed", "identity", 1, OPERATORS | TEACHER | {"start"} | FIT),
    ("mri.nested", "identity", False, TEACHER | FIT),
    ("mri.real", "identity", True, (EVERYWHERE | IMAGES) - {"student noise", "teacher noise"}),
    (
        "mri.noise_sigma",
        "identity",
        0.1,
        {"student noise", "teacher noise", "baseline", "teacher"} | FIT,
    ),
    ("super_resolution.kind", "pointwise", "mri", EVERYWHERE | IMAGES),
    ("super_resolution.size", "pointwise", 14, EVERYWHERE | IMAGES),
    ("super_resolution.factor", "pointwise", 4, OPERATORS | FIT),
    ("super_resolution.teacher_factor", "pointwise", 1, TEACHER | FIT),
    (
        "super_resolution.noise_sigma",
        "pointwise",
        0.1,
        {"student noise", "teacher noise", "baseline", "teacher"} | FIT,
    ),
    ("data.name", "linear", "faces", {"training images", "test images"} | EVERYWHERE),
    ("data.resize", "linear", "nearest", {"training images", "test images"} | EVERYWHERE),
    ("data.file", "linear", "other.npz", {"training images", "test images"} | EVERYWHERE),
    ("data.train_count", "linear", 6, {"training images"} | FIT),
    ("data.train_count", "ridge", 6, set()),
    ("data.ridge_count", "linear", 13, {"start"} | FIT),
    ("data.ridge_count", "ridge", 13, {"start", "trained"} | TESTED),
    ("data.ridge_count", "identity", 13, set()),
    ("data.test_count", "linear", 4, {"test images", "baseline", "teacher"} | TESTED),
    ("solver.iterations", "linear", 4, {"iterations", "baseline", "teacher"} | FIT),
    ("solver.iterations", "pointwise", 4, {"iterations", "start", "baseline", "teacher"} | FIT),
    ("solver.momentum", "linear", "deepinv", {"momentum", "baseline", "teacher"} | FIT),
    ("solver.start", "linear", "adjoint", {"solver start", "baseline", "teacher"} | FIT),
    ("solver.start", "end to end", "zero", {"solver start", "start", "baseline", "teacher"} | FIT),
    ("solver.restart", "linear", 2, {"restart", "baseline", "teacher"} | FIT),
    ("solver.prior_decay", "linear", 1.0, {"prior decay", "baseline", "teacher"} | FIT),
    ("solver.prior", "linear", "red", {"prior", "red weight", "baseline", "teacher"} | FIT),
    ("solver.red_weight", "red", 0.5, {"red weight", "baseline", "teacher"} | FIT),
    ("solver.stepsize", "linear", 0.5, {"stepsize", "start", "baseline"} | FIT),
    ("solver.stepsize", "pointwise", "1/L", {"stepsize", "baseline"} | FIT),
    ("solver.stepsize", "ridge", "1/L", {"start", "trained", "baseline"} | TESTED),
    ("solver.teacher_stepsize", "linear", 0.6, {"teacher stepsize", "teacher"} | FIT),
    ("solver.denoiser", "linear", "dncnn-deepinv", {"denoiser", "baseline", "teacher"} | FIT),
    ("solver.precision", "linear", "bf16", {"precision"} | FIT),
    ("solver.precision", "network", "bf16", {"precision", "start"} | FIT),
    ("preconditioner.form", "linear", "dense", {"start"} | FIT),
    ("preconditioner.form", "identity", "dense", {"start"} | FIT),
    ("preconditioner.start", "linear", "identity", {"start"} | FIT),
    ("preconditioner.regularization", "linear", 1e-2, {"start"} | FIT),
    ("preconditioner.null_weight", "linear", 0.5, {"start"} | FIT),
    ("preconditioner.planes", "ridge", True, {"start", "trained"} | TESTED),
    ("preconditioner.planes", "identity", True, {"start"} | FIT),
    ("preconditioner.complement", "linear", 0.5, {"start"} | FIT),
    ("preconditioner.complement", "identity", 0.5, {"start"} | FIT),
    ("preconditioner.damping", "hessian", 0.1, {"start", "trained"} | TESTED),
    ("preconditioner.degree", "polynomial", 2, {"start", "trained"} | TESTED),
    ("preconditioner.polynomial", "polynomial", "chebyshev", {"start", "trained"} | TESTED),
    ("network.backbone", "network", "cnn", {"start"} | FIT),
    ("network.features", "network", 8, {"start"} | FIT),
    ("network.features", "end to end", 8, {"start"} | FIT),
    ("network.blocks", "network", 2, {"start"} | FIT),
    ("network.blocks", "end to end", 2, {"start"} | FIT),
    ("network.code", "network", "learned", {"start"} | FIT),
    ("network.code", "network", "none", {"start"} | FIT),
    ("network.code_dim", "network", 8, {"start"} | FIT),
    ("network.start", "network", "identity", {"start"} | FIT),
    ("network.scaling", "network", "image", {"start"} | FIT),
    *(
        (f"losses.{field.name}", "linear", 0.75, {"weights"} | FIT)
        for field in dataclasses.fields(LossWeights)
    ),
    ("training.steps", "linear", 4, {"budget", "rates"} | FIT),
    ("training.batch_size", "linear", 3, {"budget"} | FIT),
    ("training.optimizer", "linear", "adamw", {"budget"}),
    ("training.optimizer", "decayed", "adam", {"budget"} | FIT),
    ("training.learning_rate", "linear", 1e-3, {"budget", "rates"} | FIT),
    ("training.weight_decay", "decayed", 0.1, {"budget"} | FIT),
    ("training.clip", "linear", 0.01, {"budget"} | FIT),
    # they are of before the second step
    ("training.schedule", "linear", "cosine", {"budget", "rates"} | (FIT - {"losses"})),
    ("training.window", "plateau", 2, {"budget", "rates"} | FIT),
    ("training.patience", "plateau", 5, {"budget", "rates"} | FIT),
    ("training.factor", "plateau", 0.25, {"budget", "rates"} | FIT),
    ("training.checkpoint_every", "linear", 1, {"budget", "first checkpoint"}),
    ("differentiation.way", "linear", "jacobian_free", {"differentiation"} | FIT),
    ("differentiation.tail", "truncated", 2, {"differentiation"} | FIT),
    ("variations.flip", "varied", True, {"start"} | FIT),
    ("variations.shift", "varied", 2.0, {"start"} | FIT),
    ("variations.rotation", "varied", 10.0, {"start"} | FIT),
    ("variations.zoom", "varied", 0.1, {"start"} | FIT),
    ("variations.border", "varied", "edge", {"start"} | FIT),
    ("variations.copies", "varied", 3, {"start"} | FIT),
    ("variations.shift", "moved", 1.0, FIT),
    ("variations.copies", "moved", 3, set()),
    ("variations.shift", "end to end", 1.0, FIT),
    ("phases", "linear", [{"stretch": 1}], {"stretches"} | FIT),
]


# by method, all that it does not use, changed at once
TRAINING = {
    "training.steps": 5,
    "training.learning_rate": 1.0,
    "training.batch_size": 1,
    "differentiation.way": "jacobian_free",
}
TRAINING |= {"losses.imitation": 2.0, "solver.precision": "bf16"}
FIXED = {
    "preconditioner.damping": 0.3,
    "preconditioner.degree": 1,
    "preconditioner.polynomial": "chebyshev",
}
LINEAR = {
    "preconditioner.form": "dense",
    "preconditioner.start": "identity",
    "preconditioner.planes": True,
}
LINEAR |= {
    "preconditioner.regularization": 0.5,
    "preconditioner.null_weight": 0.1,
    "preconditioner.complement": 1.0,
}
NEURAL = {
    "network.backbone": "cnn",
    "network.code": "none",
    "network.code_dim": 6,
    "network.start": "identity",
    "network.scaling": "image",
}
SIZE = {"network.features": 6, "network.blocks": 3}
COUNTS = {"data.train_count": 7, "data.ridge_count": 9}
NOTHING_TRAINED = TRAINING | NEURAL | SIZE | {"data.train_count": 7, "solver.teacher_stepsize": 0.7}
FITTED = {name: value for name, value in NOTHING_TRAINED.items() if name != "solver.precision"}
UNUSED = {
    "baseline": NOTHING_TRAINED | FIXED | LINEAR | COUNTS,
    "ridge": NOTHING_TRAINED | FIXED | {"preconditioner.start": "identity"},
    "hessian": NOTHING_TRAINED
    | LINEAR
    | COUNTS
    | {"preconditioner.degree": 1, "preconditioner.polynomial": "chebyshev"},
    "polynomial": NOTHING_TRAINED | LINEAR | COUNTS | {"preconditioner.damping": 0.3},
    "l-dipa": FIXED | NEURAL | SIZE,
    "full-linear": FIXED | NEURAL | SIZE,
    **{
        steps: FIXED | LINEAR | NEURAL | SIZE | {"data.ridge_count": 9}
        for steps in ("scalar", "convolutional", "pointwise")
    },
    **{
        f"{steps}-fitted": FITTED | FIXED | LINEAR
        for steps in ("scalar", "convolutional", "pointwise")
    },
    "full-linear-fitted": FITTED | FIXED,
    "linear-fitted": FITTED | FIXED,
    "n-dipa": FIXED | LINEAR | {"data.ridge_count": 9},
    "composed": FIXED | {"preconditioner.start": "identity"},
    "fista-net": FIXED
    | LINEAR
    | NEURAL
    | {"data.ridge_count": 9, "losses.imitation": 2.0, "solver.precision": "bf16"},
}


def configured(base: str, field: str = "", value: object = None) -> Config:
    """The configuration of a base with one field changed, a task's field named by its kind."""
    section, _, name = field.rpartition(".")
    dotted = COMMON | BASES[base]
    if name == "kind":  # the other fields of its task are those of another task
        shared = ("task.size", "task.noise_sigma")
        dotted = {
            key: own for key, own in dotted.items() if not key.startswith("task.") or key in shared
        }
    if field:
        dotted[f"task.{name}" if section in TASKS else field] = value
    return experiments.resolve("baseline", "smoke", overrides=dotted)


def hashed(*tensors: torch.Tensor) -> str:
    """Shapes and bits of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(
            repr((tensor.dtype, tuple(tensor.shape))).encode()
            + tensor.detach().contiguous().numpy().tobytes()
        )
    return digest.hexdigest()


def stand_in(name, split, *, size, count, resize, channels, file) -> data.ImageSet:
    """Images that differ with everything that may be asked for; more of them begin with the
    fewer.
    """
    seed = int(hashlib.sha256(f"{name}/{split}/{resize}/{file}".encode()).hexdigest()[:8], 16)
    images = (
        smooth_images(24 * channels, size, seed=seed).reshape(24, channels, size, size)
        / channels**0.5
    )
    return data.ImageSet(images[:count].contiguous(), name, split)


def answers(trained, problem: Problem) -> str:
    """The numbers of a preconditioner or network, and what it makes of one image at the first
    and the last iteration.
    """
    image = torch.rand((1, *problem.img_size), generator=rng(1))
    with torch.no_grad():
        if problem.config.recipe.network:
            made = [trained(problem.student.A(image), problem.student)]
        else:
            made = [trained(image, image, k) for k in (1, problem.config.solver.iterations)]
    return hashed(*trained.state_dict().values(), *made)


def told_to_train(call: dict, problem: Problem) -> dict[str, object]:
    """What a call of ``distill`` or ``train_network`` says."""
    told = {name: call.get(name) for name in ("budget", "stepsize", "seed")}
    told |= {"teacher stepsize": call.get("teacher_stepsize")}
    if phases := call.get("phases"):
        parts = {"budget": "budget", "weights": "losses", "differentiation": "differentiation"}
        told |= {part: [getattr(phase, name) for phase in phases] for part, name in parts.items()}
        told["stretches"] = [phase.stretch for phase in phases]
    return told | {
        "training images": hashed(call["images"]),
        "start": answers(call["module"], problem),
    }


class Watched:
    """Runs configurations with the stand-ins, and notes the calls that train."""

    def __init__(self, monkeypatch, folder):
        self.folder, self.calls, self.known, self.problem = folder, [], {}, None
        monkeypatch.setattr(data, "load", stand_in)
        networks = {name: tiny_denoiser(seed) for seed, name in enumerate(denoisers.NAMES)}
        monkeypatch.setattr(denoisers, "load", networks.__getitem__)
        monkeypatch.setattr(training, "distill", self._noted(training.distill, (1, 4)))
        monkeypatch.setattr(training, "train_network", self._noted(training.train_network, (0, 2)))
        self.setenv = monkeypatch.setenv

    def _noted(self, function, places: tuple[int, int]):
        def call(*arguments, **options):
            module, images = (arguments[place] for place in places)
            self.calls.append(options | {"module": module, "images": images})
            self.notes |= told_to_train(self.calls[-1], self.problem)
            return function(*arguments, **options)

        return call

    def __call__(self, config: Config) -> dict[str, object]:
        """All that can be seen of a configuration."""
        key = repr(config)
        if key not in self.known:
            self.known[key] = self._run(config, self.folder / str(len(self.known)))
        return self.known[key]

    def _run(self, config: Config, folder) -> dict[str, object]:
        self.setenv("DIPA_CACHE", str(folder / "cache"))
        self.problem, self.notes = Problem.build(config), {}
        saved, checkpoint = [], folder / "checkpoint.pt"

        def report(record: dict) -> None:
            saved.append(checkpoint.is_file())

        fit = config.recipe.fit(self.problem, checkpoint, progress=False, report=report)
        numbers, examples, _ = evaluate(self.problem, fit.trained, kept=Kept(), progress=False)
        return self._problem() | self.notes | self._fit(fit, saved) | _tested(numbers, examples)

    def _problem(self) -> dict[str, object]:
        problem, zero = self.problem, torch.zeros((1, *self.problem.img_size))
        probe, solver = torch.rand(zero.shape, generator=rng(0)), problem.solver
        seen = {
            "test images": problem.test.sha256,
            "denoiser": hashed(*solver.prior.denoiser.state_dict().values()),
        }
        for name, physics in (("student", problem.student), ("teacher", problem.teacher)):
            seen |= {
                f"{name} operator": hashed(physics.A(probe)),
                f"{name} noise": hashed(measure(physics, zero)),
            }
        seen |= {
            "iterations": solver.iterations,
            "momentum": solver.momentum,
            "solver start": solver.start,
        }
        seen |= {
            "restart": solver.restart,
            "prior decay": solver.prior_decay,
            "prior": type(solver.prior),
            "precision": solver.prior.precision,
        }
        return seen | {"red weight": getattr(solver.prior, "weight", None)}

    def _fit(self, fit, saved: list[bool]) -> dict[str, object]:
        trained = fit.trained
        if trained is None:
            return {}
        seen = {
            "kind": type(trained),
            "trained": answers(trained, self.problem),
            "first checkpoint": saved.count(False),
        }
        seen |= {"precision when tested": getattr(trained, "precision", None)}
        losses = [
            {name: value for name, value in record.items() if name != "learning_rate"}
            for record in fit.history
        ]
        return seen | {
            "losses": losses,
            "rates": [record.get("learning_rate") for record in fit.history],
        }


def _tested(numbers: dict, examples: dict) -> dict[str, object]:
    seen = {
        role: hashed(torch.from_numpy(examples[role]))
        for role in ("baseline", "student", "teacher")
        if role in examples
    }
    more = {
        "falsification": numbers["student"].get("falsification"),
        "shifts": numbers.get("shifts"),
    }
    return seen | {name: found for name, found in more.items() if found}


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Watched(monkeypatch, tmp_path_factory.mktemp("wiring"))


def test_every_field_has_a_case():
    sections = {field.name: field for field in dataclasses.fields(Config)}
    kinds = {name: dataclasses.fields(kind) for name, kind in TASKS.items()}
    config = configured("linear")
    inner = {
        name: getattr(config, name)
        for name in sections
        if dataclasses.is_dataclass(getattr(config, name)) and name != "task"
    }
    wanted = {name for name in sections if name not in inner and name != "task"}
    wanted |= {
        f"{section}.{field.name}"
        for section, value in inner.items()
        for field in dataclasses.fields(value)
    }
    wanted |= {f"{kind}.{field.name}" for kind, own in kinds.items() for field in own}
    assert {field for field, *_ in CASES} == wanted


@pytest.mark.parametrize(
    ("field", "base", "value", "changes"),
    CASES,
    ids=[f"{case[0]}-{case[1]}-{case[2]}" for case in CASES],
)
def test_a_field_changes_what_it_should_and_nothing_else(field, base, value, changes, seen):
    one, other = configured(base), configured(base, field, value)
    before, after = seen(one), seen(other)
    assert one.digest != other.digest
    # a method that is not trained has no losses, a network no falsification test
    names = before.keys() | after.keys()
    assert {name for name in names if before.get(name) != after.get(name)} == changes & names


@pytest.mark.parametrize("method", UNUSED)
def test_what_a_method_does_not_use_changes_nothing(method, seen):
    dotted = (
        COMMON
        | MRI
        | {"method": method, "network.features": 4, "network.blocks": 1, "task.noise_sigma": 0.0}
    )
    one, other = (
        experiments.resolve("baseline", "smoke", overrides=dotted | more)
        for more in ({}, UNUSED[method])
    )
    before, after = seen(one), seen(other)
    assert one.digest != other.digest
    # of a solver that is not trained through
    assert {name for name in before if before[name] != after[name]} <= {"precision"}


def test_every_method_has_its_unused_fields_tried():
    assert {*UNUSED} | {name for name, method in METHODS.items() if method.network} == {*METHODS}


@pytest.mark.parametrize("base", ["linear", "network", "end to end"])
def test_training_is_told_what_the_configuration_says(base, seen):
    config = configured(base, "solver.teacher_stepsize", 0.65)
    told = seen(config)
    several = not config.recipe.network
    budget = [config.training] if several else config.training
    assert (told["budget"], told["seed"]) == (budget, config.seed)
    if not config.recipe.network:
        assert (told["stepsize"], told["teacher stepsize"]) == (config.solver.stepsize, 0.65)
        assert told["weights"] == [config.losses]
        assert told["differentiation"] == [config.differentiation]


def test_teacher_targets_are_kept_in_the_cache(seen, monkeypatch, tmp_path):
    monkeypatch.setenv("DIPA_CACHE", str(tmp_path))
    seen.calls.clear()
    seen.problem, seen.notes = Problem.build(configured("linear")), {}
    seen.problem.config.recipe.fit(seen.problem, None, progress=False)
    assert seen.calls[0]["cache"] == tmp_path


def test_training_reads_the_training_split_and_tests_the_test_split(seen):
    """The closed form reads more images than training does, from the same split."""
    problem = Problem.build(configured("linear"))
    options = {"size": 16, "resize": "bilinear", "channels": 1, "file": ""}
    assert torch.equal(
        problem.train.images, stand_in("embedded", "train", count=12, **options).images
    )
    assert torch.equal(problem.test.images, stand_in("embedded", "test", count=3, **options).images)
    assert seen(configured("linear"))["training images"] == hashed(problem.train.images[:5])
    for method, count in {"l-dipa": 12, "ridge": 12, "hessian": 5, "baseline": 5}.items():
        assert len(Problem.build(configured("linear", "method", method)).train.images) == count


@pytest.mark.parametrize("base", ["linear", "ridge"])
def test_the_closed_form_is_that_of_its_images_and_the_students_stepsize(base, seen):
    config = configured(base, "solver.teacher_stepsize", 0.65)
    problem, told = Problem.build(config), config.preconditioner
    options = {
        "regularization": told.regularization,
        "null_weight": told.null_weight,
        "stepsize": 0.4,
    }
    made = LinearPreconditioner.ridge(
        problem.student, problem.train.images[: config.data.ridge_count], **options
    )
    assert seen(config)["start" if config.trained else "trained"] == answers(made, problem)


def test_the_complement_shows_under_another_operator_alone(seen):
    """On its own operator a gradient has no part outside the range but rounding."""
    plain, more = (
        seen(configured("shifted", "preconditioner.complement", value)) for value in (0.0, 1.0)
    )
    one, other = (found["shifts"]["easier"]["student"]["psnr"] for found in (plain, more))
    assert plain["losses"][0]["loss"] == pytest.approx(more["losses"][0]["loss"], rel=1e-4)
    assert abs(one - other) > 1e-3


def test_a_shifted_problem_has_its_own_operators_and_solver_and_the_same_images(seen):
    config = configured(
        "shifted",
        "shifts",
        {"both": {"task": {"ratio": 0.5}, "solver": {"iterations": 5, "prior": "red"}}},
    )
    problem = Problem.build(config)
    other = problem.shifted("both")
    assert (problem.solver.iterations, other.solver.iterations) == (3, 5)
    assert (type(other.solver.prior).__name__, other.solver.momentum) == (
        "RED",
        config.solver.momentum,
    )
    assert int(other.student.mask.sum()) == 128 and int(problem.student.mask.sum()) == round(
        0.3 * 256
    )
    assert other.train is problem.train and other.test is problem.test


def test_the_damping_of_the_hessian_is_in_units_of_the_largest_eigenvalue(seen):
    """By the dense matrix of the operator, whose largest eigenvalue is not 1."""
    problem = Problem.build(configured("hessian", "preconditioner.damping", 0.2))
    columns = problem.student.A(torch.eye(256).reshape(256, 1, 16, 16)).flatten(1)
    gram, image = columns @ columns.T, torch.rand((1, 1, 16, 16), generator=rng(1))
    largest = torch.linalg.eigvalsh(gram).max()
    expected = torch.linalg.solve(gram + 0.2 * largest * torch.eye(256), image.flatten())
    P = problem.config.recipe.fit(problem, None, progress=False).preconditioner
    assert abs(largest - 1) > 0.1 and relative(P(image, image, 1).flatten(), expected) < 1e-4


@pytest.mark.parametrize(
    ("method", "count"),
    [
        ("scalar", 3),
        ("convolutional", 3 * 25),
        ("pointwise", 3 * 16 * 16),
        ("pointwise-fitted", 3 * 16 * 16),
    ],
)
def test_the_steps_of_a_complex_image_serve_both_its_channels(method, count, seen):
    """As the papers count them: K, 25 K and K n numbers, n = H W."""
    problem = Problem.build(configured("identity", "method", method))
    assert METHODS[method].make(problem).parameter_count == count


class Broken(torch.nn.Module):
    """A network that gives no numbers for a batch of one image."""

    def forward(self, y, physics):
        return physics.A_adjoint(y) / (len(y) - 1)


def test_one_batch_that_diverges_is_told(seen, monkeypatch):
    monkeypatch.setattr(evaluation, "TEST_BATCH", 2)
    for count, status in ((4, "completed"), (3, "diverged")):
        problem = Problem.build(configured("end to end", "data.test_count", count))
        numbers, _, _ = evaluate(problem, Broken(), progress=False)
        assert numbers["student"]["status"] == status
