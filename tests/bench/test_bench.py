"""The benchmark at a size that says nothing but that it runs, so that it cannot rot between two releases."""

import importlib.util
from collections.abc import Callable, Mapping

import pytest

from tests.bench import kafka, rabbitmq, servicebus
from tests.bench.rounds import Bench, Case, Row, Target, markdown, measure

EVENTS = 300
BENCHES: Mapping[str, Callable[..., Bench]] = {"kafka": kafka.bench, "rabbitmq": rabbitmq.bench, "servicebus": servicebus.bench}


def runnable(bench: Bench) -> Bench:
    """Without the peers that are not installed: `make bench` installs them, tests do without."""
    if importlib.util.find_spec("faststream"):
        return bench
    cases = [case for case in bench.cases if not case.name.startswith("faststream")]
    targets = [target for target in bench.targets if not target.case.startswith("faststream")]
    return bench._replace(cases=cases, targets=targets)


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("bus", BENCHES)
def test_every_case_handles_and_settles_all_events(bus: str, request: pytest.FixtureRequest) -> None:
    bench = runnable(BENCHES[bus](request.getfixturevalue(bus), EVENTS))
    rows = measure(bench, rounds=1)
    assert [row.case for row in rows.values()] == list(bench.cases)
    assert all(row.cpu > 0 and row.rate > 0 and row.peak_mb > 0 for row in rows.values())
    lines = markdown(bench, rows).splitlines()
    assert [line.split("|")[1].strip(" `") for line in lines if line.startswith("| `")] == list(rows)
    assert sum(line.startswith(("- holds: ", "- MISSED: ")) for line in lines) == len(bench.targets)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (Target("cpu", "ours", "bare", at_most=1.6), "holds: cpu of `ours` / `bare` is 1.50, target at most 1.6"),
        (Target("cpu", "ours", "bare", at_most=1.4), "MISSED: cpu of `ours` / `bare` is 1.50, target at most 1.4"),
        (Target("rate", "ours", "bare", at_least=0.9), "MISSED: rate of `ours` / `bare` is 0.80, target at least 0.9"),
        (Target("rate", "bare", "ours", at_least=1.25), "holds: rate of `bare` / `ours` is 1.25, target at least 1.25"),
    ],
)
def test_a_target_tells_whether_it_holds(target: Target, told: str) -> None:
    rows = {"bare": row("bare", cpu=10.0, rate=1000.0), "ours": row("ours", cpu=15.0, rate=800.0)}
    assert target.told(rows) == told


def row(name: str, cpu: float, rate: float) -> Row:
    return Row(Case(name, name, 1), cpu, least=cpu, rate=rate, peak_mb=1.0)
