"""What the dead letter of a failure is called, and what tells a repetition from a re-used id."""

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from investbus.event import Event
from investbus.store import body_hash, letter_id

texts = st.text(max_size=4)  # lone surrogates among them
Failure = tuple[str, str, str, str, str, bytes]
failures = st.tuples(texts, texts, texts.filter(bool), texts, texts, st.binary(max_size=4))


def id_of(source: str, route: str, event_id: str, name: str, created: str, body: bytes, origin: str) -> str:
    event: Event[Any] = Event(event_id, None, created, "1.0", "a", "b", name, "key", {}, body)
    return letter_id(source, route, event, origin)


@given(event=failures, origin=texts)
def test_an_id_is_short_and_safe_in_a_url(event: Failure, origin: str) -> None:
    assert re.fullmatch(r"[a-z2-7]{20}", id_of(*event, origin))


@given(one=failures, other=failures)
def test_one_failure_has_one_id_wherever_it_is_met(one: Failure, other: Failure) -> None:
    assert (id_of(*one, "partition 1") == id_of(*other, "partition 2")) == (one == other)


@given(one=st.tuples(texts, texts), other=st.tuples(texts, texts))
def test_bytes_without_an_id_are_known_by_where_they_came_from(one: tuple[str, str], other: tuple[str, str]) -> None:
    ids = [id_of(source, "unknown", "", "", "", b"broken", origin) for source, origin in (one, other)]
    assert (ids[0] == ids[1]) == (one == other)


def test_parts_that_run_into_each_other_are_still_told_apart() -> None:
    ids = {id_of(*parts, "", "", b"", "") for parts in [("a", "b", "c"), ("ab", "", "c"), ("a", "bc", "d"), ("a", "b", "cd")]}
    assert len(ids) == 4


def test_ids_never_change_between_versions() -> None:
    name, created = "portfolios.creation", "2025-03-01T12:00:00Z"
    assert id_of("kafka:events", name, "event-1", name, created, b"{}", "events/3/1") == "foktt44vfe43xbvo5oix"
    assert id_of("kafka:events", "unknown", "", "", "", b"{", "events/3/1") == "7sqpnqlu47cwqkvwpiac"
    assert body_hash(b"{}").hex() == "2afb9b83f9314e5d029766197f539792"


def test_a_body_is_told_from_another() -> None:
    hashes = {body_hash(body) for body in (b"", b"a", b"b", b"ab")}
    assert len(hashes) == 4
    assert {len(one) for one in hashes} == {16}
