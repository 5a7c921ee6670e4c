"""Every way to differentiate one solve: cosine to the exact gradient, time and memory beside plain
automatic differentiation.

    python benchmarks/ways.py [--method n-dipa] [--batches 4] [--json FILE]

cosine    between the gradient on P's parameters and that of plain unrolling in float32, mean over
batches, at the start of
          training (L-DIPA: the closed form; N-DIPA: a random network) and, L-DIPA, at the recorded
          preconditioner --run.
time      of forward and backward pass over that of plain unrolling in the same precision, median of
interleaved pairs. memory    peak of the same over that of plain unrolling in the same precision.
"""

from __future__ import annotations

import statistics

import torch
from common import Setting, finish, interleaved, parser, peak_mib, ratio
from reference import STUDENT_STEP, K

import dipa
from dipa.training import Differentiation
from dipa.training.differentiate import called, differentiated

BATCH = 16
WAYS = {"unrolled": Differentiation("unrolled"), "checkpointed": Differentiation("checkpointed")}
WAYS |= {f"truncated({tail})": Differentiation("truncated", tail) for tail in (15, 10, 5, 2)}
WAYS |= {"jacobian_free": Differentiation("jacobian_free")}
WAYS |= {"straight_through": Differentiation("straight_through")}
WAYS |= {f"restart({tail})": Differentiation("restart", tail) for tail in (10, 5)}


def gradient(
    setting: Setting, P: torch.nn.Module, way: Differentiation, precision: str, x: torch.Tensor
) -> torch.Tensor:
    """The gradient of the mean supervised loss on P's parameters, as one vector."""
    solver, physics = differentiated(way, setting.solver(K, precision)), setting.student
    options = {"preconditioner": called(way, P), "stepsize": STUDENT_STEP, "backward": way.backward}
    x_hat = solver(physics.A(x), physics, **options).x
    parameters = [p for p in P.parameters() if p.requires_grad]
    loss = dipa.losses.supervised(x_hat, x).mean()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])


def cosines(
    setting: Setting, P: torch.nn.Module, batches: list[torch.Tensor], precision: str
) -> dict[str, float]:
    """Mean cosine of each way in ``precision`` to plain unrolling in float32."""
    exact = [gradient(setting, _in(P, "float32"), WAYS["unrolled"], "float32", x) for x in batches]

    def mean(way: Differentiation) -> float:
        found = [gradient(setting, _in(P, precision), way, precision, x) for x in batches]
        return statistics.mean(
            torch.cosine_similarity(a, b, dim=0).item() for a, b in zip(found, exact, strict=True)
        )

    return {name: mean(way) for name, way in WAYS.items()}


def _in(P: torch.nn.Module, precision: str) -> torch.nn.Module:
    """P itself, a network told to compute in ``precision``."""
    if isinstance(P, dipa.NeuralPreconditioner):
        P.precision = precision
    return P


def main() -> None:
    """Measure and print."""
    made = parser(__doc__, repeats=3)
    made.add_argument(
        "--method", default="l-dipa", choices=("l-dipa", "n-dipa"), help="default l-dipa"
    )
    made.add_argument(
        "--batches",
        type=int,
        default=4,
        help="batches of 16 images the cosines are means over (default 4)",
    )
    made.add_argument(
        "--run", help="a preconditioner.safetensors of a recorded run, for cosines after training"
    )
    options = made.parse_args()
    setting = Setting.make(options, count=2048 if options.data == "mnist" else 512)
    if options.method == "l-dipa":
        P = dipa.LinearPreconditioner.ridge(setting.student, setting.images, stepsize=STUDENT_STEP)
    else:
        P = dipa.NeuralPreconditioner(
            "convnext", img_size=(1, 32, 32), features=64, blocks=3, start="random"
        )
    P = P.to(options.device)
    batches = list(setting.images[: BATCH * options.batches].split(BATCH))
    result = {
        "cosine_start": {kind: cosines(setting, P, batches, kind) for kind in ("float32", "bf16")}
    }
    if options.run:
        result["cosine_trained"] = cosines(
            setting, dipa.load(options.run)[0].to(options.device), batches, "bf16"
        )
    works = {
        name: lambda way=way: gradient(setting, _in(P, "bf16"), way, "bf16", batches[0])
        for name, way in WAYS.items()
    }
    result["seconds"] = interleaved(works, options.repeats, options.device)
    result["time"] = {name: ratio(result["seconds"], name, "unrolled") for name in WAYS}
    result["peak_mib"] = {name: peak_mib(work, options.device) for name, work in works.items()}
    result["memory"] = {
        name: peak / result["peak_mib"]["unrolled"] for name, peak in result["peak_mib"].items()
    }
    headline = {
        name: [result["cosine_start"]["bf16"][name], result["time"][name], result["memory"][name]]
        for name in WAYS
    }
    finish(
        result,
        {name: [round(value, 4) for value in values] for name, values in headline.items()},
        options,
    )


if __name__ == "__main__":
    main()
