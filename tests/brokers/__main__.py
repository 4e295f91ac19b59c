"""A real broker for an afternoon of development: `python -m tests.brokers kafka`

It prints its address, keeps its data in a temporary folder and stays until Ctrl-C. In another terminal:

    investbus --set transport=kafka --set 'kafka.bootstrap_servers=["127.0.0.1:PORT"]' ...

`kafka --security scram_tls` and `rabbitmq` print their logins and certificates as well.
"""

import argparse
import signal
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import get_args

from tests.brokers.kafka import Kafka
from tests.brokers.kafka_settings import LISTENERS, Security
from tests.brokers.life import Broker
from tests.brokers.missing import Missing
from tests.brokers.postgresql import PostgreSql
from tests.brokers.rabbitmq import RabbitMq
from tests.brokers.rabbitmq_settings import Options
from tests.brokers.servicebus.lab import ServiceBus
from tests.brokers.servicebus.sources import open_servicebus
from tests.brokers.sources import open_kafka, open_postgresql, open_rabbitmq


def kafka(parser: ArgumentParser) -> Callable[[Path, Namespace], Broker]:
    parser.add_argument("--topic", action="append", default=[], metavar="NAME", help="create it, with 6 partitions")
    parser.add_argument("--security", choices=get_args(Security), default="plaintext")
    parser.add_argument("--heap-mb", type=int, default=256, metavar="N", help="memory of the Java process (256)")

    def run(folder: Path, options: Namespace) -> Kafka:
        broker = open_kafka(folder, own=True, security=options.security, heap_mb=options.heap_mb)
        for name in options.topic:
            broker.create_topic(name, partitions=6)
        print(broker.bootstrap)
        if options.security != "plaintext":
            listeners = ", ".join(f"{name} {broker.address(name)}" for name in LISTENERS[options.security])
            print(f"listeners: {listeners}\nusers: {broker.users}\nca_file: {broker.ca}", file=sys.stderr)
        return broker

    return run


def rabbitmq(parser: ArgumentParser) -> Callable[[Path, Namespace], Broker]:
    parser.add_argument("--queue", action="append", default=[], metavar="NAME", help="declare it, as a quorum queue")
    parser.add_argument("--management", action="store_true", help="with the HTTP API and its pages")
    parser.add_argument("--consumer-timeout", type=float, metavar="SECONDS", help="until a consumer has to ack (30 min)")

    def run(folder: Path, options: Namespace) -> RabbitMq:
        asked = Options(options.consumer_timeout, options.management)
        broker = open_rabbitmq(folder, own=True, options=None if asked == Options() else asked)
        for name in options.queue:
            broker.declare_queue(name)
        print(broker.url)
        if broker.has_tls:
            files = f"ca_file: {broker.ca}\ncert_file: {broker.client_cert}\nkey_file: {broker.client_key}"
            print(f"TLS: {broker.tls_url}\n{files}", file=sys.stderr)
        if options.management:
            print(f"management: {broker.management_url}", file=sys.stderr)
        return broker

    return run


def postgresql(_: ArgumentParser) -> Callable[[Path, Namespace], Broker]:
    def run(folder: Path, _: Namespace) -> PostgreSql:
        server = open_postgresql(folder, own=True)
        print(server.new_database())
        return server

    return run


def servicebus(parser: ArgumentParser) -> Callable[[Path, Namespace], Broker]:
    parser.add_argument("--queue", action="append", default=[], metavar="NAME", help="create it")
    parser.add_argument("--sessions", action="store_true", help="its messages are in sessions")

    def run(folder: Path, options: Namespace) -> ServiceBus:
        namespace = open_servicebus(folder, own=True)
        for name in options.queue:
            namespace.create_queue(name, sessions=options.sessions)
        print(namespace.connection_string)
        return namespace

    return run


# Each adds its options to the parser, and returns what starts the broker and prints its address.
BROKERS: dict[str, Callable[[ArgumentParser], Callable[[Path, Namespace], Broker]]] = {
    "kafka": kafka,
    "rabbitmq": rabbitmq,
    "postgresql": postgresql,
    "servicebus": servicebus,
}


def main() -> int:
    parser = ArgumentParser(
        prog="python -m tests.brokers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    brokers = parser.add_subparsers(metavar="BROKER", required=True, help=", ".join(BROKERS))
    for name, add in BROKERS.items():
        command = brokers.add_parser(name)
        command.set_defaults(run=add(command))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="investbus-lab-") as folder, closing(options.run(Path(folder), options)):
            print("ready; Ctrl-C ends it", file=sys.stderr)
            sys.stdout.flush()
            signal.pause()
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
