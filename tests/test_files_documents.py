"""YAML and JSON from outside: bounded, every key once, refused in one line by name."""

import json
import time

import pytest
import yaml
from batteries import refuses

from dipa import experiments, files

LETTERS = "abcdefghijklm"


def chain(*held: int) -> str:
    """A YAML mapping of lists, each of so many aliases of the one before."""
    parts = [
        f"{b}: &{b} [{', '.join([f'*{a}'] * n)}]"
        for a, b, n in zip(LETTERS, LETTERS[1:], held, strict=False)
    ]
    return "{a: &a [x, x], " + ", ".join(parts) + "}"


BOMB, CHAIN = chain(*[9] * 6), chain(*[2] * 12)


@pytest.mark.parametrize(
    "text", [BOMB, CHAIN, "&a [*a]", "&a x", "{b: *a}", "[" * 3000, "- " * 3000, "{a: " * 3000]
)
def test_values_that_stand_for_more_than_they_say_are_refused_at_once(text):
    began = time.monotonic()
    for call in (
        lambda: files.parse_yaml(text, "a.yaml"),
        lambda: experiments.resolve("idea", "smoke", overrides=[f"shifts={text}"[:4000]]),
    ):
        refuses(call, "levels" if "&" not in text and "*" not in text else "anchors and aliases")
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "text",
    [
        "{a: 1, a: 2}",
        "a: 1\nb: 2\na: 1",
        "x: {a: 1, 'a': 2}",
        "{1: a, true: b}",
        "{a: 1, <<: {a: 2}}",
    ],
)
def test_a_key_given_twice_is_refused(text):
    refuses(lambda: files.parse_yaml(text, "a.yaml"), "a.yaml", "a key is given twice")


def test_plain_yaml_is_what_pyyaml_makes_of_it():
    for text in (
        "a: [1, 2.5, x, null, true]\nb: {c: '1'}",
        "x",
        "",
        "[[[[[]]]]]",
        "1e-3",
        "2020-01-01",
    ):
        assert files.parse_yaml(text, "a") == yaml.safe_load(text)


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "a: b: c",
        "\x07",
        "!!python/object/apply:os.getcwd []",
        "!!int x",
        "2020-13-45",
        "{[]: 1}",
    ],
)
def test_text_that_is_no_yaml_is_refused(text):
    refuses(lambda: files.parse_yaml(text, "a.yaml"), "a.yaml", "a value YAML can read")


def test_yaml_has_a_length():
    assert files.parse_yaml("x" * 50, "a", 50) == "x" * 50
    refuses(lambda: files.parse_yaml("x" * 51, "a", 50), "a", "51 characters")


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        "[" * 100_000,
        '{"a": NaN}',
        "[-Infinity]",
        "[1e999]",
        "[" + "9" * 5000 + "]",
        "",
        "{",
        "{} {}",
    ],
)
def test_json_is_the_standard_s(text):
    refuses(lambda: files.parse_json(text, "a.json"), "a.json", "not JSON")


def test_files_are_read_and_refused_by_name(tmp_path, monkeypatch):
    path = tmp_path / "a.file"
    refuses(lambda: files.read_json(path), "a.file", "existing file")
    refuses(lambda: files.read_yaml(tmp_path), tmp_path.name, "existing file")
    for value in ({"é": [1, 2.5, None, "x"]}, [], "x"):
        path.write_text(json.dumps(value), encoding="utf-8")
        assert files.read_json(path) == files.read_yaml(path) == value
    path.write_bytes(b"\xff\xfe\x00")
    for read in (files.read_json, files.read_yaml):
        refuses(lambda read=read: read(path), "a.file", "utf-8")
    path.write_bytes(b"#" * (4 * files.MOST_YAML + 1))
    refuses(lambda: files.read_yaml(path), "a.file", "at most")
    path.write_text("{}" + " " * 20)
    assert files.read_json(path) == {}
    monkeypatch.setattr(files, "MOST_JSON", 20)
    refuses(lambda: files.read_json(path), "a.file", "at most")


# --- values on the command line -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("007", "007"),
        ('"/a #1/c.npz"', "/a #1/c.npz"),
        ("/a #1/c.npz", "/a #1/c.npz"),
        ("'1e3'", "1e3"),
        ("no", "no"),
        ("", ""),
    ]
    + [
        ("null", "null"),
        ("[x", "[x"),
        ("&a", "&a"),
        ("~/a: b.npz", "~/a: b.npz"),
        ("'", "'"),
        ("a=b", "a=b"),
        ("\"x'", "\"x'"),
    ],
)
def test_a_text_field_takes_the_text(text, value):
    assert experiments.resolve("idea", "smoke", overrides=[f"data.file={text}"]).data.file == value


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("solver.stepsize", "1/L", "1/L"),
        ("solver.stepsize", "1e-3", 0.001),
        ("solver.stepsize", "2", 2.0),
        ("training.steps", "010", 10),  # to YAML 1.1 eight
        ("training.steps", "0x10", 16),
        ("preconditioner.planes", "yes", True),
    ],
)
def test_other_fields_take_numbers_and_yaml(key, text, value):
    section, name = key.split(".")
    found = getattr(
        getattr(experiments.resolve("idea", "smoke", overrides=[f"{key}={text}"]), section), name
    )
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("solver.prior=no", ("solver.prior", "'no'", "pnp, red")),
        ("solver.stepsize=no", ("solver.stepsize", "False")),
        ("training.steps=1:30", ("training.steps", "'1:30'")),  # to YAML 1.1 ninety
        ("losses={supervised: 1, supervised: 2}", ("--set", "a key is given twice")),
        ("data.file=" + "x" * 5000, ("--set", "4,096 characters")),
        ("training.steps=" + "[" * 5000, ("--set", "4,096 characters")),
    ],
)
def test_values_that_are_refused(text, words):
    refuses(lambda: experiments.resolve("idea", "smoke", overrides=[text]), *words)


def test_of_a_key_given_twice_the_last_one_counts():
    assert (
        experiments.resolve(
            "idea", "smoke", overrides=["training.steps=3", "training.steps=5"]
        ).training.steps
        == 5
    )
