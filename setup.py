"""What pyproject.toml cannot say: a wheel carries a slim copy of the recorded runs, made while
it is built (scripts/slim.py).
"""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithResults(build_py):
    """Also fills ``dipa/recorded``; an editable installation reads book/results of its checkout."""

    def run(self):
        """Build, then slim the recorded runs into what was built."""
        super().run()
        if not self.editable_mode:
            sys.path.insert(0, str(ROOT / "scripts"))
            from slim import copy_results

            copy_results(ROOT / "book" / "results", Path(self.build_lib) / "dipa" / "recorded")


setup(cmdclass={"build_py": BuildWithResults})
