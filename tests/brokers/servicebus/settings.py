"""What there is in a namespace, as the official emulator's config.json says it.

A setting that this one does not have is refused by name: an entity that quietly forwards nothing or filters nothing would let a
test pass that should not.
"""

from datetime import timedelta
from pathlib import Path

import msgspec


class Properties(msgspec.Struct, rename="pascal", frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Of a queue or a subscription. Durations are ISO 8601: PT30S."""

    lock_duration: timedelta = timedelta(minutes=1)
    max_delivery_count: int = 10
    requires_session: bool = False
    default_message_time_to_live: timedelta | None = None
    dead_lettering_on_message_expiration: bool = False


class Entity(msgspec.Struct, rename="pascal", frozen=True, forbid_unknown_fields=True):
    """A queue or a subscription."""

    name: str
    properties: Properties = Properties()


class Topic(msgspec.Struct, rename="pascal", frozen=True, forbid_unknown_fields=True):
    name: str
    subscriptions: tuple[Entity, ...] = ()


class Entities(msgspec.Struct, rename="pascal", frozen=True, forbid_unknown_fields=True):
    """All of one namespace; its name is not used, since an emulator has one."""

    name: str = "emulator"
    queues: tuple[Entity, ...] = ()
    topics: tuple[Topic, ...] = ()


class UserConfig(msgspec.Struct, rename="pascal", frozen=True):
    namespaces: tuple[Entities, ...] = ()


class Config(msgspec.Struct, rename="pascal", frozen=True):
    user_config: UserConfig = UserConfig()


def read_config(path: Path) -> Entities:
    """The only namespace of the file; ValueError in one line if there is another number of them, or something unknown."""
    try:
        config = msgspec.json.decode(path.read_bytes(), type=Config)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: {error}") from None
    namespaces = config.user_config.namespaces
    if len(namespaces) != 1:
        raise ValueError(f"{path}: UserConfig.Namespaces has {len(namespaces)} entries; give one")
    return namespaces[0]
