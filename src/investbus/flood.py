"""A bad deploy must not empty the topic into the store: many dead letters in a row, of as many keys, are no accident of one event.
"""


class Flood:
    """Counts the different keys that died since the last event that was done. Pure."""

    __slots__ = ("_after", "_keys")

    def __init__(self, after: int) -> None:
        self._after = after
        self._keys: set[str] = set()

    def died(self, key: str) -> bool:
        """True if this makes it a flood; the count then begins anew."""
        self._keys.add(key)
        if len(self._keys) < self._after:
            return False
        self._keys.clear()
        return True

    def done(self) -> None:
        """An event was done: whatever is wrong is not wrong with all of them."""
        if self._keys:
            self._keys.clear()
