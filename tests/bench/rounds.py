"""The cases of one bus, run in turn, and what came of it.

Rates swing by a factor of three on a shared machine and CPU time by a half, so every case runs several times, interleaved, and
what counts is the ratio of the medians. Each run is a process of its own (`{bus}_cases`) on events that were put there before.
"""

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple

RUN_WITHIN = 600.0  # seconds


class Case(NamedTuple):
    name: str
    title: str
    events: int


class Row(NamedTuple):
    """Medians of the rounds, but for the `least` CPU time and the highest peak."""

    case: Case
    cpu: float  # microseconds for each event
    least: float
    rate: float  # events in a second
    peak_mb: float


class Target(NamedTuple):
    """Where a figure of one case has to lie, divided by that of another."""

    figure: Literal["cpu", "rate"]
    case: str
    other: str
    at_least: float = -math.inf
    at_most: float = math.inf

    def told(self, rows: Mapping[str, Row]) -> str:
        """In a line, with the name of the target and whether it holds."""
        ratio = float(getattr(rows[self.case], self.figure)) / float(getattr(rows[self.other], self.figure))
        bound = f"at most {self.at_most:g}" if self.at_most < math.inf else f"at least {self.at_least:g}"
        verdict = "holds" if self.at_least <= ratio <= self.at_most else "MISSED"
        return f"{verdict}: {self.figure} of `{self.case}` / `{self.other}` is {ratio:.2f}, target {bound}"


class Bench(NamedTuple):
    """A bus that runs. `preload` puts so many events on a topic or queue for as long as the block lasts."""

    bus: str
    heading: str
    cases: Sequence[Case]  # the first is what the others are compared with
    targets: Sequence[Target]
    address: str
    preload: Callable[[int], AbstractContextManager[str]]


def measure(bench: Bench, rounds: int) -> dict[str, Row]:
    """Every case, `rounds` times, interleaved."""
    found = {case.name: list[dict[str, float]]() for case in bench.cases}
    for number in range(rounds):
        for case in bench.cases:
            with bench.preload(case.events) as place:
                figures = _run(bench, case, place)
            found[case.name].append(figures)
            said = f"{case.name}: {figures['cpu']:.1f} us, {figures['rate']:,.0f}/s"
            print(f"  {bench.bus}, round {number + 1}: {said}", file=sys.stderr, flush=True)
    return {case.name: _row(case, found[case.name]) for case in bench.cases}


def _run(bench: Bench, case: Case, place: str) -> dict[str, float]:
    """The address goes by standard input, since it may hold a password."""
    command = [sys.executable, "-m", f"tests.bench.{bench.bus}_cases", case.name, place, str(case.events)]
    done = subprocess.run(command, input=bench.address, capture_output=True, text=True, check=False, timeout=RUN_WITHIN)
    if done.returncode:
        raise RuntimeError(f"{bench.bus}, {case.name}: {done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def _row(case: Case, rounds: Sequence[Mapping[str, float]]) -> Row:
    cpu = [one["cpu"] for one in rounds]
    rate, peak = statistics.median(one["rate"] for one in rounds), max(one["peak_mb"] for one in rounds)
    return Row(case, statistics.median(cpu), min(cpu), rate, peak)


def markdown(bench: Bench, rows: Mapping[str, Row]) -> str:
    base = rows[bench.cases[0].name]
    lines = [f"## {bench.heading}", ""]
    lines += ["| case | | events | CPU µs/event | least | ratio | events/s | ratio | peak RSS MiB |"]
    lines += ["|---|---|---:|---:|---:|---:|---:|---:|---:|"]
    for name, row in rows.items():
        cpu = f"{row.cpu:.1f} | {row.least:.1f} | {row.cpu / base.cpu:.2f}"
        rate = f"{row.rate:,.0f} | {row.rate / base.rate:.2f}"
        lines.append(f"| `{name}` | {row.case.title} | {row.case.events:,} | {cpu} | {rate} | {row.peak_mb:.0f} |")
    return "\n".join([*lines, "", *(f"- {target.told(rows)}" for target in bench.targets), ""])
