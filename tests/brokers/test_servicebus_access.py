"""Who gets into the Service Bus emulator and to what, asked by the SDK."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.core.credentials import AccessToken
from azure.servicebus import ServiceBusMessage, TransportType
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import (
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusConnectionError,
    ServiceBusError,
)

from tests.brokers.missing import Missing, refuse
from tests.brokers.servicebus.claims import ENTRA_TOKEN
from tests.brokers.servicebus.clients import new_client, opened, received
from tests.brokers.servicebus.lab import ServiceBus
from tests.brokers.servicebus.orders import Put
from tests.brokers.servicebus.sources import open_servicebus

pytestmark = [pytest.mark.broker, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture
def queue(servicebus: ServiceBus) -> str:
    name = f"queue-{uuid.uuid4().hex[:12]}"
    servicebus.create_queue(name)
    return name


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceBus]:
    """A namespace of this module's own that speaks TLS, with a certificate for localhost and 127.0.0.1."""
    try:
        namespace = open_servicebus(tmp_path_factory.mktemp("secure-servicebus"), own=True, tls=True)
    except Missing as missing:
        refuse(missing)
    yield namespace
    namespace.close()


class Credential:
    """Of Entra ID, as the SDK asks it."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def get_token(self, *scopes: str, **options: object) -> AccessToken:
        return AccessToken(self._token, 4_000_000_000)

    async def close(self) -> None: ...

    async def __aenter__(self) -> "Credential":
        return self

    async def __aexit__(self, *error: object) -> None: ...


async def test_a_wrong_key_is_refused(servicebus: ServiceBus, queue: str) -> None:
    wrong = servicebus.connection_string.replace("SAS_KEY_VALUE", "another")
    async with new_client(wrong) as client:
        with pytest.raises(ServiceBusAuthenticationError):
            await client.get_queue_sender(queue).__aenter__()


async def test_a_key_that_may_listen_may_not_send(servicebus: ServiceBus, queue: str) -> None:
    servicebus.send(queue, [Put(b"to be read")])
    async with new_client(servicebus.listen_only) as client:
        with pytest.raises(ServiceBusAuthorizationError, match="'Send' claim"):
            await client.get_queue_sender(queue).__aenter__()
        async with opened(receiver := client.get_queue_receiver(queue)):
            [message] = await received(receiver, 1)
            await receiver.renew_message_lock(message)
            await receiver.complete_message(message)
    assert servicebus.contents(queue).locked == []


async def test_a_key_that_may_send_may_not_listen(servicebus: ServiceBus, queue: str) -> None:
    async with new_client(servicebus.send_only) as client:
        with pytest.raises(ServiceBusAuthorizationError, match="'Listen' claim"):
            await client.get_queue_receiver(queue).__aenter__()
        async with opened(sender := client.get_queue_sender(queue)):
            await sender.send_messages(ServiceBusMessage("sent"))
    assert [copy.body for copy in servicebus.contents(queue).active] == [b"sent"]


async def test_what_does_not_exist_is_not_found(servicebus: ServiceBus, queue: str) -> None:
    servicebus.create_topic(f"{queue}-topic", ["there"])
    async with new_client(servicebus.connection_string) as client:
        for missing in (
            client.get_queue_sender("nowhere"),
            client.get_queue_receiver("nowhere"),
            client.get_subscription_receiver(f"{queue}-topic", "not-there"),
        ):
            with pytest.raises(MessagingEntityNotFoundError, match="could not be found"):
                await missing.__aenter__()


def over_tls(secure: ServiceBus, *, host: str = "127.0.0.1", ca: Path | None = None) -> ServiceBusClient:
    return ServiceBusClient.from_connection_string(
        secure.connection_string,
        custom_endpoint_address=secure.endpoint.replace("127.0.0.1", host),
        transport_type=TransportType.Amqp,
        connection_verify=str(ca or secure.ca),
        retry_total=0,
        try_timeout=5.0,
    )


async def test_over_tls_messages_come_and_go(secure: ServiceBus) -> None:
    secure.create_queue("q")
    async with over_tls(secure) as client:
        sender, receiver = client.get_queue_sender("q"), client.get_queue_receiver("q")
        async with opened(sender), opened(receiver):
            await sender.send_messages(ServiceBusMessage("secret"))
            [message] = await received(receiver, 1)
            await receiver.complete_message(message)
    assert str(message) == "secret"


async def test_over_tls_the_name_of_the_certificate_counts(secure: ServiceBus) -> None:
    async with over_tls(secure, host="127.1") as client:  # another way to write the address, and no name of the certificate
        with pytest.raises(ServiceBusError, match="certificate verify failed"):
            await client.get_queue_sender("q").__aenter__()


async def test_a_token_of_entra_id_is_as_good_as_a_key(secure: ServiceBus) -> None:
    secure.create_queue("of-entra")
    for token, welcome in ((ENTRA_TOKEN, True), ("forged", False)):
        client = ServiceBusClient(
            "emulator.servicebus.example",
            Credential(token),
            custom_endpoint_address=secure.endpoint,
            transport_type=TransportType.Amqp,
            connection_verify=str(secure.ca),
            retry_total=0,
            try_timeout=5.0,
        )
        async with client:
            sender = client.get_queue_sender("of-entra")
            if welcome:
                async with opened(sender):
                    await sender.send_messages(ServiceBusMessage("by Entra ID"))
            else:
                with pytest.raises(ServiceBusConnectionError):  # what the SDK makes of a bad token at a custom endpoint
                    await sender.__aenter__()
    assert [copy.body for copy in secure.contents("of-entra").active] == [b"by Entra ID"]
