"""Mutated command lines of ``dipa``: words exchanged, doubled, cut and made up. A line is known
by its number.
"""

from __future__ import annotations

import random

from dipa import experiments

LINES = (
    "list",
    "list --json",
    "--help",
    "--version",
    "show idea",
    "show n-dipa --profile small --seed 3 --set training.steps=2",
    "show mri-n-dipa --set task.acceleration=4 --set solver.stepsize=1/L",
    "show l-dipa-restart-5 --profile paper --set shifts={}",
    "inspect idea --profile smoke --role teacher --json",
    "inspect ridge --profile smoke --set task.size=8",
    "inspect json:dumps --size 1 8 8",
    "compare json:dumps --images embedded --steps 1 --limit 1 --seed 2",
    "evaluate folder --images embedded --count 2 --device cpu --json",
    "data",
    "data mnist",
    "data embedded",
    "data fastmri --download",
    "run idea --profile smoke --quiet --out folder",
    "run ridge --profile smoke --quiet --out folder --set solver.denoiser=dncnn-bsds500 "
    "--set task.size=8",
    "run baseline --profile smoke --seed 1 --set data.name=mri-npz --set data.file=a.npz "
    "--out folder",
)
WORDS = (
    "",
    "-",
    "--",
    "--set",
    "--seed",
    "--out",
    "--profile",
    "-h",
    "--quie",
    "run",
    "show",
    "a=b",
    "=",
)
WORDS += (
    "-1",
    "0",
    "1e9",
    "nan",
    "x" * 3000,
    "two\nlines",
    "a\0b",
    "ü",
    "漢字",
    "\ud800",
    "\x1b[31m",
    "{}",
    "[]",
    "@file",
    "%s",
)
WORDS += ("~", "~nobody", "/dev/null", "/", "..")
VALUES = (
    "",
    "null",
    "true",
    "-1",
    "0",
    "1e400",
    ".nan",
    "1/L",
    "9" * 500,
    "2020-13-45",
    "~",
    "\t",
    "\0",
    "x\ny",
    "a: b: c",
)
VALUES += (
    "[1, 2]",
    "{a: 1}",
    "'",
    '"',
    "[" * 300,
    "*a",
    "&a [*a]",
    "!!binary x",
    "!!python/object:os.system x",
)


def _keys() -> list[str]:
    config = experiments.resolve("idea", "smoke")
    sections = (
        "task",
        "data",
        "solver",
        "preconditioner",
        "network",
        "losses",
        "training",
        "differentiation",
        "variations",
    )
    return [
        f"{section}.{key}" for section in sections for key in vars(getattr(config, section))
    ] + [
        "method",
        "shifts",
        "seed",
        "preset",
    ]


KEYS = _keys()


def setting(draw: random.Random) -> str:
    key = (
        draw.choice(KEYS)
        if draw.random() < 0.8
        else draw.choice(("a.b.c", ".", "solver.", "", "task", "x" * 200))
    )
    return f"{key}={draw.choice(VALUES)}"


def mutated(draw: random.Random, words: list[str]) -> list[str]:
    place = draw.randrange(len(words))
    kind = draw.choice(
        ("exchange", "insert", "drop", "double", "cut", "letter", "set", "set", "set")
    )
    if kind == "set":
        return [*words, "--set", setting(draw)]
    if kind in ("exchange", "insert"):
        return [*words[:place], draw.choice(WORDS), *words[place + (kind == "exchange") :]]
    if kind == "letter":
        word, at = words[place], draw.randrange(len(words[place]) + 1)
        return [
            *words[:place],
            word[:at] + draw.choice("abz-=. \n\0é") + word[at + 1 :],
            *words[place + 1 :],
        ]
    return {
        "drop": words[:place] + words[place + 1 :],
        "double": words + words,
        "cut": words[:place],
    }[kind]


def line(number: int) -> list[str]:
    """The command line of this number: one of ``LINES`` changed once to three times."""
    draw = random.Random(number)
    words = draw.choice(LINES).split()
    for _ in range(draw.choice((1, 1, 2, 3))):
        words = mutated(draw, words) if words else [draw.choice(WORDS)]
    return words
