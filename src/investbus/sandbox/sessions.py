"""Who is logged in: short-lived access tokens, and refresh tokens that are used up by renewing.

The platform's tokens live 300 seconds and a worker lives for weeks, so most logins happen in the middle of something.
"""

import secrets
import time
from collections.abc import Callable
from typing import Literal


class Sessions:
    """`lifetime` (seconds) and `credentials` may be changed at any time; tokens that are out keep what they have."""

    def __init__(self, credentials: tuple[str, str], lifetime: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.credentials = credentials
        self.lifetime = lifetime
        self._clock = clock
        self._access: dict[str, float] = {}  # token: when it ends
        self._refresh: set[str] = set()

    def log_in(self, key_id: str, key: str) -> dict[str, str] | None:
        """Tokens as the platform answers them, or None for wrong credentials."""
        return self._open() if (key_id, key) == self.credentials else None

    def renew(self, refresh_token: str) -> dict[str, str] | None:
        """New tokens for a refresh token that was not used before."""
        if refresh_token not in self._refresh:
            return None
        self._refresh.remove(refresh_token)
        return self._open()

    def admits(self, access_token: str) -> bool:
        return self._clock() < self._access.get(access_token, 0.0)

    def revoke(self, which: Literal["access", "all"] = "all") -> None:
        """Tokens that are out are worth nothing from now on; `all` takes the refresh tokens as well."""
        self._access.clear()
        if which == "all":
            self._refresh.clear()

    def _open(self) -> dict[str, str]:
        now = self._clock()
        self._access = {token: until for token, until in self._access.items() if now < until}
        access, refresh = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self._access[access] = now + self.lifetime
        self._refresh.add(refresh)
        return {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": f"{self.lifetime:g}",  # a string, as documented
            "refresh_token": refresh,
        }
