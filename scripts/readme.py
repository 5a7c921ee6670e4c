"""Write what the recorded runs say into README.md: the picture and the lines between its two marks.

``python scripts/readme.py`` after recording; tests/test_readme.py checks that nothing is older than
the runs.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from dipa import plots, reports
from dipa.experiments import find_runs, results_folder
from dipa.reports.headline import Runs

ROOT = Path(__file__).resolve().parents[1]
PICTURE = Path("book/_static/overview.png")
BEGIN, END = "<!-- recorded: scripts/readme.py -->", "<!-- end of recorded -->"

CAPTION = (
    "One test image of each task, the one with the median gain: truth, papers' baseline, best "
    "without learning, closed form, network behind it, teacher, with their PSNR"
)
CONVENTION = (
    "Mean PSNR over the test images, recorded on two cores with one seed. D2GP's table is from the "
    "mean squared error of a batch (so is the column before it), on its own test images."
)


def recorded() -> tuple[Runs, dict]:
    """The runs of each task, and the outputs of the benchmarks."""
    runs = {task: find_runs(results_folder(task)) for task in reports.STORIES}
    return runs, reports.cost.read(results_folder("benchmarks"))


def lines(runs: Runs, benchmarks: dict) -> str:
    """What stands between the marks."""
    found = "\n".join(f"- {sentence}" for sentence in reports.findings(runs, benchmarks))
    return (
        f"![{CAPTION}]({PICTURE})\n\n{reports.at_a_glance(runs)}\n\n"
        f"{CONVENTION}\n\n**What the book found:**\n\n{found}"
    )


def between(text: str, content: str) -> str:
    """``text`` with ``content`` between its marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{content}\n{END}{rest.split(END)[1]}"


def digest(examples: dict) -> str:
    """Of the images of the picture."""
    hashed = hashlib.sha256()
    for name, planes in examples.items():
        for kind, plane in planes.items():
            hashed.update(f"{name} {kind} {plane.shape}".encode() + plane.tobytes())
    return hashed.hexdigest()


def main() -> None:
    """Write both."""
    runs, benchmarks = recorded()
    examples = reports.examples(runs)
    figure = plots.beside_the_truth(examples)
    figure.savefig(ROOT / PICTURE, dpi=110, metadata={"Comment": digest(examples)})
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(between(text, lines(runs, benchmarks)), encoding="utf-8")


if __name__ == "__main__":
    main()
