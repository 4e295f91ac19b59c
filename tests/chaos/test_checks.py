"""The checker is checked: each kind of broken promise, planted in a good history, is found by the check that is for it."""

import pytest

from tests.brokers.kafka_commits import Sample
from tests.chaos.checks import History, Kill, Sent, violations
from tests.chaos.ledger import Run

SENT = [Sent(f"e{n}", "k", n, 0, n) for n in range(6)]
FIRST = [Run(1, f"e{n}", "k", n, n + 0.1, n + 0.5) for n in range(3)]
RUNS = FIRST + [Run(2, f"e{n}", "k", n, n + 1.1, n + 1.5) for n in range(2, 6)]
SAMPLES = [Sample(0.6, {0: 1}), Sample(2.0, {0: 2}), Sample(7.0, {0: 6})]
GOOD = History(SENT, RUNS, SAMPLES, [Kill(1, 1)], {0: 6})


def test_a_good_history_has_no_violation() -> None:
    assert violations(GOOD) == []


@pytest.mark.parametrize(
    ("word", "bad"),
    [
        ("lost", GOOD._replace(runs=[run for run in RUNS if run.event_id != "e4"])),
        ("lost", GOOD._replace(runs=[*RUNS[:-1], RUNS[-1]._replace(end=None)])),
        ("invented", GOOD._replace(runs=[*RUNS, Run(2, "e9", "k", 9, 8.0, 8.1)])),
        ("overlap", GOOD._replace(runs=[*RUNS[:-1], RUNS[-1]._replace(begin=5.4)])),
        ("order", GOOD._replace(runs=[*RUNS[:-2], Run(2, "e5", "k", 5, 5.1, 5.2), Run(2, "e4", "k", 4, 6.1, 6.2)])),
        ("before an event below", GOOD._replace(samples=[Sample(0.6, {0: 3}), *SAMPLES[1:]])),
        ("went back", GOOD._replace(samples=[*SAMPLES, Sample(8.0, {0: 5}), Sample(9.0, {0: 6})])),
        ("end:", GOOD._replace(ends={0: 7})),
        ("repeats", GOOD._replace(kills=[Kill(1, 0), Kill(1, 0)])),
        ("void", GOOD._replace(kills=[Kill(1, 1), Kill(1, 0), Kill(1, 0)])),
    ],
)
def test_each_broken_promise_is_found(word: str, bad: History) -> None:
    assert any(word in line for line in violations(bad)), violations(bad)
