"""The token of the platform: `POST /auth/login/`, `POST /auth/refresh-token/`, a lifetime of seconds that comes as a string.

Facts from the platform's authentication page: `access_token`, `refresh_token`, `expires_in` = "300".
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from investbus.ambient import Ambient
from investbus.config import Api as ApiSettings
from investbus.errors import ApiUnavailable
from investbus.metrics import Metrics
from investbus.platform.wire import Answer, NoAnswer

RENEW_AT = 0.8  # share of a token's life after which it is renewed
DOCUMENTED_LIFE = 300.0

Post = Callable[[str, bytes], Awaitable[Answer]]


class Token(msgspec.Struct, frozen=True):
    access: str
    refresh: str | None
    renew_at: float  # monotonic


class Login:
    """Gives the token that is good now; renews it once, however many wait for it."""

    def __init__(self, settings: ApiSettings, post: Post, metrics: Metrics, ambient: Ambient) -> None:
        self._settings = settings
        self._post = post
        self._logins = metrics.api_logins
        self._ambient = ambient
        self._lock = asyncio.Lock()
        self._token: Token | None = None

    async def token(self, refused: Token | None = None) -> Token:
        """A token that is not `refused`. Raises ApiUnavailable, with `refused` set on it where the login itself is refused."""
        token = self._token
        if token is not None and token is not refused and self._ambient.monotonic() < token.renew_at:
            return token
        async with self._lock:
            token = self._token
            if token is None or token is refused:
                self._token = await self._log_in()
            elif self._ambient.monotonic() >= token.renew_at:
                self._token = await self._renew(token)
            assert self._token is not None
            return self._token

    async def _renew(self, token: Token) -> Token:
        if token.refresh is not None:
            answer = await self._send("/auth/refresh-token/", {"refresh_token": token.refresh})
            if answer.status in (200, 201) and (renewed := self._read(answer)) is not None:
                self._logins.labels("ok").inc()
                return renewed
        return await self._log_in()

    async def _log_in(self) -> Token:
        try:
            credentials = {name: self._settings.secret(name) for name in ("access_key_id", "secret_access_key")}
        except OSError as error:
            self._logins.labels("error").inc()
            raise ApiUnavailable(f"a secret file cannot be read: {error.strerror}: {error.filename}", refused=True) from None
        answer = await self._send("/auth/login/", credentials)
        if answer.status in (200, 201) and (token := self._read(answer)) is not None:
            self._logins.labels("ok").inc()
            return token
        refused = 400 <= answer.status < 500 and answer.status != 429
        self._logins.labels("refused" if refused else "error").inc()
        said = "is refused" if refused else "fails"
        raise ApiUnavailable(f"the login {said}: HTTP {answer.status}", status=answer.status, refused=refused)

    async def _send(self, path: str, body: dict[str, Any]) -> Answer:
        try:
            return await self._post(path, msgspec.json.encode(body))
        except NoAnswer as error:
            self._logins.labels("error").inc()
            raise ApiUnavailable(f"no answer to the login: {error}") from error

    def _read(self, answer: Answer) -> Token | None:
        try:
            said = msgspec.json.decode(answer.body, type=dict[str, Any])
            access = said["access_token"]
            life = float(said.get("expires_in", DOCUMENTED_LIFE))
        except (ValueError, TypeError, KeyError):
            return None
        refresh = said.get("refresh_token")
        if not isinstance(access, str) or not access.isascii() or not access.isprintable():
            return None
        return Token(access, refresh if isinstance(refresh, str) else None, self._ambient.monotonic() + life * RENEW_AT)
