"""What is free, what is refused because it does not fit, and work in halves."""

import pytest
import torch
from batteries import identity_denoiser, refuses

import dipa
from dipa import memory

CPU = torch.device("cpu")


def test_bytes_have_a_unit():
    counts = (3, 2048, 3 * 2**20, 2**31)
    assert [memory.in_words(count) for count in counts] == ["3 B", "2 KiB", "3 MiB", "2 GiB"]


def test_what_is_free_is_less_than_the_machine_has():
    assert 2**20 < memory.free_memory(CPU) < memory.psutil.virtual_memory().total


@pytest.mark.parametrize("dtype, most", [(torch.float32, 999), (torch.float64, 499)])
def test_an_array_larger_than_what_is_free_is_refused(dtype, most, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda place: 3999)
    memory.require_room("rank", 7, (most,), torch.empty(0, dtype=dtype))
    refuses(
        lambda: memory.require_room("rank", 7, (1, most + 1), torch.empty(0, dtype=dtype)),
        "rank",
        "7",
        f"1 x {most + 1:,} numbers take 3.91 KiB, 3.91 KiB are free",
    )


def test_a_dense_p_is_bounded_by_what_is_free(monkeypatch):
    physics = dipa.operators.single_pixel((1, 8, 8), ratio=0.5)
    taken = 4 * 64 * 64 * 4  # P, its gradient and two moments of Adam
    monkeypatch.setattr(memory, "free_memory", lambda place: taken)
    dipa.LinearPreconditioner.identity(physics, form="dense")
    monkeypatch.setattr(memory, "free_memory", lambda place: taken - 1)
    refuses(
        lambda: dipa.LinearPreconditioner.identity(physics, form="dense"), "img_size", "64 x 64"
    )
    dipa.LinearPreconditioner.identity(physics)


def test_too_little_memory_names_what_fits_and_loses_nothing(tmp_path):
    class Small(torch.nn.Module):
        def forward(self, planes, sigma):
            if planes.requires_grad and len(planes) > 3:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return identity_denoiser(planes, sigma)

    student, teacher = (dipa.operators.single_pixel((1, 8, 8), ratio=ratio) for ratio in (0.3, 0.8))
    checkpoint, solver = (
        tmp_path / "checkpoint.pt",
        dipa.FISTA(prior=dipa.PnP(Small()), iterations=2),
    )

    def train(batch_size, **options):
        budget, P = (
            dipa.Budget(steps=2, batch_size=batch_size),
            dipa.LinearPreconditioner.identity(student),
        )
        losses = dipa.LossWeights(imitation=1.0)
        return dipa.distill(
            solver,
            P,
            student,
            teacher,
            torch.rand(8, 1, 8, 8),
            losses=losses,
            budget=budget,
            **options,
            validation=0,
        )

    text = refuses(
        lambda: train(8, checkpoint=checkpoint, progress=False),
        "too little memory",
        "batch_size 2 fits",
    )
    assert "training step 1" in text and checkpoint.is_file()
    assert len(train(2, progress=False).history) == 2


def test_batches_that_do_not_fit_are_halved():
    asked = []

    def compute(index):
        asked.append(len(index))
        if len(index) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return index.tolist()

    assert memory.in_parts(compute, torch.arange(6), CPU, "testing") == [[0, 1], [2], [3, 4], [5]]
    assert asked[0] == 6

    def never(index):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    refuses(
        lambda: memory.in_parts(never, torch.arange(2), CPU, "testing"),
        "too little memory",
        "one image",
    )
