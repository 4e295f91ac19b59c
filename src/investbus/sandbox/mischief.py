"""Ways for a message to be bad, each by the name under which a stream counts it.

Every one is made of a good envelope, and each is wrong in exactly one way, so that what a worker should do with it is
certain.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from investbus.sandbox.answers import encode

Envelope = Mapping[str, Any]

UNKNOWN_NAMES = (("users", "status-update"), ("reports", "status-update"), ("profiles", "result-update"))
BAD_IDS = (None, 17, {"value": "P1"})


def broken_json(envelope: Envelope, rng: Random) -> bytes:
    """Cut off somewhere; an object that lacks its end is never JSON."""
    body = encode(envelope)
    return body[: rng.randrange(1, len(body))]


def wrong_version(envelope: Envelope, rng: Random) -> bytes:
    return encode({**envelope, "version": rng.choice(("2.0.0", "0.9.0", "next"))})


def missing_id(envelope: Envelope, _rng: Random) -> bytes:
    return encode({name: value for name, value in envelope.items() if name != "id"})


def misfit(envelope: Envelope, rng: Random) -> bytes:
    """A good envelope whose `data` no model takes."""
    return encode({**envelope, "data": envelope["data"] | {"id": rng.choice(BAD_IDS)}})


def unknown_name(envelope: Envelope, rng: Random) -> bytes:
    """Names that the platform has used in drafts; a worker has to live with every one of them."""
    subject, action = rng.choice(UNKNOWN_NAMES)
    return encode({**envelope, "subject": subject, "action": action})


def tombstone(_envelope: Envelope, _rng: Random) -> bytes:
    """An empty body: on Kafka the end of a key."""
    return b""


BODIES: Mapping[str, Callable[[Envelope, Random], bytes]] = {
    "broken-json": broken_json,
    "wrong-version": wrong_version,
    "missing-id": missing_id,
    "misfit": misfit,
    "unknown-name": unknown_name,
    "tombstone": tombstone,
}
KINDS = (*BODIES, "duplicate")  # a good message once more, byte for byte
