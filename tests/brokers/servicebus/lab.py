"""A Service Bus namespace, as tests see it: its life, its entities, what lies in them, and what goes wrong."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

import msgspec

from tests.brokers.life import Broker, Life
from tests.brokers.servicebus.access import Access
from tests.brokers.servicebus.faults import DETACH_FORCED, SERVER_BUSY, What
from tests.brokers.servicebus.orders import Contents, Detach, Disturb, Put, Refuse
from tests.brokers.servicebus.settings import Entities, Entity, Properties, Topic


class ServiceBus(Broker):
    """Faults and looks inside only at a namespace of our own. After a kill nothing is locked."""

    def __init__(self, life: Life, access: Access) -> None:
        super().__init__(life)
        self._access = access

    @property
    def connection_string(self) -> str:
        """What `servicebus.connection_string` is set to."""
        return self._access.connection_string("RootManageSharedAccessKey")

    @property
    def listen_only(self) -> str:
        """A connection string whose key does not allow to send."""
        return self._access.connection_string("listen")

    @property
    def send_only(self) -> str:
        """A connection string whose key does not allow to receive."""
        return self._access.connection_string("send")

    @property
    def endpoint(self) -> str:
        """`sb://host:port`. With TLS the SDK leaves the port out, and needs this as `custom_endpoint_address`."""
        return self._access.endpoint

    @property
    def ca(self) -> Path | None:
        """The authority that signed its certificate, if it is one of our own with TLS."""
        return self._access.ca

    def answers(self) -> bool:
        return self._access.answers()

    def close(self) -> None:
        self._access.close()
        super().close()

    def create_queue(
        self, name: str, *, lock: float = 30.0, sessions: bool = False, max_delivery: int = 10, lifetime: float | None = None
    ) -> None:
        """`lock`: seconds that a delivery is locked; `lifetime`: seconds after which a message goes to the dead letters."""
        self._access.create(Entities(queues=(Entity(name, _properties(lock, sessions, max_delivery, lifetime)),)))

    def create_topic(
        self,
        name: str,
        subscriptions: Sequence[str],
        *,
        lock: float = 30.0,
        sessions: bool = False,
        max_delivery: int = 10,
        lifetime: float | None = None,
    ) -> None:
        """All subscriptions alike; each gets every message."""
        properties = _properties(lock, sessions, max_delivery, lifetime)
        topic = Topic(name, tuple(Entity(subscription, properties) for subscription in subscriptions))
        self._access.create(Entities(topics=(topic,)))

    def send(self, entity: str, messages: Sequence[Put]) -> None:
        """Send to a queue or a topic, in this order: not by the client that the product uses, where the namespace is ours."""
        self._access.send(entity, messages)

    def contents(self, entity: str) -> Contents:
        """What lies in a queue, or in a subscription (`TOPIC/Subscriptions/NAME`), and what was counted since the start."""
        return msgspec.json.decode(self._access.order("GET", f"/contents?entity={quote(entity)}"), type=Contents)

    def refuse(self, what: What, condition: str = SERVER_BUSY, seconds: float = 3600.0) -> None:
        """Answer such requests with this condition, until then or until `heal()`."""
        self._access.order("POST", "/refuse", Refuse(what, condition, seconds))

    def delay(self, seconds: float) -> None:
        """Send every answer so much later."""
        self._access.order("POST", "/disturb", Disturb(latency=seconds))

    def mute(self) -> None:
        """Do what clients ask, and answer nothing until `heal()`: what a network does that loses only the way back."""
        self._access.order("POST", "/disturb", Disturb(silent=True))

    def detach_idle(self, seconds: float) -> None:
        """From now on, end links that were not used for so long, as the service does after ten minutes."""
        self._access.order("POST", "/disturb", Disturb(idle_limit=seconds))

    def heal(self) -> None:
        """End what `refuse`, `delay`, `mute` and `detach_idle` began."""
        self._access.order("POST", "/heal")

    def cut(self) -> int:
        """Break all connections, without a farewell; how many there were."""
        answer = msgspec.json.decode(self._access.order("POST", "/cut"), type=dict[str, int])
        return answer["cut"]

    def detach(self, entity: str | None = None, condition: str = DETACH_FORCED) -> int:
        """End the links of an entity, or of all, and leave their connections; how many there were."""
        answer = msgspec.json.decode(self._access.order("POST", "/detach", Detach(entity, condition)), type=dict[str, int])
        return answer["detached"]

    def expire_locks(self, entity: str, sequences: Sequence[int] = ()) -> int:
        """End the locks on these messages of an entity, or all on its messages and sessions, as if their time were over; how many
        messages were locked."""
        query = urlencode([("entity", entity), *(("sequence", sequence) for sequence in sequences)])
        answer = msgspec.json.decode(self._access.order("POST", f"/expire?{query}"), type=dict[str, int])
        return answer["expired"]


def _properties(lock: float, sessions: bool, max_delivery: int, lifetime: float | None) -> Properties:
    return Properties(
        lock_duration=timedelta(seconds=lock),
        max_delivery_count=max_delivery,
        requires_session=sessions,
        default_message_time_to_live=None if lifetime is None else timedelta(seconds=lifetime),
        dead_lettering_on_message_expiration=lifetime is not None,
    )
