"""The platform's REST resources over a `World`.

Two documented traps are kept: a page's `next` is a plain `http://` address of the *same* page and its `offset` is a
string, so that a client which follows `next` never gets past the first page; and an optimization that is being computed
answers 202 with another object, so that a client which takes every 2xx for data reads nonsense.
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from aiohttp import web

from investbus.sandbox.answers import invalid, problem, reply
from investbus.sandbox.ledger import Effects
from investbus.sandbox.world import Entity, World

PAGE, LARGEST_PAGE = 20, 100
CONDITION = re.compile(r"([\w.]+) eq (?:'([^']*)'|(true|false))")
CHANGEABLE = {"status", "archived", "external_id", "funded_since", "portfolio", "brokerage_account", "config"}


class Money(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """`amount` is a plain decimal number in a string: an exponent, as `str(Decimal("1E+2"))` has, is refused."""

    amount: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,15}(\.[0-9]{1,8})?$")]
    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
    portfolio: str
    external_id: str | None = None


class Inbound(msgspec.Struct, forbid_unknown_fields=True):
    data: Money


class Rest:
    def __init__(self, world: World, effects: Effects) -> None:
        self._world = world
        self._effects = effects

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/portfolios/", self.list_portfolios),
            web.get("/portfolios/{id}/", self.get_portfolio),
            web.patch("/portfolios/{id}/", self.patch_portfolio),
            web.get("/portfolios/{portfolio_id}/optimizations/{id}/", self.get_optimization),
            web.get("/suitability-profiler/profiles/{id}/", self.get_profile),
            web.get("/users/{id}/", self.get_user),
            web.post("/events/deposit/", self.deposit),
            web.post("/events/withdraw/", self.withdraw),
        ]

    async def list_portfolios(self, request: web.Request) -> web.Response:
        given = request.query
        limit, offset = given.get("limit", str(PAGE)), given.get("offset", "0")
        if not (limit.isdecimal() and 1 <= int(limit) <= LARGEST_PAGE):
            return invalid("query.limit", f"must be a number from 1 to {LARGEST_PAGE}", None)
        if not offset.isdecimal():
            return invalid("query.offset", "must be a number", None)
        conditions = _conditions(given.get("query", ""))
        if conditions is None:
            return problem(400, "Bad Request", "The query is not understood here: field eq 'value', joined by and.")
        found = [each for each in self._world.portfolios.values() if _meets(each, conditions)]
        start = int(offset)
        end = start + int(limit)
        here = str(request.url.with_scheme("http"))
        page = {"next": here if end < len(found) else None, "count": len(found), "offset": offset}
        return reply(page | {"results": found[start:end], "_embedded": {}})

    async def get_portfolio(self, request: web.Request) -> web.Response:
        return _found(self._world.portfolios.get(request.match_info["id"]))

    async def get_profile(self, request: web.Request) -> web.Response:
        return _found(self._world.profiles.get(request.match_info["id"]))

    async def get_user(self, request: web.Request) -> web.Response:
        return _found(self._world.users.get(request.match_info["id"]))

    async def get_optimization(self, request: web.Request) -> web.Response:
        optimization = self._world.optimizations.get(request.match_info["id"])
        if optimization is None or optimization["portfolio_id"] != request.match_info["portfolio_id"]:
            return _found(None)
        if self._world.computing(optimization):
            still = {"message": "Optimization in progress", "details": "Ask again in some seconds."}
            return reply(still | {"optimization_hash": optimization["id"][1:].lower()}, 202)
        return reply(optimization)

    async def patch_portfolio(self, request: web.Request) -> web.Response:
        """Objects are replaced whole, as documented of holdings; of `config` only what is named changes."""
        portfolio = self._world.portfolios.get(request.match_info["id"])
        if portfolio is None:
            return _found(None)
        try:
            fields = json.loads(await request.read(), parse_float=Decimal)
        except ValueError:
            return problem(400, "Bad Request", "The body is not JSON.")
        if not isinstance(fields, dict) or not isinstance(fields.get("config", {}), dict):
            return invalid("body", "must be an object", fields)
        if fixed := sorted(fields.keys() - CHANGEABLE):
            return invalid(f"body.{fixed[0]}", "cannot be changed", fields)
        if "config" in fields:
            fields["config"] = _merged(portfolio["config"], fields["config"])
        self._world.change(portfolio, **fields)
        return reply(portfolio)

    async def deposit(self, request: web.Request) -> web.Response:
        return await self._move("deposit", request)

    async def withdraw(self, request: web.Request) -> web.Response:
        return await self._move("withdraw", request)

    async def _move(self, kind: str, request: web.Request) -> web.Response:
        """Take note of money that has moved. Holdings stay as they are: patching them is the client's part."""
        body = await request.read()
        try:
            money = msgspec.json.decode(body, type=Inbound).data
        except msgspec.ValidationError as error:
            return invalid("body", str(error), msgspec.json.decode(body))
        except msgspec.DecodeError:
            return problem(400, "Bad Request", "The body is not JSON.")
        content = msgspec.to_builtins(money)
        if money.portfolio not in self._world.portfolios:
            return invalid("body.data.portfolio", "unknown portfolio", {"data": content})
        effect = self._effects.record(kind, request.headers.get("Idempotency-Key"), content)
        if effect is None:
            return problem(409, "Conflict", "This Idempotency-Key was used for another request.")
        return reply({"id": effect.id, "data": effect.body}, 201)


def _found(entity: Entity | None) -> web.Response:
    if entity is None:
        return problem(404, HTTPStatus.NOT_FOUND.phrase, "No such entity.")
    return reply(entity)


def _conditions(query: str) -> dict[str, object] | None:
    """`a.b eq 'x' and c eq true` as fields and values; None if it is anything else."""
    conditions: dict[str, object] = {}
    for part in query.split(" and ") if query else ():
        match = CONDITION.fullmatch(part.strip())
        if match is None:
            return None
        field, text, truth = match.groups()
        conditions[field] = truth == "true" if truth else text
    return conditions


def _meets(entity: Entity, conditions: Mapping[str, object]) -> bool:
    return all(_field(entity, path) == value for path, value in conditions.items())


def _field(entity: Any, path: str) -> Any:
    for name in path.split("."):
        entity = entity.get(name) if isinstance(entity, dict) else None
    return entity


def _merged(old: Entity, new: Entity) -> Entity:
    """`old` with what `new` says, at any depth."""
    return old | {
        name: _merged(old[name], value) if isinstance(value, dict) and isinstance(old.get(name), dict) else value
        for name, value in new.items()
    }
