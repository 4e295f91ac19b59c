"""What an answer means for the event, and that no answer whatever can crash the reading of it."""

import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from investbus.errors import ApiError, ApiNotReady
from investbus.platform.answers import request_id, retry_after
from investbus.platform.wire import Answer
from tests.platform.rig import MIDNIGHT, OLD, YOUNG, Rig, reply, virtual


async def call(rig: Rig, method: str = "GET", fresh_until: float = OLD) -> Any:
    return await rig.client.call(method, "/things/{id}/", {"id": "T1"}, fresh_until=fresh_until)


@virtual
async def test_numbers_keep_every_digit() -> None:
    body = b'{"a": 0.1000000000000000055511151231257827, "b": 1e100, "c": 150.50, "d": 9007199254740993, "e": [1.0]}'
    answer = await call(Rig(reply(body=body)))
    assert answer == {
        "a": Decimal("0.1000000000000000055511151231257827"),
        "b": Decimal("1e100"),
        "c": Decimal("150.50"),
        "d": 9007199254740993,
        "e": [Decimal("1.0")],
    }
    assert (str(answer["c"]), type(answer["b"]), type(answer["d"])) == ("150.50", Decimal, int)


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("answer", [reply(204, body=b""), reply(200, body=b""), reply(201, body=b" \r\n")])
@virtual
async def test_a_write_may_be_answered_with_nothing(method: str, answer: Answer) -> None:
    assert await call(Rig(answer), method) == {}


@virtual
async def test_no_content_is_an_empty_answer() -> None:
    assert await call(Rig(reply(204, body=b""))) == {}


NO_OBJECT = [b"", b"  ", b"<html>welcome to the wifi</html>", b"[1, 2]", b'"text"', b"7", b"null", b'{"a": ', b'{"a": NaN}']
NO_OBJECT += [b"[" * 100_000, b"\xff\xfe", b'{"a": 1e99999999999999999999}', b'{"a": ' + b"9" * 5000 + b"}", b"\xef\xbb\xbf{}"]


@pytest.mark.parametrize("body", NO_OBJECT, ids=range(len(NO_OBJECT)))
@virtual
async def test_what_is_no_json_object_is_an_error_and_no_data(body: bytes) -> None:
    with pytest.raises(
        ApiError, match=r"GET /things/\{id\}/: HTTP 200, the answer is no JSON( object)?, request id q-7$"
    ) as caught:
        await call(Rig(reply(body=body, x_request_id="q-7")))
    assert (caught.value.status, caught.value.request_id) == (200, "q-7")


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
@virtual
async def test_202_is_not_data(method: str) -> None:
    for fresh_until in (OLD, YOUNG):
        with pytest.raises(ApiNotReady) as caught:
            await call(Rig(reply(202, {"message": "in progress"})), method, fresh_until)
        assert (caught.value.status, caught.value.operation) == (202, f"{method} /things/{{id}}/")


@virtual
async def test_404_means_not_yet_while_the_event_is_fresh() -> None:
    for fresh_until, meant in ((MIDNIGHT + 0.5, ApiNotReady), (MIDNIGHT - 0.5, ApiError)):
        with pytest.raises((ApiNotReady, ApiError)) as caught:
            await call(Rig(reply(404)), fresh_until=fresh_until)
        assert type(caught.value) is meant
        assert caught.value.status == 404


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 403, 404, 409, 410, 422, 500, 501, 505])
@virtual
async def test_every_other_status_is_an_error_with_its_number(status: int) -> None:
    with pytest.raises(ApiError, match=rf"^GET /things/\{{id\}}/: HTTP {status}, request id q-9$") as caught:
        await call(Rig(reply(status, {"title": "no", "request_id": "q-9", "body": {"name": "person-canary"}})))
    assert (caught.value.status, caught.value.request_id) == (status, "q-9")


@pytest.mark.parametrize(
    ("body", "header", "said"),
    [
        (b'{"request_id": "q-1"}', None, "q-1"),
        (b'{"request_id": "q-1"}', "q-2", "q-1"),
        (b"{}", "q-2", "q-2"),
        (b"<html>", "q-2", "q-2"),
        (b"[1]", None, None),
        (b'{"request_id": ' + b"[" * 100_000, "q-2", "q-2"),
        (b'{"request_id": 5}', None, None),
        (b'{"request_id": "a\\nERROR forged line"}', None, None),
        (b'{"request_id": "' + b"x" * 5000 + b'"}', None, "x" * 100),
    ],
)
def test_the_request_id_is_what_either_place_says(body: bytes, header: str | None, said: str | None) -> None:
    assert request_id(Answer(400, {} if header is None else {"x-request-id": header}, body)) == said


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("-7", 0.0),
        ("nan", None),
        ("1e9999", None),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0),
        ("Thursday, 01-Jan-26 00:01:00 GMT", 60.0),
        ("Thu Jan  1 00:01:00 2026", 60.0),
        ("Thu, 01 Jan 2026 01:01:00 +0100", 60.0),
        ("", None),
        ("soon", None),
        ("Thu, 99 Jan 2026 00:01:00 GMT", None),
        ("Thu, 01 Jan 99999 00:01:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(said: str, seconds: float | None) -> None:
    assert retry_after(Answer(503, {"retry-after": said}, b""), MIDNIGHT) == seconds


def test_a_date_without_a_zone_is_utc_wherever_the_worker_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert retry_after(Answer(503, {"retry-after": "Thu Jan  1 00:01:00 2026"}, b""), MIDNIGHT) == 60.0
    time.tzset()


@settings(max_examples=500, deadline=None)
@given(
    st.text(max_size=40)
    | st.from_regex(r"(\w{3}, )?\d{1,3} (Jan|Feb) \d{1,6} \d{1,3}:\d{1,3}(:\d{1,3})?( [+-]\d{1,9}| GMT|)", fullmatch=True)
)
def test_no_retry_after_can_crash_the_reading(said: str) -> None:
    seconds = retry_after(Answer(503, {"retry-after": said}, b""), MIDNIGHT)
    assert seconds is None or 0 <= seconds < float("inf")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([200, 201, 202, 204, 302, 400, 404, 500]), st.binary(max_size=60))
def test_no_body_can_crash_the_reading(status: int, body: bytes) -> None:
    @virtual
    async def read() -> None:
        try:
            answer = await call(Rig(reply(status, body=body)))
        except (ApiError, ApiNotReady):
            return
        assert isinstance(answer, dict)

    read()
