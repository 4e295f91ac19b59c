"""Python's texts and times as SQLite can keep them."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def storable(text: str) -> str:
    r"""`text` with lone surrogates spelt out (`\udcff`), which UTF-8 has not: no letter is refused for its message."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def micros(time: datetime) -> int:
    """Microseconds since 1970; through a float the last ones would be lost."""
    return (time - _EPOCH) // _MICROSECOND


def time_of(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
