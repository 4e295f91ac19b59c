"""The two tests of the public contract, as a bank would write them."""

from decimal import Decimal
from typing import Any

import pytest

from investbus import Context, Event, Reject, Router
from investbus.catalogue import DivestAmountUpdate
from investbus.testing.bus import Bus

router = Router()
PORTFOLIO = {"id": "P1", "money_type": "REAL_MONEY", "archived": False, "version": 3}


class Core:
    """The bank's core banking system, as far as a test needs it."""

    def __init__(self) -> None:
        self.paid: list[tuple[str, Decimal | None, str]] = []

    async def pay_up_to(self, portfolio_id: str, total: Decimal | None, key: str) -> None:
        self.paid.append((portfolio_id, total, key))


@router.on("portfolios.divest-amount-update", timeout=20.0)
async def pay_out(event: Event[DivestAmountUpdate], ctx: Context) -> None:
    portfolio = await ctx.detail()
    if portfolio["money_type"] != "REAL_MONEY":
        return
    if portfolio["archived"]:
        raise Reject("portfolio is archived")
    await ctx.state["core"].pay_up_to(portfolio["id"], event.data.divest_amount, key=ctx.idempotency_key())


@pytest.fixture
def core() -> Core:
    return Core()


async def test_pays_the_running_total(bus: Bus, core: Core) -> None:
    bus.use(router, state={"core": core})
    bus.api.get("/portfolios/P1/", json=PORTFOLIO)
    result = await bus.send("portfolios.divest-amount-update", {"id": "P1", "divest_amount": 150, "currency": "EUR"})
    assert (result.outcome, result.attempts) == ("done", 1)
    assert [(portfolio, total) for portfolio, total, _ in core.paid] == [("P1", Decimal(150))]


async def test_outage_costs_no_dead_letter(bus: Bus, core: Core) -> None:
    bus.use(router, state={"core": core})
    bus.api.get("/portfolios/P1/", status=503, times=40, then=PORTFOLIO)
    result = await bus.send("portfolios.divest-amount-update", {"id": "P1", "divest_amount": 150, "currency": "EUR"})
    assert result.outcome == "done"
    assert bus.dead_letters == []
    assert result.attempts == 1
    assert len(bus.api.calls) == 41


async def test_an_archived_portfolio_is_a_dead_letter(bus: Bus, core: Core) -> None:
    bus.use(router, state={"core": core})
    bus.api.get("/portfolios/P1/", json={**PORTFOLIO, "archived": True})
    result = await bus.send("portfolios.withdrawal", {"id": "P1", "divest_amount": 150, "currency": "EUR"})
    assert (result.outcome, result.reason) == ("dead", "rejected")
    (letter,) = bus.dead_letters
    assert (letter.error, letter.message) == ("Reject", "portfolio is archived")
    assert core.paid == []


async def test_the_second_delivery_is_a_duplicate(bus: Bus, core: Core) -> None:
    bus.use(router, state={"core": core})
    bus.api.get("/portfolios/P1/", json=PORTFOLIO)
    data: dict[str, Any] = {"id": "P1", "divest_amount": 150, "currency": "EUR"}
    first = await bus.send("portfolios.divest-amount-update", data)
    again = await bus.redeliver(first.event_id)
    assert (again.outcome, again.attempts) == ("duplicate", 0)
    assert len(core.paid) == 1
