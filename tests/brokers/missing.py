"""What a test run does about a broker that it cannot have.

On a laptop the tests of that broker are skipped, but never silently: the run ends with a line that says what was
missing. With `REQUIRE_BROKERS=1`, for continuous integration, a green run has to mean that they ran, so there it is
a failure.
"""

import os
from typing import NoReturn

import pytest

REASONS: dict[str, None] = {}  # said once each at the end of the run, in this order


class Missing(Exception):
    """A broker or tool is not to be had; the message says what is missing and what to do, in one line."""


def refuse(missing: Missing) -> NoReturn:
    reason = str(missing)
    REASONS[reason] = None
    if os.environ.get("REQUIRE_BROKERS") == "1":
        raise pytest.fail.Exception(f"{reason} (and REQUIRE_BROKERS=1)", pytrace=False) from None
    raise pytest.skip.Exception(reason) from None
