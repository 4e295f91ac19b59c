"""`ctx.api`: the platform as one event's handler sees it."""

import re
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from investbus.catalogue import FULL
from investbus.errors import ApiError, ApiNotReady, Reject
from investbus.event import parse_created
from investbus.platform.urls import checked, fill_query

if TYPE_CHECKING:
    from investbus.platform.client import Client

PAGE = 100  # the largest page that the platform gives
KEY = re.compile(r"[!-~]+")
CLOCKS_APART = 5.0  # seconds between the version of an entity and the event that tells of it
SMALLEST_AMOUNT = Decimal("1e-18")  # bounds the text of an amount, as FULL does above


class Api:
    """Answers are dicts whose decimal numbers are `Decimal`.

    Every call raises `ApiUnavailable` (the platform is down: the event waits at its gate), `ApiNotReady` (202, or 404 soon after
    the event), `ApiError` (any other status), and `Reject` for an id that is not of the form `[A-Za-z0-9_-]{1,64}`.
    """

    __slots__ = ("_client", "_fresh_until")

    def __init__(self, client: "Client", fresh_until: float) -> None:
        self._client = client
        self._fresh_until = fresh_until

    async def get(self, template: str, **ids: str) -> dict[str, Any]:
        """`GET` a template like `/portfolios/{id}/`."""
        return await self._client.call("GET", template, ids, fresh_until=self._fresh_until)

    async def detail(self, template: str, ids: Mapping[str, str], since: datetime | None) -> dict[str, Any]:
        """`GET` an entity that has changed at `since`; ApiNotReady while it is older, for as long as that may be.

        After that it is taken as it is: whether the platform's clocks agree is nothing that an event should die of.
        """
        entity = await self.get(template, **ids)
        if since is not None and self._client.before(self._fresh_until):
            version = parse_created(str(entity.get("version_datetime", "")))
            if version is not None and (since - version).total_seconds() > CLOCKS_APART:
                raise ApiNotReady(f"GET {template}", 200)
        return entity

    async def post(self, template: str, *, json: Any = None, idempotency_key: str | None = None, **ids: str) -> dict[str, Any]:
        """`POST`; tried again by itself only with an idempotency key."""
        return await self._write("POST", template, json, idempotency_key, ids)

    async def patch(self, template: str, *, json: Any = None, idempotency_key: str | None = None, **ids: str) -> dict[str, Any]:
        """`PATCH`, never tried again by itself. Nested objects are replaced whole by the platform."""
        return await self._write("PATCH", template, json, idempotency_key, ids)

    async def delete(self, template: str, *, json: Any = None, idempotency_key: str | None = None, **ids: str) -> dict[str, Any]:
        """`DELETE`, never tried again by itself."""
        return await self._write("DELETE", template, json, idempotency_key, ids)

    async def find(self, collection: str, query: str, **values: str) -> AsyncIterator[dict[str, Any]]:
        """Every entity that matches, over all pages: `find("portfolios", "config.manager_settings.policy_id eq {id}", id=…)`.

        Pages by its own offset: the platform's `next` link is plain http and repeats the page.
        """
        asked, offset = fill_query(query, values), 0
        path = f"/{collection.strip('/')}/"
        while True:
            page = await self._client.call(
                "GET", path, {}, fresh_until=0.0, query={"query": asked, "limit": str(PAGE), "offset": str(offset)}
            )
            results, count = page.get("results"), str(page.get("count"))
            if not isinstance(results, list):
                raise ApiError(f"GET {path}", 200, None, "the answer is no page: it has no list of results")
            for entity in results:
                yield entity
            offset += len(results)
            if not results or (count.isdecimal() and offset >= int(count)):
                return

    async def portfolio(self, id: str) -> dict[str, Any]:
        """The portfolio as it is now."""
        return await self.get("/portfolios/{id}/", id=id)

    async def optimization(self, portfolio_id: str, id: str) -> dict[str, Any]:
        """An optimization of a portfolio; raises ApiNotReady while it is being computed."""
        return await self.get("/portfolios/{portfolio_id}/optimizations/{id}/", portfolio_id=portfolio_id, id=id)

    async def profile(self, id: str) -> dict[str, Any]:
        """A suitability profile."""
        return await self.get("/suitability-profiler/profiles/{id}/", id=id)

    async def deposit(
        self, *, portfolio: str, amount: Decimal, currency: str, idempotency_key: str, external_id: str | None = None
    ) -> dict[str, Any]:
        """Tell the platform that money has arrived. The key should be the id of the transaction in the core banking system."""
        extra = {} if external_id is None else {"external_id": external_id}
        return await self._cash("/events/deposit/", portfolio, amount, currency, idempotency_key, extra)

    async def withdraw(self, *, portfolio: str, amount: Decimal, currency: str, idempotency_key: str) -> dict[str, Any]:
        """Tell the platform that a withdrawal was paid out."""
        return await self._cash("/events/withdraw/", portfolio, amount, currency, idempotency_key, {})

    async def _cash(
        self, path: str, portfolio: str, amount: object, currency: str, key: str, extra: dict[str, str]
    ) -> dict[str, Any]:
        if not isinstance(amount, Decimal) or not amount.is_finite() or not SMALLEST_AMOUNT <= amount < FULL:
            raise Reject(f"{path}: the amount must be a Decimal above zero, and not FULL")
        self._hold_to_limit(path, key)
        data = {"amount": f"{amount:f}", "currency": currency, "portfolio": checked("portfolio", portfolio), **extra}
        return await self._write("POST", path, {"data": data}, key, {})

    async def _write(self, method: str, template: str, json: Any, key: str | None, ids: dict[str, str]) -> dict[str, Any]:
        if key is not None:
            self._hold_to_limit(template, key)
        return await self._client.call(method, template, ids, fresh_until=self._fresh_until, json=json, idempotency_key=key)

    def _hold_to_limit(self, template: str, key: object) -> None:
        """Raise Reject for an idempotency key that would not arrive as it is. A cut one could be another event's."""
        longest = self._client.settings.idempotency_key_max
        if not isinstance(key, str) or KEY.fullmatch(key) is None or len(key) > longest:
            has = f"{len(key)} characters" if isinstance(key, str) else f"the type {type(key).__name__}"
            raise Reject(
                f"{template}: an idempotency key must have 1 to {longest} printable ASCII characters without blanks "
                f"(api.idempotency_key_max) and has {has}; ctx.idempotency_key(max_length={longest}) gives one that fits"
            )
