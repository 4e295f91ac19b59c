"""How a librdkafka client logs in to a broker of the lab, and what the broker says if it may not."""

import base64
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from tests.brokers.kafka_settings import Mechanism

Setting = str | int | float | bool
Settings = Mapping[str, Setting]


def login(protocol: str, mechanism: Mechanism | None, user: str, password: str, ca: Path | None) -> dict[str, Setting]:
    """The client settings for one listener; a protocol without SASL takes no user."""
    settings: dict[str, Setting] = {"security.protocol": protocol}
    if protocol.endswith("SSL") and ca is not None:
        settings["ssl.ca.location"] = str(ca)
    if protocol.startswith("SASL_") and mechanism is not None:
        settings["sasl.mechanisms"] = mechanism
        if mechanism == "OAUTHBEARER":
            settings |= {"enable.sasl.oauthbearer.unsecure.jwt": True, "sasl.oauthbearer.config": f"principal={user}"}
        else:
            settings |= {"sasl.username": user, "sasl.password": password}
    return settings


def unsecured_token(user: str, lifetime: float = 3600.0) -> str:
    """A bearer token without a signature, which the lab's brokers take and no real one does."""
    now = time.time()
    parts = ({"alg": "none"}, {"sub": user, "iat": now, "exp": now + lifetime})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, ""])


def refusal(settings: Settings, timeout: float = 15.0) -> str | None:
    """Why the broker refuses this login, in its own words; None if it lets the client in.

    To librdkafka a refused login is one more lost connection: the call times out, only the callback knows why.
    """
    said: list[KafkaError] = []
    listening: dict[str, Any] = {**settings, "error_cb": said.append}
    client = AdminClient(listening)
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            client.list_topics(timeout=0.5)
        except KafkaException:
            client.poll(0)
        else:
            return None
        refused = [error.str() for error in said if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL)]
        if refused:
            return refused[0]
    raise TimeoutError(f"{settings['bootstrap.servers']}: neither let in nor refused within {timeout:g} s")
