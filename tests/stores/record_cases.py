"""What every store must do with dead letters and with what was done."""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from investbus.errors import StoreError
from investbus.store import STATES, DeadLetter, Done, Filter, Group, Identity, OpenLetters, Store, Try, body_hash
from tests.stores.letters import NOON, done, identity, letter
from tests.stores.opened import LONG_AGO, Fresh, Opened, on_one_store

examples = count()
texts = st.text(max_size=5)  # lone surrogates among them
parts = st.tuples(st.sampled_from(["", "a", "ab"]), st.sampled_from(["", "b", "2025"]), texts)
hashes = st.sampled_from([body_hash(body) for body in (b"", b"a", b"b")])


async def exported(store: Store, wanted: Filter) -> list[DeadLetter]:
    return [one async for one in store.export_dead(wanted)]


class RecordCases(Opened):
    # ---- dead letters: what goes in comes out

    @pytest.mark.parametrize("body", [b"", b"\xff\x00\xfe", bytes(range(256)), "é\u2028\0".encode(), b"x" * 1_048_576])
    async def test_a_letter_comes_back_as_it_was(self, store: Store, body: bytes) -> None:
        sent = letter(body=body)
        await store.put_dead([sent], [])
        assert await store.get_dead(sent.id) == sent
        assert await store.list_dead(Filter(), 10) == [sent]
        assert await exported(store, Filter()) == [sent]

    async def test_an_empty_letter_comes_back_as_it_was(self, store: Store) -> None:
        changes: dict[str, Any] = {field: "" for field, value in msgspec.structs.asdict(letter()).items() if isinstance(value, str)}
        changes |= {"id": "x", "state": "parked", "tries": (), "headers": {}, "body": b"", "attempts": 0}
        sent = letter(**changes)
        await store.put_dead([sent], [])
        assert await store.get_dead("x") == sent

    async def test_times_keep_their_microseconds_and_are_utc(self, store: Store) -> None:
        paris = timezone(timedelta(hours=2))
        times = [NOON + timedelta(microseconds=n) for n in range(3)] + [datetime(9999, 12, 31, 1, 2, 3, 999999, paris)]
        await store.put_dead([letter(n, first_at=at, last_at=at) for n, at in enumerate(times)], [])
        found = await exported(store, Filter())
        assert [one.last_at for one in found] == [one.first_at for one in found] == times
        assert {one.last_at.tzinfo for one in found} == {UTC}

    async def test_text_that_utf8_cannot_hold_is_spelt_out(self, store: Store) -> None:
        bad = "caf\udce9"
        tries = (Try(NOON, 1.0, bad),)
        await store.put_dead([letter(event_id=bad, message=bad, headers={bad: bad}, tries=tries)], [])
        (found,) = await store.list_dead(Filter(event_id=bad), 1)
        assert (found.message, found.headers, found.tries[0].error) == (r"caf\udce9", {r"caf\udce9": r"caf\udce9"}, r"caf\udce9")

    async def test_it_is_all_there_after_opening_again(self, store: Store, fresh: Fresh) -> None:
        await store.put_dead([letter(1)], [done(1)])
        await store.close()
        again = fresh()
        await again.open()
        assert await again.get_dead("letter00001") == letter(1)
        assert await again.find_done([identity(1)]) == {identity(1): b"h" * 16}
        await again.close()

    async def test_two_stores_on_the_same_data_see_each_other(self, store: Store, fresh: Fresh) -> None:
        other = fresh()
        await other.open()
        for number in range(20):
            await (store, other)[number % 2].put_dead([letter(number)], [done(number)])
            assert await (other, store)[number % 2].get_dead(letter(number).id) == letter(number)
        everything = [identity(number) for number in range(20)]
        assert len(await store.find_done(everything)) == len(await other.find_done(everything)) == 20
        await other.close()

    async def test_writing_twice_changes_nothing(self, store: Store) -> None:
        await store.put_dead([letter(1, state="parked"), letter(2)], [done(1)])
        await store.put_dead([letter(1, message="another"), letter(2, message="another"), letter(3)], [done(1)])
        assert await exported(store, Filter()) == [letter(1, state="parked"), letter(2), letter(3)]
        assert await store.find_done([identity(1)]) == {identity(1): b"h" * 16}

    async def test_a_letter_that_is_not_there_is_none(self, store: Store) -> None:
        await store.put_dead([], [])
        assert await store.get_dead("letter00001") is None
        assert (await store.list_dead(Filter(), 5), await store.group_dead(Filter()), await store.open_dead()) == ([], [], {})

    # ---- what was done

    async def test_a_dead_event_needs_nothing_more(self, store: Store) -> None:
        await store.put_dead([letter(1)], [Done(identity(1), b"1" * 16, "dead")])
        assert await store.find_done([identity(1), identity(2)]) == {identity(1): b"1" * 16}

    @pytest.mark.parametrize("other", [{"source": "file"}, {"route": "x"}, {"created": ""}, {"event_id": "x"}])
    async def test_every_part_of_the_identity_counts(self, store: Store, other: dict[str, str]) -> None:
        await store.put_done([done(1)])
        assert await store.find_done([identity(1, **other)]) == {}
        assert await store.find_done([identity(1)]) == {identity(1): b"h" * 16}

    async def test_of_a_reused_id_the_last_body_is_known(self, store: Store) -> None:
        await store.put_done([done(1, body_hash(b"old"))])
        await store.put_done([done(1, body_hash(b"new"))])
        assert await store.find_done([identity(1)]) == {identity(1): body_hash(b"new")}

    async def test_records_from_before_do_not_count_and_a_new_run_renews_them(self, store: Store) -> None:
        await store.put_done([done(1)])
        await asyncio.sleep(0.01)
        later = datetime.now(UTC)
        assert await store.find_done([identity(1)], LONG_AGO) == {identity(1): b"h" * 16}
        assert await store.find_done([identity(1)], later) == {}
        await asyncio.sleep(0.01)
        await store.put_done([done(1)])
        assert await store.find_done([identity(1)], later) == {identity(1): b"h" * 16}

    @pytest.mark.parametrize("size", [0, 1, 3, 64, 255, 256, 257, 1000])
    async def test_a_batch_of_any_size_finds_all(self, store: Store, size: int) -> None:
        await store.put_done([done(number, b"%16d" % number) for number in range(0, size, 3)])
        asked = [identity(number) for number in range(size)]
        expected = {identity(number): b"%16d" % number for number in range(0, size, 3)}
        assert await store.find_done(asked + asked) == expected

    async def test_a_look_up_after_a_put_sees_it(self, store: Store) -> None:
        for number in range(50):
            put = asyncio.ensure_future(store.put_done([done(number)]))
            find = asyncio.ensure_future(store.find_done([identity(number)]))
            assert await find == {identity(number): b"h" * 16}
            await put

    @on_one_store
    @given(steps=st.lists(st.tuples(st.booleans(), st.lists(st.tuples(parts, hashes), max_size=5)), max_size=8))
    async def test_it_knows_what_a_dict_would_know(
        self, store: Store, steps: list[tuple[bool, list[tuple[tuple[str, str, str], bytes]]]]
    ) -> None:
        model: dict[Identity, bytes] = {}
        source = f"example {next(examples)}"
        for puts, rows in steps:
            given_hashes = [(Identity(source, *part), known) for part, known in rows]
            if puts:
                await store.put_done([Done(one, known, "done") for one, known in given_hashes])
                model.update(given_hashes)
            else:
                expected = {one: model[one] for one, _ in given_hashes if one in model}
                assert await store.find_done([one for one, _ in given_hashes]) == expected

    # ---- what people ask

    async def test_the_list_is_newest_first_and_no_longer_than_asked(self, store: Store) -> None:
        await store.put_dead([letter(number) for number in (3, 1, 4, 2, 5)], [])
        assert await store.list_dead(Filter(), 3) == [letter(5), letter(4), letter(3)]

    @pytest.mark.parametrize(
        ("wanted", "numbers"),
        [
            (Filter(), [4, 3, 2, 1, 0]),
            (Filter(route="other"), [1]),
            (Filter(reason="rejected"), [2]),
            (Filter(error="Reject"), [3, 2]),
            (Filter(event_id="event-4"), [4]),
            (Filter(key="P"), [3, 0]),
            (Filter(state="parked"), [4]),
            (Filter(state="open"), [3, 2, 1, 0]),
            (Filter(since=NOON + timedelta(seconds=3)), [4, 3]),
            (Filter(until=NOON + timedelta(seconds=3)), [2, 1, 0]),
            (Filter(since=NOON + timedelta(seconds=2, microseconds=1), until=NOON + timedelta(seconds=3, microseconds=1)), [3]),
            (Filter(error="Reject", key="P", since=NOON, state="open"), [3]),
            (Filter(route="' OR 1 --"), []),
        ],
    )
    async def test_every_filter_narrows(self, store: Store, wanted: Filter, numbers: list[int]) -> None:
        letters = [
            letter(0, key="P"),
            letter(1, route="other"),
            letter(2, error="Reject", reason="rejected"),
            letter(3, error="Reject", key="P"),
            letter(4, state="parked"),
        ]
        await store.put_dead(letters, [])
        expected = [letters[number] for number in numbers]
        assert await store.list_dead(wanted, 10) == expected
        assert await exported(store, wanted) == expected[::-1]
        assert sum(group.count for group in await store.group_dead(wanted)) == len(expected)

    async def test_an_export_is_complete_and_oldest_first(self, store: Store) -> None:
        letters = [letter(number, last_at=NOON + timedelta(seconds=number // 50)) for number in range(333)]
        await store.put_dead(letters[::-1], [])
        assert await exported(store, Filter()) == letters

    async def test_groups_are_exact_and_largest_first(self, store: Store) -> None:
        letters = [
            letter(n, route=f"r{n % 2}", error=f"E{n % 3}", place=f"pay.py:{min(n % 7, 2)}", state=STATES[n % 5])
            for n in range(200)
        ]
        await store.put_dead(letters, [])
        for wanted in (Filter(), Filter(state="open"), Filter(route="r1", since=NOON + timedelta(seconds=60))):
            assert await store.group_dead(wanted) == _grouped(await exported(store, wanted))

    async def test_open_letters_are_counted_by_route(self, store: Store) -> None:
        letters = [letter(n, route=f"r{n % 3}", state="discarded" if n % 3 == 2 or n < 2 else "open") for n in range(9)]
        await store.put_dead(letters, [])
        assert await store.open_dead() == {
            "r0": OpenLetters(2, NOON + timedelta(seconds=3)),
            "r1": OpenLetters(2, NOON + timedelta(seconds=4)),
        }

    # ---- its life

    async def test_calls_after_close_are_refused(self, store: Store) -> None:
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await store.put_dead([letter()], [])
        with pytest.raises(StoreError, match="closed"):
            await store.find_done([identity()])
        with pytest.raises(StoreError, match="closed"):
            await exported(store, Filter())

    async def test_opening_twice_is_opening_once(self, store: Store) -> None:
        await store.open()
        await store.put_done([done()])
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await store.put_done([done()])

    async def test_close_finishes_what_was_asked_before(self, store: Store, fresh: Fresh) -> None:
        puts = [asyncio.ensure_future(store.put_done([done(number)])) for number in range(100)]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*puts)
        await store.close()
        again = fresh()
        await again.open()
        assert len(await again.find_done([identity(number) for number in range(100)])) == 100
        await again.close()

    async def test_a_caller_that_is_cancelled_harms_nobody(self, store: Store) -> None:
        calls = [asyncio.ensure_future(store.put_done([done(number)])) for number in range(10)]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(result, asyncio.CancelledError) for result in results] == [True, False] * 5
        assert set(await store.find_done([identity(n) for n in range(10)])) >= {identity(n) for n in range(1, 10, 2)}


def _grouped(letters: list[DeadLetter]) -> list[Group]:
    """What `group_dead` must say, the slow way; `letters` are oldest first."""
    causes: dict[tuple[str, str, str], list[DeadLetter]] = defaultdict(list)
    for one in letters:
        causes[one.route, one.error, one.place].append(one)
    groups = [
        Group(*cause, len(same), min(one.first_at for one in same), same[-1].last_at, same[-1].id) for cause, same in causes.items()
    ]
    return sorted(groups, key=lambda group: (-group.count, -group.last_at.timestamp(), group.route, group.error, group.place))
