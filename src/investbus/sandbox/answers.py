"""What the platform answers: JSON with exact numbers, and its two documented shapes of an error body."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import msgspec
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

encode = msgspec.json.Encoder(decimal_format="number").encode


def reply(content: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=encode(content), content_type="application/json")


def problem(status: int, title: str, description: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """The shape of most errors. Its `request_id` is what the platform's support asks for."""
    content = {
        "title": title,
        "description": description,
        "request_id": str(uuid4()),
        "timestamp": datetime.now(UTC).isoformat(),
    }
    return web.Response(status=status, headers={"Content-Type": "application/json"} | dict(headers or {}), body=encode(content))


def invalid(where: str, message: str, sent: Any, status: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY) -> web.Response:
    """The shape of a validation error. Like the real one it echoes what was sent, personal data included."""
    detail = [{"loc": where.split("."), "msg": message, "type": "value_error"}]
    return reply({"title": status.phrase, "detail": detail, "status": int(status), "body": sent}, status)
