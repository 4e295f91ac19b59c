"""The token: asked for once, renewed in time, replaced when it is refused."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from investbus.errors import ApiError
from investbus.platform.wire import Answer
from tests.platform.rig import OLD, Rig, Sent, reply, tokens, virtual


async def _slow_login(sent: Sent) -> Answer:
    await asyncio.sleep(1.0)
    return tokens("slow")


@virtual
async def test_fifty_who_wait_share_one_login() -> None:
    rig = Rig(logins=(_slow_login,), concurrency=50)
    await asyncio.gather(*(rig.api.portfolio(f"P{number}") for number in range(50)))
    assert len(rig.script.logins) == 1
    assert {call.token for call in rig.script.calls} == {"slow"}
    assert len(rig.script.calls) == 50
    assert rig.logins() == (1, 0, 0)


@virtual
async def test_the_login_sends_what_is_documented() -> None:
    rig = Rig()
    await rig.client.log_in()
    (login,) = rig.script.logins
    assert (login.method, login.url) == ("POST", "https://platform.invalid/auth/login/")
    assert login.json == {"access_key_id": "id-canary", "secret_access_key": "key-canary"}
    assert login.headers["Content-Type"] == "application/json"
    assert "Authorization" not in login.headers


@virtual
async def test_a_token_is_renewed_before_it_expires() -> None:
    rig = Rig(logins=(tokens("first", expires_in="300", refresh="r1"), tokens("second", expires_in="300")))
    await rig.api.portfolio("P1")
    await asyncio.sleep(239)
    await rig.api.portfolio("P1")
    assert len(rig.script.logins) == 1
    await asyncio.sleep(2)
    await asyncio.gather(*(rig.api.portfolio("P1") for _ in range(20)))
    assert [(login.path, login.json) for login in rig.script.logins[1:]] == [("/auth/refresh-token/", {"refresh_token": "r1"})]
    assert [call.token for call in rig.script.calls] == ["first", "first", *["second"] * 20]


@pytest.mark.parametrize("said", ["120", 120, 120.0, "120.0"])
def test_the_life_of_a_token_is_taken_as_text_or_number(said: Any) -> None:
    assert _renewed_after(said, by=96.5)
    assert not _renewed_after(said, by=95.5)


@pytest.mark.parametrize("said", [None, "soon", "", "-5", 0, -1, "nan", "inf", "1e999", 10**400, [], {"s": 5}])
def test_a_broken_life_counts_as_the_documented_five_minutes(said: Any) -> None:
    """Taken at its word, some of these would mean a login for each call, others no renewal ever."""
    assert _renewed_after(said, by=240.5)
    assert not _renewed_after(said, by=239.5)


def _renewed_after(said: Any, *, by: float) -> bool:
    seen: list[int] = []

    @virtual
    async def run() -> None:
        rig = Rig(logins=(tokens("t", expires_in=said),))
        await rig.api.portfolio("P1")
        await asyncio.sleep(by)
        await rig.api.portfolio("P1")
        seen.append(len(rig.script.logins))

    run()
    return seen == [2]


@pytest.mark.parametrize("status", [400, 401, 403, 500, 503])
@virtual
async def test_a_renewal_that_fails_becomes_a_login(status: int) -> None:
    rig = Rig(logins=(tokens("first"), reply(status), tokens("second")))
    await rig.api.portfolio("P1")
    await asyncio.sleep(290)
    await rig.api.portfolio("P1")
    assert [login.path for login in rig.script.logins] == ["/auth/login/", "/auth/refresh-token/", "/auth/login/"]
    assert [call.token for call in rig.script.calls] == ["first", "second"]
    assert rig.logins() == (2, 0, 0)


@virtual
async def test_without_a_refresh_token_a_login_follows_a_login() -> None:
    rig = Rig(logins=(tokens("first", refresh=None), tokens("second")))
    await rig.api.portfolio("P1")
    await asyncio.sleep(290)
    await rig.api.portfolio("P1")
    assert [login.path for login in rig.script.logins] == ["/auth/login/", "/auth/login/"]


def _only(good: str) -> Any:
    async def answer(sent: Sent) -> Answer:
        await asyncio.sleep(0.1)
        return reply() if sent.token == good else reply(401)

    return answer


@virtual
async def test_many_who_are_refused_at_once_share_one_new_login() -> None:
    rig = Rig(_only("t1"), concurrency=50)
    await rig.api.portfolio("P1")
    rig.script.plan = [_only("t2")]
    await asyncio.gather(*(rig.api.portfolio(f"P{number}") for number in range(50)))
    assert len(rig.script.logins) == 2
    assert [call.token for call in rig.script.calls] == ["t1", *["t1"] * 50, *["t2"] * 50]


@virtual
async def test_who_is_refused_late_takes_the_token_that_others_fetched() -> None:
    async def answer(sent: Sent) -> Answer:
        await asyncio.sleep(3.0 if sent.path == "/portfolios/LATE/" else 0.1)
        return reply(401) if sent.token == "t1" else reply()

    rig = Rig(answer)
    await asyncio.gather(rig.api.portfolio("LATE"), rig.api.portfolio("P1"))
    assert len(rig.script.logins) == 2


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("status", [401, 403])
@virtual
async def test_a_second_refusal_is_final(status: int, method: str) -> None:
    rig = Rig(reply(status, {"title": "no", "request_id": "q-1"}))
    with pytest.raises(ApiError) as caught:
        await rig.client.call(method, "/portfolios/{id}/", {"id": "P1"}, fresh_until=OLD)
    assert (caught.value.status, caught.value.request_id) == (status, "q-1")
    assert [call.token for call in rig.script.calls] == ["t1", "t2"]


@virtual
async def test_secrets_are_read_anew_at_each_login(tmp_path: Path) -> None:
    files: dict[str, Any] = {"access_key_id_file": tmp_path / "id", "secret_access_key_file": tmp_path / "key"}
    (tmp_path / "id").write_text("id-1\n")
    (tmp_path / "key").write_text("key-1\n")
    rig = Rig(_only("t1"), access_key_id=None, secret_access_key=None, **files)
    await rig.api.portfolio("P1")
    (tmp_path / "key").write_text("key-2\n")
    rig.script.plan = [_only("t2")]
    await rig.api.portfolio("P1")
    assert [login.json["secret_access_key"] for login in rig.script.logins] == ["key-1", "key-2"]
    assert [login.json["access_key_id"] for login in rig.script.logins] == ["id-1", "id-1"]
