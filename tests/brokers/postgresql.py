"""A real PostgreSQL server, as tests see it: its life and its databases."""

import uuid
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from tests.brokers.life import Broker, Life


class PostgreSql(Broker):
    """Sessions share its fate: stopped they are rolled back, killed and paused they are too."""

    def __init__(self, life: Life, url: str) -> None:
        super().__init__(life)
        self.url = url
        """postgresql:// with a user who may create databases. Tests share this one: `new_database()` is your own."""
        self._databases: list[sql.Identifier] = []

    def close(self) -> None:
        if not self.controllable:  # ours goes away with all of them
            for database in self._databases:
                self._run(sql.SQL("drop database {} with (force)").format(database))
        super().close()

    def answers(self) -> bool:
        try:
            self._run(sql.SQL("select 1"))
        except psycopg.OperationalError:
            return False
        return True

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        database = sql.Identifier(name)
        self._run(sql.SQL("create database {}").format(database))
        self._databases.append(database)
        return urlsplit(self.url)._replace(path=f"/{name}").geturl()

    def close_all_connections(self) -> None:
        """As an operator does it: every session of every database ends with an error."""
        self._run(sql.SQL("select pg_terminate_backend(pid) from pg_stat_activity where datname like 'test_%'"))

    def _run(self, statement: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(self.url, connect_timeout=2, autocommit=True) as connection:  # psycopg takes no less than 2
            connection.execute(statement)
