"""A real namespace of Azure, for the tests that disturb nothing."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import NoReturn, TypedDict

from azure.core.exceptions import AzureError
from azure.servicebus import ServiceBusClient, ServiceBusMessage, parse_connection_string
from azure.servicebus.management import ServiceBusAdministrationClient

from tests.brokers.servicebus.orders import Put
from tests.brokers.servicebus.settings import Entities, Properties


class NamespaceAccess:
    """It may serve others as well: what was created here is deleted at the end, and no more is touched.

    The connection string needs the right to manage. Entities get the names that tests give them, so let those be random.
    """

    ca: Path | None = None

    def __init__(self, connection_string: str) -> None:
        self._connection_string = connection_string
        self._client = ServiceBusAdministrationClient.from_connection_string(connection_string)
        self._queues: list[str] = []
        self._topics: list[str] = []

    @property
    def endpoint(self) -> str:
        return parse_connection_string(self._connection_string).endpoint

    def connection_string(self, key: str) -> str:
        if key != "RootManageSharedAccessKey":
            self._refuse(f"use the key {key} of")
        return self._connection_string

    def answers(self) -> bool:
        try:
            return bool(self._client.get_namespace_properties().name)
        except AzureError:
            return False

    def create(self, entities: Entities) -> None:
        for queue in entities.queues:
            self._client.create_queue(queue.name, **_settings(queue.properties))
            self._queues.append(queue.name)
        for topic in entities.topics:
            self._client.create_topic(topic.name)
            self._topics.append(topic.name)
            for subscription in topic.subscriptions:
                self._client.create_subscription(topic.name, subscription.name, **_settings(subscription.properties))

    def send(self, entity: str, messages: Sequence[Put]) -> None:
        """The service takes a topic for a queue here, and does not mind."""
        with ServiceBusClient.from_connection_string(self._connection_string) as client, client.get_queue_sender(entity) as sender:
            sender.send_messages(
                [
                    ServiceBusMessage(
                        message.body,
                        message_id=message.message_id,
                        session_id=message.session,
                        subject=message.subject,
                        application_properties=dict(message.properties.items()),
                    )
                    for message in messages
                ]
            )

    def order(self, method: str, path: str, body: object = None) -> bytes:
        self._refuse("look into or disturb")

    def close(self) -> None:
        for name in self._queues:
            self._client.delete_queue(name)
        for name in self._topics:
            self._client.delete_topic(name)
        self._client.close()

    def _refuse(self, verb: str) -> NoReturn:
        raise RuntimeError(f"TEST_SERVICEBUS: cannot {verb} a namespace that is not ours; use the fixture own_servicebus")


class _Settings(TypedDict):
    """What the administration of queues and of subscriptions calls them."""

    lock_duration: timedelta
    max_delivery_count: int
    requires_session: bool
    default_message_time_to_live: timedelta | None
    dead_lettering_on_message_expiration: bool


def _settings(properties: Properties) -> _Settings:
    return {
        "lock_duration": properties.lock_duration,
        "max_delivery_count": properties.max_delivery_count,
        "requires_session": properties.requires_session,
        "default_message_time_to_live": properties.default_message_time_to_live,
        "dead_lettering_on_message_expiration": properties.dead_lettering_on_message_expiration,
    }
