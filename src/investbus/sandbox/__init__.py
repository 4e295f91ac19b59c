"""The pretend platform: a REST API with faults to order, an event stream, and sample handlers.

A real one needs a contract and keys. This one lets the demo, the tests and the benchmarks run with nothing else
installed, and it can be told to fail in the ways that the real one will. What it answers follows the platform's public
documentation, traps included.
"""

from investbus.sandbox.faults import Fault, Faults
from investbus.sandbox.platform import CREDENTIALS, Platform
from investbus.sandbox.stream import Made, Stream, events
from investbus.sandbox.world import World

__all__ = ["CREDENTIALS", "Fault", "Faults", "Made", "Platform", "Stream", "World", "events"]
