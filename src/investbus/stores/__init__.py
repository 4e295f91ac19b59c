"""The stores, chosen by the scheme of `store.url`; only the one that is asked for is imported."""

from investbus.errors import ConfigError
from investbus.store import Store

EXAMPLE = "write sqlite:////absolute/path/to/state.db"


def open_store(url: str) -> Store:
    """The store at `url`, not yet opened. A mistake never repeats the URL: it may hold a password."""
    scheme, separator, path = url.partition(":///")
    if (scheme, separator) != ("sqlite", ":///"):
        raise ConfigError([f"store.url: no store for {url.partition(':')[0]!r}; {EXAMPLE}"])
    if path in ("", ":memory:") or path.endswith("/"):
        raise ConfigError([f"store.url: names no file; {EXAMPLE}"])
    from investbus.stores.sqlite import SqliteStore

    return SqliteStore(path)
