import pytest
import torch
from batteries import refuses

from dipa import InputError, checks

NAN, INF = float("nan"), float("inf")


def test_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)


def test_choice_names_argument_value_allowed_and_near():
    text = refuses(
        lambda: checks.require_choice("ordering", "cake_cuting", ["cake_cutting", "xy"]), "ordering", "'cake_cuting'", "xy"
    )
    assert "did you mean cake_cutting?" in text
    far = refuses(lambda: checks.require_choice("ordering", "qqqq", ["cake_cutting", "xy"]), "cake_cutting, xy")
    assert "did you mean" not in far
    checks.require_choice("ordering", "xy", iter(["cake_cutting", "xy"]))


@pytest.mark.parametrize("bad", [NAN, INF, -INF, True, None, "1", -1e-9, 1.0001, torch.tensor(0.5)])
def test_number_refuses(bad):
    refuses(lambda: checks.require_number("ratio", bad, 0, 1), "ratio", repr(bad), "[0, 1]")


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
    refuses(lambda: checks.require_file("--bsds", tmp_path / "no.tar", "fetch it"), "--bsds", "no.tar", "fetch it")
    refuses(lambda: checks.require_file("--bsds", tmp_path, "fetch it"), str(tmp_path))
    (tmp_path / "yes").write_text("")
    checks.require_file("--bsds", tmp_path / "yes", "")
