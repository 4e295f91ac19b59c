"""The stream: the same for a seed, causal for a portfolio, and counted without a miss."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice, pairwise
from random import Random
from typing import Any

import pytest

from investbus.event import parse_created
from investbus.sandbox import Made, World, events
from investbus.sandbox.mischief import KINDS
from investbus.transport import Message

COUNT = 6000
CANONICAL = {
    "portfolios.withdrawal": "portfolios.divest-amount-update",
    "profiles.assessment-status-update": "assessments.assessment-status-update",
}
DOCUMENTED = {
    "portfolios.creation",
    "portfolios.status-update",
    "portfolios.divest-amount-update",
    "portfolios.cash-available-for-withdrawal",
    "portfolios.profile-created-for-portfolio",
    "portfolios.profile-updated-for-portfolio",
    "optimizations.status-update",
    "optimizations.owner-choice-update",
    "assessments.assessment-status-update",
}


class Clock:
    """A tenth of a second passes whenever somebody looks."""

    def __init__(self) -> None:
        self.now = datetime(2025, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=0.1)
        return self.now


def made(seed: int, count: int, mischief: float = 0.0) -> tuple[list[Message], Made, World]:
    world = World(seed, portfolios=30, clock=Clock())
    stream = events(world, Random(seed), count, mischief=mischief)
    return list(stream), stream.made, world


@pytest.fixture(scope="module")
def good() -> tuple[list[Message], Made, World]:
    return made(1, COUNT)


def opened(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [json.loads(message.body, parse_float=Decimal) for message in messages]


def name(envelope: dict[str, Any]) -> str:
    return f"{envelope['subject']}.{envelope['action']}"


def canonical(envelope: dict[str, Any]) -> str:
    return CANONICAL.get(name(envelope), name(envelope))


def test_a_seed_decides_every_byte() -> None:
    assert made(2, 400, mischief=0.2)[:2] == made(2, 400, mischief=0.2)[:2]
    assert made(2, 400)[0] != made(3, 400)[0]


def test_without_a_count_it_does_not_end() -> None:
    stream = events(World(1, portfolios=0), Random(1))
    assert len(list(islice(stream, 500))) == stream.made.messages == 500


def test_the_ledger_counts_what_was_made(good: tuple[list[Message], Made, World]) -> None:
    messages, ledger, _ = good
    assert ledger.messages == len(messages) == COUNT
    assert ledger.names == Counter(name(each) for each in opened(messages))
    assert not ledger.mischief


def test_every_documented_event_comes_in_sensible_proportion(good: tuple[list[Message], Made, World]) -> None:
    shares = Counter(canonical(each) for each in opened(good[0]))
    assert shares.keys() == DOCUMENTED
    assert all(0.01 <= times / COUNT <= 0.45 for times in shares.values()), shares
    for other, usual in CANONICAL.items():
        assert 0.15 < good[1].names[other] / shares[usual] < 0.35


def test_envelopes_are_complete_and_ids_are_new(good: tuple[list[Message], Made, World]) -> None:
    envelopes = opened(good[0])
    assert len({each["id"] for each in envelopes}) == COUNT
    assert {tuple(each) for each in envelopes} == {("id", "created", "version", "subject", "action", "data")}
    parsed = [parse_created(each["created"]) for each in envelopes]
    assert 0.05 < parsed.count(None) / COUNT < 0.15
    assert all(earlier <= later for earlier, later in pairwise(each for each in parsed if each))
    assert {len(each["created"]) for each in envelopes if each["created"][0] == "2"} == {27, 30}  # micro- and nanoseconds


def test_a_message_is_keyed_by_its_portfolio_or_profile(good: tuple[list[Message], Made, World]) -> None:
    for message, envelope in zip(good[0], opened(good[0]), strict=True):
        data = envelope["data"]
        assert message.key == (data.get("profile_id") or data.get("portfolio_id") or data["id"])


def test_each_portfolio_tells_a_causal_story(good: tuple[list[Message], Made, World]) -> None:
    stories: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for message, envelope in zip(good[0], opened(good[0]), strict=True):
        stories[message.key or ""].append(envelope)
    for story in stories.values():
        first, later = canonical(story[0]), [canonical(each) for each in story[1:]]
        assert "portfolios.creation" not in later
        if first == "portfolios.creation" and later:
            assert later[0] == "portfolios.profile-created-for-portfolio"
        statuses = [each["data"]["value"] for each in story if canonical(each) == "portfolios.status-update"]
        assert all(before != after for before, after in pairwise(statuses))
        decisions = [each["data"] for each in story if canonical(each) == "optimizations.owner-choice-update"]
        optimizations = [each["data"] for each in story if canonical(each) == "optimizations.status-update"]
        proposed = {data["id"] for data in optimizations if data["is_recommended"]}
        assert {data["id"] for data in decisions} <= proposed


def test_divest_amounts_are_running_totals_that_return_to_nothing(good: tuple[list[Message], Made, World]) -> None:
    seen: set[str] = set()
    totals: dict[str, Decimal] = defaultdict(Decimal)
    for envelope in opened(good[0]):
        data = envelope["data"]
        if canonical(envelope) == "portfolios.cash-available-for-withdrawal":
            assert totals[data["id"]] > 0, "cash for what nobody asked for"
        if canonical(envelope) == "portfolios.divest-amount-update":
            amount = data["divest_amount"]
            seen.add("full" if amount == Decimal("1e100") else str(amount) if not amount else "some")
            assert not amount or amount > totals[data["id"]]
            totals[data["id"]] = Decimal(amount or 0)
    assert seen == {"full", "some", "0", "None"}
    assert b'"divest_amount":1e100' in b"".join(message.body for message in good[0])


def test_the_world_agrees_with_the_last_event(good: tuple[list[Message], Made, World]) -> None:
    messages, _, world = good
    last: dict[str, str] = {}
    for envelope in opened(messages):
        if canonical(envelope) == "portfolios.status-update":
            last[envelope["data"]["id"]] = envelope["data"]["value"]
    assert last
    assert last == {portfolio_id: world.portfolios[portfolio_id]["status"] for portfolio_id in last}


def test_accepted_assessments_alone_say_when(good: tuple[list[Message], Made, World]) -> None:
    for envelope in opened(good[0]):
        if canonical(envelope) == "assessments.assessment-status-update":
            assert ("accepted_datetime" in envelope["data"]) is (envelope["data"]["value"] == "ACCEPTED")


def kind_of(message: Message, good: set[bytes]) -> str | None:
    """Which mischief a message is, found without the generator's help; None for a good one."""
    if not message.body:
        return "tombstone"
    if message.body in good:
        return "duplicate"
    try:
        envelope = json.loads(message.body)
    except ValueError:
        return "broken-json"
    if "id" not in envelope:
        return "missing-id"
    if envelope["version"] != "1.0.0":
        return "wrong-version"
    if canonical(envelope) not in DOCUMENTED:
        return "unknown-name"
    return None if isinstance(envelope["data"].get("id", ""), str) else "misfit"


def test_mischief_is_counted_by_kind_and_takes_nothing_away() -> None:
    messages, ledger, _ = made(4, 4000, mischief=0.25)
    found: Counter[str] = Counter()
    earlier: set[bytes] = set()
    good_names: Counter[str] = Counter()
    for message in messages:
        kind = kind_of(message, earlier)
        if kind is None:
            earlier.add(message.body)
            good_names[name(json.loads(message.body))] += 1
        else:
            found[kind] += 1
    assert found == ledger.mischief
    assert good_names == ledger.names
    assert found.keys() == set(KINDS)
    assert 0.2 < found.total() / 4000 < 0.3
