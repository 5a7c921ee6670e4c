"""Give recorded run folders of older versions their list of hashes: `dipa verify` then finds any later change.

    python tools/seal.py [--again] [FOLDER ...]

Every run below the folders (default: book/results) that has no list gets one, after it was read whole and what was trained
was found to be what its manifest and configuration say. The manifest notes under `sealed` the date and the commit: the
hashes are those of that day, not of the day of the run. Sealed runs are left as they are; with --again they are sealed
anew, for folders that were changed on purpose.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dipa import experiments
from dipa.checks import InputError
from dipa.experiments.provenance import now, provenance
from dipa.experiments.writing import seal

RESULTS = Path(__file__).parents[1] / "book" / "results"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, default=[RESULTS], help="run folders, or folders with such below")
    parser.add_argument("--again", action="store_true", help="also those that have a list")
    options = parser.parse_args()
    by = {"date": now(), "commit": provenance()["commit"]}
    failed = 0
    for root in options.folders:
        for folder in experiments.run_folders(root, deep=True):
            try:
                print(f"{'sealed' if seal(folder, by, again=options.again) else 'was sealed'} {folder.name}")
            except InputError as error:
                print(f"error: {error}", file=sys.stderr)
                failed += 1
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
