"""Peak memory of one forward and backward pass through K = 20 iterations, beside plain automatic
differentiation.

    python benchmarks/memory.py [--large] [--json FILE]

ratio_32, time_32     this package's default over plain unrolling in float32, 32 x 32, batch 16:
memory and time. ratio_128_batch_4     the same at 128 x 128 and batch 4, with its time time_128.
ratio_128             the default in bf16 at batch 16 over plain unrolling at batch 16, which does
not fit in 24 GB and is
                      extrapolated on the line through its peaks at batches 2 and 4.
k_growth_*            peak at K = 80 over peak at K = 20. n_dipa_512_mib        with --large: one
training step of the papers' N-DIPA on one 512 x 512 image, K = 20 (many minutes).
"""

from __future__ import annotations

import torch
from common import Setting, finish, interleaved, parser, peak_mib, ratio
from reference import AS_PRINTED, STUDENT_STEP, K

import dipa
from dipa.training import Differentiation
from dipa.training.differentiate import called, differentiated

TRUNCATED = ("truncated", "jacobian_free")


def work(
    setting: Setting, P: torch.nn.Module, way: str, precision: str, batch: int, iterations: int = K
):
    """A function that does one forward and backward pass."""
    plan = Differentiation(way)
    solver, physics, x = (
        differentiated(plan, setting.solver(iterations, precision)),
        setting.student,
        setting.images[:batch],
    )

    def run() -> None:
        options = {
            "preconditioner": called(plan, P),
            "stepsize": STUDENT_STEP,
            "backward": plan.backward,
        }
        loss = dipa.losses.supervised(solver(physics.A(x), physics, **options).x, x).mean()
        torch.autograd.grad(loss, [p for p in P.parameters() if p.requires_grad])

    return run


def beside_plain(options, size: int, batch: int, repeats: int) -> tuple[dict, Setting]:
    """Peaks and times of plain float32 unrolling and of the default, L-DIPA."""
    setting = Setting.make(options, size=size, count=16)
    P = dipa.LinearPreconditioner.identity(setting.student, (1, size, size))
    plain = work(setting, P, "unrolled", "float32", batch)
    lean = {kind: work(setting, P, "checkpointed", kind, batch) for kind in ("float32", "bf16")}
    works = {"plain": plain, **lean}
    times = interleaved(works, repeats, options.device)
    peaks = {name: peak_mib(run, options.device) for name, run in works.items()}
    found = {"peak_mib": peaks, "seconds": times, "ratio": peaks["float32"] / peaks["plain"]}
    found |= {
        "time": ratio(times, "float32", "plain"),
        "bf16_ratio": peaks["bf16"] / peaks["plain"],
    }
    return found | {"bf16_time": ratio(times, "bf16", "plain")}, setting


def growth(setting: Setting, device: str) -> dict[str, dict[int, float]]:
    """Peak memory at several K for the ways whose memory should not depend on it, and for the
    default.
    """
    P = dipa.LinearPreconditioner.identity(setting.student, tuple(setting.images.shape[1:]))
    counts = (20, 40, 80)
    return {
        way: {k: peak_mib(work(setting, P, way, "bf16", 16, k), device) for k in counts}
        for way in (*TRUNCATED, "checkpointed")
    }


def large(options) -> dict[str, float]:
    """Peak memory of the process over one N-DIPA training step on one 512 x 512 image, the
    published network.
    """
    setting = Setting.make(options, size=512, count=1, test=1)
    P = dipa.NeuralPreconditioner(
        "convnext", img_size=(1, 512, 512), precision="bf16", start="random"
    ).to(options.device)
    arguments = {
        "losses": dipa.LossWeights(supervised=1.0),
        "budget": dipa.Budget(steps=1, batch_size=1),
        "progress": False,
    }
    step = peak_mib(
        lambda: dipa.distill(
            setting.solver(K, "bf16"),
            P,
            setting.student,
            None,
            setting.images,
            **arguments,
            **AS_PRINTED,
        ),
        options.device,
    )
    return {"n_dipa_512_mib": step}


def main() -> None:
    """Measure and print."""
    made = parser(__doc__, repeats=3)
    made.add_argument(
        "--large", action="store_true", help="the 512 x 512 step too (many minutes on a processor)"
    )
    made.add_argument("--only-large", action="store_true", help="that step alone")
    options = made.parse_args()
    result, headline = {}, {}
    if not options.only_large:
        small, setting = beside_plain(options, 32, 16, options.repeats)
        big, wide = beside_plain(options, 128, 4, 1)
        P = dipa.LinearPreconditioner.identity(wide.student, (1, 128, 128))
        big["batch_16_mib"] = peak_mib(work(wide, P, "checkpointed", "bf16", 16), options.device)
        big["plain_batch_2_mib"] = peak_mib(work(wide, P, "unrolled", "float32", 2), options.device)
        plain = big["peak_mib"]["plain"]
        big["plain_batch_16_mib"] = plain + 6 * (plain - big["plain_batch_2_mib"])
        grown = growth(setting, options.device)
        result = {"32": small, "128": big, "growth": grown}
        headline = {"ratio_32": small["ratio"], "time_32": small["time"], "time_128": big["time"]}
        headline |= {
            "ratio_128_batch_4": big["ratio"],
            "ratio_128": big["batch_16_mib"] / big["plain_batch_16_mib"],
        }
        headline |= {f"k_growth_{way}": peaks[80] / peaks[20] for way, peaks in grown.items()}
    if options.large or options.only_large:
        headline |= large(options)
    finish(result, headline, options)


if __name__ == "__main__":
    main()
