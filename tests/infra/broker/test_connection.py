"""The connection to the broker: TLS where it is asked for, credentials decoded, and the cause of each failure."""

import asyncio
import socket
from pathlib import Path

import pytest

from infra.broker.errors import BrokerMisconfigured, ConnectionLost
from infra.local.ports import free_ports
from infra.settings import Settings
from tests.infra.broker.configured import CERTIFICATE, TLS, configured, connected, listening, refused

PASSWORD = "p@ss/w:rd, 100%#?"
ENCODED = "p%40ss%2Fw%3Ard%2C%20100%25%23%3F"


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "authority.pem"))


@pytest.mark.parametrize(
    "greeting",
    [
        pytest.param(b'INFO {"server_id":"x","version":"2.15.1","auth_required":true}\r\n', id="no TLS"),
        pytest.param(b'INFO {"tls_required":false,"tls_available":false,"nonce":"a"}\r\n', id="TLS denied"),
    ],
)
async def test_a_server_without_tls_is_told_nothing(greeting: bytes) -> None:
    told = bytearray()
    over = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        while part := await reader.read(1_000):
            told.extend(part)
            writer.write(b"PONG\r\n")
        over.set()
        writer.close()

    async with listening(talk) as port:
        error = await refused(Settings(port=1, nats_url=f"tls://ann:secret@127.0.0.1:{port}"))
        await over.wait()

    assert bytes(told) == b""
    assert isinstance(error, BrokerMisconfigured)
    assert "the server offers no TLS, and NATS_URL says tls://" in str(error)
    assert "secret" not in str(error)


async def test_a_nats_server_without_tls_is_refused(tmp_path: Path) -> None:
    async with configured(tmp_path, "") as broker:
        error = await refused(broker.settings("tls"))

        assert "offers no TLS" in str(error)
        async with connected(broker.settings("nats")) as nc:
            assert nc.is_connected


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    "tls",
    [
        pytest.param(f"tls {{ {CERTIFICATE} }}", id="required"),
        pytest.param(f"tls {{ {CERTIFICATE} }}\nallow_non_tls: true", id="offered"),
        pytest.param(f"tls {{ {CERTIFICATE}, handshake_first: true }}", id="first"),
        pytest.param(f"tls {{ {CERTIFICATE}, handshake_first: auto }}", id="first, or after the greeting"),
    ],
)
async def test_tls_is_used_whenever_the_server_has_it(tmp_path: Path, tls: str) -> None:
    async with (
        configured(tmp_path, f'{tls}\nauthorization {{ user: ann, password: "{PASSWORD}" }}') as broker,
        connected(broker.settings("tls", f"ann:{ENCODED}@")) as nc,
    ):
        assert nc._transport is not None
        assert nc._transport._io_writer.get_extra_info("cipher") is not None  # type: ignore[attr-defined]
        await nc.flush()


async def test_a_certificate_of_an_unknown_authority_is_refused_with_the_next_step(tmp_path: Path) -> None:
    async with configured(tmp_path, f"tls {{ {CERTIFICATE} }}") as broker:
        error = await refused(broker.settings("tls"))

    assert isinstance(error, BrokerMisconfigured)
    assert "certificate is not accepted" in str(error)
    assert "SSL_CERT_FILE" in str(error)


async def test_a_server_that_wants_tls_first_is_named_to_who_writes_nats(tmp_path: Path) -> None:
    async with configured(tmp_path, f"tls {{ {CERTIFICATE}, handshake_first: true }}") as broker:
        error = await refused(broker.settings("nats"))

    assert isinstance(error, ConnectionLost)
    assert "says nothing within 2 s: it hangs, or is stopped: see its log, and restart it" in str(error)
    assert "Or it wants TLS first: that needs tls:// in NATS_URL" in str(error)


@pytest.mark.parametrize(
    ("credentials", "authorization"),
    [
        (f"ann:{ENCODED}@", f'user: ann, password: "{PASSWORD}"'),
        ("a%40nn:secret@", 'user: "a@nn", password: secret'),
        (f"{ENCODED}@", f'token: "{PASSWORD}"'),
    ],
)
async def test_credentials_are_decoded(tmp_path: Path, credentials: str, authorization: str) -> None:
    async with (
        configured(tmp_path, f"authorization {{ {authorization} }}") as broker,
        connected(broker.settings("nats", credentials)) as nc,
    ):
        assert nc.is_connected


async def test_a_wrong_password_is_told_without_it(tmp_path: Path) -> None:
    async with configured(tmp_path, "authorization { user: ann, password: right }") as broker:
        error = await refused(broker.settings("nats", "ann:wrong@"))

        assert isinstance(error, BrokerMisconfigured)
        assert f"127.0.0.1:{broker.port}: it refuses the user and password in NATS_URL" in str(error)
        assert "wrong" not in str(error)


async def test_each_server_is_told_with_its_own_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    (port,) = free_ports(1)

    error = await refused(Settings(port=1, nats_url=f"nats://127.0.0.1:{port},nats://nowhere.invalid:4222"))

    assert isinstance(error, ConnectionLost)
    assert f"127.0.0.1:{port}: nothing listens there; is the broker running?" in str(error)
    assert "nowhere.invalid:4222: the host name cannot be resolved (Name or service not known)" in str(error)


async def test_one_server_that_takes_the_connection_is_enough(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    async with configured(tmp_path, "") as broker:
        settings = Settings(port=1, nats_url=f"nats://127.0.0.1:{port},nats://127.0.0.1:{broker.port}")
        for _ in range(4):  # in random order
            async with connected(settings) as nc:
                assert nc.is_connected
