"""One step of L-DIPA's training at the papers' setting, in every precision and layout and every way
to launch it.

    python benchmarks/gpu_step.py [--precision bf16 ...] [--network lean ...] [--launch eager ...]
    [--json FILE]

A variant is PRECISION NETWORK LAUNCH. NETWORK   lean: the package's backward pass, channels_last;
channels_last, contiguous: plain automatic differentiation. LAUNCH    package: dipa.distill; eager:
the same operations without the checks that wait for the device; graph: all of the
          eager step in one CUDA graph; compiled: the denoiser by torch.compile (lean: what packs
          its signs);
          compiled_graph: both.
speedup   of the step over that of "float32 lean eager", median of pairs timed one after the other.
budget_seconds      50 epochs of 50,000 images at this rate. share_of_peak       counted operations
(torch.utils.flop_counter) over those a large matrix product does in the same numbers
                    and the same time; that product is measured here. A convolution that multiplies
                    less than is counted (Winograd's) may exceed 1.
psnr_difference     test PSNR in float32 after --train-steps from the closed form, minus that of
"float32 lean eager". What cannot run here is listed as absent, with the reason.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import statistics
import sys
import time
from collections.abc import Callable
from itertools import product
from unittest import mock

import torch
from common import Setting, finish, interleaved, parser, ratio, seconds
from reference import AS_PRINTED, STUDENT_STEP, K
from torch.utils.flop_counter import FlopCounterMode

import dipa
from dipa import device as devices
from dipa import memory, seeding
from dipa.checks import shorter
from dipa.solvers import MOMENTA, data_gradient
from dipa.training import differentiate as backward

IMAGES, EPOCHS, RATE = 50_000, 50, 1e-4
PRECISIONS, NETWORKS = ("float32", "tf32", "bf16", "fp16"), ("lean", "channels_last", "contiguous")
LAUNCHES = ("package", "eager", "graph", "compiled", "compiled_graph")
BASE = ("float32", "lean", "eager")
Variant = tuple[str, str, str]


class Problem:
    """The setting, with the preconditioner that every training starts from and the batches it
    draws.
    """

    def __init__(self, options: argparse.Namespace):
        self.options, self.iterations, self.batch = options, options.iterations, options.batch
        self.setting = Setting.make(
            options, size=options.size, count=max(512, options.batch), test=options.test
        )
        found = dipa.data.load(options.data, "train", size=options.size).images.to(options.device)
        ridge = dipa.LinearPreconditioner.ridge
        self.start = ridge(self.setting.student, found, stepsize=STUDENT_STEP, form="dense")

    def images(self, step: int) -> torch.Tensor:
        """The batch of a step, as ``dipa.distill`` draws it."""
        return self.setting.images[
            seeding.batch_indices(len(self.setting.images), self.batch, step, 0)
        ]

    @torch.no_grad()
    def psnr(self, P: torch.nn.Module) -> float:
        """Of the test images, in float32."""
        physics, solver = self.setting.student, self.setting.solver(self.iterations, "float32")
        with devices.rounding(False):
            x = solver(
                physics.A(self.setting.test), physics, preconditioner=P, stepsize=STUDENT_STEP
            ).x
        return dipa.metrics.psnr(x, self.setting.test).mean().item()


class Step:
    """A training step that never waits for the device: K iterations, supervised loss, clipping,
    Adam.
    """

    def __init__(self, problem: Problem, variant: Variant):
        self.problem, (self.precision, network, launch) = problem, variant
        self.P, self.physics = copy.deepcopy(problem.start), problem.setting.student
        denoiser, self.around = _network(
            problem.setting.denoiser, network, launch.startswith("compiled")
        )
        self.prior = dipa.PnP(denoiser, precision=self.precision)
        on_gpu = problem.options.device != "cpu"
        self.optimizer = torch.optim.Adam(self.P.parameters(), lr=RATE, capturable=on_gpu)
        self.x = problem.images(0).clone()
        self.y = self.physics.A(self.x)
        self.launched = self._graph() if launch.endswith("graph") else self._eager

    def solve(self) -> torch.Tensor:
        """The iterations of FISTA on the batch."""
        x = z = torch.zeros_like(self.x)
        weights = MOMENTA["nesterov"]()
        for k in range(1, self.problem.iterations + 1):
            following = self.prior.step(
                z, self.P(data_gradient(self.physics, self.y, z), z, k), STUDENT_STEP
            )
            x, z = following, following + next(weights) * (following - x)
        return x

    def _eager(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with self.around(), devices.rounding(self.precision == "tf32"):
            dipa.losses.supervised(self.solve(), self.x).mean().backward()
        torch.nn.utils.clip_grad_norm_(self.P.parameters(), 1.0)
        self.optimizer.step()

    def _graph(self) -> Callable[[], None]:
        """The eager step as one CUDA graph, after a few that warm up what it uses."""
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(3):
                self._eager()
        torch.cuda.current_stream().wait_stream(beside)
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._eager()
        return graph.replay

    def __call__(self) -> None:
        self.launched()

    @torch.no_grad()
    def trained(self, steps: int) -> torch.nn.Module:
        """P after so many steps from its start; in place, because a graph holds addresses."""
        for mine, start in zip(self.P.parameters(), self.problem.start.parameters(), strict=True):
            mine.copy_(start)
        for state in self.optimizer.state.values():
            for tensor in state.values():
                tensor.zero_()
        for step in range(steps):
            self.x.copy_(self.problem.images(step))
            self.y.copy_(self.physics.A(self.x))
            with torch.enable_grad():
                self()
        return self.P


class Package:
    """``dipa.distill`` on the same batches; a call is two steps, of which ``times`` keeps the
    second one's seconds.
    """

    def __init__(self, problem: Problem, variant: Variant):
        self.problem, self.precision = problem, variant[0]
        self.times: list[float] = []

    def __call__(self) -> None:
        marks: list[float] = []
        self.trained(2, report=lambda record: marks.append(time.perf_counter()))
        self.times.append(marks[1] - marks[0])

    def trained(self, steps: int, **report: Callable) -> torch.nn.Module:
        """P after so many steps from its start."""
        setting, P = self.problem.setting, copy.deepcopy(self.problem.start)
        budget = dipa.Budget(steps, self.problem.batch, learning_rate=RATE, schedule="constant")
        options = {
            "losses": dipa.LossWeights(supervised=1.0),
            "budget": budget,
            "progress": False,
            **report,
        }
        with devices.rounding(self.precision == "tf32"):
            solver = setting.solver(self.problem.iterations, self.precision)
            dipa.distill(
                solver,
                P,
                setting.student,
                None,
                setting.images,
                **options,
                **AS_PRINTED,
            )
        return P


def _network(denoiser: torch.nn.Module, name: str, compiled: bool) -> tuple[Callable, Callable]:
    """The denoiser as a variant calls it, and the context it is called in."""
    if name == "lean":
        packing = (
            {part: torch.compile(getattr(backward, part)) for part in ("pack", "unpack")}
            if compiled
            else {}
        )
        around = (
            (lambda: mock.patch.multiple(backward, **packing))
            if compiled
            else contextlib.nullcontext
        )
        return backward.low_memory(denoiser), around
    net = copy.deepcopy(denoiser).to(
        memory_format=getattr(torch, f"{name}_format" if name == "contiguous" else name)
    )
    return torch.compile(net) if compiled else net, contextlib.nullcontext


def absent(variant: Variant, device: str) -> str:
    """Why a variant cannot run on a device; empty where it can."""
    precision, network, launch = variant
    place = torch.device(device)
    if launch == "package" and network != "lean":
        return "the package has its own backward pass"
    if place.type == "cpu":
        return (
            "tf32 is float32 on a processor"
            if precision == "tf32"
            else "it needs CUDA" * launch.endswith("graph")
        )
    new = torch.cuda.get_device_capability(place) >= (8, 0)
    return "" if new or precision in ("float32", "fp16") else "it needs compute capability 8.0"


def peak(precision: str, device: str, repeats: int) -> float:
    """Operations a second of a large matrix product."""
    side = 1024 if device == "cpu" else 8192
    drawn = torch.rand(side, side, generator=torch.Generator().manual_seed(0))
    a = drawn.to(device, devices.AUTOCAST.get(precision, torch.float32))
    with devices.rounding(precision == "tf32"):
        a @ a
        return 2 * side**3 / min(seconds(lambda: a @ a, device) for _ in range(repeats))


def operations(problem: Problem) -> int:
    """Of one step, counted while it runs."""
    step = Step(problem, BASE)
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def measure(problem: Problem, variant: Variant, base: Step, counted: int, rate: float) -> dict:
    """Times of a variant beside the base, and its test PSNR after a short training."""
    options = problem.options
    step = (Package if variant[2] == "package" else Step)(problem, variant)
    times = interleaved({"base": base, "own": step}, options.repeats, options.device)
    if isinstance(step, Package):
        times["own"] = step.times[-options.repeats :]
    took = statistics.median(times["own"])
    found = {
        "seconds": times,
        "speedup": ratio(times, "base", "own"),
        "images_per_second": problem.batch / took,
    }
    found |= {
        "budget_seconds": EPOCHS * IMAGES * took / problem.batch,
        "share_of_peak": counted / took / rate,
    }
    return found | {"psnr": problem.psnr(step.trained(options.train_steps))}


def measured(problem: Problem, variants: list[Variant]) -> dict:
    """Every variant by name: what it measured, or why it is absent; with the counted operations
    and the rates of products.
    """
    device, base, counted = problem.options.device, Step(problem, BASE), operations(problem)
    level, found = problem.psnr(base.trained(problem.options.train_steps)), {}
    rates = {
        kind: peak(kind, device, 3)
        for kind in sorted({v[0] for v in variants if not absent(v, device)})
    }
    for variant in variants:
        name, reason = " ".join(variant), absent(variant, device)
        try:
            found[name] = (
                {"absent": reason}
                if reason
                else measure(problem, variant, base, counted, rates[variant[0]])
            )
        except (RuntimeError, ImportError, OSError) as error:
            # no compiler, a capture that is refused, too little memory
            found[name] = {"absent": shorter(str(error))}
        if "psnr" in found[name]:
            found[name]["psnr_difference"] = found[name]["psnr"] - level
        print(
            name,
            {key: value for key, value in found[name].items() if key != "seconds"},
            file=sys.stderr,
            flush=True,
        )
        torch.compiler.reset()
        memory.release(torch.device(device))
    made = {"variants": found, "operations_per_step": counted, "peak_operations_per_second": rates}
    return made | {"psnr": level, "start": problem.psnr(problem.start)}


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser(__doc__)
    for name, names in (("precision", PRECISIONS), ("network", NETWORKS), ("launch", LAUNCHES)):
        made.add_argument(
            f"--{name}", nargs="+", default=names, choices=names, help="only these (default all)"
        )
    for name, number, text in (
        ("batch", 225, "images a step (default 225, 11,111 steps for the whole budget)"),
        ("train-steps", 50, "steps of the trainings whose PSNR is compared (default 50)"),
        ("size", 32, "side of the images (default 32)"),
        ("iterations", K, f"K (default {K})"),
        ("test", 256, "test images (default 256)"),
    ):
        made.add_argument(f"--{name}", type=int, default=number, help=text)
    return made


def main() -> None:
    """Measure and print."""
    options = arguments().parse_args()
    found = measured(
        Problem(options), list(product(options.precision, options.network, options.launch))
    )
    ran = {name: entry for name, entry in found["variants"].items() if "absent" not in entry}
    fastest = max(ran, key=lambda name: ran[name]["images_per_second"])
    keys = ("images_per_second", "budget_seconds", "share_of_peak", "speedup", "psnr_difference")
    finish(found, {"fastest": fastest} | {key: ran[fastest][key] for key in keys}, options)


if __name__ == "__main__":
    main()
