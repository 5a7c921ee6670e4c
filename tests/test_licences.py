"""Licences: of the committed pictures, of the packaged weights, and what the wheel says and
carries.
"""

import json
import os
import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import alone
import pytest
import yaml

from dipa import denoisers, experiments, storage

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "book" / "results"
NOTICE = (RESULTS / "NOTICE.md").read_text(encoding="utf-8")

BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}  # setuptools warns where bytecode is switched off


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def field(name: str) -> str:
    """A text of pyproject.toml's project table."""
    return re.search(rf'^{name} = "(.*)"$', read("pyproject.toml"), re.MULTILINE)[1]


def table(text: str) -> list[list[str]]:
    """The cells of the rows of a markdown table, without code marks and link targets."""
    plain = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text).replace("`", "")
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in plain.splitlines()
        if line.startswith("|")
    ]


def test_the_notice_names_every_source_of_committed_pictures_and_how_many_there_are():
    rows = {
        (folder.strip("/"), source): pictures for folder, source, pictures, _ in table(NOTICE)[2:]
    }
    runs = [
        run
        for folder in RESULTS.iterdir()
        if folder.is_dir()
        for run in experiments.find_runs(folder)
    ]
    assert {(run.path.parent.name, run.config.data.name) for run in runs} == set(rows)
    for run in runs:
        count, _, height, width = run.examples["truth"].shape
        said = rows[run.path.parent.name, run.config.data.name]
        assert re.fullmatch(rf"{count} \w+, {height} x {width}", said), f"{run.path.name}: {said}"
    sections = re.findall(r"^## (\S+)\n\n((?:.+\n)+)", NOTICE, re.MULTILINE)
    assert {name for name, _ in sections} == {source for _, source in rows}
    assert all("http" in text and "Changes: " in text for _, text in sections)


def test_the_folders_without_pictures_are_those_the_notice_names():
    plain = set(
        re.search(r"^(.*) hold numbers alone", NOTICE, re.MULTILINE)[1]
        .replace("`", "")
        .replace("/", "")
        .split(" and ")
    )
    with_arrays = {path.relative_to(RESULTS).parts[0] for path in RESULTS.rglob("*.npz")}
    assert {folder.name for folder in RESULTS.iterdir() if folder.is_dir()} == plain | with_arrays
    assert {path.suffix for name in plain for path in (RESULTS / name).iterdir()} == {".json"}


@pytest.mark.parametrize(
    "source, title",
    [("mnist", "MNIST"), ("mri-npz", "Brain-Tumor-Progression"), ("faces", "Caltech-101")],
)
def test_notice_and_readme_agree_on_licences(source, title):
    noticed = {row[1]: row[3] for row in table(NOTICE)[2:]}
    (terms,) = [row[-1] for row in table(read("README.md")) if row[0].startswith(title)]
    assert terms.endswith(noticed[source])


def test_the_packaged_weights_say_what_they_were_trained_on_and_for_what():
    record = denoisers.training_record()
    assert (
        "BSDS500" in record["data"]
        and "non-commercial research and educational purposes" in record["terms"]
    )
    compared = json.loads((RESULTS / "denoiser" / "comparison.json").read_text(encoding="utf-8"))
    assert denoisers.fingerprint(denoisers.load()) == compared["sha256"]["dncnn-bsds500"], (
        "the weights measured there"
    )


def test_licence_and_version_are_the_same_everywhere():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert read("LICENSE").startswith(f"{field('license')} License")
    assert citation["license"] == field("license") and citation["version"] == field("version")
    newest = re.search(r"^## \[([^]]+)\]", read("CHANGELOG.md"), re.MULTILINE)[1]
    assert newest == field("version")


def test_the_wheel_builds_without_warnings_and_carries_licence_and_record(tmp_path):
    source = tmp_path / "source"
    alone.copy_sources(source)
    build = (
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--verbose",
        "--wheel-dir",
    )
    done = subprocess.run(
        [*build, tmp_path / "wheel", source],
        env=os.environ | BYTECODE,
        text=True,
        capture_output=True,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0 and not re.search("warning|deprecated", said, re.IGNORECASE), said
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extract("dipa/weights/" + denoisers.PACKAGED.name, tmp_path)
        info = wheel.name.split("-py3")[0] + ".dist-info"
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
    assert metadata["License-Expression"] == "MIT" and f"{info}/licenses/LICENSE" in names
    assert (
        storage.read_tensors(tmp_path / "dipa/weights" / denoisers.PACKAGED.name)[1]
        == denoisers.training_record()
    )
    shipped = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "dipa").rglob("*")
        if path.suffix in (".py", ".yaml", ".json")
    }
    assert shipped <= set(names)
