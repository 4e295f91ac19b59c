"""A real broker for an afternoon of development: `python -m tests.brokers kafka`

It prints its address, keeps its data in a temporary folder and stays until Ctrl-C. In another terminal:

    investbus --set transport=kafka --set 'kafka.bootstrap_servers=["127.0.0.1:PORT"]' ...

`--security scram_tls` starts one that asks for a login: it prints the users, the listeners and the file of its authority.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from typing import get_args

from tests.brokers.kafka import Kafka
from tests.brokers.kafka_settings import LISTENERS, Security
from tests.brokers.missing import Missing
from tests.brokers.sources import open_kafka


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.brokers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("broker", choices=["kafka"])
    parser.add_argument("--topic", action="append", default=[], metavar="NAME", help="create it, with 6 partitions")
    parser.add_argument("--security", choices=get_args(Security), default="plaintext")
    parser.add_argument("--heap-mb", type=int, default=256, metavar="N", help="memory of the Java process (256)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="investbus-lab-") as folder:
            _run(Path(folder), options.security, options.heap_mb, options.topic)
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    return 0


def _run(folder: Path, security: Security, heap_mb: int, topics: list[str]) -> None:
    kafka = open_kafka(folder, own=True, security=security, heap_mb=heap_mb)
    try:
        for name in topics:
            kafka.create_topic(name, partitions=6)
        _introduce(kafka, security)
        signal.pause()
    finally:
        kafka.close()


def _introduce(kafka: Kafka, security: Security) -> None:
    print(kafka.bootstrap, flush=True)
    if security != "plaintext":
        listeners = ", ".join(f"{name} {kafka.address(name)}" for name in LISTENERS[security])
        print(f"listeners: {listeners}\nusers: {kafka.users}\nca_file: {kafka.ca}", file=sys.stderr)
    print("ready; Ctrl-C ends it", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
