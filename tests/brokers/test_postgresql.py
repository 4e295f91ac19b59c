"""What tests rely on when they ask for PostgreSQL: what is committed stays, and its sessions share its fate."""

import psycopg
import pytest

from tests.brokers.postgresql import PostgreSql

pytestmark = pytest.mark.broker


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url, connect_timeout=2, autocommit=True)


def test_what_is_committed_is_there_after_a_kill(own_postgresql: PostgreSql) -> None:
    url = own_postgresql.new_database()
    with connect(url) as session:
        session.execute("create table kept (number int)")
        session.execute("insert into kept select generate_series(1, 100)")
        session.execute("begin")
        session.execute("insert into kept values (0)")
        own_postgresql.kill()
        with pytest.raises(psycopg.OperationalError):
            session.execute("commit")
    assert not own_postgresql.running
    own_postgresql.start()
    with connect(url) as session:
        assert session.execute("select count(*), min(number), max(number) from kept").fetchone() == (100, 1, 100)


def test_it_stops_although_a_client_is_connected(own_postgresql: PostgreSql) -> None:
    with connect(own_postgresql.new_database()) as session:
        own_postgresql.stop()
        with pytest.raises(psycopg.errors.AdminShutdown):  # and not by force, which would only cut the connection
            session.execute("select 1")


def test_a_paused_server_answers_neither_new_nor_open_sessions(own_postgresql: PostgreSql) -> None:
    with connect(own_postgresql.new_database()) as session:
        own_postgresql.pause()
        assert not own_postgresql.answers()
        session.pgconn.send_query(b"select 1")
        session.pgconn.flush()
        session.pgconn.nonblocking = 1
        session.pgconn.consume_input()
        assert session.pgconn.is_busy()
        own_postgresql.resume()
        result = session.pgconn.get_result()
        assert result is not None
        assert result.get_value(0, 0) == b"1"
        session.pgconn.get_result()
    assert own_postgresql.answers()


def test_a_paused_server_can_be_killed_with_its_sessions(own_postgresql: PostgreSql) -> None:
    with connect(own_postgresql.new_database()) as session:
        own_postgresql.pause()
        own_postgresql.kill()
        with pytest.raises(psycopg.OperationalError):
            session.execute("select 1")
    own_postgresql.start()
    assert own_postgresql.answers()


def test_new_databases_share_no_tables(postgresql: PostgreSql) -> None:
    with connect(postgresql.new_database()) as one, connect(postgresql.new_database()) as other:
        one.execute("create table mine ()")
        with pytest.raises(psycopg.errors.UndefinedTable):
            other.execute("select from mine")


def test_an_operator_can_end_all_sessions(own_postgresql: PostgreSql) -> None:
    with connect(own_postgresql.new_database()) as session:
        own_postgresql.close_all_connections()
        with pytest.raises(psycopg.errors.AdminShutdown):
            session.execute("select 1")


def test_a_wrong_password_is_refused(postgresql: PostgreSql) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(psycopg.conninfo.make_conninfo(postgresql.url, password="wrong"))


def test_commits_reach_the_disk(own_postgresql: PostgreSql) -> None:
    with connect(own_postgresql.url) as session:
        assert session.execute("show fsync").fetchone() == ("on",)
        assert session.execute("show synchronous_commit").fetchone() == ("on",)
