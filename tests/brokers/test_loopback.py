"""A broker of the lab has made-up passwords, so it must not be reached from another machine."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.brokers.postgresql import PostgreSql
from tests.brokers.rabbitmq import RabbitMq
from tests.brokers.rabbitmq_settings import Options

LISTENING = "0A"


def started_by(pid: int) -> Iterator[int]:
    """Every process below this one."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError):  # it has just ended
            for child in map(int, children.read_text().split()):
                yield child
                yield from started_by(child)


def sockets_of(pid: int) -> set[str]:
    """Their inodes."""
    links: list[str] = []
    with suppress(FileNotFoundError):  # it has just ended
        links.extend(map(os.readlink, Path(f"/proc/{pid}/fd").iterdir()))
    return {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:[")}


def address(text: str) -> IPv4Address | IPv6Address:
    """From the kernel's table: words of 32 bits, the bytes of each backwards."""
    raw = bytes.fromhex(text)
    said = ip_address(b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4)))
    return said.ipv4_mapped or said if isinstance(said, IPv6Address) else said


def listeners(pids: Iterator[int]) -> Iterator[tuple[IPv4Address | IPv6Address, int]]:
    ours = set().union(*map(sockets_of, pids))
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == LISTENING and rest[5] in ours:
                host, port = local.split(":")
                yield address(host), int(port, 16)


@pytest.mark.broker
def test_what_the_lab_starts_listens_on_loopback_only(
    rabbitmq_with: Callable[[Options], RabbitMq], postgresql: PostgreSql
) -> None:
    rabbitmq = rabbitmq_with(Options(consumer_timeout=1.0, management=True, require_client_certificate=True))
    assert postgresql.answers()
    found = set(listeners(started_by(os.getpid())))
    assert [place for place in found if not place[0].is_loopback] == []
    asked = {urlsplit(url).port for url in (rabbitmq.url, rabbitmq.tls_url, rabbitmq.management_url)}
    assert asked <= {port for _, port in found}
