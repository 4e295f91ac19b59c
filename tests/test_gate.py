"""The gate: closes after so many failures in a row, lets one try per interval, opens at the first answer."""

from hypothesis import given
from hypothesis import strategies as st

from investbus.gate import Gate


def test_closes_after_failures_in_a_row_and_opens_at_an_answer() -> None:
    gate = Gate("api", failures=3, probe_every=5.0, retry_after_max=600.0)
    assert [gate.failed(now) for now in (1.0, 2.0)] == [False, False]
    gate.answered()
    assert [gate.failed(now) for now in (3.0, 4.0, 5.0)] == [False, False, True]
    assert (gate.closed, gate.closures, gate.probe_at) == (True, 1, 10.0)
    assert gate.answered() is True
    assert (gate.closed, gate.streak) == (False, 0)


def test_one_probe_per_interval() -> None:
    gate = Gate("api", failures=1, probe_every=5.0, retry_after_max=600.0)
    gate.failed(0.0)
    taken = [now for now in range(31) if gate.admit(float(now))]
    assert taken == [5, 10, 15, 20, 25, 30]


def test_retry_after_is_believed_up_to_a_limit() -> None:
    gate = Gate("api", failures=1, probe_every=5.0, retry_after_max=60.0)
    gate.failed(0.0, after=30.0)
    assert gate.probe_at == 30.0
    gate.failed(30.0, after=86_400.0)
    assert gate.probe_at == 90.0
    gate.failed(90.0, after=0.5)
    assert gate.probe_at == 95.0


def test_a_failure_that_does_not_say_when_shortens_no_retry_after() -> None:
    """Calls that were on their way when the gate closed end one by one, and each in its own manner."""
    gate = Gate("api", failures=1, probe_every=5.0, retry_after_max=600.0)
    gate.failed(0.0, after=300.0)
    gate.failed(1.0)
    gate.suspected(2.0, "P1")
    assert gate.probe_at == 300.0
    gate.failed(3.0, after=400.0)
    assert gate.probe_at == 403.0
    gate.answered()
    gate.failed(10.0)
    assert gate.probe_at == 15.0, "what was said before the answer is over"


def test_a_long_outage_of_plain_500s_takes_no_memory() -> None:
    gate = Gate("api", failures=3, probe_every=5.0, retry_after_max=600.0)
    for number in range(1_000):
        gate.suspected(float(number), f"P{number}")
    assert gate.closed
    assert len(gate._suspects) == 3
    assert gate.probe_at == 1_004.0
    gate.answered()
    assert [gate.suspected(2_000.0, key) for key in ("P1", "P2", "P3")] == [False, False, True]


def test_a_refused_login_closes_at_once() -> None:
    gate = Gate("api", failures=3, probe_every=5.0, retry_after_max=60.0)
    assert gate.failed(0.0, at_once=True) is True


@given(st.lists(st.sampled_from(["failed", "answered", "probe"]), max_size=200), st.integers(1, 5))
def test_closed_exactly_from_the_nth_failure_in_a_row_to_the_next_answer(steps: list[str], failures: int) -> None:
    gate, closed, streak, closures, probes = Gate("api", failures, 5.0, 60.0), False, 0, 0, 0
    for now, step in enumerate(steps):
        if step == "failed":
            streak += 1
            if not closed and streak >= failures:
                closed, closures = True, closures + 1
            gate.failed(float(now))
        elif step == "answered":
            closed, streak = False, 0
            gate.answered()
        elif gate.closed:
            probes += gate.admit(float(now))
        assert (gate.closed, gate.closures) == (closed, closures)
    assert probes <= len(steps) / 5.0 + closures
