"""The plan of a run that the suite has time for: each kind of fault once."""

import random

from tests.chaos.chaos import Plan


def small(keys: int = 100) -> Plan:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    return Plan(seed=seed, events=500, keys=keys, kills=3, workers=2, pause=(0.5, 1.5), handling=0.2)
