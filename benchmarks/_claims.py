"""What benchmarks measure: a line of their output each and, for ``benchmarks/page.py``, one of JSON."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

#: the variable that names the file of JSON lines
FILE = "VIDEOMATCH_CLAIMS"
#: a name, and a value of every round
Side = tuple[str, Sequence[float]]


@dataclass
class Claim:
    """A measurement beside that of a peer, in the same run, and a floor under it, as far as there are any.

    Attributes:
        ours: a value of every round, in ``unit``; the less the better, unless ``more``.
        bar: how many times as good as the peer it has to be; without a peer, which share of the floor.
    """

    what: str
    ours: Sequence[float]
    unit: str
    peer: Side | None = None
    floor: Side | None = None
    bar: float | None = None
    more: bool = False

    def cells(self) -> list[str]:
        """What is claimed, ours, the peer, how many times as good ours is, the floor's share in ours, the bar."""
        peer, floor, bar = "", "", ""
        ratios, shares = self._against(self.peer), self._against(self.floor)
        if self.peer:
            peer = f"{self.peer[0]}: {_number(statistics.median(self.peer[1]))}"
        if self.floor:
            floor = f"{self.floor[0]}: {statistics.median(shares):.2f}"
        if self.bar is not None:
            is_met = statistics.median(ratios or shares) >= self.bar
            bar = f"{self.bar:g}: {'met' if is_met else 'MISSED'}"
        ours = f"{_spread(self.ours, _number)} {self.unit}".strip()
        return [self.what, ours, peer, _spread(ratios, "{:.2f}".format) if ratios else "", floor, bar]

    def _against(self, side: Side | None) -> list[float]:
        """How many times as good as a side, of each round where both have as many."""
        if side is None:
            return []
        ours, theirs = list(self.ours), list(side[1])
        if len(ours) != len(theirs):
            ours, theirs = [statistics.median(ours)], [statistics.median(theirs)]
        pairs = zip(ours, theirs, strict=True)
        return [
            over / under if under else float("nan")
            for over, under in ((a, b) if self.more else (b, a) for a, b in pairs)
        ]


#: heads of the cells
HEADS = ["claim", "ours", "peer", "times as good", "floor's share", "bar"]


def claim(what: str, ours: Sequence[float], unit: str, **further: object) -> None:
    """Print a claim (arguments of :class:`Claim`), and add it to the file."""
    made = Claim(what, [float(value) for value in ours], unit, **further)  # pyright: ignore[reportArgumentType]
    told = [f"{head} {cell}" for head, cell in zip(HEADS[1:], made.cells()[1:], strict=True) if cell]
    print(f"* {what}: {'; '.join(told)}", flush=True)
    if FILE in os.environ:
        with Path(os.environ[FILE]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(made), default=list) + "\n")


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _spread(values: Sequence[float], show: Callable[[float], str]) -> str:
    middle = show(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({show(min(values))} to {show(max(values))})"


def clock(device: str = "cpu") -> float:
    """CPU seconds of this process; with a card, seconds of the clock when it has done all that it was given."""
    if device == "cpu":
        return time.process_time()
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def best(work: Callable[[], object], device: str = "cpu", times: int = 8) -> float:
    """The least seconds (:func:`clock`) of some calls."""
    spent = []
    for _ in range(times):
        started = clock(device)
        work()
        spent.append(clock(device) - started)
    return min(spent)


def product_rate(bf16: bool = False, device: str = "cpu") -> float:
    """Multiplications and additions a second (:func:`clock`) in a product of two large matrices by torch."""
    import torch

    size = 1536 if device == "cpu" else 8192
    one = torch.randn(size, size, device=device).to(torch.bfloat16 if bf16 else torch.float32)
    return 2 * size**3 / best(lambda: one @ one, device)


def copy_rate() -> float:
    """Bytes a CPU second that are read and written again, of more than a cache holds."""
    import numpy as np

    one = np.ones(1 << 27, np.uint8)
    other = one.copy()
    return 2 * one.nbytes / best(lambda: np.copyto(other, one))


def machine() -> tuple[str, str]:
    """The processor and the card, if there is one, and what one thread, and the card, do now."""
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "", re.M)
    able = [name for name in ("amx_bf16", "avx512_bf16", "avx512_f", "avx2") if torch.cpu.get_capabilities().get(name)]
    name = f"{model[1] if model else platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    cards = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    torch.set_num_threads(1)

    def told(device: str, unit: float) -> str:
        both = (f"{product_rate(bf16, device) / unit:.0f} in {'bf16' if bf16 else 'fp32'}" for bf16 in (False, True))
        return " and ".join(both)

    rates = [f"{told('cpu', 1e9)} GFLOP/s", f"copies {copy_rate() / 1e9:.0f} GB/s"]
    rates += [f"the card {told('cuda', 1e12)} TFLOP/s"] if cards else []
    return " + ".join([f"{name} ({', '.join(able)})", *cards]), ", ".join(rates)
