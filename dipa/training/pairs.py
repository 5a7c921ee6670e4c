"""The pairs of student and teacher that a training goes over: one, several in turn, one with a
parameter of its own for every image, or new ones drawn at every step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import torch
from deepinv.physics import LinearPhysics
from deepinv.physics.generator import PhysicsGenerator

from .. import paired, seeding
from ..checks import foreign, require, require_kind
from ..physics import declared_size, require_takes
from ..remembered import tensors_of
from ..solvers import FISTA

Operators: TypeAlias = LinearPhysics | Iterable[Any]  # one, several, or pairs with their teachers
DRAWS = 8  # of a generator, in which the largest L is looked for


@dataclass(frozen=True)
class Pairs:
    """Students and teachers, and which of them sees which image at which step.

    Attributes:
        students: the operators of the real system; step s takes number s modulo their count.
        teachers: as many, or one for all; none where no loss needs one.
        several: whether they were given as several.
        count: for how many images a student has parameters, 1 where it sees all alike;
            ``noise_alone`` where these are the levels of its noise.
        generator: draws the student's parameters anew for the images of every step.
        seed: of what it draws.
    """

    students: tuple[LinearPhysics, ...]
    teachers: tuple[LinearPhysics, ...]
    several: bool = False
    count: int = 1
    noise_alone: bool = False
    generator: PhysicsGenerator | None = None
    seed: int = 0

    @classmethod
    def of(
        cls,
        student: Operators,
        teacher: Operators | None,
        generator: PhysicsGenerator | None,
        sample: torch.Tensor,
        count: int,
        seed: int,
    ) -> Pairs:
        """The pairs of what :func:`~dipa.training.distill` is given; ``sample`` are some of its
        ``count`` images.
        """
        students, with_them = _listed("student", student)
        teachers = with_them if teacher is None else _listed("teacher", teacher)[0]
        require(not (with_them and teacher is not None), "teacher", teacher, "None beside pairs")
        allowed = f"None, one for all, or {len(students)}, as many as students"
        require(len(teachers) in (0, 1, len(students)), "teacher", len(teachers), allowed)
        several = not _single(student)
        for name, held in (("student", students), ("teacher", teachers)):
            _require_sizes(name, held, tuple(sample.shape[1:]))
        if generator is not None:
            require_kind("physics_generator", generator, PhysicsGenerator)
            require(not several, "physics_generator", "beside several students", "one student")
            _require_taken(students[0], generator)
        one = len(students) == 1 and generator is None
        rows, noise_alone = rows_of("student", students[0], sample, count) if one else (1, False)
        for name, held in (("student", students), ("teacher", teachers)):
            levels = max((paired.noise_rows(physics) for physics in held), default=1)
            allowed = "one for all images, or for each of them where there is one student"
            alike = levels == 1 or (one and name == "student")
            require(alike, f"{name}'s noise", f"{levels} levels", allowed)
        return cls(tuple(students), tuple(teachers), several, rows, noise_alone, generator, seed)

    @property
    def fixed(self) -> bool:
        """Whether every step takes the same two operators."""
        return len(self.students) == 1 and self.count == 1 and self.generator is None

    def names(self) -> list[tuple[str, LinearPhysics]]:
        """Every operator, by the argument it came in."""
        return [
            (f"{name}[{number}]" if self.several and len(held) > 1 else name, physics)
            for name, held in (("student", self.students), ("teacher", self.teachers))
            for number, physics in enumerate(held)
        ]

    def teacher(self, step: int) -> LinearPhysics | None:
        """The teacher of a step."""
        return self.teachers[step % len(self.teachers)] if self.teachers else None

    def student(self, step: int | str, index: torch.Tensor) -> LinearPhysics:
        """The operator that measures the images with the numbers ``index`` at a step, or of a
        stretch of its own by its name.
        """
        if self.generator is not None:
            return self._drawn(step, len(index))
        number = step if isinstance(step, int) else 0
        physics = self.students[number % len(self.students)]
        if self.count == 1:
            return physics
        return paired.of_images(physics, index, self.count, noise_alone=self.noise_alone)

    def stepsize(self, solver: FISTA, stepsize: float | str, images: torch.Tensor) -> float | str:
        """The stepsize of every solve: ``"1/L"`` is a number where the student changes with its
        images, one over the largest L of all of them (of 8 draws of a generator).
        """
        if self.fixed or len(self.students) > 1 or stepsize != "1/L":
            return stepsize
        drawn = [self._drawn(f"L {number}", 1) for number in range(DRAWS)] if self.generator else []
        steps = (
            solver.stepsize("1/L", physics, tuple(images.shape[1:]), images)
            for physics in drawn or self.students
        )
        return min(cast(float, step) for step in steps)

    def shared_out(self, index: torch.Tensor) -> Iterator[tuple[LinearPhysics, torch.Tensor]]:
        """Held-out images in groups, one for every student, each with the operator that sees it."""
        groups = len(self.students)
        for number in range(min(groups, len(index))):
            group = index[number::groups]
            yield self.student(number if groups > 1 else "held out", group), group

    def described(self) -> dict[str, Any]:
        """Plain values for a record: how many operators, and where they come from."""
        kind = type(self.generator).__name__ if self.generator else None
        return {"students": len(self.students), "for images": self.count, "generator": kind}

    def _drawn(self, step: int | str, size: int) -> LinearPhysics:
        generator = cast(PhysicsGenerator, self.generator)
        physics = paired.apart(self.students[0])
        seed = seeding.derive(self.seed, "physics generator", step)
        kind, student = type(generator).__name__, type(physics).__name__
        with foreign("physics_generator", kind, f"one whose parameters a {student} takes"):
            physics.update(**generator.step(batch_size=size, seed=seed))
        return physics


def _single(operators: Any) -> bool:
    return callable(getattr(operators, "A", None)) or not isinstance(operators, Iterable)


def _require_taken(student: LinearPhysics, generator: PhysicsGenerator) -> None:
    """Refuse a generator of parameters that the student does not take, one by one, or that draws
    anew for the same seed.
    """
    kind, physics = type(generator).__name__, type(student).__name__
    allowed = f"one whose parameters a {physics} takes, drawn by the seed it is given"
    with foreign("physics_generator", kind, allowed):
        drawn, again = (generator.step(batch_size=1, seed=0) for _ in range(2))
        untaken = [name for name, value in drawn.items() if not _takes(student, name, value)]
        same = all(torch.equal(value, again[name]) for name, value in drawn.items())
    require(not untaken and len(drawn) > 0, "physics_generator", f"{kind} of {untaken}", allowed)
    require(same, "physics_generator", f"{kind} that draws anew for the same seed", allowed)


def _takes(student: LinearPhysics, name: str, value: torch.Tensor) -> bool:
    """Whether a parameter changes anything of the operator or its noise."""
    twin = paired.apart(student)
    before = tensors_of(twin)
    twin.update(**{name: value})
    after = tensors_of(twin)
    return len(before) != len(after) or any(a is not b for a, b in zip(before, after, strict=True))


def _listed(name: str, operators: Any) -> tuple[list[LinearPhysics], list[LinearPhysics]]:
    """The operators given under a name, and their teachers where they are pairs."""
    listed: Sequence[Any] = [operators] if _single(operators) else list(operators)
    require(len(listed) > 0, name, "no operators", "at least one")
    pairs = [isinstance(item, (list, tuple)) and len(item) == 2 for item in listed]
    if not any(pairs):
        return list(listed), []
    require(name == "student" and all(pairs), name, "pairs beside single ones", "all of one kind")
    return [student for student, _ in listed], [teacher for _, teacher in listed]


def _require_sizes(name: str, operators: list[LinearPhysics], shape: tuple[int, ...]) -> None:
    for physics in operators:
        size = declared_size(physics) or shape
        require(size == shape, f"{name}.img_size", size, f"that of the images, {shape}")


def rows_of(
    name: str, physics: LinearPhysics, sample: torch.Tensor, count: int
) -> tuple[int, bool]:
    """For how many images an operator has parameters: 1, or all ``count`` of them, and whether
    these are those of its noise alone; refuses another number, and parameters that cannot be told
    apart.
    """
    seen = require_takes(name, physics, sample, several=True, paired_too=True)
    kind, levels = type(physics).__name__, paired.noise_rows(physics)
    for got, what in ((len(seen), "made"), (levels, "with noise")):
        allowed = f"one for every image alone, or for all {count} images"
        require(got in (1, count), name, f"{kind} {what} for {got} images", allowed)
    if len(seen) == 1:
        return levels, levels > 1
    ends = [0, count - 1]
    parts = [paired.of_images(physics, torch.tensor([row]), count) for row in ends]
    apart = torch.cat([part.A_adjoint_A(sample[:1]) for part in parts])
    same = apart.shape == seen[ends].shape and torch.allclose(apart, seen[ends], atol=1e-5)
    held = "one that holds its parameters in tensors, and no other tensor, a row for every image"
    require(same, name, kind, held)
    return count, False
