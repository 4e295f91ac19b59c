"""Dead letters in bulk, replayed as an operator does it, over the death of the worker that carries it out."""

from pathlib import Path

import pytest

from tests.acceptance.rehearsal import UNDER_WAY, Rehearsal, Report
from tests.brokers.kafka import Kafka
from tests.brokers.postgresql import PostgreSql

pytestmark = [pytest.mark.broker, pytest.mark.slow]
LETTERS = 999


def check(report: Report, letters: int) -> None:
    third = letters // 3
    assert report.groups == [
        ("portfolios.creation", "LookupError", third),
        ("portfolios.status-update", "Reject", third),
        ("portfolios.status-update", "ValueError", third),
    ]
    canary, replay = report.canary, report.replay
    assert (canary.state, canary.dead, canary.done, report.canary_runs) == ("stopped", 1, 0, 1)
    assert letters // 2 <= report.half < letters, "it was killed in the middle"
    assert (replay.state, replay.planned) == ("done", letters)
    assert replay.done + replay.dead + replay.skipped == letters
    assert (replay.done, report.states) == (letters, {"replayed": letters})
    assert len(report.effects) == letters, "each letter has had its effect"
    assert letters <= report.effects.total() <= letters + UNDER_WAY, "twice at most what was under way at the kill"
    assert report.ends[0] == report.ends[1], "nothing went to the topic"
    assert sum(report.ends[0].values()) == letters


def test_a_replay_goes_on_where_a_killed_worker_left_it_and_each_letter_comes_to_one_thing(
    kafka: Kafka, topic: str, postgresql: PostgreSql, tmp_path: Path
) -> None:
    check(Rehearsal(kafka, topic, tmp_path, postgresql.new_database(), LETTERS).run(rate=2000.0), LETTERS)
