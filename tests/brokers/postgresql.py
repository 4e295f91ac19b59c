"""A real PostgreSQL server, as tests see it: its life and its databases."""

import uuid
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from tests.brokers.life import Life


class PostgreSql:
    """`start()` it first. Whatever cannot be done is raised."""

    def __init__(self, life: Life, url: str) -> None:
        self._life = life
        self.url = url
        """postgresql:// with a user who may create databases. Tests share this one: `new_database()` is your own."""
        self._databases: list[sql.Identifier] = []

    @property
    def controllable(self) -> bool:
        """Whether it may be stopped, killed and paused: not if it came from TEST_POSTGRESQL."""
        return self._life.controllable

    @property
    def running(self) -> bool:
        return self._life.running

    def start(self) -> None:
        self._life.start(self.answers)

    def stop(self) -> None:
        """Sessions are ended, what they have not committed is rolled back."""
        self._life.stop()

    def kill(self) -> None:
        """SIGKILL, sessions included. What was committed is there again after `start()`."""
        self._life.kill()

    def pause(self) -> None:
        """SIGSTOP, sessions included: connections stay open, nothing answers."""
        self._life.pause()

    def resume(self) -> None:
        self._life.resume()

    def restart(self) -> None:
        """The same server again, paused or not: same address, same data."""
        self.stop()
        self.start()

    def close(self) -> None:
        if not self.controllable:  # ours goes away with all of them
            for database in self._databases:
                self._run(sql.SQL("drop database {} with (force)").format(database))
        self._life.close()

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
