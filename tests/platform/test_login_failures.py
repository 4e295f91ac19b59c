"""A login that is refused or cannot be had: shared by those who wait, told apart, and over as soon as it works again."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from investbus.errors import ApiUnavailable
from investbus.platform.wire import Answer, NoAnswer
from tests.platform.rig import Rig, Sent, fate, never, reply, tokens, virtual


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
@virtual
async def test_a_refused_login_is_told_as_such(status: int) -> None:
    rig = Rig(logins=(reply(status, {"body": {"secret_access_key": "key-canary"}}),))
    with pytest.raises(ApiUnavailable, match=f"the login is refused: HTTP {status}$") as caught:
        await rig.api.portfolio("P1")
    assert (caught.value.refused, caught.value.status, caught.value.dependency) == (True, status, "api")
    assert rig.logins() == (0, 1, 0)
    assert rig.script.calls == []
    assert len(rig.script.logins) == 1, "a refused login is not tried again within the call"


@virtual
async def test_those_who_wait_for_a_login_share_its_refusal() -> None:
    """Fifty tries with a wrong key could lock the key's account."""

    async def refuse(sent: Sent) -> Answer:
        await asyncio.sleep(1.0)
        return reply(401)

    rig = Rig(logins=(refuse,), concurrency=50)
    met = await fate([rig.api.portfolio(f"P{number}") for number in range(50)])
    assert len(rig.script.logins) == 1
    assert all(isinstance(error, ApiUnavailable) and error.refused and error.status == 401 for error in met)
    assert len({id(error) for error in met}) == 50, "each has an error of its own"


@virtual
async def test_a_revoked_key_is_no_answer_of_the_platform() -> None:
    """Else each probe would open the gate that it has closed, and let all waiting events try."""
    rig = Rig(reply(401), logins=(tokens("t1"), reply(401)))
    for _ in range(5):
        with pytest.raises(ApiUnavailable) as caught:
            await rig.api.portfolio("P1")
        assert caught.value.refused
    assert rig.answered == 0
    assert len(rig.script.calls) == 1, "a token that was refused is not used again"
    assert rig.logins() == (1, 5, 0)


@virtual
async def test_a_refused_key_works_as_soon_as_it_is_replaced(tmp_path: Path) -> None:
    """The file is read again at the next try: no restart."""

    async def check(sent: Sent) -> Answer:
        return tokens("good") if sent.json["secret_access_key"] == "new" else reply(401)

    key = tmp_path / "key"
    rig = Rig(logins=(check,), secret_access_key=None, secret_access_key_file=key)
    for content, problem in ((None, "No such file"), (b"old", "HTTP 401"), (b"\xff\xfe", "no UTF-8 text")):
        if content is not None:
            key.write_bytes(content)
        with pytest.raises(ApiUnavailable, match=problem) as caught:
            await rig.api.portfolio("P1")
        assert caught.value.refused
    key.write_bytes(b"new\n")
    assert await rig.api.portfolio("P1") == {"ok": True}
    assert rig.logins() == (1, 3, 0)


NO_TOKEN = [
    b"",
    b"<html>",
    b"[]",
    b"{}",
    b'{"access_token": null}',
    b'{"access_token": ""}',
    b'{"access_token": 5}',
    b'{"access_token": "a\\r\\nX-Injected: 1"}',
    b'{"access_token": "\\u00e9"}',
    b'{"access_token": "t", "expires_in": ' + b"9" * 5000 + b"}",
    b'{"a": ' + b"[" * 100_000,
    b"\xff",
]


@pytest.mark.parametrize("body", NO_TOKEN, ids=range(len(NO_TOKEN)))
@virtual
async def test_an_answer_without_a_token_is_an_outage(body: bytes) -> None:
    rig = Rig(logins=(reply(body=body),))
    with pytest.raises(ApiUnavailable, match="the login gives no token: HTTP 200") as caught:
        await rig.client.log_in()
    assert not caught.value.refused
    assert rig.logins() == (0, 0, 1)


@pytest.mark.parametrize("failing", [reply(500), reply(503), reply(302, location="https://evil.invalid/"), NoAnswer("Reset")])
@virtual
async def test_a_login_that_fails_is_tried_again_within_a_get(failing: Any) -> None:
    rig = Rig(logins=(failing, failing, tokens("t")))
    assert await rig.api.portfolio("P1") == {"ok": True}
    assert rig.logins() == (1, 0, 2)


@pytest.mark.parametrize("status", [429, 503])
@virtual
async def test_a_login_that_says_when_to_come_back_is_believed(status: int) -> None:
    rig = Rig(logins=(reply(status, retry_after="17"),))
    with pytest.raises(ApiUnavailable) as caught:
        await rig.api.portfolio("P1")
    assert (caught.value.after, caught.value.status, caught.value.refused) == (17.0, status, False)
    assert len(rig.script.logins) == 1


@virtual
async def test_a_login_that_hangs_ends_with_the_time_out() -> None:
    rig = Rig(logins=(never,), timeout=7.0)
    begun = rig.clock()
    for attempt in (rig.client.log_in, lambda: rig.api.portfolio("P1")):
        with pytest.raises(ApiUnavailable, match="within 7 s"):
            await attempt()
    assert rig.clock() - begun == pytest.approx(14.0)
    assert rig.logins() == (0, 0, 2)


@virtual
async def test_who_gives_up_waiting_does_not_end_the_login_of_others() -> None:
    async def slow(sent: Sent) -> Answer:
        await asyncio.sleep(3.0)
        return tokens("slow")

    rig = Rig(logins=(slow,))
    callers = [asyncio.create_task(rig.api.portfolio(f"P{number}")) for number in range(4)]
    await asyncio.sleep(1.0)
    callers[0].cancel()  # the one who is logging in
    callers[2].cancel()
    met = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(each) for each in met] == [asyncio.CancelledError, dict, asyncio.CancelledError, dict]
    assert len(rig.script.logins) == 2
