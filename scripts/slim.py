"""The slim copy of the recorded runs that comes with the installed package: python scripts/slim.py
[RESULTS] FOLDER.

setup.py makes it while a wheel is built, so it is not in git a second time. Of every run it holds
the settings, numbers and curves (of a long training every nth step); the pictures and trained
weights that pages show are listed in book/results/packaged.yaml. What is left out is named in each
manifest, which is sealed again, so that `dipa verify` passes on the copy. This module runs where
neither torch nor dipa is installed: it needs numpy and PyYAML alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import yaml

RESULTS = Path(__file__).resolve().parents[1] / "book" / "results"
ALWAYS = ("config.yaml", "metrics.json")
HISTORY = "history.jsonl"
TRAINED = "preconditioner.safetensors"
STEPS = 40  # of a training of which the history is kept whole; of a longer one every nth
GREY = 1024  # steps of the grey scale that pictures are rounded to
NOTE = """This is the slim copy in the installed package: fewer pictures, rounded, and only of some
runs. The repository has all.

"""


def copy_results(results: Path, folder: Path) -> None:
    """Fill ``folder`` with the slim copy of the recorded ``results``, and nothing else."""
    wanted = yaml.safe_load((results / "packaged.yaml").read_text(encoding="utf-8"))
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier build
    folder.mkdir(parents=True)
    notice = (results / "NOTICE.md").read_text(encoding="utf-8")
    (folder / "NOTICE.md").write_text(notice.replace("\n\n", "\n\n" + NOTE, 1), encoding="utf-8")
    for topic in sorted(path for path in results.iterdir() if path.is_dir()):
        if topic.name not in wanted:
            shutil.copytree(topic, folder / topic.name, copy_function=copy_compact)
            continue
        for run in sorted(path for path in topic.iterdir() if (path / "manifest.json").is_file()):
            copy_run(run, folder / topic.name / run.name, wanted[topic.name])


def copy_run(run: Path, folder: Path, wanted: dict) -> None:
    """One run: what is always kept, and of seed 0 the pictures and weights that ``wanted``
    names for its preset.
    """
    folder.mkdir(parents=True)
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    preset = config["preset"] if config["seed"] == 0 else None
    copy_history(run / HISTORY, folder / HISTORY)
    for name in (*ALWAYS, *([TRAINED] if preset in wanted["trained"] else [])):
        shutil.copyfile(run / name, folder / name)
    if preset in wanted["pictures"]:
        copy_pictures(run / "examples.npz", folder / "examples.npz", wanted["pictures"][preset])
    write_manifest(run, folder)


def copy_compact(source: str, path: str) -> None:
    """A file; of JSON its values, without the spaces between them."""
    if not source.endswith(".json"):
        shutil.copyfile(source, path)
        return
    values = json.loads(Path(source).read_text(encoding="utf-8"))
    Path(path).write_text(json.dumps(values, separators=(",", ":")) + "\n", encoding="utf-8")


def copy_history(source: Path, path: Path) -> None:
    """The records of a training: of a long one every nth, and the last."""
    records = source.read_text(encoding="utf-8").splitlines(keepends=True)
    every = max(1, math.ceil(len(records) / STEPS))
    path.write_text("".join(records[::-every][::-1]), encoding="utf-8")


def copy_pictures(source: Path, path: Path, count: int) -> None:
    """The first ``count`` images of each role, without iterates, on a grey scale of ``GREY``
    steps.
    """
    with np.load(source, allow_pickle=False) as arrays:
        images = {
            name: arrays[name][:count] for name in arrays.files if not name.endswith("_iterates")
        }
    np.savez_compressed(
        path, **{name: (np.round(x * GREY) / GREY).astype(x.dtype) for name, x in images.items()}
    )


def write_manifest(run: Path, folder: Path) -> None:
    """The manifest of ``run`` with the hashes of what is in ``folder``; files that are not
    there are named ``left_out``.
    """
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    hashes = dict(manifest["files"])
    copied = {path.name for path in folder.iterdir()}
    changed = {
        name: sha256(folder / name) for name in copied if sha256(folder / name) != hashes[name]
    }
    content = {name: value for name, value in manifest.items() if name not in ("files", "checksum")}
    content |= {"left_out": sorted(set(hashes) - copied)}
    content |= {"slim": {name: {"before": hashes[name]} for name in changed}} if changed else {}
    content |= {"files": hashes | changed}
    # the checksum of dipa.experiments.manifest.sealed: `dipa verify` refuses the copy where the two
    # differ
    content["checksum"] = hashlib.sha256(
        json.dumps(content, sort_keys=True, allow_nan=False).encode()
    ).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    copy_results(Path(sys.argv[1]) if len(sys.argv) > 2 else RESULTS, Path(sys.argv[-1]))
