# SPDX-License-Identifier: Apache-2.0
"""A running server takes over a new configuration and new certificates; no session notices."""

from __future__ import annotations

import errno
import ssl
from pathlib import Path

import msgspec
import pytest
import structlog
import trio
import trustme

import xiot
from xiot.client import Client
from xiot.server.config import FIXED, Config, ConfigError, load, takeable

from .attacks import HEADER, Site, condition_of
from .serving import HOST, Running, serving


def edit(running: Running, *changes: tuple[str, str]) -> None:
    text = running.config.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    running.config.write_text(text)


async def features(running: Running, host: str = HOST) -> bytes:
    """What a new stream is offered, before TLS."""
    site = Site(running, "tcp", 5)
    peer = await site.peer()
    await peer.send(HEADER.replace(b"'localhost'", f"'{host}'".encode()))
    await peer.until(
        b">",
    )
    with trio.fail_after(5):
        while not peer.received.endswith((b"features>", b"</stream:stream>")):
            assert await peer.receive()
    await site.aclose()
    return peer.received


async def alive(client: Client) -> None:
    with trio.fail_after(5):
        await client.ping()


async def test_new_streams_go_by_the_new_settings_and_the_old_ones_go_on(tmp_path: Path) -> None:
    async with serving(tmp_path, starttls="off", plain=True) as running:
        await running.account("juliet")
        assert b"register" in await features(running)
        async with running.connect("juliet", tls="off") as juliet:
            edit(
                running,
                ('"open"', '"off"\nmechanisms = ["SCRAM-SHA-1"]'),
                ("[limits]", "[limits]\nresources_per_account = 1"),
            )
            assert await running.server.reload() == []
            offered = await features(running)
            assert b"register" not in offered
            assert offered.count(b"<mechanism>") == 1
            assert b"SCRAM-SHA-1<" in offered
            await alive(juliet)
            with pytest.raises(xiot.XiotError, match="resource-constraint"):
                async with running.connect("juliet", tls="off"):
                    pass


async def served(running: Running, ca: trustme.CA) -> bytes:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    host, _, port = running.tls_address.rpartition(":")
    stream = trio.SSLStream(await trio.open_tcp_stream(host, int(port)), context, server_hostname=HOST)
    await stream.do_handshake()
    shown = stream.getpeercert(binary_form=True)
    await trio.aclose_forcefully(stream)
    assert isinstance(shown, bytes)
    return shown


def issue(ca: trustme.CA, folder: Path) -> None:
    cert = ca.issue_cert(HOST, "anon.localhost")
    cert.private_key_pem.write_to_path(folder / "key.pem")
    cert.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    ca.cert_pem.write_to_path(folder / "trusted.pem")


async def test_new_certificates_are_for_new_handshakes_and_their_channel_binding_too(tmp_path: Path) -> None:
    ca = trustme.CA()
    issue(ca, tmp_path)
    async with serving(tmp_path) as running:
        await running.account("juliet")
        edit(running, ("[limits]", '[tls]\ncertificate = "cert.pem"\nprivate_key = "key.pem"\n[limits]'))
        async with running.connect("juliet") as before:
            await running.server.reload()
            first = await served(running, ca)
            issue(ca, tmp_path)
            await running.server.reload()
            assert await served(running, ca) != first
            running.ca_file = tmp_path / "trusted.pem"
            async with running.connect("juliet") as after:  # by SCRAM-SHA-256-PLUS
                await alive(after)
            await alive(before)


async def test_a_handshake_that_was_under_way_is_finished_with_the_certificate_it_began_with(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("juliet")
        host, _, port = running.tls_address.rpartition(":")
        stream = trio.SSLStream(await trio.open_tcp_stream(host, int(port)), running.tls, server_hostname=HOST)
        while not len(running.server.pump):
            await trio.sleep(0.01)
        await running.server.reload()
        await stream.send_all(HEADER)
        with trio.fail_after(5):
            received = b""
            while not received.endswith(b"features>"):
                received += await stream.receive_some()
        assert b"SCRAM-SHA-256-PLUS" in received
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("[limits]", "[limits]\nidle = 3", "unknown key"),
        ("[limits]", '[tls]\ncertificate = "none.pem"\nprivate_key = "none.key"\n[limits]', "none.pem"),
        ("data_dir", "data_dir =", "Invalid value"),
    ],
)
async def test_a_bad_file_leaves_the_old_one_in_force(tmp_path: Path, old: str, new: str, why: str) -> None:
    async with serving(tmp_path, starttls="off", plain=True) as running:
        config, certificates = running.server.config, running.server.certificates
        edit(running, (old, new), ('"open"', '"off"'))
        with structlog.testing.capture_logs() as logs, pytest.raises(ConfigError, match=why):
            await running.server.reload()
        assert [(entry["log_level"], why in entry["error"]) for entry in logs] == [("error", True)]
        assert (running.server.config, running.server.certificates) == (config, certificates)
        assert b"register" in await features(running)


async def test_whatever_fails_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path) as running:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("xiot.server.certificates.development_certificate", full)
        with structlog.testing.capture_logs() as logs, pytest.raises(xiot.XiotError, match="No space left"):
            await running.server.reload()
        assert [entry["log_level"] for entry in logs] == ["error"]


async def test_a_host_that_stays_for_its_sessions_needs_its_files_no_more(tmp_path: Path) -> None:
    ca = trustme.CA()
    issue(ca, tmp_path)
    async with serving(tmp_path) as running:
        pair = 'certificate = "cert.pem"\nprivate_key = "key.pem"'
        edit(running, ('name = "anon.localhost"', f'name = "anon.localhost"\n{pair}'))
        await running.server.reload()
        trusted = tmp_path / "trusted.pem"
        async with xiot.connect("anon.localhost", address=running.address, ca_file=trusted) as anon:
            edit(running, ("anon.localhost", "other.localhost"), (pair, ""))
            (tmp_path / "cert.pem").unlink()
            assert await running.server.reload() == ["end of host anon.localhost, which has sessions"]
            await alive(anon)
            async with xiot.connect("anon.localhost", address=running.address, ca_file=trusted) as another:
                await alive(another)


async def test_what_has_to_wait_for_a_restart_is_said(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        edit(
            running,
            ('data_dir = "."', 'data_dir = "elsewhere"'),
            ('listen = ["127.0.0.1:0"]\nlisten_tls', 'listen = ["127.0.0.1:1"]\nlisten_tls'),
            ("[limits]", "[limits]\nmax_stanza_bytes = 20000\nconnections_per_address = 7"),
        )
        with structlog.testing.capture_logs() as logs:
            waiting = await running.server.reload()
        assert waiting == ["data_dir", "c2s.listen", "limits.max_stanza_bytes"]
        assert [entry["what"] for entry in logs if entry["event"] == "waits for a restart"] == waiting
        config = running.server.config
        assert (config.data_dir, config.limits.connections_per_address) == (tmp_path, 7)
        assert config.limits.max_stanza_bytes == 262_144


async def test_hosts_come_and_go_but_one_with_sessions_stays(tmp_path: Path) -> None:
    async with serving(tmp_path, starttls="optional", plain=True) as running:
        edit(running, ('"anon.localhost"', '"other.localhost"'))
        async with xiot.connect("anon.localhost", address=running.address, tls="off") as anon:
            assert await running.server.reload() == ["end of host anon.localhost, which has sessions"]
            await alive(anon)
            assert b"ANONYMOUS" in await features(running, "other.localhost")
        while running.server.sessions:
            await trio.sleep(0.01)
        assert await running.server.reload() == []
        assert condition_of(await features(running, "anon.localhost")) == "host-unknown"
        assert set(running.server.places) == {HOST, f"pubsub.{HOST}", "other.localhost", "pubsub.other.localhost"}


LIVE = {
    "Accounts": {"scram_iterations", "token_days"},
    "C2S": {"starttls", "plain_without_tls", "client_ca", "location"},
    "Limits": {
        *("pre_auth_s", "stall_s", "idle_s", "resume_s", "burst_s", "connections_per_address", "resources_per_account"),
        *("account_bytes_per_s", "account_stanzas_per_s", "address_bytes_per_s", "address_stanzas_per_s"),
        *("auth_failures_per_stream", "auth_failures_per_address", "auth_failures_per_account", "auth_failure_delay_s"),
        *("registrations_per_address_per_hour", "offline_messages_per_account", "offline_bytes_per_account"),
        *("stored_bytes_per_account", "dedupe_ids_per_account", "dedupe_s"),
    },
    "Log": {"level"},
    "Tls": {"certificate", "private_key"},
    "Exi": {
        *("in_band", "session_wide", "value_max_length", "value_partition_capacity"),
        *("upload", "download_hosts", "schema_bytes", "schemas_bytes", "aliases"),
    },
    "Http": set[str](),
}
"""What is read again whenever it is needed, or given anew by `Server.reload`."""


def test_it_is_decided_for_each_key_whether_a_reload_changes_it() -> None:
    """A new key is either in `config.FIXED`, or a reload brings it to where it is used, and it is listed above."""
    for table in msgspec.structs.fields(Config):
        kind = table.type
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            names = {field.name for field in msgspec.structs.fields(kind)}
            assert LIVE[kind.__name__] | set(FIXED.get(table.name, ())) == names, kind.__name__
            assert not LIVE[kind.__name__] & set(FIXED.get(table.name, ()))


def test_only_what_a_running_server_can_change_is_taken(tmp_path: Path) -> None:
    def read(text: str) -> Config:
        path = tmp_path / "xiot.toml"
        path.write_text('[[host]]\nname = "a.example"\n' + text)
        return load(path)

    running = read("[limits]\nmax_depth = 20\npre_auth_s = 5")
    wanted = read('[limits]\nmax_depth = 30\npre_auth_s = 6\n[log]\nlevel = "error"')
    taken, waiting = takeable(running, wanted)
    assert waiting == ["limits.max_depth"]
    assert (taken.limits.max_depth, taken.limits.pre_auth_s, taken.log.level) == (20, 6, "error")
    assert takeable(running, running) == (running, [])
