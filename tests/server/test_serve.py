# SPDX-License-Identifier: Apache-2.0
"""``xiot serve`` as an operator runs it: a process, a configuration file, signals."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trustme

import xiot
from xiot.net.dial import parse_address
from xiot.net.tls import client_context

from .test_config import EXAMPLE

UNCERTIFIED = re.sub(r"(?m)^\[tls\]\n(\w.*\n)+", "", EXAMPLE)  # then a development certificate is made
COMMAND = [sys.executable, "-m", "xiot.cli.main"]


class Process:
    """A running ``xiot serve``."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.addresses: list[str] = []
        """Where it listens, in the order of the configuration; direct TLS last."""
        self.log = ""

    async def read_log(self) -> None:
        assert self.process.stderr is not None
        async for data in self.process.stderr:
            self.log += data.decode()

    async def logged(self, pattern: str) -> None:
        with trio.fail_after(20):
            while not re.search(pattern, self.log):
                assert self.process.poll() is None, self.log
                await trio.sleep(0.02)


@asynccontextmanager
async def serve(
    folder: Path, text: str = UNCERTIFIED, *, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """The process, as soon as it listens; `environ` is what is special about its environment."""
    config = folder / "xiot.toml"
    config.write_text(re.sub(r':522\d"', ':0"', text))
    process = await trio.lowlevel.open_process(
        [*COMMAND, "serve", "--config", str(config)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **(environ or {})},
    )
    running = Process(process)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.read_log)
            try:
                await running.logged(r"listening .*tls=direct")
                running.addresses = re.findall(r"listening .*address=(\S+)", running.log)
                yield running
            finally:
                if process.poll() is None:
                    process.terminate()
                with trio.move_on_after(20, shield=True):
                    await process.wait()
    finally:
        for pipe in (process.stderr, process.stdout):
            await pipe.aclose()


@pytest.mark.security(statement=22)
async def test_the_example_configuration_serves_and_sigterm_ends_every_stream(tmp_path: Path) -> None:
    async with serve(tmp_path) as running:
        ca_file = tmp_path / "data/tls/ca.pem"
        assert "development" in running.log
        add = [*COMMAND, "user", "add", "admin@bench.test", "--password-stdin", "--config", str(tmp_path / "xiot.toml")]
        await trio.run_process(add, stdin=b"s3cret\n")
        address, address6, _ = running.addresses
        async with (
            xiot.connect("admin@bench.test", "s3cret", address=address, ca_file=ca_file, reconnect=False) as admin,
            xiot.connect("anon.test", address=address6, tls="off", reconnect=False) as anon,
        ):
            await admin.send_message(anon.jid, "hello")
            with trio.fail_after(5):
                assert (await anext(anon.messages())).body == "hello"
            running.process.send_signal(signal.SIGTERM)
            for client in (admin, anon):
                with pytest.raises(xiot.StreamError, match="system-shutdown"), trio.fail_after(10):
                    async for _ in client.messages():
                        pass
        with trio.fail_after(20):
            assert await running.process.wait() == 0
        await trio.sleep(0.1)
        assert "Traceback" not in running.log
        assert "s3cret" not in running.log
        ends = [line for line in running.log.splitlines() if "c2s ended" in line]
        assert len(ends) == 2
        assert all("reason=" in line and "system-shutdown" in line for line in ends)


HOSTS = """
data_dir = "data"
[[host]]
name = "one.test"
certificate = "one.test.pem"
private_key = "one.test.key"
[[host]]
name = "two.test"
certificate = "two.test.pem"
private_key = "two.test.key"
[c2s]
listen = ["127.0.0.1:5222"]
listen_tls = ["127.0.0.1:5223"]
"""


@pytest.mark.security(statement=33)
async def test_each_host_shows_its_own_certificate(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    for host in ("one.test", "two.test"):
        cert = ca.issue_cert(host)
        cert.private_key_pem.write_to_path(tmp_path / f"{host}.key")
        cert.cert_chain_pems[0].write_to_path(tmp_path / f"{host}.pem")
    async with serve(tmp_path, HOSTS) as running:
        for host in ("one.test", "two.test"):
            assert await served_names(running.addresses[-1], host, tmp_path / "ca.pem") == {host}


async def served_names(address: str, host: str, ca_file: Path) -> set[str]:
    """The DNS names in the certificate that a handshake for `host` gets, verified."""
    tcp = await trio.open_tcp_stream(*parse_address(address))
    stream = trio.SSLStream(tcp, client_context(ca_file), server_hostname=host)
    await stream.do_handshake()
    certificate = stream.getpeercert()
    await trio.aclose_forcefully(stream)
    return {name for kind, name in certificate["subjectAltName"] if kind == "DNS"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_a_mistyped_key_is_one_line_and_exit_status_78(tmp_path: Path) -> None:
    config = tmp_path / "xiot.toml"
    config.write_text('[[host]]\nname = "x.test"\nregistartion = "open"\n')
    done = run("serve", "--config", str(config))
    assert done.returncode == 78
    assert len(done.stderr.strip().splitlines()) == 1
    assert "host[0].registartion" in done.stderr
    assert "did you mean registration?" in done.stderr


def test_a_port_in_use_is_one_line_and_exit_status_1(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        config = tmp_path / "xiot.toml"
        config.write_text(f'data_dir = "d"\n[[host]]\nname = "x.test"\n[c2s]\nlisten = ["127.0.0.1:{port}"]\n')
        done = run("serve", "--config", str(config))
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == f"Error: cannot listen on 127.0.0.1:{port}: Address already in use"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.security(row=29, statement=34)
async def test_old_tls_and_weak_ciphers_are_refused(tmp_path: Path) -> None:
    async with serve(tmp_path) as running:
        for weaken in (
            lambda c: setattr(c, "maximum_version", ssl.TLSVersion.TLSv1_1),
            lambda c: (setattr(c, "maximum_version", ssl.TLSVersion.TLSv1_2), c.set_ciphers("AES128-SHA")),
        ):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.set_ciphers("ALL:@SECLEVEL=0")
            weaken(context)
            tcp = await trio.open_tcp_stream(*parse_address(running.addresses[-1]))
            with pytest.raises(trio.BrokenResourceError):
                await trio.SSLStream(tcp, context).do_handshake()
            await tcp.aclose()
