"""The checker is checked: each kind of broken promise, planted in a good history, is found by the check that is for it."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.brokers.kafka_commits import Sample
from tests.brokers.servicebus.journal import Failed, Gone, Journal, Stored
from tests.chaos import kafka, servicebus
from tests.chaos.checks import unwatched, violations
from tests.chaos.history import Departure, History, Letter, Sent, in_flight
from tests.chaos.ledger import Ledger, Run, read_runs

SENT = [Sent(f"e{n}", "k", n, n == 5, at=n / 10) for n in range(6)]
FIRST = [Run(1, f"e{n}", "k", n, n + 0.1, n + 0.5) for n in range(2)] + [Run(1, "e2", "k", 2, 2.1, None)]
RUNS = FIRST + [Run(2, f"e{n}", "k", n, n + 1.1, n + 1.5) for n in range(2, 6)]
KILL = Departure(1, True, 2.2, 3.2)
SETTLED = {f"e{n}": (n + 0.6 if n < 2 else n + 1.6) for n in range(6)}
GOOD = History(SENT, RUNS, [KILL], SETTLED, {"e2": 1}, [Letter("e5", "rejected")], keyed=True)

SWAPPED = [*RUNS[:-2], Run(2, "e5", "k", 5, 5.1, 5.2), Run(2, "e4", "k", 4, 6.1, 6.2)]  # in one process
OVERTAKEN = [*RUNS[:-2], Run(3, "e5", "k", 5, 5.1, 5.2), Run(2, "e4", "k", 4, 6.1, 6.2)]  # in two
SIDE_BY_SIDE = [*RUNS[:-1], Run(3, "e5", "k", 5, 5.4, 5.6)]


@pytest.mark.parametrize("keyed", [True, False])
def test_a_good_history_has_no_violation(keyed: bool) -> None:
    assert violations(GOOD._replace(keyed=keyed)) == []


@pytest.mark.parametrize(
    ("word", "bad"),
    [
        ("lost", GOOD._replace(runs=[run for run in RUNS if run.event_id != "e4"])),
        ("lost", GOOD._replace(runs=[*RUNS[:-1], RUNS[-1]._replace(end=None)])),
        ("invented", GOOD._replace(runs=[*RUNS, Run(2, "e9", "k", 9, 8.0, 8.1)])),
        ("for no reason", GOOD._replace(dead=[*GOOD.dead, Letter("e4", "rejected")])),
        ("for no reason", GOOD._replace(dead=[*GOOD.dead, Letter("e5", "exhausted")])),
        ("for no reason", GOOD._replace(dead=[*GOOD.dead, Letter("", "undecodable")])),
        ("for no reason", GOOD._replace(dead=[*GOOD.dead, Letter("e2", "crashed")])),  # one kill while it ran
        ("has no dead letter", GOOD._replace(dead=[])),
        ("overlap", GOOD._replace(runs=[*RUNS[:-1], RUNS[-1]._replace(begin=5.4)], keyed=False)),
        ("overlap", GOOD._replace(runs=[*RUNS[:-1], RUNS[-1]._replace(end=None), Run(2, "e5", "k", 5, 8.0, 8.1)], keyed=False)),
        ("overlap", GOOD._replace(runs=SIDE_BY_SIDE)),
        ("overlap", GOOD._replace(runs=[*FIRST, RUNS[3]._replace(begin=2.15), *RUNS[4:]])),  # before the other was killed
        ("order", GOOD._replace(runs=SWAPPED)),
        ("order", GOOD._replace(runs=SWAPPED, keyed=False, departures=[KILL._replace(begin=0.3, end=0.35)])),  # e4 came later
        ("order", GOOD._replace(runs=SWAPPED, keyed=False, departures=[KILL._replace(begin=6.15, end=7.0)])),  # e4 ran before
        ("order", GOOD._replace(runs=OVERTAKEN)),
        ("settled", GOOD._replace(settled=SETTLED | {"e3": 4.4})),
        ("settled", GOOD._replace(runs=[run for run in RUNS if run.event_id != "e4"])),
        ("still on the bus", GOOD._replace(settled={each: at for each, at in SETTLED.items() if each != "e3"})),
        ("came back", GOOD._replace(returned={"e2": 2})),
        ("came back", GOOD._replace(returned={"e0": 1})),  # settled before anybody left
        ("came back", GOOD._replace(returned={"e5": 1}, departures=[KILL._replace(begin=0.1, end=0.4)])),  # sent after
        ("repeats", GOOD._replace(runs=[*RUNS, Run(2, "e3", "k", 3, 8.0, 8.1)])),
        ("repeats", GOOD._replace(settled=SETTLED | {"e2": 2.15})),
        ("repeats", GOOD._replace(departures=[KILL._replace(killed=False)])),
        ("void", GOOD._replace(departures=[KILL, Departure(7, True, 1.0, 2.0), Departure(8, True, 1.0, 2.0)])),
    ],
)
def test_each_broken_promise_is_found(word: str, bad: History) -> None:
    assert any(word in line for line in violations(bad)), violations(bad)


def test_what_came_back_may_find_later_events_done_where_the_bus_spreads_a_key() -> None:
    left = Departure(1, False, 2.2, 3.2)
    back = [Run(2, "e1", "k", 1, 2.3, 2.4), Run(2, "e0", "k", 0, 2.5, 2.6)]
    spread = GOOD._replace(runs=back, departures=[left], keyed=False)
    assert not any("order" in line for line in violations(spread))
    assert any("order" in line for line in violations(spread._replace(keyed=True)))


def test_an_event_that_three_kills_cut_off_may_be_given_up_unhandled() -> None:
    kills = [Departure(pid, True, pid + 2.2, pid + 3.2) for pid in (1, 5, 6)]
    runs = [*FIRST, *(Run(pid, "e2", "k", 2, pid + 2.1, None) for pid in (5, 6)), *RUNS[4:]]
    later = SETTLED | {"e2": 9.0}
    history = History(SENT, runs, kills, later, {}, [*GOOD.dead, Letter("e2", "crashed")], keyed=False)
    assert violations(history) == []
    assert any("lost" in line for line in violations(history._replace(dead=GOOD.dead)))
    assert any("for no reason" in line for line in violations(history._replace(departures=kills[:2])))


def test_in_flight_is_what_a_killed_process_had_begun_and_the_bus_still_held() -> None:
    late = GOOD._replace(settled=SETTLED | {"e1": 2.3})  # handled, and not settled in time
    assert in_flight(GOOD) == [(KILL, {"e2"})]
    assert in_flight(late) == [(KILL, {"e1", "e2"})]


SAMPLES = [Sample(0.6, {0: 1}), Sample(2.0, {0: 2, 1: 1}), Sample(7.0, {0: 6, 1: 1})]


@pytest.mark.parametrize(
    ("word", "samples"),
    [
        ("went back", [*SAMPLES, Sample(8.0, {0: 5}), Sample(9.0, {0: 6})]),
        ("ends at 6, committed is 5", [*SAMPLES[:2], Sample(7.0, {0: 5, 1: 1})]),
        ("ends at 6, committed is None", []),
    ],
)
def test_kafka_commits_that_go_back_or_stop_short_are_found(word: str, samples: Sequence[Sample]) -> None:
    found = [*kafka.stepped_back(samples), *kafka.not_at_the_end(samples, {0: 6, 1: 1})]
    assert any(word in line for line in found), found
    assert [*kafka.stepped_back(SAMPLES), *kafka.not_at_the_end(SAMPLES, {0: 6, 1: 1})] == []


def test_kafka_settles_an_event_when_the_commit_has_passed_it() -> None:
    places = {"a": (0, 0), "b": (0, 1), "c": (0, 5), "d": (1, 0), "e": (1, 1)}
    assert kafka.settled(SAMPLES, places) == {"a": 0.6, "b": 2.0, "d": 2.0, "c": 7.0}


def test_service_bus_has_settled_what_the_journal_says_is_gone(tmp_path: Path) -> None:
    journal, reader = Journal(tmp_path / "journal"), servicebus.JournalReader(tmp_path / "journal", "q")
    wires = [b"\x00\x53\x75\xa0" + bytes((len(event.body),)) + event.body for event in SENT]
    for queue, sequence, wire in (("q", 1, wires[0]), ("other", 1, wires[4]), ("q", 2, wires[1])):
        journal.append(Stored(queue, sequence, 0.0, wire))
    reader.read()
    assert (reader.settled, reader.returned) == ({}, {})
    for record in (Failed("q", 2, 1), Failed("other", 1, 3), Gone("q", 1), Gone("other", 1)):
        journal.append(record)
    reader.read()
    journal.close()
    assert reader.settled == {"e0": reader.reads[-1]}
    assert reader.returned == {"e1": 1}


def test_a_bus_that_nobody_looked_at_is_found() -> None:
    assert [*unwatched([0.0, 10.0])]
    assert [*unwatched([])]
    assert not [*unwatched([each / 4 for each in range(40)])]


def test_a_step_that_is_only_half_written_is_none(tmp_path: Path) -> None:
    Ledger(tmp_path).note("begin", "e1", "k", 1)
    path = tmp_path / f"ledger-{os.getpid()}.ndjson"
    begin = path.read_bytes()
    end = begin.replace(b"begin", b"end")
    for cut in range(len(end)):
        path.write_bytes(begin + end[:cut])
        assert [(run.event_id, run.end) for run in read_runs(tmp_path)] == [("e1", None)]
