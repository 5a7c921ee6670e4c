"""Write dipa/experiments/costs.json, what `dipa list --json` calls profile_seconds.

    python scripts/record_costs.py

Runs every preset in profile smoke, one after the other with one thread, in a folder of its own that
is removed, and notes the processor seconds each takes; reads the seconds of profile small from the
manifests of the committed runs (wall clock, one thread, so upper bounds on a machine with other
work). A preset that has no run has no number. Baselines and teachers come from a cache once a run
has made them, so the first preset of a task costs more.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml

from dipa import experiments, files
from dipa.experiments.presets import COSTS

RESULTS = Path(__file__).parents[1] / "book" / "results"


def main() -> int:
    torch.set_num_threads(1)
    table: dict[str, dict[str, float]] = {}
    for task in yaml.safe_load((RESULTS / "records.yaml").read_text(encoding="utf-8")):
        for run in experiments.find_runs(RESULTS / task):
            table.setdefault(run.config.preset, {})[run.config.profile] = run.manifest["seconds"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DIPA_CACHE"] = str(Path(folder) / "cache")
        for name in experiments.names():
            began = time.process_time()
            experiments.run(
                experiments.resolve(name, "smoke"), Path(folder) / "runs", progress=False
            )
            table.setdefault(name, {})["smoke"] = round(time.process_time() - began, 2)
            print(f"{name}: {table[name]['smoke']:.1f} s", flush=True)
    files.write_json(
        COSTS, {name: dict(sorted(table[name].items())) for name in experiments.names()}
    )
    print(f"wrote {COSTS.name}: {sum(entry['smoke'] for entry in table.values()):.0f} s in smoke")
    return 0


if __name__ == "__main__":
    sys.exit(main())
