"""Sample handlers: what a bank's middleware does when the platform's events come in. Read from top to bottom.

Two things go wrong on purpose, so that a demo has something to show: `pay_out` refuses archived portfolios (a dead
letter at once), and `tell_the_customer` fails for the few whom the bank does not know (a dead letter when all attempts
are used up).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from investbus import Context, Event, Reject, Router
from investbus.catalogue import (
    FULL,
    AssessmentStatusUpdate,
    DivestAmountUpdate,
    OptimizationOwnerChoiceUpdate,
    OptimizationStatusUpdate,
    PortfolioCreation,
    PortfolioStatusUpdate,
)
from investbus.sandbox.core_banking import CoreBanking

router = Router()


@router.lifespan
@asynccontextmanager
async def connect() -> AsyncIterator[dict[str, CoreBanking]]:
    """Opened once before the first event, closed after the last; handlers find it in `ctx.state`."""
    yield {"core": CoreBanking()}


def core(ctx: Context) -> CoreBanking:
    banking: CoreBanking = ctx.state["core"]
    return banking


@router.on("portfolios.creation")
async def open_account(event: Event[PortfolioCreation], ctx: Context) -> None:
    """The event does not say whether the money is real; the portfolio does."""
    portfolio = await ctx.detail()
    if portfolio["money_type"] == "REAL_MONEY":
        core(ctx).open_account(event.data.id, portfolio["base_currency"])


@router.on("portfolios.status-update")
async def tell_the_customer(event: Event[PortfolioStatusUpdate], ctx: Context) -> None:
    """Any exception is a failed attempt: it is tried again, in order, and then a dead letter."""
    core(ctx).notify(event.data.owned_by_external_user_id, f"your portfolio is {event.data.value}")


@router.on("portfolios.divest-amount-update")
async def pay_out(event: Event[DivestAmountUpdate], ctx: Context) -> None:
    """The amount is the total of what the customer wants, not one more sum: pay the difference, under the event's own
    key.

    If this stops half-way, the event comes again with the same key: neither the bank nor the platform then counts it
    twice.
    """
    wanted = event.data.divest_amount
    if not wanted:
        core(ctx).close_request(event.data.id)
        return
    portfolio = await ctx.detail()
    if portfolio["archived"]:
        raise Reject("portfolio is archived")
    if portfolio["money_type"] != "REAL_MONEY":
        return
    currency = portfolio["base_currency"]
    total: Decimal = portfolio["portfolio"][f"${currency}"] if wanted == FULL else wanted
    key = ctx.idempotency_key()
    amount = core(ctx).pay_up_to(event.data.id, total, key=key)
    if amount:
        await ctx.api.withdraw(portfolio=event.data.id, amount=amount, currency=currency, idempotency_key=key)


@router.on("optimizations.status-update")
async def execute(event: Event[OptimizationStatusUpdate], ctx: Context) -> None:
    """Only what is recommended, and without asking only where the owner has left the decision to the robo-advisor."""
    if event.data.value != "SUCCESS" or not event.data.is_recommended:
        return
    portfolio = await ctx.api.portfolio(event.data.portfolio_id)
    if portfolio["config"]["manager"] == "ROBO_ADVISOR_DISCRETIONARY":
        await place_orders(ctx)


@router.on("optimizations.owner-choice-update")
async def execute_accepted(event: Event[OptimizationOwnerChoiceUpdate], ctx: Context) -> None:
    if event.data.value == "ACCEPT":
        await place_orders(ctx)


async def place_orders(ctx: Context) -> None:
    """While the platform is still computing, `ctx.detail()` has the event wait; nothing to do here."""
    optimization = await ctx.detail()
    core(ctx).place_orders(optimization["portfolio_update"]["orders"], key=ctx.idempotency_key())


@router.on("assessments.assessment-status-update")
async def note_verdict(event: Event[AssessmentStatusUpdate], ctx: Context) -> None:
    """The event names a profile; the portfolios that use it have to be looked for."""
    query = "config.manager_settings.suitability_profile_id eq {id}"
    async for portfolio in ctx.api.find("portfolios", query, id=event.data.profile_id):
        core(ctx).verdicts[portfolio["id"]] = event.data.value


@router.on("portfolios.*")
async def watch(event: Event[dict[str, Any]], ctx: Context) -> None:
    """Every other event of a portfolio, known or not. Without a model `data` is a dict."""
    ctx.log.debug("seen", name=event.name)
