"""Everything that needs a GPU, in slices: tests, benchmarks and runs of the papers' size. `make
gpu` calls it.

    python scripts/gpu.py [--out _gpu] [--seconds 540] [--only NAME ...] [--dry-run] [--publish]

scripts/gpu.yaml lists the stages. One call works for --seconds and stops cleanly; the same command
goes on. All that is known lies under --out: NAME.log of a stage that is done, its first line what
was asked for; NAME.partial of one that was stopped; NAME.failed of one that failed, which is tried
again after all others. A stopped run continues from its checkpoint, a stopped benchmark or test
begins again. The exit status is 0 when all is done, 3 when something is left, 1 after a failure, 2
without the device.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from record import publish

from dipa import device as devices
from dipa import experiments, seeding
from dipa.checks import InputError, shorter
from dipa.experiments.config import Config
from dipa.interrupt import Guard, Interrupted

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "book" / "results"
GRACE = 30  # seconds that a stage has to end after it is told to
LEAST = 20  # seconds in which a stage is still begun
LEFT = 3  # the exit status of a call that leaves something to do


@dataclass(frozen=True)
class Stage:
    """A part of the list: its name, its kind (test, benchmark or run) and its words."""

    name: str
    kind: str
    words: tuple[str, ...]

    def command(self, out: Path, device: str) -> list[str]:
        """What is executed; it writes under ``out``."""
        if self.kind == "test":
            return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *self.words]
        if self.kind == "benchmark":
            script, *options = self.words
            target = out / "benchmarks" / f"{self.name}.json"
            return [
                sys.executable,
                f"benchmarks/{script}",
                "--device",
                device,
                "--json",
                str(target),
                *options,
            ]
        where = ["--out", str(out / "runs"), "--device", device, "--quiet"]
        return [sys.executable, "-m", "dipa.cli", "run", "--profile", "paper", *self.words, *where]

    @property
    def asked(self) -> str:
        """The stage in one line, the first one of its log."""
        return f"{self.kind}: {shlex.join(self.words)}"

    def file(self, out: Path, state: str) -> Path:
        """Its log in a state: log, partial or failed."""
        return out / f"{self.name}.{state}"

    def done(self, out: Path) -> bool:
        """Whether it has been done as it is asked for now."""
        log = self.file(out, "log")
        return log.is_file() and log.read_text(encoding="utf-8", errors="replace").startswith(
            self.asked + "\n"
        )

    def config(self) -> Config:
        """The configuration of a run."""
        parser = argparse.ArgumentParser()
        parser.add_argument("preset")
        parser.add_argument("--profile", default="paper")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--set", action="append", default=[])
        options = parser.parse_args(self.words)
        return experiments.resolve(
            options.preset, options.profile, seed=options.seed, overrides=options.set
        )


def read(path: Path) -> list[Stage]:
    """The stages of a list, in its order."""
    listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    pairs = [(name, *entry.items()) for name, entry in listed.items()]
    return [Stage(name, kind, tuple(shlex.split(words))) for name, (kind, words) in pairs]


def passes(config: Config) -> dict[str, int]:
    """Images through the denoiser in training: forward, backward to its input, and the
    teacher's.
    """
    budget, plan, iterations = config.training, config.differentiation, config.solver.iterations
    if not config.trained or config.recipe.network:
        return {"forward": 0, "backward": 0, "teacher": 0}
    steps = budget.steps * budget.batch_size
    tail = 0 if plan.way == "straight_through" else min(iterations, plan.backward or iterations)
    drawn = seeding.drawn(config.data.train_count, budget.batch_size, budget.steps, config.seed)
    teacher = len(drawn) if config.losses.needs_teacher else 0
    return {
        "forward": steps * iterations,
        "backward": steps * tail,
        "teacher": teacher * iterations,
    }


def execute(
    command: list[str], log: Path, seconds: float, environment: dict[str, str]
) -> int | None:
    """Run a command for so long, its output at the end of ``log``; its exit status, None where
    it was stopped.
    """
    with open(log, "a", encoding="utf-8") as output:
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
        child = subprocess.Popen(
            command, cwd=ROOT, env=environment, start_new_session=True, **streams
        )
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(child)


def _end(child: subprocess.Popen) -> None:
    """Tell what is left of a child and its children to stop, then make them."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is None:
            os.killpg(child.pid, number)
            try:
                child.wait(GRACE)
            except subprocess.TimeoutExpired:
                continue


def attempt(stage: Stage, out: Path, device: str, seconds: float, whole: bool) -> str:
    """Work on a stage for so long; ``done``, ``stopped`` or ``failed`` (also what does not fit
    into a whole slice).
    """
    partial = stage.file(out, "partial")
    if not partial.is_file() or not partial.read_text(
        encoding="utf-8", errors="replace"
    ).startswith(stage.asked + "\n"):
        partial.write_text(stage.asked + "\n", encoding="utf-8")
    environment = os.environ | {"DIPA_CACHE": os.environ.get("DIPA_CACHE", str(out / "cache"))}
    status = execute(stage.command(out, device), partial, seconds, environment)
    if status is None and (stage.kind == "run" or not whole):
        return "stopped"
    stage.file(out, "failed").unlink(missing_ok=True)
    partial.replace(stage.file(out, "failed" if status != 0 else "log"))
    return "failed" if status != 0 else "done"


def work(stages: list[Stage], out: Path, device: str, seconds: float) -> int:
    """One slice: the stages that are not done, those that failed before at the end; the exit
    status.
    """
    ends, states = time.monotonic() + seconds, []
    waiting = [stage for stage in stages if not stage.done(out)]
    for stage in sorted(waiting, key=lambda stage: stage.file(out, "failed").is_file()):
        began = time.monotonic()
        if ends - began < LEAST:
            break
        states.append(attempt(stage, out, device, ends - began, whole=not states))
        print(
            f"{stage.name}: {states[-1]}, {time.monotonic() - began:.0f} "
            f"s{_why(stage, out, states[-1])}",
            flush=True,
        )
    left = len(waiting) - states.count("done")
    print(
        f"{len(stages) - left} of {len(stages)} stages done"
        + ("; the same command goes on" if left else "")
    )
    return 1 if "failed" in states else LEFT if left else 0


def _why(stage: Stage, out: Path, state: str) -> str:
    """The last line of what failed, and where the rest is."""
    if state != "failed":
        return ""
    log = stage.file(out, "failed")
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n", 1)[1].strip().splitlines()
    return f": {shorter(lines[-1] if lines else 'it does not fit into a slice')} ({log})"


def plan(stages: list[Stage], out: Path) -> None:
    """Print what is there and, of a run, its name and passes."""
    for stage in stages:
        states = [state for state in ("failed", "partial") if stage.file(out, state).is_file()]
        state = "done" if stage.done(out) else states[0] if states else "to do"
        size = (
            f"  [{stage.config().run_name}: {passes(stage.config())}]"
            if stage.kind == "run"
            else ""
        )
        print(f"{stage.name}: {state}  {stage.asked}{size}")


def publish_all(stages: list[Stage], out: Path) -> None:
    """Copy what is done to book/results: outputs to benchmarks/gpu_NAME.json, runs to gpu/ as
    scripts/record.py does.
    """
    for stage in (stage for stage in stages if stage.done(out) and stage.kind != "test"):
        if stage.kind == "benchmark":
            target = RESULTS / "benchmarks" / f"gpu_{stage.name}.json"
            target.write_bytes((out / "benchmarks" / f"{stage.name}.json").read_bytes())
        elif not (target := RESULTS / "gpu" / stage.config().run_name).exists():
            publish(out / "runs" / target.name, target)
        print(target)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=ROOT / "_gpu", help="the folder of everything (default _gpu)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=540,
        help="of this slice; ending may take 60 more (default 540)",
    )
    parser.add_argument("--device", default="cuda", help="default cuda")
    parser.add_argument(
        "--list",
        type=Path,
        default=ROOT / "scripts" / "gpu.yaml",
        help="the stages (default scripts/gpu.yaml)",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="only these stages, in this order"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only list the stages, with the network passes of runs",
    )
    parser.add_argument("--publish", action="store_true", help="copy what is done to book/results")
    options = parser.parse_args(argv)
    listed, out = {stage.name: stage for stage in read(options.list)}, options.out.resolve()
    try:
        if unknown := set(options.only or ()) - set(listed):
            raise InputError(
                f"--only: got {', '.join(sorted(unknown))}; allowed: {', '.join(listed)}"
            )
        stages = [listed[name] for name in options.only or listed]
        if options.dry_run or options.publish:
            (plan if options.dry_run else publish_all)(stages, out)
            return 0
        device = str(devices.choose(options.device))
        (out / "benchmarks").mkdir(parents=True, exist_ok=True)
        with Guard():
            return work(stages, out, device, options.seconds)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print("stopped; the same command goes on", file=sys.stderr)
        return stop.status


if __name__ == "__main__":
    sys.exit(main())
