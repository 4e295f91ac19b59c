"""Values as both databases keep them: texts without what UTF-8 has not, times as microseconds, source and route as one integer."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b

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


@lru_cache(maxsize=4096)
def scope(source: str, route: str) -> int:
    """Source and route as one integer. Derived, not handed out: no process, no rolled back transaction can disagree."""
    text = f"{len(source)}:{source}{route}"
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), signed=True)
