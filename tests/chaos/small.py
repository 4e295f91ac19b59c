"""The plan of a run that the suite has time for: each kind of fault once."""

import random

from tests.chaos.chaos import Plan


def small() -> Plan:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    return Plan(seed=seed, events=600, keys=100, kills=3, workers=2, pause=(0.5, 2.0), handling=0.3)
