"""Images from lists, arrays, data sets and loaders are the tensor they hold."""

import numpy as np
import pytest
import torch
from batteries import images, refuses, solver
from torch.utils.data import DataLoader, Dataset, TensorDataset

import dipa
from dipa import gathered, memory
from dipa.gathered import Streamed, images_of
from dipa.operators import single_pixel

X = images(6, 1, 8, 8)


class Numbered(Dataset):
    """Items by number, no iterator."""

    def __len__(self):
        return len(X)

    def __getitem__(self, number):
        if number >= len(X):
            raise IndexError(number)
        return X[number], number


HOLDERS = {
    "tensor": lambda: X,
    "image set": lambda: dipa.data.ImageSet(X, "mine", "train"),
    "array": lambda: X.numpy(),
    "array of float64": lambda: X.double().numpy(),
    "list of images": lambda: list(X),
    "tuple of arrays": lambda: tuple(X.numpy()),
    "list of batches": lambda: [X[:4], X[4:]],
    "data set of tuples": lambda: Numbered(),
    "tensor data set": lambda: TensorDataset(X, X),
    "loader": lambda: DataLoader(TensorDataset(X), batch_size=4),
    "loader of tensors": lambda: DataLoader(list(X), batch_size=4),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_what_holds_images_is_their_tensor(name):
    got = images_of("images", HOLDERS[name]())
    assert torch.equal(got, X) and got.dtype == X.dtype


@pytest.mark.parametrize("name", HOLDERS)
def test_whoever_takes_images_takes_them(name):
    physics, run = single_pixel((1, 8, 8), ratio=0.4), solver(2)
    one, two = (
        dipa.fit_steps(dipa.ScalarSteps(2), run, physics, given).preconditioner.steps
        for given in (X, HOLDERS[name]())
    )
    assert torch.equal(one, two)
    options = {
        "losses": dipa.LossWeights(supervised=1.0),
        "budget": dipa.Budget(steps=1, batch_size=2),
        "validation": 0,
        "progress": False,
    }
    one, two = (
        dipa.distill(run, dipa.ScalarSteps(2), physics, None, given, **options).preconditioner.steps
        for given in (X, HOLDERS[name]())
    )
    assert torch.equal(one, two)


def test_the_others_that_take_images_take_them():
    physics, given = single_pixel((1, 8, 8), ratio=0.4), [*X, *X]
    whole = torch.cat([X, X])
    found = [
        dipa.training.fit_ridge(solver(2), physics, held).preconditioner.matrix
        for held in (whole, given)
    ]
    assert torch.equal(*found)
    options = {"methods": ["CG-Tikhonov"], "total_variation": False, "progress": False}
    told = [
        dipa.compare(physics, held, test=held[:3], solver=solver(2), **options).best
        for held in (whole, given)
    ]
    assert told[0] == told[1]
    direct = [
        dipa.LinearPreconditioner.ridge(physics, held).matrix for held in (whole, whole.numpy())
    ]
    assert torch.equal(*direct)


def test_what_is_no_image_is_named(monkeypatch):
    refuses(lambda: images_of("images", [X[0], X[0, :, :4]]), "images", "item 1", "(1, 4, 8)")
    refuses(lambda: images_of("images", [X[0], X[1].double()]), "item 1", "float64")
    refuses(lambda: images_of("images", [X[0], "a"]), "item 1", "str")
    refuses(lambda: images_of("images", [X[0, 0]]), "item 0", "(8, 8)")
    refuses(lambda: images_of("images", DataLoader(TensorDataset(X[:0]))), "no items")
    for nothing in (3, "text", None, [1.0, 2.0], [], np.array(["a"])):
        assert images_of("images", nothing) is nothing or isinstance(nothing, np.ndarray)
    monkeypatch.setattr(memory, "free_memory", lambda place: 6 * 64 * 4 - 1)
    refuses(lambda: images_of("images", list(X)), "images", "6 items", "free")


# --- streams --------------------------------------------------------------------------------------


class Counting(Numbered):
    """Counts what is read."""

    def __init__(self):
        self.read = []

    def __getitem__(self, number):
        self.read.append(number)
        return super().__getitem__(number)


def test_a_stream_reads_what_is_asked_for():
    held = Counting()
    stream = Streamed(held)
    assert held.read == [0] and len(stream) == 6 and tuple(stream.shape) == tuple(X.shape)
    assert torch.equal(stream[torch.tensor([4, 1])], X[[4, 1]]) and held.read == [0, 4, 1]
    assert torch.equal(stream[1:4], X[1:4]) and torch.equal(stream[2], X[2])
    assert [len(part) for part in stream.split(4)] == [4, 2]
    assert torch.equal(torch.cat(list(stream.split(4))), X)
    assert torch.equal(images_of("images", stream), X)  # as any data set where all are needed


def test_a_sample_is_evenly_apart(monkeypatch):
    stream = Streamed(Numbered())
    assert torch.equal(stream.sample(), X)
    monkeypatch.setattr(gathered, "SAMPLE", 3)
    assert torch.equal(stream.sample(), X[[0, 2, 4]])
    monkeypatch.setattr(gathered, "SAMPLE", 4)
    assert torch.equal(stream.sample(), X[[0, 2, 4]])


def test_the_closed_form_of_a_stream_is_that_of_its_images():
    physics = single_pixel((1, 8, 8), ratio=0.4)
    whole, read = (
        dipa.LinearPreconditioner.ridge(physics, given).matrix for given in (X, Streamed(X.numpy()))
    )
    assert torch.equal(whole, read)


def test_what_is_no_stream_is_refused():
    refuses(lambda: Streamed(3), "dataset", "int")
    refuses(lambda: Streamed(iter(X)), "dataset")
    refuses(lambda: Streamed([]), "dataset", "no items")
    refuses(lambda: Streamed([X[0, 0]]), "dataset", "item 0")
    refuses(lambda: Streamed([X[0], X[1, :, :4]])[torch.tensor([0, 1])], "item 1", "(1, 4, 8)")
    refuses(lambda: Streamed([X[0], X[1].double()])[0:2], "item 1", "float64")
    refuses(lambda: Streamed([X[0], X[1] / 0])[0:2], "item 1", "finite")
    refuses(lambda: Streamed([X[:2]]), "item 0", "2 images")
    refuses(lambda: Streamed({1: X[0]}), "dataset", "item 0")
    refuses(lambda: Streamed(np.array(3.0)), "dataset")
    refuses(lambda: Streamed(torch.tensor(3.0)), "dataset")
