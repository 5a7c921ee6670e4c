"""The notebooks as they are read outside of the book, in Jupyter and on Colab: citations,
links, the first cell, its address.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import citations
import nbformat
import publish
import pytest
import yaml

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
CELLS = {path.name: nbformat.read(path, as_version=4).cells for path in NOTEBOOKS}
LINK = re.compile(r"(?<!!)\[([^]]+)\]\(([^)\s]+)\)")
SAMPLE = "https://github.com/owner-of-example/example.org"


def prose(name: str) -> str:
    """The Markdown of a notebook, line breaks as spaces."""
    return " ".join(
        " ".join(cell.source.split()) for cell in CELLS[name] if cell.cell_type == "markdown"
    )


@pytest.mark.parametrize("name", CELLS)
def test_prose_holds_nothing_that_only_the_book_understands(name):
    text = "\n".join(cell.source for cell in CELLS[name] if cell.cell_type == "markdown")
    assert not re.findall(r"\{[a-z:_-]+\}`|^[`:]{3,}\{|^\([\w-]+\)=", text, re.MULTILINE)


@pytest.mark.parametrize("name", CELLS)
def test_relative_links_name_files_beside_the_notebook(name):
    targets = {
        target.split("#")[0] for _, target in LINK.findall(prose(name)) if "://" not in target
    }
    assert all((BOOK / target).is_file() for target in targets), targets


def test_citations_are_those_of_the_bibliography():
    known = {f"{citations.authors(key)}, {citations.year(key)}" for key in citations.entries()}
    known |= {f"{citations.authors(key)} ({citations.year(key)})" for key in citations.entries()}
    cited = {
        text
        for name in CELLS
        for text, target in LINK.findall(prose(name))
        if target == citations.PAGE
    }
    assert len(cited) > 20 and cited <= known, cited - known


def test_a_role_becomes_author_and_year():
    text = "after {cite:t}`beck2009fista`, twice {cite}`beck2009fista,romano2017red`"
    assert citations.ROLE.sub(citations.plain, text) == (
        "after [Beck and Teboulle (2009)](references.md), "
        "twice ([Beck and Teboulle, 2009](references.md); [Romano et al., 2017](references.md))"
    )


def test_the_first_cell_is_the_same_everywhere_and_the_book_hides_it():
    first = [cells[0] for cells in CELLS.values()]
    assert len({cell.source for cell in first}) == 1
    assert all(cell.metadata["tags"] == ["remove-cell"] and not cell.outputs for cell in first)
    assert 5 <= len([line for line in first[0].source.splitlines() if line]) <= 8


def test_the_first_cell_installs_from_the_address_of_the_book():
    address = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    assert f'environ.get("DIPA_SOURCE", "{address}")' in next(iter(CELLS.values()))[0].source


@pytest.fixture
def first_cell(monkeypatch):
    """Runs the first cell as in a session that has dipa or not; the magics it calls."""

    def ran(missing: bool, **names) -> list[tuple[str, str]]:
        magics = []
        session = SimpleNamespace(run_line_magic=lambda *call: magics.append(call))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if missing else name)
        exec(next(iter(CELLS.values()))[0].source, {"get_ipython": lambda: session} | names)
        return magics

    return ran


def test_where_dipa_is_there_the_first_cell_does_nothing(first_cell, capsys):
    assert first_cell(missing=False) == [] and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "source, asked", [(SAMPLE, f"install -q git+{SAMPLE}"), ("../copy", "install -q ../copy")]
)
def test_where_dipa_is_missing_the_first_cell_installs_it(first_cell, monkeypatch, source, asked):
    monkeypatch.setenv("DIPA_SOURCE", source)
    assert first_cell(missing=True) == [("pip", asked)]


def test_without_an_address_the_first_cell_asks_for_it(first_cell, monkeypatch):
    monkeypatch.delenv("DIPA_SOURCE", raising=False)
    questions = []
    assert first_cell(missing=True, input=lambda text: questions.append(text) or SAMPLE) == [
        ("pip", f"install -q git+{SAMPLE}")
    ]
    assert len(questions) == 1 and "Address of the dipa repository" in questions[0]


@pytest.fixture
def copy(tmp_path):
    """Settings and two pages of the book, one a notebook, which is not executed."""
    (tmp_path / "book").mkdir()
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    text = (
        (ROOT / "_config.yml")
        .read_text()
        .replace("execute_notebooks: force", 'execute_notebooks: "off"')
    )
    assert config["execute"]["execute_notebooks"] == "force" and '"off"' in text
    (tmp_path / "_config.yml").write_text(text)
    pages = {
        "format": "jb-book",
        "root": "book/references.md",
        "chapters": [{"file": "book/presets.ipynb"}],
    }
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(pages))
    for name in (
        "references.md",
        "references.bib",
        "presets.ipynb",
        "presets.py",
        "_static",
        "_extensions",
    ):
        place = shutil.copytree if (BOOK / name).is_dir() else shutil.copyfile
        place(BOOK / name, tmp_path / "book" / name)
    return tmp_path


def build(folder: Path) -> dict[str, str]:
    """The HTML of each page."""
    command = [Path(sys.executable).with_name("jupyter-book"), "build", folder, "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        path.stem: path.read_text() for path in (folder / "_build" / "html" / "book").glob("*.html")
    }


def test_one_address_gives_the_book_its_colab_buttons(copy):
    pages = build(copy)
    assert set(pages) == {"references", "presets"} and not any(
        "colab.research" in page for page in pages.values()
    )
    shutil.rmtree(copy / "_build")
    publish.publish(copy, SAMPLE)
    link = (
        SAMPLE.replace("https://github.com", "https://colab.research.google.com/github")
        + "/blob/main/book/presets.ipynb"
    )
    pages = build(copy)
    assert f'href="{link}"' in pages["presets"] and "colab.research" not in pages["references"]
    (source,) = {nbformat.read(copy / "book" / "presets.ipynb", as_version=4).cells[0].source}
    assert SAMPLE in source and source in (copy / "book" / "presets.py").read_text()
    publish.publish(copy, "")
    assert all(
        (copy / "book" / name).read_text() == (BOOK / name).read_text()
        for name in ("presets.ipynb", "presets.py")
    )
    assert (copy / "_config.yml").read_text().count(SAMPLE) == 0


@pytest.mark.parametrize(
    "address", ["github.com/a/b", "https://", 'https://a.org/b"', "https://a.org/ b"]
)
def test_what_is_no_address_is_not_written(copy, address):
    with pytest.raises(SystemExit, match="an address such as"):
        publish.publish(copy, address)
    assert (copy / "_config.yml").read_text().count('url: ""') == 1
