"""What a handler gets beside its event: the API, the state of its router, and who it is.

Made per attempt, so it holds little; the logger and the API view are built when they are first asked for.
"""

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from investbus.catalogue import canonical, known
from investbus.errors import DataInvalid, Reject
from investbus.event import Event

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from investbus.platform.api import Api
    from investbus.platform.client import Client


class Resources(msgspec.Struct, frozen=True):
    """What all events share. `client` is None where `api` is not configured."""

    client: "Client | None"
    settle: float  # api.settle, seconds


class Context(msgspec.Struct):
    """`attempt` counts from 1, `redelivered` is what the bus says, `route` the name of the route, `state` what the router's
    lifespan yielded."""

    event: Event[Any]
    state: Any
    attempt: int
    redelivered: bool
    route: str
    received: float  # unix time of receipt
    resources: Resources
    bound_api: "Api | None" = None
    bound_log: "FilteringBoundLogger | None" = None

    @property
    def api(self) -> "Api":
        """The platform's REST API. Rejects the event where `api` is not configured."""
        if self.bound_api is None:
            if self.resources.client is None:
                raise Reject("the handler uses ctx.api, but the API is not configured: set api.base_url")
            self.bound_api = self.resources.client.bound(fresh_until(self.event, self.received, self.resources.settle))
        return self.bound_api

    @property
    def log(self) -> "FilteringBoundLogger":
        """A structlog logger that names event, route, key and attempt."""
        if self.bound_log is None:
            import structlog

            self.bound_log = structlog.get_logger("investbus.handler").bind(
                event_id=self.event.id, route=self.route, key=self.event.key, attempt=self.attempt
            )
        return self.bound_log

    async def detail(self) -> dict[str, Any]:
        """The entity that the event is about, read now: portfolio, optimization or suitability profile, by the catalogue.

        Raises DataInvalid (a dead letter) where the id is missing or no string, Reject for an event without a detail call, and
        ApiNotReady where the event says that the entity has changed, and what comes is, within `api.settle`, still the old one.
        """
        listed = known(self.event.name)
        if listed is None or listed.detail is None:
            raise Reject(f'the catalogue has no detail call for "{self.event.name}": use ctx.api.get(template, **ids)')
        ids: dict[str, str] = {}
        for name, field in listed.detail.fields.items():
            value = self.event.data.get(field) if isinstance(self.event.data, dict) else getattr(self.event.data, field, None)
            if not isinstance(value, str) or not value:
                raise DataInvalid(f"data.{field} is missing or no string, and the detail call needs it")
            ids[name] = value
        return await self.api.detail(listed.detail.template, ids, self.event.created if listed.changes else None)

    def idempotency_key(self, max_length: int | None = None) -> str:
        """The same key for every run of this event: attempts, redeliveries, replays, another handler name.

        At most `max_length` characters (26 by default, lower-case letters and digits; 10 of them are 50 bits).
        """
        digest = hashlib.blake2b(f"{canonical(self.event.name)}\n{self.event.id}".encode(), digest_size=16).digest()
        return base64.b32encode(digest).decode().rstrip("=").lower()[:max_length]


def fresh_until(event: Event[Any], received: float, settle: float) -> float:
    """Until when (unix time) a 404 means "not yet": so long after `created`, or after receipt where that is unknown.

    A `created` that lies in the future does not stretch it.
    """
    created = received if event.created is None else min(event.created.timestamp(), received)
    return created + settle
