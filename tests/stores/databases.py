"""What tests do to a PostgreSQL store behind its back."""

from urllib.parse import urlsplit

import psycopg
from psycopg import sql


def execute(url: str, *statements: str) -> None:
    """Each is a transaction of its own."""
    with psycopg.connect(url, autocommit=True) as db:
        for statement in statements:
            db.execute(sql.SQL(statement))


def value(url: str, question: str) -> object:
    """The first column of the first row."""
    with psycopg.connect(url, autocommit=True) as db:
        row = db.execute(sql.SQL(question)).fetchone()
    return None if row is None else row[0]


def emptied(url: str) -> None:
    """Delete every row: a twentieth of the time that new tables take."""
    with psycopg.connect(url, autocommit=True) as db:
        tables = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'investbus' AND tablename <> 'investbus_version'")
        for (table,) in tables.fetchall():
            db.execute(sql.SQL("DELETE FROM investbus.{}").format(sql.Identifier(table)))


def as_user(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()


def end_sessions(url: str) -> object:
    """Those of stores in this database, as an administrator would; how many there were."""
    name = urlsplit(url).path.removeprefix("/")
    question = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'investbus'"
    return value(url, f"{question} AND datname = '{name}'")
