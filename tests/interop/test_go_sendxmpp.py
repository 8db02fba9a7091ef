# SPDX-License-Identifier: Apache-2.0
"""go-sendxmpp at our server, together with our client: what scripts send and listen with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import trio

from tests.server.serving import PASSWORD, Running, next_of, serving
from tests.shared import program

pytestmark = pytest.mark.peers

TEXT = "\U0001f6a8 pump 3 & <valve> \u00e9"


@pytest.fixture
def go_sendxmpp() -> str:
    return program("go-sendxmpp")


def settings(path: str, running: Running, folder: Path, ca_file: Path) -> tuple[list[str], dict[str, str]]:
    """The command line and environment for romeo with the password in a file, trusting `ca_file` only."""
    folder.mkdir()
    config = folder / "sendxmpprc"
    config.write_text(f"username: romeo@localhost\njserver: {running.address}\npassword: {PASSWORD}\n")
    config.chmod(0o600)
    nothing = folder / "no-certificates"
    nothing.mkdir()
    environment = {"HOME": str(folder), "SSL_CERT_FILE": str(ca_file), "SSL_CERT_DIR": str(nothing)}
    return [path, "--file", str(config)], environment


async def send(command: list[str], environment: dict[str, str], to: str) -> subprocess.CompletedProcess[bytes]:
    """Run go-sendxmpp with TEXT as its input."""
    with trio.fail_after(20):
        return await trio.run_process(
            [*command, to], stdin=TEXT.encode(), env=environment, check=False, capture_stdout=True, capture_stderr=True
        )


async def test_go_sendxmpp_sends_to_our_client_with_the_certificate_verified(go_sendxmpp: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        assert running.ca_file is not None
        await running.account("romeo", "juliet")
        command, environment = settings(go_sendxmpp, running, tmp_path / "home", running.ca_file)
        async with running.connect("juliet@localhost/balcony") as juliet:
            await juliet.send_presence()
            await next_of(juliet.presences())
            for to in ("juliet@localhost", "juliet@localhost/balcony"):
                done = await send(command, environment, to)
                assert (done.returncode, done.stderr) == (0, b"")
                got = await next_of(juliet.messages())
                assert (str(got.sender).partition("/")[0], str(got.to), got.type) == ("romeo@localhost", to, "chat")
                assert got.body == TEXT


async def test_go_sendxmpp_refuses_a_certificate_nobody_vouches_for(go_sendxmpp: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        empty = tmp_path / "empty.pem"
        empty.touch()
        done = await send(*settings(go_sendxmpp, running, tmp_path / "home", empty), "romeo@localhost")
        assert done.returncode != 0
        assert b"certificate signed by unknown authority" in done.stderr


async def test_go_sendxmpp_hears_our_client(go_sendxmpp: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        assert running.ca_file is not None
        await running.account("romeo", "juliet")
        command, environment = settings(go_sendxmpp, running, tmp_path / "home", running.ca_file)
        async with running.connect("romeo@localhost/xiot") as watch, running.connect("juliet") as juliet:
            await watch.send_presence()
            await next_of(watch.presences())
            process = await trio.lowlevel.open_process([*command, "--listen"], env=environment, stdout=subprocess.PIPE)
            assert process.stdout is not None
            try:
                there = await next_of(watch.presences(), 10)
                await juliet.send_message(there.sender, TEXT)
                heard = b""
                with trio.fail_after(5):
                    while not heard.endswith(b"\n"):
                        heard += await process.stdout.receive_some()
                assert b"juliet@localhost" in heard
                assert TEXT.encode() in heard
            finally:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
                await process.stdout.aclose()
