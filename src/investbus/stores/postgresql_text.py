"""Python's values as PostgreSQL can keep them. Times are microseconds since 1970, as in SQLite."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from investbus.store import body_hash
from investbus.stores.values import micros
from investbus.stores.values import storable as without_surrogates

LONGEST_KEY = 200  # characters; an index entry of PostgreSQL holds 2,704 bytes


def storable(text: str) -> str:
    r"""`text` with what PostgreSQL's UTF-8 has not spelt out: lone surrogates (`\udcff`) and NUL (`\x00`)."""
    return without_surrogates(text).replace("\0", r"\x00")


def storables(texts: Sequence[str]) -> list[str]:
    return [storable(text) for text in texts]


def indexable(text: str) -> str:
    """`text` as part of an index, however long the bus has made it: different texts stay different."""
    if len(text) > LONGEST_KEY:
        text = text[:LONGEST_KEY] + body_hash(text.encode("utf-8", "surrogatepass")).hex()
    return storable(text)


def columns(struct: msgspec.Struct) -> dict[str, Any]:
    """The fields as values for columns of the same names."""
    values = msgspec.structs.asdict(struct)
    for name, value in values.items():
        if isinstance(value, str):
            values[name] = storable(value)
        elif isinstance(value, datetime):
            values[name] = micros(value)
    return values
