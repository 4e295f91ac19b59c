"""Where a PostgreSQL store is and how to get in, out of its URL.

The URL holds a password, and a password that is not percent-encoded splits it in the wrong places. So whatever is wrong with a URL
is said without a word of it, and a piece of it that may be shown is shown only after it has proved to be what it seems.
"""

import re
from collections.abc import Iterator
from itertools import zip_longest

import msgspec
from psycopg import ProgrammingError, conninfo, pq

from investbus.errors import ConfigError

EXAMPLE = "postgresql://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full"
NOT_A_URL = f"store.url: cannot be read; write {EXAMPLE}, and : / ? @ % = inside of a part as %3A %2F %3F %40 %25 %3D"

DEFAULTS = {
    "application_name": "investbus",
    "target_session_attrs": "read-write",  # a standby cannot be written; of several hosts take the one that is the primary
    "connect_timeout": "5",
    # A server that is gone without a word is noticed by the kernel too, and not only by our own alarm.
    "tcp_user_timeout": "10000",
    "keepalives_idle": "30",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}


class Address(msgspec.Struct, frozen=True):
    """`parameters` are for libpq, `conninfo` is the same as one text. `place` is what may be shown of them: hosts and database."""

    parameters: dict[str, str]
    place: str

    @property
    def hosts(self) -> int:
        return self.parameters.get("host", "").count(",") + 1

    @property
    def conninfo(self) -> str:
        return conninfo.make_conninfo(**self.parameters)


def address(url: str) -> Address:
    """Raises ConfigError where `url` is none."""
    try:
        given = {name: str(value) for name, value in conninfo.conninfo_to_dict(url).items()}
    except (ProgrammingError, ValueError):
        raise ConfigError([NOT_A_URL]) from None
    hosts, ports, database = given.get("host", given.get("hostaddr", "")), given.get("port", ""), given.get("dbname", "")
    if "@" in hosts + database or not re.fullmatch(r"[\d,]*", ports):
        raise ConfigError([NOT_A_URL])
    pairs = zip_longest(hosts.split(","), ports.split(","), fillvalue="")
    place = ",".join(f"{host}:{port}" if port else host for host, port in pairs)
    return Address(DEFAULTS | given | {"client_encoding": "UTF8"}, f"postgresql://{place}/{database}")


def weak_hosts(url: str) -> Iterator[tuple[str, str]]:
    """Each host that does not have to prove that it is the right one, with the sslmode. Sockets on this machine are none."""
    environment = {one.keyword.decode(): one.val.decode() for one in pq.Conninfo.get_defaults() if one.val is not None}
    effective = environment | address(url).parameters
    mode = effective.get("sslmode", "prefer")
    if mode == "verify-full" or effective.get("sslrootcert") == "system":  # libpq then takes nothing less
        return
    for host in (effective.get("hostaddr") or effective.get("host") or "").split(","):
        if host and not host.startswith(("/", "@")):
            yield host, mode
