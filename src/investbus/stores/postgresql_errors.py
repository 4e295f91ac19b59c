"""What PostgreSQL refuses, in words for people.

Only the first line of the server's own words is repeated: details of an error may hold what is in a row.
"""

import re

import psycopg

from investbus.errors import ConfigError, StoreError, StoreRefused, UnsafeStart

LONGEST = 500  # characters; several hosts that cannot be reached say much

MEANING = {  # by SQLSTATE
    "25006": "is read-only, such as a standby; name the primary in store.url",
    "42501": "this user lacks a right",
    "53100": "no space left on the server's disk",
    "53200": "the server has no memory left",
    "53300": "the server takes no more connections",
    "57014": "did not answer in time; the server is slow, or another session holds a lock",
    "57P01": "the server is stopping",
    "57P02": "the server has crashed and starts again",
    "57P03": "the server is starting or stopping",
    "40P01": "stood in the way of another session; try again",
}


REFUSALS = ("28000", "28P01", "3D000", "42501")  # login, database, right
SAID_AT_LOGIN = re.compile(  # libpq does not hand on the SQLSTATE of a login that failed
    r'authentication failed|pg_hba\.conf|(role|database) "[^"]*" does not exist|not permitted to log in|denied for database'
)


def explained(error: Exception, place: str) -> StoreError | UnsafeStart:
    """`error` as one line for people."""
    if isinstance(error, StoreError | UnsafeStart):
        return type(error)(*error.args)
    if isinstance(error, psycopg.Error):
        text = _of_psycopg(error)
    elif isinstance(error, ConfigError | TimeoutError):
        text = str(error)
    elif isinstance(error, OSError):
        text = f"{error.filename or ''}: {error.strerror or error}".removeprefix(": ")
    else:
        text = f"{type(error).__name__}: {error}"
    said = f"store {place}: {' '.join(text.split())[:LONGEST]}"
    return StoreRefused(said) if isinstance(error, psycopg.Error) and _is_refusal(error) else StoreError(said)


def _is_refusal(error: psycopg.Error) -> bool:
    return error.sqlstate in REFUSALS or (error.sqlstate is None and SAID_AT_LOGIN.search(str(error)) is not None)


def _of_psycopg(error: psycopg.Error) -> str:
    said = error.diag.message_primary or _once(str(error))
    meaning = MEANING.get(error.sqlstate or "")
    return said if meaning is None else f"{meaning} ({said})"


def _once(said: str) -> str:
    """libpq repeats itself: by default it tries each host with TLS and without."""
    return " ".join(dict.fromkeys(line.strip() for line in said.replace("connection failed: ", "").splitlines()))
