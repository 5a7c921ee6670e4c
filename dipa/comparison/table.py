"""What a comparison found, as a table, a sentence, a plot and plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .ways import FITTED, TRAINED

NEAR = 0.1  # dB below the best quality that any method reaches: the target
CLOSE = 0.01  # of the limit of the plain run: PETRIC's rule


@dataclass(frozen=True)
class Row:
    """One method with the setting and the iteration that validation chose, on the test images.

    Attributes:
        method: its name.
        family: untrained, deepinv, closed form or trained.
        prior: the denoiser's name.
        setting: as chosen.
        k: iterations, as chosen.
        validation: mean PSNR on the validation images.
        psnr: mean PSNR on the test images.
        seconds: of the k iterations on all test images.
        setup: seconds before the first iteration, once for an operator.
        fit: seconds of fitting or training.
        numbers: that were learned.
        to_target: seconds until 0.1 dB below the best of all methods, set-up included; None for
            never.
        to_limit: seconds until 1 % from the limit of the plain run, set-up included; None for
            never, or where no limit was computed.
        curve: (seconds, PSNR) of the iterations 0 to k.
    """

    method: str
    family: str
    prior: str
    setting: str
    k: int
    validation: float
    psnr: float
    seconds: float
    setup: float
    fit: float
    numbers: int
    to_target: float | None
    to_limit: float | None
    curve: list[tuple[float, float]]

    @property
    def name(self) -> str:
        """Method and prior."""
        return f"{self.method}, {self.prior}" if self.prior else self.method

    @property
    def learned(self) -> bool:
        """Whether it was fitted or trained on images."""
        return self.family in (FITTED, TRAINED)

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        return (
            self.name,
            self.family,
            self.setting,
            str(self.k),
            f"{self.psnr:.2f}",
            _seconds(self.seconds),
            _seconds(self.to_target),
            _seconds(self.to_limit),
            _seconds(self.setup) if self.setup >= 0.005 else "0",
            _seconds(self.fit) if self.fit else "0",
            f"{self.numbers:,}",
        )


HEAD = (
    "method",
    "family",
    "chosen",
    "k",
    "PSNR (dB)",
    "s",
    "s to target",
    "s to 1 %",
    "set-up (s)",
    "fit (s)",
    "numbers",
)


@dataclass(frozen=True)
class Comparison:
    """All methods on one operator; rows by seconds to the target, those that miss it by PSNR.

    ``counts`` are the images fitted on, chosen by and tested on; ``absent`` says why a method was
    left out.
    """

    operator: str
    img_size: tuple[int, int, int]
    counts: dict[str, int]
    rows: tuple[Row, ...]
    absent: dict[str, str]

    @property
    def best(self) -> float:
        """The highest PSNR on the test images."""
        return max(row.psnr for row in self.rows)

    @property
    def target(self) -> float:
        """0.1 dB below the best."""
        return self.best - NEAR

    @property
    def first(self) -> Row:
        """What reaches the target first."""
        return self.rows[0]

    @property
    def advice(self) -> str:
        """What to use, for how many iterations, in a sentence."""
        first, highest = self.first, max(self.rows, key=lambda row: row.psnr)
        use = f"{first.name}, {first.k} iteration{'' if first.k == 1 else 's'}"
        reached = f"{first.to_target:.2f} s to {self.target:.2f} dB"
        if first.learned:
            text = f"Use {use}: {reached} after {first.fit:.0f} s of fitting; {self._beside}"
        else:
            learned = [row.psnr for row in self.rows if row.learned]
            none = "nothing that has learned was compared"
            most = f"learned ones reach {max(learned):.2f} dB" if learned else none
            text = f"{'Do not train: use' if learned else 'Use'} {use} ({reached}); {most}"
        return f"{text}. Highest: {highest.name}, {highest.psnr:.2f} dB."

    @property
    def _beside(self) -> str:
        """What there is without learning."""
        free = [row for row in self.rows if not row.learned]
        if not free:
            return "nothing without learning was compared"
        rival = next((row for row in free if row.to_target is not None), None)
        if rival:
            return f"{rival.name} takes {rival.to_target:.2f} s"
        return f"without learning {max(row.psnr for row in free):.2f} dB are reached"

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {use}" for use, count in self.counts.items())
        cells = [HEAD, *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in cells
        ]
        left = [f"left out: {name} ({reason})" for name, reason in self.absent.items()]
        head = f"{self.operator}, images {self.img_size} ({counts}); target {self.target:.2f} dB"
        return "\n".join([head, *lines, *left, self.advice])

    def plot(self, most: int = 8) -> Any:
        """PSNR against seconds, set-up included, until the chosen iteration: the best row of each
        method, at most ``most``.
        """
        from .. import plots

        seen: dict[str, list[tuple[float, float]]] = {}
        for row in self.rows:
            if row.method not in {name.split(",")[0] for name in seen} and len(seen) < most:
                seen[row.name] = [(row.setup + at, psnr) for at, psnr in row.curve]
        return plots.against_seconds(seen, self.target)

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Comparison:
        """The inverse of :meth:`plain`."""
        given = {field.name: plain[field.name] for field in fields(cls)}
        channels, height, width = given.pop("img_size")
        curve = [[tuple(point) for point in row["curve"]] for row in given["rows"]]
        rows = tuple(
            Row(**{**row, "curve": points})
            for row, points in zip(given.pop("rows"), curve, strict=True)
        )
        return cls(img_size=(channels, height, width), rows=rows, **given)

    def plain(self) -> dict[str, Any]:
        """Everything as plain values that JSON can hold."""
        return _rounded(asdict(self) | {"target": self.target, "advice": self.advice})


def _rounded(value: Any) -> Any:
    """Plain values with numbers of six digits."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"
