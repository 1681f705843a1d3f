"""A server that speaks TLS: what it takes, what it does not wait for, and how its certificate is renewed."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from infra.auth import development
from infra.auth.development import DevelopmentCertificate, development_certificate
from infra.http import server
from infra.http.tls import ServerCertificate, open_certificate
from infra.settings import Settings, SettingsError
from infra.timestamps import now
from tests.infra.http.wire import serving


@pytest.fixture
def made(tmp_path: Path) -> DevelopmentCertificate:
    return development_certificate(tmp_path)


@contextlib.asynccontextmanager
async def secured(made: DevelopmentCertificate) -> AsyncIterator[tuple[int, ServerCertificate]]:
    certificate = ServerCertificate(made.certificate, made.key)
    async with serving(tls=certificate.context) as port:
        yield port, certificate


async def connected(
    port: int, made: DevelopmentCertificate, name: str = "127.0.0.1", **more: Any
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context(cafile=made.authority)
    for setting, value in more.items():
        setattr(context, setting, value)
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)


ECHO = b'POST /echo HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}'


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(ECHO)
    await reader.readuntil(b"\r\n\r\n")
    return await reader.readexactly(7)


async def once(port: int, made: DevelopmentCertificate) -> bytes:
    reader, writer = await connected(port, made)
    try:
        return await asked(reader, writer)
    finally:
        writer.close()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_requests_are_answered_over_one_connection(made: DevelopmentCertificate, name: str) -> None:
    async with secured(made) as (port, _):
        reader, writer = await connected(port, made, name)
        assert [await asked(reader, writer) for _ in range(3)] == [b'{"a":1}'] * 3
        writer.write(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert len(await reader.readexactly(200 << 10)) == 200 << 10
        assert head.startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_plain_requests_old_versions_and_other_names_are_not_taken(made: DevelopmentCertificate) -> None:
    async with secured(made) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ECHO)
        with contextlib.suppress(ConnectionError):
            assert b"HTTP" not in await reader.read()
        writer.close()
        with pytest.raises((ssl.SSLError, ConnectionError)), pytest.warns(DeprecationWarning, match="TLSv1_1"):
            await connected(port, made, maximum_version=ssl.TLSVersion.TLSv1_1)
        with pytest.raises(ssl.SSLCertVerificationError):
            await connected(port, made, "shop.example")


async def test_what_is_malformed_is_answered_and_ends_the_connection(made: DevelopmentCertificate) -> None:
    async with secured(made) as (port, _):
        reader, writer = await connected(port, made)
        writer.write(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
        writer.close()


async def test_a_client_that_closes_gets_no_answer_and_stops_nothing(made: DevelopmentCertificate) -> None:
    async with secured(made) as (port, _):
        for part in (b"", ECHO[:30], ECHO):
            _, writer = await connected(port, made)
            writer.write(part)
            writer.close()
        assert await once(port, made) == b'{"a":1}'


async def test_a_handshake_that_does_not_end_is_not_waited_for(
    made: DevelopmentCertificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_S", 0.1)
    async with secured(made) as (port, _):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
        silent[0][1].write(b"\x16\x03\x01")
        assert await once(port, made) == b'{"a":1}'
        async with asyncio.timeout(10):
            for reader, writer in silent:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() in (b"", b"\x15\x03\x01\x00\x02\x02\x28")
                writer.close()


async def test_handshakes_that_do_not_end_take_places_of_connections(made: DevelopmentCertificate) -> None:
    certificate = ServerCertificate(made.certificate, made.key)
    async with serving(tls=certificate.context, max_connections=3) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        async with asyncio.timeout(4):  # all but three are closed before the time of a handshake is over
            for reader, writer in silent[:17]:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
            assert await once(port, made) == b'{"a":1}'
        for _, writer in silent[17:]:
            writer.close()


async def test_a_connection_is_counted_once_while_its_handshake_ends(made: DevelopmentCertificate) -> None:
    certificate = ServerCertificate(made.certificate, made.key)
    async with serving(tls=certificate.context, max_connections=2) as port:
        both = [await connected(port, made) for _ in range(2)]
        assert [await asked(*one) for one in both] == [b'{"a":1}'] * 2
        for _, writer in both:
            writer.close()


async def test_clients_that_are_gone_before_they_are_accepted_leave_the_count_right(
    made: DevelopmentCertificate,
) -> None:
    certificate = ServerCertificate(made.certificate, made.key)
    async with serving(tls=certificate.context, max_connections=2) as port:
        for _ in range(5):  # the server runs in this thread: it accepts them only after they were reset
            with socket.create_connection(("127.0.0.1", int(port))) as link:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        three = [await connected(port, made) for _ in range(3)]
        async with asyncio.timeout(4):  # the third one takes the first one's place
            with contextlib.suppress(ConnectionError):
                assert await three[0][0].read() == b""
        for _, writer in three:
            writer.close()


async def test_a_request_right_behind_the_handshake_is_answered(made: DevelopmentCertificate) -> None:
    async with secured(made) as (port, _):
        for length in (7, 16_000):
            said = (b'{"a":1' + b" " * (length - 7) + b"}", ECHO)[length == 7]
            if length > 7:
                head = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
                said = head + b"Content-Length: %d\r\n\r\n" % length + said
            answer = await asyncio.to_thread(said_with_the_handshake, port, made, said)
            assert answer.startswith(b"HTTP/1.1 201 ")
            assert answer.endswith(b'{"a":1}')


def said_with_the_handshake(port: int, made: DevelopmentCertificate, said: bytes) -> bytes:
    """Send the last part of the client's handshake and `said` in one go; return the answer."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=made.authority).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as link:
        while True:
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                link.sendall(outgoing.read())
                incoming.write(link.recv(16 << 10))
            else:
                break
        client.write(said)
        link.sendall(outgoing.read())
        answer = b""
        while not answer.endswith(b"}"):
            incoming.write(link.recv(16 << 10))
            with contextlib.suppress(ssl.SSLWantReadError):
                answer += client.read()
        return answer


def serial(writer: asyncio.StreamWriter) -> int:
    told = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(told).serial_number


async def test_a_new_certificate_is_for_new_connections_and_a_bad_one_for_none(
    made: DevelopmentCertificate, tmp_path: Path
) -> None:
    async with secured(made) as (port, certificate):
        old = await connected(port, made)
        before = serial(old[1])
        for path in made:
            await asyncio.to_thread(path.unlink)
        certificate.reload()  # there are no files: it keeps the old one
        made = development_certificate(tmp_path)
        other = development_certificate(tmp_path / "other")
        key = await asyncio.to_thread(made.key.read_bytes)
        await asyncio.to_thread(shutil.copy, other.key, made.key)
        certificate.reload()  # they do not belong together

        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        assert serial(writer) == before
        assert await asked(reader, writer) == b'{"a":1}'

        await asyncio.to_thread(made.key.write_bytes, key)
        certificate.reload()

        new = await connected(port, made)
        assert serial(new[1]) != before
        assert [await asked(*one) for one in (old, new)] == [b'{"a":1}'] * 2
        for one in (old[1], writer, new[1]):
            one.close()


def settings(made: DevelopmentCertificate) -> Settings:
    return Settings(port=1, tls_cert_file=str(made.certificate), tls_key_file=str(made.key))


def test_files_that_cannot_be_used_are_named(made: DevelopmentCertificate, tmp_path: Path) -> None:
    assert open_certificate(Settings(port=1)) is None
    assert open_certificate(settings(made)) is not None
    assert settings(made).url == "https://127.0.0.1:1"

    other = development_certificate(tmp_path / "other")
    with pytest.raises(SettingsError, match="they do not belong together"):
        open_certificate(settings(made._replace(key=other.key)))
    with pytest.raises(SettingsError, match=r"none\.pem cannot be read: No such file"):
        open_certificate(settings(made._replace(certificate=tmp_path / "none.pem")))
    made.certificate.write_text("no certificate")
    with pytest.raises(SettingsError, match="not PEM"):
        open_certificate(settings(made))
    with pytest.raises(ValueError, match="are set together"):
        Settings(port=1, tls_cert_file="a")
    with pytest.raises(ValueError, match="are set together"):
        Settings(port=1, tls_key_file="a")


def test_an_expired_certificate_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long_ago = now() - timedelta(days=400)
    monkeypatch.setattr(development, "now", lambda: long_ago)
    made = development_certificate(tmp_path)

    with pytest.raises(SettingsError, match=r"tls\.pem has expired: \d{4}-"):
        open_certificate(settings(made))


def test_the_key_is_for_its_owner_and_the_authority_signs_nothing_else(made: DevelopmentCertificate) -> None:
    assert made.key.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in made.key.parent.iterdir()) == ["tls-authority.pem", "tls.key", "tls.pem"]
    before = made.certificate.read_bytes()
    assert development_certificate(made.key.parent.parent) == made
    assert made.certificate.read_bytes() == before
    loaded = x509.load_pem_x509_certificate(before)
    assert loaded.public_bytes(Encoding.PEM) == before
