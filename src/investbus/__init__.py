"""investbus: events of an investment platform, from the bank's message bus to the bank's handlers.

What a handler author imports. The rest of the package is found by name: `transports`, `dialects`, `catalogue`, `testing`.
"""

from investbus.context import Context
from investbus.errors import Reject, Retry, Unavailable
from investbus.event import Event
from investbus.router import Router
from investbus.version import __version__

__all__ = ["Context", "Event", "Reject", "Retry", "Router", "Unavailable", "__version__"]
