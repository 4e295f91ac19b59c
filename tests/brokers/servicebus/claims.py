"""Who may do what: the tokens put to `$cbs`, and the rights that they give on one connection."""

import base64
import hashlib
import hmac
from enum import Flag, auto
from urllib.parse import parse_qs, quote_plus

from tests.brokers.servicebus.address import path_of

SIGNED = "SharedAccessSignature "


class Right(Flag):
    NONE = 0
    LISTEN = auto()
    SEND = auto()


KEYS: dict[str, tuple[str, Right]] = {  # by name; the first is the one of the official emulator
    "RootManageSharedAccessKey": ("SAS_KEY_VALUE", Right.LISTEN | Right.SEND),
    "listen": ("key-of-listen", Right.LISTEN),
    "send": ("key-of-send", Right.SEND),
}
ENTRA_TOKEN = "a token of Entra ID"  # what a credential of a test returns; it gives every right


class Claims:
    """Of one connection. A token is good for the entity that it names and for what lies below."""

    def __init__(self) -> None:
        self._rights: dict[str, Right] = {}

    def put(self, audience: str, token: str, now: float) -> str | None:
        """Why the token is refused; None if it is good. Its stated type is not asked for: the SDK calls its own ones jwt."""
        if token.startswith(SIGNED):
            right = _right_of(token.removeprefix(SIGNED), audience, now)
        else:
            right = Right.LISTEN | Right.SEND if token == ENTRA_TOKEN else Right.NONE
        if right is Right.NONE:
            return "InvalidSignature: The token has an invalid signature."
        self._rights[path_of(audience).lower()] = right
        return None

    def allow(self, path: str, wanted: Right) -> bool:
        path = path.lower()
        return any(wanted in right and f"{path}/".startswith(f"{at}/" if at else "") for at, right in self._rights.items())


def _right_of(token: str, audience: str, now: float) -> Right:
    parts = {name: values[0] for name, values in parse_qs(token).items()}
    resource, expiry = parts.get("sr", ""), parts.get("se", "")
    key, right = KEYS.get(parts.get("skn", ""), ("", Right.NONE))
    digest = hmac.digest(key.encode(), f"{quote_plus(resource)}\n{expiry}".encode(), hashlib.sha256)
    good = hmac.compare_digest(base64.b64encode(digest).decode(), parts.get("sig", ""))
    covers = path_of(audience).lower().startswith(path_of(resource).lower())
    in_time = expiry.isdecimal() and int(expiry) > now
    return right if good and covers and in_time else Right.NONE
