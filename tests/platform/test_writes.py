"""Deposits and withdrawals: exact amounts, a key that arrives as it is, and refusals before anything is sent."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from investbus.catalogue import FULL
from investbus.errors import ApiError, Reject
from investbus.sandbox import CREDENTIALS, Fault, Platform, World
from tests.brokers.process import free_port
from tests.platform.rig import Rig, reply, virtual

MONEY: dict[str, Any] = {"portfolio": "P1", "amount": Decimal("150.50"), "currency": "EUR", "idempotency_key": "k-1"}


@virtual
async def test_a_deposit_says_what_is_documented() -> None:
    rig = Rig(reply(201, {"id": "T1"}))
    assert await rig.api.deposit(**MONEY, external_id="core-77") == {"id": "T1"}
    assert await rig.api.withdraw(**MONEY) == {"id": "T1"}
    deposit, withdrawal = rig.script.calls
    assert (deposit.method, deposit.path, withdrawal.path) == ("POST", "/events/deposit/", "/events/withdraw/")
    data = {"amount": "150.50", "currency": "EUR", "portfolio": "P1"}
    assert deposit.json == {"data": data | {"external_id": "core-77"}}
    assert withdrawal.json == {"data": data}
    assert {sent.headers["Idempotency-Key"] for sent in rig.script.calls} == {"k-1"}


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("1E+2", "100"),
        ("0.10", "0.10"),
        ("1e-8", "0.00000001"),
        ("12345678901234567890.123456789", "12345678901234567890.123456789"),
    ],
)
@virtual
async def test_an_amount_is_sent_as_a_plain_number_in_a_string(amount: str, text: str) -> None:
    rig = Rig()
    await rig.api.deposit(**MONEY | {"amount": Decimal(amount)})
    assert rig.script.calls[0].json["data"]["amount"] == text


BAD_AMOUNTS = [
    FULL, Decimal("1e101"), Decimal("1E+999999999999999999"), Decimal("1E-999999999999999999"), Decimal(0), Decimal("-0"),
    Decimal(-1), Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("-Infinity"), 150, 150.5, "150", None, True,
]  # fmt: skip


@pytest.mark.parametrize("amount", BAD_AMOUNTS, ids=str)
@virtual
async def test_an_amount_that_is_none_is_rejected(amount: Any) -> None:
    rig = Rig()
    for call in (rig.api.deposit, rig.api.withdraw):
        with pytest.raises(Reject, match="the amount must be a Decimal above zero, and not FULL"):
            await call(**MONEY | {"amount": amount})
    assert rig.script.calls == rig.script.logins == []


@pytest.mark.parametrize("key", [None, "", "x" * 65, "z q", " q", "q\n", "q\r\nX-Evil: 1", "é", "\x00", 17, b"q"])
@virtual
async def test_a_key_that_would_not_arrive_as_it_is_is_rejected(key: Any) -> None:
    rig = Rig()
    for call in (rig.api.deposit, rig.api.withdraw):
        with pytest.raises(Reject, match=r"an idempotency key must have 1 to 64 .*\(api.idempotency_key_max\)") as caught:
            await call(**MONEY | {"idempotency_key": key})
        assert "q" not in str(caught.value).replace("idempotency", ""), "the key is not repeated"
    if key is not None:
        for method in (rig.api.post, rig.api.patch, rig.api.delete):
            with pytest.raises(Reject):
                await method("/things/", json={}, idempotency_key=key)
    assert rig.script.calls == rig.script.logins == []


@virtual
async def test_the_longest_key_is_a_setting() -> None:
    rig = Rig(idempotency_key_max=10)
    await rig.api.deposit(**MONEY | {"idempotency_key": "k" * 10})
    with pytest.raises(Reject, match=r"1 to 10 .* has 11 characters; ctx.idempotency_key\(max_length=10\)"):
        await rig.api.deposit(**MONEY | {"idempotency_key": "k" * 11})
    assert [sent.headers["Idempotency-Key"] for sent in rig.script.calls] == ["k" * 10]


@pytest.mark.parametrize("portfolio", ["..", "", "a/b", None, {"id": "P1"}])
@virtual
async def test_the_portfolio_has_to_be_an_id(portfolio: Any) -> None:
    rig = Rig()
    with pytest.raises(Reject, match='id "portfolio" is not of the form'):
        await rig.api.withdraw(**MONEY | {"portfolio": portfolio})
    assert rig.script.calls == []


@virtual
async def test_a_key_is_sent_only_where_one_was_given() -> None:
    rig = Rig()
    await rig.api.post("/things/", json={"a": 1})
    await rig.api.patch("/things/{id}/", json={"a": 1}, idempotency_key="k-2", id="T1")
    await rig.api.delete("/things/{id}/", id="T1")
    assert [sent.headers.get("Idempotency-Key") for sent in rig.script.calls] == [None, "k-2", None]
    assert [sent.headers.get("Content-Type") for sent in rig.script.calls] == ["application/json", "application/json", None]
    assert [sent.body for sent in rig.script.calls] == [b'{"a":1}', b'{"a":1}', None]


@virtual
async def test_a_number_that_was_read_goes_back_as_the_same_number() -> None:
    """Holdings are replaced whole by PATCH: what a handler does not change must come back as it was."""
    body = b'{"portfolio":{"IE00B4L5Y983":12.50,"$EUR":0.1000000000000000055511151231257827,"US0378331005":3}}'
    rig = Rig(reply(body=body))
    await rig.api.patch("/portfolios/{id}/", json=await rig.api.portfolio("P1"), id="P1")
    assert rig.script.calls[1].body == body


@settings(max_examples=50, deadline=None)
@given(st.decimals(min_value=Decimal("1e-8"), max_value=Decimal("1e14"), places=8))
def test_no_digit_of_an_amount_is_lost(amount: Decimal) -> None:
    @virtual
    async def send() -> None:
        rig = Rig()
        await rig.api.deposit(**MONEY | {"amount": amount})
        text = rig.script.calls[0].json["data"]["amount"]
        assert Decimal(text) == amount
        assert set(text) <= set("0123456789.")

    send()


async def test_a_lost_answer_pays_once(connect: Callable[..., Rig]) -> None:
    """The platform applies the deposit and the answer is lost: the call is sent again with its key, and has one effect."""
    async with Platform(World(seed=3, portfolios=5), port=free_port()) as platform:
        portfolio = next(iter(platform.world.portfolios))
        rig = connect(platform.url, access_key_id=CREDENTIALS[0], secret_access_key=CREDENTIALS[1])
        platform.faults.add(Fault(path="/events/*/", ending="reset", apply=True, times=1))
        platform.faults.add(Fault(path="/events/*/", status=502, apply=True, times=1))
        answer = await rig.api.deposit(**MONEY | {"portfolio": portfolio})
        (effect,) = platform.effects.all
        assert (effect.id, effect.key, effect.repeats, effect.body["amount"]) == (answer["id"], "k-1", 2, "150.50")
        with pytest.raises(ApiError) as caught:
            await rig.api.deposit(**MONEY | {"portfolio": portfolio, "amount": Decimal(1)})
        assert caught.value.status == 409
