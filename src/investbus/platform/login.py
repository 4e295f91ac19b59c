"""The token of the platform: `POST /auth/login/`, `POST /auth/refresh-token/`, a lifetime of seconds that comes as a string.

Facts from the platform's authentication page: `access_token`, `refresh_token`, `expires_in` = "300".
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from investbus.ambient import Ambient
from investbus.config import Api as ApiSettings
from investbus.errors import ApiUnavailable
from investbus.metrics import Metrics
from investbus.platform.answers import UNREADABLE, retry_after
from investbus.platform.wire import Answer, NoAnswer

RENEW_AT = 0.8  # share of a token's life after which it is renewed
DOCUMENTED_LIFE = 300.0

Post = Callable[[str, bytes], Awaitable[Answer]]


class Token(msgspec.Struct, frozen=True):
    access: str
    refresh: str | None
    renew_at: float  # monotonic


class Failure(msgspec.Struct, frozen=True):
    """Why there is no token. A value, since all who wait for a login share how it ended."""

    reason: str
    after: float | None = None
    status: int | None = None
    refused: bool = False


class Login:
    """Gives the token that is good now. However many wait for one, there is one login, and if it fails it fails for all of them:
    a refused key must not be tried once per waiter."""

    def __init__(self, settings: ApiSettings, post: Post, metrics: Metrics, ambient: Ambient) -> None:
        self._settings = settings
        self._post = post
        self._logins = metrics.api_logins
        self._ambient = ambient
        self._lock = asyncio.Lock()
        self._last: Token | Failure | None = None
        self._rounds = 0  # renewals that have ended, well or not

    async def token(self, refused: Token | None = None) -> Token:
        """A token that is not `refused`. Raises ApiUnavailable, with `refused` set on it where the login itself is refused."""
        if (token := self._good(refused)) is not None:
            return token
        seen = self._rounds
        async with self._lock:
            if self._rounds == seen:
                if self._last is refused:
                    self._last = None  # worth nothing, whatever becomes of the login
                self._last = await self._counted()
                self._rounds += 1
            last = self._last
        if isinstance(last, Token):
            return last
        assert last is not None
        raise ApiUnavailable(last.reason, last.after, status=last.status, refused=last.refused)

    def _good(self, refused: Token | None) -> Token | None:
        last = self._last
        if not isinstance(last, Token) or last is refused or self._ambient.monotonic() >= last.renew_at:
            return None
        return last

    async def _counted(self) -> Token | Failure:
        result = "error"  # also of a login that was given up
        try:
            ended = await self._renew(self._last) if isinstance(self._last, Token) else await self._log_in()
            result = "ok" if isinstance(ended, Token) else "refused" if ended.refused else "error"
            return ended
        except NoAnswer as error:
            return Failure(f"no answer to the login: {error}")
        finally:
            self._logins.labels(result).inc()

    async def _renew(self, token: Token) -> Token | Failure:
        if token.refresh is not None:
            answer = await self._send("/auth/refresh-token/", {"refresh_token": token.refresh})
            if (renewed := self._read(answer)) is not None:
                return renewed
        return await self._log_in()

    async def _log_in(self) -> Token | Failure:
        try:
            credentials = {name: self._settings.secret(name) for name in ("access_key_id", "secret_access_key")}
        except OSError as error:
            return Failure(f"a secret file cannot be read: {error.strerror}: {error.filename}", refused=True)
        except UnicodeDecodeError:
            return Failure("a secret file of the login is no UTF-8 text", refused=True)
        answer = await self._send("/auth/login/", credentials)
        if (token := self._read(answer)) is not None:
            return token
        status = answer.status
        refused = 400 <= status < 500 and status != 429
        what = "is refused" if refused else "gives no token" if status in (200, 201) else "fails"
        return Failure(f"the login {what}: HTTP {status}", retry_after(answer, self._ambient.wall()), status, refused)

    async def _send(self, path: str, body: dict[str, Any]) -> Answer:
        return await self._post(path, msgspec.json.encode(body))

    def _read(self, answer: Answer) -> Token | None:
        if answer.status not in (200, 201):
            return None
        try:
            said = msgspec.json.decode(answer.body, type=dict[str, Any])
        except UNREADABLE:
            return None
        access, refresh = said.get("access_token"), said.get("refresh_token")
        if not isinstance(access, str) or not access or not access.isascii() or not access.isprintable():
            return None
        renew_at = self._ambient.monotonic() + _life(said.get("expires_in")) * RENEW_AT
        return Token(access, refresh if isinstance(refresh, str) else None, renew_at)


def _life(said: object) -> float:
    """Seconds. What is no such number counts as the documented one: taken at its word it would mean a login for each call."""
    try:
        life = float(said) if isinstance(said, str | int | float) else 0.0
    except (ValueError, OverflowError):
        return DOCUMENTED_LIFE
    return life if math.isfinite(life) and life > 0 else DOCUMENTED_LIFE
