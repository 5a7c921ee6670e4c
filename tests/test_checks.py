import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from batteries import refuses

from dipa import InputError, checks

NAN, INF = float("nan"), float("inf")


def test_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)


def test_choice_names_argument_value_allowed_and_near():
    text = refuses(
        lambda: checks.require_choice("ordering", "cake_cuting", ["cake_cutting", "xy"]),
        "ordering",
        "'cake_cuting'",
        "xy",
    )
    assert "did you mean cake_cutting?" in text
    far = refuses(
        lambda: checks.require_choice("ordering", "qqqq", ["cake_cutting", "xy"]),
        "cake_cutting, xy",
    )
    assert "did you mean" not in far
    checks.require_choice("ordering", "xy", iter(["cake_cutting", "xy"]))


@pytest.mark.parametrize("bad", [NAN, INF, -INF, True, None, "1", -1e-9, 1.0001, torch.tensor(0.5)])
def test_number_refuses(bad):
    refuses(lambda: checks.require_number("ratio", bad, 0, 1), "ratio", repr(bad), "[0, 1]")


def test_numbers_too_long_for_python_to_print_are_refused():
    """math.isfinite raises on the first, repr on the others; torch takes no integer of more
    than 63 bits.
    """
    for huge in (10**400, -(10**5000), [10**5000]):
        assert (
            len(
                refuses(
                    lambda huge=huge: checks.require_number("ratio", huge, 0), "ratio", "allowed"
                )
            )
            < 400
        )
        refuses(lambda huge=huge: checks.require_int("steps", huge, 1, 10), "steps", "allowed")
        refuses(lambda huge=huge: checks.require_choice("form", huge, ["dense"]), "form", "dense")
    refuses(lambda: checks.require_number("weight", 2**63, 0), "weight", "63 bits")
    checks.require_number("weight", 1e300, 0)


def test_messages_are_one_short_line():
    assert str(InputError("name: got\n  two lines")) == "name: got two lines"
    assert (
        len(refuses(lambda: checks.require(False, "name", "x" * 10**6, "less"), "'xxx", "less"))
        < 400
    )
    names = [f"choice-{i}" for i in range(1000)]
    text = refuses(
        lambda: checks.require_choice("name", "choise-7", names),
        "did you mean choice-7",
        "1000 in all",
    )
    assert len(text) < 400


def test_number_ends():
    for good in (0, 0.0, 1, 0.5):
        checks.require_number("ratio", good, 0, 1)
    refuses(lambda: checks.require_number("ratio", 0, 0, 1, open_low=True), "ratio", "]0, 1]")
    checks.require_number("ratio", 1e-300, 0, 1, open_low=True)
    checks.require_number("weight", 1e300, 0)


@pytest.mark.parametrize("bad", [0, 11, 2.0, True, "3", None])
def test_int_refuses(bad):
    refuses(lambda: checks.require_int("steps", bad, 1, 10), "steps", repr(bad), "[1, 10]")


def test_int_ends():
    for good in (1, 10):
        checks.require_int("steps", good, 1, 10)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([[1.0]], ("images", "list")),
        (torch.rand(8, 8), ("images.shape", "(8, 8)")),
        (torch.rand(0, 1, 8, 8), ("images.shape", "B >= 1")),
        (torch.rand(2, 1, 8, 4), ("images.shape", "(2, 1, 8, 4)", "(B, 1, 8, 8)")),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), ("images.dtype", "uint8")),
        (torch.zeros(1, 1, 8, 8, dtype=torch.complex64), ("images.dtype", "complex64")),
        (torch.full((1, 1, 8, 8), NAN), ("images", "finite")),
        (torch.full((1, 1, 8, 8), INF), ("images", "finite")),
    ],
)
def test_images_refuses(bad, words):
    refuses(lambda: checks.require_images("images", bad, (1, 8, 8)), *words)


def test_images_accepts():
    checks.require_images("images", torch.rand(2, 3, 8, 4))
    checks.require_images("images", torch.rand(2, 1, 8, 8, dtype=torch.float64), (1, 8, 8))


def test_file_names_path_and_advice(tmp_path):
    refuses(
        lambda: checks.require_file("--bsds", tmp_path / "no.tar", "fetch it"),
        "--bsds",
        "no.tar",
        "fetch it",
    )
    refuses(lambda: checks.require_file("--bsds", tmp_path, "fetch it"), str(tmp_path))
    (tmp_path / "yes").write_text("")
    checks.require_file("--bsds", tmp_path / "yes", "")


WHOLE = [np.int64(3), np.uint8(3), np.array(3), np.int16(3)]
HALVES = [np.float32(0.5), np.float64(0.5), np.float16(0.5), np.longdouble(0.5), np.array(0.5)]


@pytest.mark.parametrize("number", WHOLE)
def test_whole_numbers_of_numpy_become_pythons(number):
    assert (
        type(checks.require_int("steps", number, 1)) is int
        and checks.require_int("steps", number, 1) == 3
    )
    assert type(checks.require_number("ratio", number, 0)) is int
    assert (
        checks.require_img_size((1, number, 4)) == (1, 3, 4)
        and type(checks.require_img_size((1, number, 4))[1]) is int
    )
    refuses(lambda: checks.require_int("steps", number, 4), "steps", "[4, inf]")


@pytest.mark.parametrize("number", HALVES)
def test_floats_of_numpy_become_pythons(number):
    assert (
        type(checks.require_number("ratio", number, 0)) is float
        and checks.require_number("ratio", number, 0) == 0.5
    )
    refuses(lambda: checks.require_number("ratio", number, 0.6), "ratio", "0.6")
    refuses(lambda: checks.require_int("steps", number, 0), "steps", "integer")


@pytest.mark.parametrize(
    "bad",
    [
        np.True_,
        np.float32("nan"),
        np.float64("inf"),
        np.complex64(1),
        np.ones(1),
        np.timedelta64(3),
        "3",
    ],
)
def test_what_is_no_number_of_numpy_is_refused(bad):
    refuses(lambda: checks.require_number("ratio", bad, 0), "ratio")
    refuses(lambda: checks.require_int("steps", bad, 0), "steps")


def test_fields_of_numpy_become_pythons():
    @dataclass(frozen=True)
    class Made:
        count: int = 1
        name: str = ""
        other: object = None

    made = Made(np.int8(2), np.str_("text"), row := np.ones(2))
    checks.plain_fields(made)
    assert (type(made.count), type(made.name)) == (int, str) and made.other is row


def test_paths_begin_at_home_where_they_say_so(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in ("~/a b/ü.npz", Path("~/a b/ü.npz")):
        assert checks.require_path("path", given) == tmp_path / "a b" / "ü.npz"
    assert checks.require_path("path", "a~/~b") == Path("a~/~b")
    assert checks.require_path("path", "~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    # as where neither HOME nor the user's entry says
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    refuses(lambda: checks.require_path("--out", "~/runs"), "--out", "no home folder")


@pytest.mark.parametrize(
    "bad",
    [None, 3, b"bytes", "a\0b", "half of a character \ud800", "x" * 256, ["a"], torch.ones(1)],
)
def test_what_names_no_file_is_refused(bad):
    refuses(
        lambda: checks.require_path("--out", bad),
        "--out",
        "a path" if not str(bad).startswith("x") else "255 bytes",
    )


def test_names_too_long_for_a_file_are_no_existing_file():
    refuses(
        lambda: checks.require_file("file", "x" * 5000, "check the path"), "file", "existing file"
    )


def test_images_of_one_kind():
    x = torch.rand(2, 2, 8, 4)
    checks.require_same_images(x=x, y=x + 1, z=x * float("nan"))
    checks.require_same_images(2, x=x)
    refuses(lambda: checks.require_same_images(1, x=x), "x.shape", "(B, 1, H, W)")
    refuses(
        lambda: checks.require_same_images(x=x, y=x[:1]),
        "y.shape",
        "(1, 2, 8, 4)",
        "(2, 2, 8, 4), that of x",
    )
    refuses(
        lambda: checks.require_same_images(x=x, y=x, z=x.double()),
        "z.dtype",
        "float64",
        "float32, that of x",
    )
