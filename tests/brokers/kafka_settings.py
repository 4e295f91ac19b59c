"""What the broker is told: one node that is its own controller, with limits short enough for tests.

Two traps are kept out here. The controller talks to itself without a login, so ANONYMOUS has to be a super user of
a broker that asks for logins; such a broker therefore never has a PLAINTEXT listener. And a listener without an
address binds to all.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tests.brokers.tls import Certificates

Security = Literal["plaintext", "scram_tls"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]

LISTENERS: dict[Security, tuple[str, ...]] = {  # the first is the broker's `bootstrap`
    "plaintext": ("PLAINTEXT",),
    "scram_tls": ("SASL_SSL", "SASL_PLAINTEXT", "SSL"),
}
OWN_MECHANISM: dict[Security, Mechanism | None] = {  # with which the broker and the lab itself log in, as `admin`
    "plaintext": None,
    "scram_tls": "SCRAM-SHA-512",
}
SCRAM: tuple[Mechanism, ...] = ("SCRAM-SHA-256", "SCRAM-SHA-512")
USERS = {"admin": "admin-password", "app": "app-password", "guest": "guest-password"}  # guest may log in, no more

FOR_TESTS = {
    "num.partitions": "1",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "broker.session.timeout.ms": "1500",  # a killed broker may come back only when it is given up
    "broker.heartbeat.interval.ms": "300",
}


def one_node(bind: str, advertise: str, ports: Mapping[str, int]) -> dict[str, str]:
    """The node and its listeners; `ports` by listener name, CONTROLLER among them."""
    clients = {name: port for name, port in ports.items() if name != "CONTROLLER"}
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{advertise}:{ports['CONTROLLER']}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": next(iter(clients)),
        "listeners": ",".join(f"{name}://{bind}:{port}" for name, port in ports.items()),
        "advertised.listeners": ",".join(f"{name}://{advertise}:{port}" for name, port in clients.items()),
        "listener.security.protocol.map": ",".join(["CONTROLLER:PLAINTEXT", *(f"{name}:{name}" for name in clients)]),
    }


def logins(security: Security) -> dict[str, str]:
    """Every SASL listener takes every mechanism, so that one broker serves all tests of settings."""
    own = OWN_MECHANISM[security]
    if own is None:
        return {}
    properties = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:admin;User:app;User:ANONYMOUS",
        "sasl.enabled.mechanisms": ",".join(["PLAIN", *SCRAM, "OAUTHBEARER"]),
        "sasl.mechanism.inter.broker.protocol": own,
    }
    for name in LISTENERS[security]:
        if name.startswith("SASL_"):
            properties |= _sasl_listener(f"listener.name.{name.lower()}")
    return properties


def _sasl_listener(prefix: str) -> dict[str, str]:
    security = "org.apache.kafka.common.security"
    admin = f'username="admin" password="{USERS["admin"]}"'
    known = " ".join(f'user_{user}="{password}"' for user, password in USERS.items())
    properties = {
        f"{prefix}.plain.sasl.jaas.config": f"{security}.plain.PlainLoginModule required {admin} {known};",
        f"{prefix}.oauthbearer.sasl.jaas.config": f"{security}.oauthbearer.OAuthBearerLoginModule required;",
        f"{prefix}.oauthbearer.sasl.server.callback.handler.class": (
            f"{security}.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler"
        ),
    }
    for mechanism in SCRAM:
        scram = f"{security}.scram.ScramLoginModule required {admin};"
        properties[f"{prefix}.{mechanism.lower()}.sasl.jaas.config"] = scram
    return properties


def encryption(certificates: Certificates) -> dict[str, str]:
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates.server_chain),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates.ca),
    }


def write_properties(path: Path, properties: Mapping[str, str]) -> None:
    path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
