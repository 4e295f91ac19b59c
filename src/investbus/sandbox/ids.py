"""Identifiers as the platform makes them: a letter for the kind of entity, then a ULID of 26 Crockford characters.

The time in the ULID is drawn, not read from a clock, so that a seed gives the same identifiers on any day.
"""

from random import Random

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
FIRST_MILLISECOND = 1_609_459_200_000  # 2021-01-01
MILLISECONDS = 126_230_400_000  # four years of them


def entity_id(letter: str, rng: Random) -> str:
    """`P01F8ZSNV0J45R9DFZ3D7D8C26F`."""
    moment = FIRST_MILLISECOND + rng.randrange(MILLISECONDS)
    number = moment << 80 | rng.getrandbits(80)
    return letter + "".join(CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
