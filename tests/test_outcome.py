"""What an attempt's end means: one table, every kind of error."""

import pytest

from investbus.errors import ApiError, ApiNotReady, ApiUnavailable, DataInvalid, Reject, Retry, Unavailable
from investbus.outcome import Again, AttemptTimeout, Blocked, Dead, error_name, outcome_of
from investbus.retry import RetryPolicy

POLICY = RetryPolicy(attempts=5, jitter=0.2)
FAILURES = [
    (ValueError("x"), "retry", Again, 1.0),
    (TimeoutError("the handler's own"), "retry", Again, 1.0),
    (OSError("x"), "retry", Again, 1.0),
    (KeyError("x"), "retry", Again, 1.0),
    (AttemptTimeout("x"), "timeout", Again, 1.0),
    (Retry(), "retry", Again, 1.0),
    (Retry(after=17.0), "retry", Again, 17.0),
    (Retry(after=-3.0), "retry", Again, 0.0),
    (ApiError("GET /x", 404), "retry", Again, 1.0),
    (ApiError("GET /x", 409), "retry", Again, 1.0),
    (ApiError("GET /x", 500), "retry", Again, 1.0),
    (ApiError("GET /x", 200), "retry", Again, 1.0),
    (ApiError("GET /x", 302), "retry", Again, 1.0),
    (Reject("x"), "reject", Dead, "rejected"),
    (ApiError("GET /x", 400), "reject", Dead, "rejected"),
    (ApiError("GET /x", 401), "reject", Dead, "rejected"),
    (ApiError("GET /x", 403), "reject", Dead, "rejected"),
    (ApiError("GET /x", 422), "reject", Dead, "rejected"),
    (DataInvalid("x"), "reject", Dead, "data_invalid"),
    (Unavailable("core"), "wait", Blocked, "core"),
    (Unavailable("core", after=9.0), "wait", Blocked, "core"),
    (ApiUnavailable("x"), "wait", Blocked, "api"),
]


@pytest.mark.parametrize(("error", "result", "kind", "detail"), FAILURES, ids=lambda value: repr(value)[:40])
def test_every_kind_of_failure(error: Exception, result: str, kind: type, detail: object) -> None:
    said, outcome = outcome_of(error, 1, POLICY, 0.0, fresh=False)
    assert (said, type(outcome)) == (result, kind)
    match outcome:
        case Again():
            assert (outcome.wait, outcome.spent) == (detail, True)
        case Dead():
            assert outcome.reason == detail
        case Blocked():
            assert outcome.dependency == detail


LAST = [(ValueError("x"), "exhausted"), (AttemptTimeout("x"), "timeout"), (Retry(), "exhausted")]


@pytest.mark.parametrize(("error", "result"), LAST)
def test_the_last_attempt_is_a_dead_letter(error: Exception, result: str) -> None:
    said, outcome = outcome_of(error, 5, POLICY, 0.0, fresh=False)
    assert said == result
    assert isinstance(outcome, Dead)
    assert outcome.reason == "exhausted"


def test_not_ready_costs_nothing_while_the_event_is_fresh() -> None:
    error = ApiNotReady("GET /x", 202)
    said, outcome = outcome_of(error, 5, POLICY, 0.0, fresh=True)
    assert (said, outcome) == ("wait", Again(1.0, error, spent=False))
    said, outcome = outcome_of(error, 1, POLICY, 0.0, fresh=False)
    assert (said, outcome) == ("retry", Again(1.0, error, spent=True))


def test_names_show_the_status_and_never_the_message() -> None:
    assert error_name(ApiError("GET /x", 500, "abc", "secret")) == "ApiError 500"
    assert error_name(ValueError("IBAN BE68")) == "ValueError"
