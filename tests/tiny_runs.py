"""Configurations that run in about a second."""

from dipa import experiments

TINY = [
    "task.size=16",
    "data.train_count=12",
    "data.ridge_count=24",
    "data.test_count=3",
    "solver.iterations=2",
    "training.steps=3",
    "training.batch_size=4",
    "training.checkpoint_every=1",
]


def tiny(preset="l-dipa-distilled", *more, seed=0):
    """A configuration that runs in about a second."""
    return experiments.resolve(preset, "smoke", seed=seed, overrides=[*TINY, *more])


SMALL = {
    "task.size": 16,
    "data.train_count": 8,
    "data.ridge_count": 16,
    "data.test_count": 3,
    "solver.iterations": 2,
    "training.steps": 2,
    "training.batch_size": 2,
}


def small(preset, **more):
    """The same with other sizes; ``section__key=value`` for more."""
    changes = {key.replace("__", "."): value for key, value in more.items()}
    return experiments.resolve(preset, "smoke", overrides=SMALL | changes)
