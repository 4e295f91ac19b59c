"""What the dead letter of a failure is called, and what tells a repetition from a re-used id."""

import re

from hypothesis import given
from hypothesis import strategies as st

from investbus.store import body_hash, letter_id

texts = st.text(max_size=4)  # lone surrogates among them
events = st.tuples(texts, texts, texts.filter(bool), st.binary(max_size=4))


@given(event=events, origin=texts)
def test_an_id_is_short_and_safe_in_a_url(event: tuple[str, str, str, bytes], origin: str) -> None:
    assert re.fullmatch(r"[a-z2-7]{20}", letter_id(*event, origin))


@given(one=events, other=events)
def test_one_failure_has_one_id_wherever_it_is_met(one: tuple[str, str, str, bytes], other: tuple[str, str, str, bytes]) -> None:
    assert (letter_id(*one, "partition 1") == letter_id(*other, "partition 2")) == (one == other)


@given(one=st.tuples(texts, texts), other=st.tuples(texts, texts))
def test_bytes_without_an_id_are_known_by_where_they_came_from(one: tuple[str, str], other: tuple[str, str]) -> None:
    ids = [letter_id(source, "unknown", "", b"broken", origin) for source, origin in (one, other)]
    assert (ids[0] == ids[1]) == (one == other)


def test_parts_that_run_into_each_other_are_still_told_apart() -> None:
    ids = {letter_id(*parts, b"", "") for parts in [("a", "b", "c"), ("ab", "", "c"), ("a", "bc", "d"), ("a", "b", "cd")]}
    assert len(ids) == 4


def test_ids_never_change_between_versions() -> None:
    assert letter_id("kafka:events", "portfolios.creation", "event-1", b"{}", "events/3/1") == "ugsy3e6qkwxhitc654cm"
    assert letter_id("kafka:events", "unknown", "", b"{", "events/3/1") == "7sqpnqlu47cwqkvwpiac"
    assert body_hash(b"{}").hex() == "2afb9b83f9314e5d029766197f539792"


def test_a_body_is_told_from_another() -> None:
    hashes = {body_hash(body) for body in (b"", b"a", b"b", b"ab")}
    assert len(hashes) == 4
    assert {len(one) for one in hashes} == {16}
