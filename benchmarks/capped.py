"""What the default precision costs on a processor that does not multiply bf16: each preset in
profile smoke, auto over float32.

    python benchmarks/capped.py [--json FILE] [--repeats 2] [--every] [PRESET ...]

The default is one preset of each method, task and prior, ``--every`` takes all (hours).
The instructions of torch and oneDNN are capped at AVX2. Processor seconds of whole runs, each
preset's two one after the other after one of each that is not counted; of the repetitions the
shorter one. Baselines and teachers come from a cache.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time

CAPS = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"}


def processor_seconds(preset: str, precision: str) -> float:
    """Of one run in a folder of its own."""
    from dipa import experiments

    config = experiments.resolve(preset, "smoke", overrides={"solver.precision": precision})
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        experiments.run(config, folder, device="cpu", progress=False)
        return time.process_time() - began


def compare(preset: str, repeats: int) -> dict[str, float]:
    """The shortest of each precision and their ratio."""
    found: dict[str, list[float]] = {"auto": [], "float32": []}
    for counted in (False, *[True] * repeats):
        for precision, seconds in found.items():
            took = processor_seconds(preset, precision)
            if counted:
                seconds.append(took)
    shortest = {precision: min(seconds) for precision, seconds in found.items()}
    return {**shortest, "ratio": shortest["auto"] / shortest["float32"]}


def one_of_each() -> list[str]:
    """The first preset of each method, task and prior."""
    from dipa import experiments

    found: dict[tuple[str, str, str], str] = {}
    for name in experiments.names():
        config = experiments.resolve(name, "smoke")
        found.setdefault((config.method, config.task.kind, config.solver.prior), name)
    return list(found.values())


def main() -> None:
    """Measure and print."""
    from common import finish, parser

    from dipa import experiments

    command = parser(__doc__, repeats=2, device="cpu")
    command.add_argument("presets", nargs="*", help="default: one of each kind")
    command.add_argument("--every", action="store_true", help="every preset")
    options = command.parse_args()
    chosen = options.presets or (experiments.names() if options.every else one_of_each())
    with tempfile.TemporaryDirectory() as cache:
        os.environ["DIPA_CACHE"] = cache
        result = {}
        for name in chosen:
            result[name] = compare(name, options.repeats)
            print(
                f"{name}: {result[name]['auto']:.2f} s, {result[name]['ratio']:.3f}",
                file=sys.stderr,
                flush=True,
            )
    total = {
        precision: sum(row[precision] for row in result.values())
        for precision in ("auto", "float32")
    }
    headline = {
        "largest ratio": max(row["ratio"] for row in result.values()),
        "total ratio": total["auto"] / total["float32"],
    }
    finish({"presets": result}, headline, options)


if __name__ == "__main__":
    # torch reads them when it is imported
    if any(os.environ.get(name) != value for name, value in CAPS.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | CAPS)
    main()
