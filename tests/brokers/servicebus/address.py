"""Names of entities as clients write them: a path, or a whole URI even where there is no TLS and no such host."""

from urllib.parse import urlsplit

CBS = "$cbs"
MANAGEMENT = "/$management"


def path_of(address: str | None) -> str:
    """`amqps://host:port/topic/Subscriptions/name` is `topic/Subscriptions/name`."""
    address = address or ""
    return (urlsplit(address).path if "://" in address else address).strip("/")
