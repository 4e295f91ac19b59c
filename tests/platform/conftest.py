"""A client over real connections, closed after the test."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.platform.rig import Rig


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Rig]]:
    """`connect(url, **settings)`: a rig over aiohttp."""
    made: list[Rig] = []

    def rig(url: str, **settings: Any) -> Rig:
        made.append(Rig(real=True, base_url=url, **settings))
        return made[-1]

    yield rig
    for each in made:
        await each.client.close()
