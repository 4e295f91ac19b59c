"""The stores, chosen by the scheme of `store.url`; only the one that is asked for is imported."""

from collections.abc import Callable

from investbus.config import StoreSettings
from investbus.errors import ConfigError
from investbus.store import Store

MISSING = "store.url: missing; dead letters need a place: set store.url: sqlite:////var/lib/investbus/state.db"
EXAMPLE = "write sqlite:////absolute/path/to/state.db, or postgresql://HOST/DATABASE"


def store_url(settings: StoreSettings) -> str:
    """The URL as it is now: of a `url_file` that was replaced the new one. Raises ConfigError."""
    try:
        url = settings.secret("url")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"store.url_file: cannot be read: {error}"]) from error
    if url is None:
        raise ConfigError([MISSING])
    return url


def open_store(url: str, current: Callable[[], str] | None = None) -> Store:
    """The store at `url`, not yet opened. A mistake never repeats the URL: it may hold a password.

    `current` gives the URL once more, at each login to a server: with a rotated password it is another one.
    """
    if url.startswith("postgresql://"):
        return _postgresql(url, current)
    scheme, separator, path = url.partition(":///")
    if (scheme, separator) != ("sqlite", ":///"):
        raise ConfigError([f"store.url: no store for it; {EXAMPLE}"])
    if path in ("", ":memory:") or path.endswith("/"):
        raise ConfigError([f"store.url: names no file; {EXAMPLE}"])
    from investbus.stores.sqlite import SqliteStore

    return SqliteStore(path)


def _postgresql(url: str, current: Callable[[], str] | None) -> Store:
    try:
        from investbus.stores.postgresql import PostgresqlStore
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "psycopg":
            raise
        raise ConfigError(['store.url: postgresql:// needs the extra: pip install "investbus[postgresql]"']) from error
    return PostgresqlStore(url, current)
