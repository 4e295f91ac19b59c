"""Queues, locks and sessions of the Service Bus emulator without a network, against models that are too simple to be wrong."""

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.brokers.servicebus.journal import Journal
from tests.brokers.servicebus.locks import LockTable
from tests.brokers.servicebus.message import Message
from tests.brokers.servicebus.pretend import Clock, Hands, content
from tests.brokers.servicebus.queue import Outcome, Queue, Surroundings
from tests.brokers.servicebus.settings import Properties

LOCK, MOST = 10, 2  # seconds, deliveries
Steps = list[tuple[str, int]]
NOWHERE = Journal(Path(os.devnull))


@pytest.fixture(scope="module", autouse=True)
def _closed() -> Iterator[None]:
    yield
    NOWHERE.close()


def new_queue(clock: Clock, *, sessions: bool = False, lifetime: int | None = None) -> Queue:
    around = Surroundings(NOWHERE, clock.now, lambda queue: None)
    properties = Properties(
        lock_duration=timedelta(seconds=LOCK),
        max_delivery_count=MOST,
        requires_session=sessions,
        default_message_time_to_live=None if lifetime is None else timedelta(seconds=lifetime),
    )
    return Queue("q", properties, around, dead=Queue("q/dead", Properties(), around, dead=None))


class Model:
    """One queue with one receiver: what becomes of each message, by its number."""

    def __init__(self) -> None:
        self.state: dict[int, str] = {}
        self.count: dict[int, int] = {}
        self.until: dict[int, float] = {}

    def hand_out(self, credit: int, now: float) -> int:
        for number in sorted(number for number, state in self.state.items() if state == "ready"):
            if credit == 0:
                break
            self.state[number], self.until[number] = "locked", now + LOCK
            credit -= 1
        return credit

    def fail(self, number: int) -> None:
        self.count[number] += 1
        self.state[number] = "dead" if self.count[number] == MOST else "ready"


def play(steps: Steps, queue: Queue, hands: Hands, clock: Clock, model: Model, compare: Callable[[], None]) -> None:
    for what, choice in steps:
        lock = hands.locks[-1 - choice % len(hands.locks)] if hands.locks else None  # more often the last ones
        held = lock is not None and lock.message.lock is lock
        match what:
            case "put":
                queue.put(content("body"))
                model.state[queue.last], model.count[queue.last] = "ready", 0
            case "wait":
                clock.time += choice
                queue.tick()
                for number in [number for number, state in model.state.items() if state == "locked"]:
                    if model.until[number] <= clock.time:
                        model.fail(number)
            case "credit":
                hands.credit += choice % 3
            case "renew" if lock is not None:
                assert (queue.renew(lock.token) is not None) == held
                if held:
                    model.until[lock.message.sequence] = clock.time + LOCK
            case outcome if lock is not None:
                assert queue.settle(lock.token, Outcome(outcome)) == held
                if held and outcome == Outcome.ABANDONED:
                    model.fail(lock.message.sequence)
                elif held:
                    states = {"completed": "done", "released": "ready", "dead-lettered": "dead"}
                    model.state[lock.message.sequence] = states[outcome]
        credit = hands.credit
        queue.dispatch()
        assert model.hand_out(credit, clock.time) == hands.credit
        compare()


steps = st.lists(
    st.tuples(st.sampled_from(["put", "wait", "credit", "renew", *Outcome]), st.integers(0, 12)), min_size=20, max_size=60
)


@settings(deadline=None)
@given(steps)
def test_every_message_is_where_the_rules_say(script: Steps) -> None:
    clock, model, hands = Clock(), Model(), Hands(5)
    queue = new_queue(clock)
    queue.add(hands)

    def compare() -> None:
        here = {number: ("ready" if m.lock is None else "locked", m.count) for number, m in queue.messages.items()}
        assert here == {n: (state, model.count[n]) for n, state in model.state.items() if state in ("ready", "locked")}
        assert queue.dead is not None
        assert len(queue.dead.messages) == list(model.state.values()).count("dead")
        assert len(queue.locks) == list(model.state.values()).count("locked")

    play(script, queue, hands, clock, model, compare)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["take", "renew", "release", "expire"]), st.integers(0, 20), st.integers(0, 9))))
def test_a_lock_is_held_until_it_is_released_or_its_time_is_over(script: list[tuple[str, int, int]]) -> None:
    table, model, now, tokens = LockTable(), dict[str, float](), 0.0, ["never given"]
    for what, seconds, choice in script:
        token = tokens[choice % len(tokens)]
        match what:
            case "take":
                lock = table.take(Message(content("x"), 1, 0.0), now + seconds)
                tokens.append(lock.token)
                model[lock.token] = now + seconds
            case "renew":
                assert table.renew(token, now + seconds) == (token in model)
                if token in model:
                    model[token] = now + seconds
            case "release":
                assert (table.release(token) is not None) == (model.pop(token, None) is not None)
            case "expire":
                now += seconds
                due = {token for token, until in model.items() if until <= now}
                assert {lock.token for lock in table.expire(now)} == due
                model = {token: until for token, until in model.items() if token not in due}
        assert len(table) == len(model)


def test_a_message_that_is_locked_when_its_life_ends_goes_when_it_is_given_back() -> None:
    clock, hands = Clock(), Hands(1)
    queue = new_queue(clock, lifetime=5)
    queue.add(hands)
    queue.put(content("held"))
    queue.put(content("not held"))
    queue.dispatch()
    clock.time += 6
    queue.tick()
    assert [message.lock is not None for message in queue.messages.values()] == [True]
    assert queue.settle(hands.locks[0].token, Outcome.RELEASED)
    assert queue.messages == {}


def test_a_session_goes_to_the_one_who_waits_longest_and_comes_back_with_its_messages() -> None:
    clock, first, second = Clock(), Hands(9), Hands(9)
    queue = new_queue(clock, sessions=True)
    assert queue.sessions is not None
    queue.sessions.wait_for_next(first, clock.time + 60)
    queue.sessions.wait_for_next(second, clock.time + 5)
    for text, session in (("a1", "a"), ("a2", "a")):
        queue.put(content(text, session))
    queue.dispatch()
    assert (first.told, [lock.message.sequence for lock in first.locks], second.told) == (["a"], [1, 2], [])
    clock.time += 6
    queue.tick()
    assert second.told == ["in vain"]
    assert queue.settle(first.locks[0].token, Outcome.COMPLETED)
    clock.time += LOCK
    queue.tick()
    queue.tick()
    assert first.told == ["a", "lost"]
    assert not queue.settle(first.locks[1].token, Outcome.COMPLETED)
    assert [message.count for message in queue.messages.values()] == [1]
    assert queue.sessions.accept("a", second, clock.time)
    queue.dispatch()
    assert [lock.message.sequence for lock in second.locks] == [2]


def test_what_has_no_session_where_one_is_required_is_a_dead_letter() -> None:
    queue = new_queue(Clock(), sessions=True)
    queue.put(content("alone"))
    assert queue.messages == {}
    assert queue.dead is not None
    assert b"Session id is null." in queue.dead.messages[1].wire()
