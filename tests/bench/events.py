"""The events that every bus is filled with: all alike, so that the tables of two buses can be laid side by side."""

import random
import uuid

import msgspec

KEYS = 1_000


def made(count: int) -> list[tuple[str, bytes]]:
    """So many keys and bodies of about 300 bytes; the same ones at each call."""
    chance = random.Random(7)
    keys = [_id(chance) for _ in range(KEYS)]
    return [_event(number, chance.choice(keys), chance) for number in range(count)]


def _event(number: int, key: str, chance: random.Random) -> tuple[str, bytes]:
    data = {"id": key, "external_id": f"x{number:06d}", "value": "ACTIVE"}
    data |= {"owned_by_user_id": f"U{number:08d}", "owned_by_external_user_id": "none"}
    created = f"2026-11-21T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}.{number % 1_000_000:06d}Z"
    head = {"id": _id(chance), "created": created, "version": "1.0.0"}
    return key, msgspec.json.encode({**head, "subject": "portfolios", "action": "status-update", "data": data})


def _id(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))
