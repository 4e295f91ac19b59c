"""The acks of a channel, against a broker that is too simple to be wrong: a list of what is unacked."""

from hypothesis import given
from hypothesis import strategies as st

from investbus.transports.rabbitmq_settling import Tags


class Broker:
    """What RabbitMQ keeps of a channel: the unacked tags in order. Naming one that is not among them closes the channel."""

    def __init__(self) -> None:
        self.unacked: list[int] = []

    def take(self, tag: int, multiple: bool) -> None:
        assert tag in self.unacked, f"unknown delivery tag {tag}"
        self.unacked = [other for other in self.unacked if (other > tag if multiple else other != tag)]


# Each step: deliver so many, finish the n-th of what is unfinished, or write what is due.
steps = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(1, 5)),
        st.tuples(st.just("finish"), st.integers(0, 50)),
        st.tuples(st.just("write"), st.just(0)),
    ),
    max_size=80,
)


@given(steps)
def test_every_finished_tag_is_acked_once_and_no_other(history: list[tuple[str, int]]) -> None:
    tags, broker = Tags(), Broker()
    unfinished: list[int] = []
    last = 0
    for step, number in [*history, ("write", 0)]:
        if step == "deliver":
            for tag in range(last + 1, last + 1 + number):
                tags.delivered(tag, float(tag))
                unfinished.append(tag)
                broker.unacked.append(tag)
            last += number
        elif step == "finish" and unfinished:
            tags.finished(unfinished.pop(number % len(unfinished)))
        elif step == "write":
            for tag, multiple in tags.due():
                broker.take(tag, multiple)
            assert broker.unacked == unfinished
        assert tags.outstanding == len(unfinished)
        assert tags.oldest == (float(unfinished[0]) if unfinished else None)
    assert tags.due() == []


@given(st.permutations(range(1, 13)), st.integers(0, 12))
def test_a_finished_prefix_is_one_ack(order: list[int], size: int) -> None:
    tags = Tags()
    for tag in range(1, 13):
        tags.delivered(tag, 0.0)
    for tag in order:
        if tag <= size:
            tags.finished(tag)
    assert tags.due() == ([(size, size > 1)] if size else [])


def test_a_prefix_does_not_end_with_a_tag_that_was_acked_above_the_hole() -> None:
    tags = Tags()
    for tag in (1, 2, 3, 4):
        tags.delivered(tag, 0.0)
    tags.finished(1)
    tags.finished(3)
    assert tags.due() == [(1, False), (3, False)]
    tags.finished(2)
    assert tags.due() == [(2, False)]
    tags.finished(4)
    assert tags.due() == [(4, False)]
