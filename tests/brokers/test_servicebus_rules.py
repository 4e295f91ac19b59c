"""Queues, locks and the journal of the Service Bus emulator without a network, against models that are too simple to be wrong."""

import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.brokers.servicebus.codec import string
from tests.brokers.servicebus.journal import Gone, Journal
from tests.brokers.servicebus.locks import Lock, LockTable
from tests.brokers.servicebus.message import Content, Message
from tests.brokers.servicebus.namespace import Namespace
from tests.brokers.servicebus.queue import Outcome, Queue, Surroundings
from tests.brokers.servicebus.sessions import Session
from tests.brokers.servicebus.settings import Entities, Entity, Properties, Topic, read_config


def content(text: str, session: str | None = None) -> Content:
    group = b"" if session is None else b"\x00\x53\x73\xc0" + (body := b"\x0b" + b"\x40" * 10 + string(session)).__class__(
        (len(body),)
    ) + body
    return Content(group + b"\x00\x53\x77" + string(text))
