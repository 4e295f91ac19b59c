"""Over real connections: refused, reset, slow, endless, packed, redirected; and what aiohttp would do by itself."""

import asyncio
import gzip
import ssl
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from investbus.config import Api
from investbus.errors import ApiError, ApiUnavailable, ConfigError
from investbus.platform.wire import LARGEST_ANSWER, AiohttpWire
from investbus.sandbox import CREDENTIALS, Fault, Platform, World
from tests.brokers.process import LOOPBACK, free_port
from tests.brokers.tls import make_certificates
from tests.platform.raw import Raw, Seen, giving, http
from tests.platform.rig import OLD, Rig

Connect = Callable[..., Rig]
KEYS = {"access_key_id": CREDENTIALS[0], "secret_access_key": CREDENTIALS[1]}


async def call(rig: Rig, method: str = "GET") -> Any:
    return await rig.client.call(method, "/things/{id}/", {"id": "T1"}, fresh_until=OLD)


async def test_a_platform_that_is_not_there_is_an_outage(connect: Connect) -> None:
    port = free_port()
    with pytest.raises(ApiUnavailable, match=rf"Cannot connect to host {LOOPBACK}:{port} .*Connect call failed") as caught:
        await call(connect(f"http://{LOOPBACK}:{port}"))
    assert not caught.value.refused


async def test_a_platform_with_a_certificate_that_nobody_vouches_for_gets_no_key(connect: Connect, tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(make_certificates(tmp_path).server_chain)
    async with Raw(tls=tls) as server:
        with pytest.raises(ApiUnavailable, match=r"ClientConnectorCertificateError: .*CERTIFICATE_VERIFY_FAILED"):
            await connect(server.url).client.log_in()
        assert server.logins == 0


async def test_the_banks_own_authority_may_vouch_for_the_platform(connect: Connect, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.server_chain)
    async with Raw(tls=tls) as server:
        assert await call(connect(server.url, ca_file=certificates.ca)) == {"ok": True}


def test_a_file_without_certificates_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for path in (tmp_path / "ca.pem", tmp_path / "nowhere.pem"):
        with pytest.raises(ConfigError, match=r"^api\.ca_file .*\.pem: no CA certificates in it: "):
            AiohttpWire(Api(base_url="https://platform.invalid", ca_file=path))


async def test_calls_go_by_the_proxy_that_is_configured_and_by_no_other(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Raw() as proxy, Raw() as other:
        monkeypatch.setenv("HTTP_PROXY", other.url)
        monkeypatch.setenv("HTTPS_PROXY", other.url)
        assert await call(connect("http://platform.invalid", proxy=proxy.url)) == {"ok": True}
        assert proxy.seen[-1].target == "http://platform.invalid/things/T1/"
        async with Raw() as platform:
            assert await call(connect(platform.url)) == {"ok": True}
        assert not other.connections


async def test_a_proxy_that_refuses_is_an_outage_that_names_it(connect: Connect) -> None:
    async def refuse(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(http(407))

    async with Raw(refuse) as proxy:
        with pytest.raises(ApiUnavailable, match=r"the proxy \(api\.proxy\) answered 407"):
            await call(connect("https://platform.invalid", proxy=proxy.url))


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
async def test_a_reset_sends_a_write_once_and_a_get_as_often_as_we_decide(connect: Connect, method: str) -> None:
    """aiohttp would send a GET or a DELETE once more by itself."""

    async def reset(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with Raw(reset) as server:
        with pytest.raises(ApiUnavailable, match=r"api is not available: .*: (ServerDisconnectedError|ClientOSError)"):
            await call(connect(server.url), method)
        assert len(server.seen) == (3 if method == "GET" else 1)


async def test_a_kept_connection_that_the_server_has_closed_costs_a_get_nothing(connect: Connect) -> None:
    async def answer_and_close(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(http())
        await writer.drain()
        writer.close()

    async with Raw(answer_and_close) as server:
        rig = connect(server.url)
        for _ in range(5):
            assert await call(rig) == {"ok": True}


async def test_a_query_goes_out_as_it_was_built(connect: Connect) -> None:
    """yarl would unquote `%27`, and a quote is what the platform's query language is made of."""
    async with Raw(giving(http(body=b'{"results": []}'))) as server:
        rig = connect(server.url)
        assert [entity async for entity in rig.api.find("portfolios", "a eq {id}", id="P1")] == []
        assert [seen.target for seen in server.seen] == ["/portfolios/?query=a%20eq%20%27P1%27&limit=100&offset=0"]


async def test_connections_are_kept(connect: Connect) -> None:
    async with Raw() as server:
        rig = connect(server.url)
        for _ in range(20):
            await call(rig)
        assert (len(server.seen), server.connections) == (20, 1)


@pytest.mark.parametrize("fault", [Fault(path="/portfolios/*/", ending="hang"), Fault(path="/portfolios/*/", drip=0.2)])
async def test_a_hang_and_a_slow_drip_end_at_the_deadline(connect: Connect, fault: Fault) -> None:
    """A byte each 0.2 s keeps every time-out of a single read at bay."""
    async with Platform(World(seed=3, portfolios=5), port=free_port()) as platform:
        platform.faults.add(fault)
        rig = connect(platform.url, timeout=0.7, **KEYS)
        begun = rig.clock()
        with pytest.raises(ApiUnavailable, match=r"no answer within 0\.7 s"):
            await rig.api.portfolio(next(iter(platform.world.portfolios)))
        assert rig.clock() - begun == pytest.approx(0.7, abs=0.3)
        platform.faults.clear()
        assert (await rig.api.portfolio(next(iter(platform.world.portfolios))))["id"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
async def test_a_redirect_is_never_followed(connect: Connect, status: int, method: str) -> None:
    async with Raw() as other, Raw(giving(http(status, location=f"{other.url}/things/T1/"))) as server:
        with pytest.raises(ApiError) as caught:
            await call(connect(server.url), method)
        assert caught.value.status == status
        assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer token-canary"]
        assert (other.connections, other.seen) == (0, [])


async def test_a_redirected_login_takes_no_credentials_elsewhere(connect: Connect) -> None:
    async with Raw() as other, Platform(World(seed=3, portfolios=1), port=free_port()) as platform:
        platform.faults.add(Fault(path="/auth/login/", status=307, headers={"Location": f"{other.url}/auth/login/"}))
        with pytest.raises(ApiUnavailable, match="the login fails: HTTP 307"):
            await connect(platform.url, **KEYS).client.log_in()
        assert other.connections == 0


async def test_neither_proxies_nor_cookies_are_taken_from_anywhere(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Raw() as proxy, Raw(giving(http(set_cookie="session=1; Path=/"))) as server:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        rig = connect(server.url.replace(LOOPBACK, "localhost"))  # aiohttp keeps no cookies of bare addresses anyway
        await call(rig)
        await call(rig)
        assert proxy.connections == 0
        assert ["cookie" in seen.headers for seen in server.seen] == [False, False]


BOMB = 16 * LARGEST_ANSWER


def _zeros(method: str) -> bytes:
    packer = zlib.compressobj(9, wbits=31 if method == "gzip" else 15)
    blank = bytes(1 << 20)
    return b"".join([*(packer.compress(blank) for _ in range(BOMB >> 20)), packer.flush()])


@pytest.mark.parametrize("method", ["gzip", "deflate"])
async def test_a_packed_bomb_is_an_outage_and_takes_no_memory(connect: Connect, method: str) -> None:
    """Some hundred kilobytes that unpack to a thousand times as much."""
    answer = http(body=_zeros(method), content_encoding=method, content_type="application/json")
    async with Raw(giving(answer)) as server:
        rig = connect(server.url)
        tracemalloc.start()
        try:
            with pytest.raises(ApiUnavailable, match=f"the answer is larger than {LARGEST_ANSWER} bytes"):
                await call(rig, "POST")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 * LARGEST_ANSWER


async def test_an_answer_without_end_is_an_outage(connect: Connect) -> None:
    async def endless(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            await writer.drain()

    async with Raw(endless) as server:
        with pytest.raises(ApiUnavailable, match="the answer is larger than"):
            await call(connect(server.url), "POST")


async def test_a_large_answer_within_the_limit_is_read_packed_or_not(connect: Connect) -> None:
    body = b'{"text": "' + b"x" * (LARGEST_ANSWER - 100) + b'"}'
    for answer in (http(body=body), http(body=gzip.compress(body), content_encoding="gzip")):
        async with Raw(giving(answer)) as server:
            assert len((await call(connect(server.url)))["text"]) == LARGEST_ANSWER - 100


BROKEN = [
    b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    b"HTTP/1.1 abc person-canary\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nperson-canary\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"person-canary" * 5000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: person-canary\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nperson-canary\r\n",
    http(body=b"person-canary", content_encoding="gzip"),
    http(body=b"person-canary", content_encoding="deflate"),
]


@pytest.mark.parametrize("answer", BROKEN, ids=range(len(BROKEN)))
async def test_what_is_no_http_is_an_outage_and_is_not_repeated(connect: Connect, answer: bytes) -> None:
    async with Raw(giving(answer)) as server:
        rig = connect(server.url, timeout=3.0)
        with pytest.raises(ApiUnavailable) as caught:
            await call(rig, "POST")
    assert "canary" not in str(caught.value)
    assert "T1" not in str(caught.value), "nor is the URL"
    assert caught.value.__cause__ is None


async def test_closing_twice_and_unused_is_fine() -> None:
    wire = AiohttpWire(Api(base_url="https://platform.invalid"))
    await wire.close()
    async with Raw() as server:
        assert (await wire.send("GET", f"{server.url}/", {}, None)).body == b'{"ok": true}'
    await wire.close()
    await wire.close()
