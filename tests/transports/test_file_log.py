"""What a line of the `file` log means, in both directions, and how lines get into it."""

import base64
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from investbus.transport import Message
from investbus.transports import file_log

ORDINARY = [
    b'{"id": "1"}',
    b'  {"id": "1"}\t',
    b"no JSON at all",
    b'{"$raw": "YQ==", "id": "1"}',
    b'{"id": "1", "$raw": "YQ=="}',
    b'{"$headers": {"a": "b"}}',
    b'{"$headers": {"a": "b"}, "$other": 1}',
    b'{"data": {"$raw": "YQ=="}}',
    b'["$raw"]',
    b'{"a": 1}\r',
    b"\xff\xfe",
]
BROKEN = [
    b'{"$raw": "YQ"}',
    b'{"$raw": "Y!=="}',
    b'{"$raw": "YQ==YQ=="}',
    b'{"$raw": "YQ==\\n"}',
    b'{"$raw": 5}',
    b'{"$raw": null}',
    b'{"$raw": "YQ==", "$headers": null}',
    b'{"$raw": "YQ==", "$headers": []}',
    b'{"$raw": "YQ==", "$headers": {"a": 1}}',
    b'{"$raw": "YQ==", "$headers": {"a": null}}',
    b'{"$raw": "YQ=',
    b'{"$raw": "YQ=="}}',
    b'{"$raw": "\xff"}',
    b'{"$raw": "YQ==", "$headers": ' + b"[" * 100_000,
]


@pytest.mark.parametrize("line", ORDINARY)
def test_an_ordinary_line_is_the_body_as_it_is(line: bytes) -> None:
    assert file_log.decode(line) == (line, {}, "")


@pytest.mark.parametrize("line", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_wrapped_line_is_undecodable(line: bytes) -> None:
    assert file_log.decode(line) == (line, {}, "json")


@pytest.mark.parametrize(
    ("line", "body", "headers"),
    [
        (b'{"$raw": "YQ=="}', b"a", {}),
        (b'{"$raw": ""}', b"", {}),
        (b' { "$raw" : "/+8=" } \r', b"\xff\xef", {}),
        (b'{"$headers": {"x": "1"}, "$raw": "Cg=="}', b"\n", {"x": "1"}),
        (b'{"$raw": "YQ==", "$headers": {}}', b"a", {}),
        (b'{"\\u0024raw": "YQ=="}', b"a", {}),
    ],
)
def test_a_wrapped_line_is_unwrapped(line: bytes, body: bytes, headers: dict[str, str]) -> None:
    assert file_log.decode(line) == (body, headers, "")


@pytest.mark.parametrize("body", [b'{"id": "1"}', b'{"a": 1}\r', "ü".encode(), b'{"$headers": {}}', b"\x00"])
def test_a_body_that_a_line_can_hold_is_written_as_it_is(body: bytes) -> None:
    assert file_log.encode(Message(body)) == body + b"\n"


@pytest.mark.parametrize("body", [b"", b" \t\r", b'{"a":\n1}', b"\xff", b'{"$raw": "YQ=="}', *BROKEN[:3]])
def test_a_body_that_a_line_cannot_hold_is_wrapped(body: bytes) -> None:
    line = file_log.encode(Message(body))
    assert json.loads(line) == {"$raw": base64.b64encode(body).decode()}


def test_headers_need_the_wrapped_form() -> None:
    line = file_log.encode(Message(b"{}", {"trace": "ü\n"}))
    assert json.loads(line) == {"$raw": "e30=", "$headers": {"trace": "ü\n"}}


near_misses = st.sampled_from([*ORDINARY, *BROKEN[:-1], b'{"$raw": "YQ=="}', b"\\u0024", b'{"$'])
pieces = st.one_of(st.binary(max_size=8), near_misses, st.sampled_from([b"\n", b"\r", b" ", b"}", b'"']))
messages = st.builds(Message, st.lists(pieces, max_size=4).map(b"".join), st.dictionaries(st.text(), st.text(), max_size=2))


@given(messages)
@example(Message(b'{"$raw": "YQ=="}\r'))
def test_every_message_fits_one_line_and_is_read_back_as_it_was(message: Message) -> None:
    line = file_log.encode(message)
    assert line.count(b"\n") == 1
    assert line.strip()
    assert file_log.decode(line[:-1]) == (message.body, message.headers, "")


@given(st.one_of(st.binary(), pieces))
def test_no_bytes_make_decode_raise(line: bytes) -> None:
    body, _, fault = file_log.decode(line)
    assert fault in ("", "json")
    assert body == line or file_log.encode(Message(body)) != line


def test_a_line_that_was_cut_off_is_not_merged_with_what_follows(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b'{"id": "1"}\n{"id": "2", "da')
    file_log.append(log, b'{"id": "3"}\n')
    file_log.append(log, b'{"id": "4"}\n')
    assert log.read_bytes() == b'{"id": "1"}\n{"id": "2", "da\n{"id": "3"}\n{"id": "4"}\n'


def test_the_log_belongs_to_its_owner(tmp_path: Path) -> None:
    file_log.append(tmp_path / "log", b"1\n")
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_append_waits_for_another_publisher(tmp_path: Path) -> None:
    log = tmp_path / "log"
    holder = "import fcntl, sys; f = open(sys.argv[1], 'ab'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", holder, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        appending = threading.Thread(target=file_log.append, args=(log, b"1\n"))
        appending.start()
        appending.join(0.2)
        assert log.read_bytes() == b""
        other.stdin.write(b"\n")
        other.stdin.flush()
        appending.join(10)
    assert log.read_bytes() == b"1\n"


def test_append_is_synced_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, synced, fsync = tmp_path / "log", list[tuple[str, int]](), os.fsync

    def watched(descriptor: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), log.stat().st_size))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    file_log.append(log, b"1\n2\n3\n")
    file_log.append(log, b"4\n")
    assert synced == [(str(log), 6), (str(tmp_path), 6), (str(log), 8)]


@pytest.mark.parametrize("size", [1, file_log.CHUNK - 1, file_log.CHUNK, file_log.CHUNK + 1, 5 * file_log.CHUNK])
def test_a_line_of_any_length_is_read_whole(tmp_path: Path, size: int) -> None:
    log, line = tmp_path / "log", b"x" * size + b"\n"
    log.write_bytes(b"first\n" + line + b"last\n" + b"y" * size)
    found, start = b"", 6
    while lines := file_log.read(log, start):
        found, start = found + lines, start + len(lines)
    assert found == line + b"last\n"
    assert file_log.count(log, 0) == (start, 3)
