# SPDX-License-Identifier: Apache-2.0
"""``xiot send`` and ``xiot sub`` as somebody types them, against a real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trustme
from click.testing import CliRunner

import xiot
from tests.server.serving import PASSWORD, Running, next_of, serving
from xiot.cli.main import main


async def xiot_command(
    running: Running, *arguments: str, stdin: str = "", ca: bool = True, **environment: str
) -> tuple[int, str, str]:
    """Run the command with what it needs to reach the server, and unless not `ca` to trust it; exit status, output, errors."""
    command = [sys.executable, "-m", "xiot.cli.main", *arguments, "--address", running.address]
    with trio.fail_after(30):
        done = await trio.run_process(
            [*command, *(("--ca-file", str(running.ca_file)) if ca else ())],
            stdin=stdin.encode(),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**os.environ, **environment},
        )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


async def test_send_takes_the_text_from_the_line_or_from_standard_input(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with running.connect("juliet") as juliet:
            to = str(juliet.jid)
            assert await xiot_command(
                running,
                "send",
                to,
                "by argument",
                "--jid",
                "romeo@localhost",
                "--password-stdin",
                stdin=PASSWORD + "\n",
            ) == (0, "", "")
            assert (await next_of(juliet.messages())).body == "by argument"
            assert await xiot_command(
                running, "send", to, "--jid", "romeo@localhost", stdin="line 1\nline 2\n", XIOT_PASSWORD=PASSWORD
            ) == (0, "", "")
            assert (await next_of(juliet.messages())).body == "line 1\nline 2"


async def test_a_refused_login_is_one_line_without_the_password(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        status, out, errors = await xiot_command(
            running, "send", "juliet@localhost", "hello", "--jid", "romeo@localhost", XIOT_PASSWORD="wr0ng"
        )
        assert (status, out) == (1, "")
        assert len(errors.strip().splitlines()) == 1
        assert "not-authorized" in errors
        assert "wr0ng" not in errors


async def test_errors_of_an_account_say_what_to_do(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        other_ca = tmp_path / "other.pem"
        trustme.CA().cert_pem.write_to_path(str(other_ca))
        for arguments, environment, line in (
            (("send", "nobody@localhost", "hi"), {}, "nobody@localhost does not get it: service-unavailable"),
            (("sub", "none"), {}, "there is no node none: the first who publishes makes it"),
            (
                ("sub", "none"),
                {"XIOT_PASSWORD": "wr0ng"},
                "no login as romeo@localhost: the password is wrong, or there is no such account (not-authorized)",
            ),
            (
                ("sub", "none", "--ca-file", str(other_ca)),
                {},
                "the certificate of localhost is refused: unable to get local issuer certificate; --ca-file names whom to trust",
            ),
            (("sub", "none", "--ca-file", __file__), {}, f"{__file__} holds no certificate in PEM form"),
        ):
            settings = {"XIOT_JID": "romeo@localhost", "XIOT_PASSWORD": PASSWORD, "XIOT_CA_FILE": str(running.ca_file)}
            status, out, errors = await xiot_command(running, *arguments, ca=False, **settings | environment)
            assert (status, out, errors) == (1, "", f"Error: {line}\n")


async def test_who_stops_sub_with_ctrl_c_leaves_in_order(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("boiler", "app")
        async with running.connect("boiler") as boiler:
            await boiler.publish("n", xiot.reading(on=True))
            command = [sys.executable, "-m", "xiot.cli.main", "sub", "n", "--jid", "app@localhost"]
            place = ["--address", running.address, "--ca-file", str(running.ca_file)]
            process = await trio.lowlevel.open_process(
                [*command, *place],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "XIOT_PASSWORD": PASSWORD},
            )
            with trio.fail_after(20):
                assert process.stdout is not None
                assert process.stderr is not None
                assert b"on=true" in await process.stdout.receive_some()
                process.send_signal(signal.SIGINT)
                assert await process.wait() == 130
                assert await process.stderr.receive_some() == b""
                while running.server.hosts["localhost"].sessions(xiot.JID("app@localhost")):  # not kept to be resumed
                    await trio.sleep(0.01)


async def test_sub_prints_items_as_they_come_and_stops_at_the_count(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("boiler", "app")
        async with running.connect("boiler@localhost/x") as boiler:
            await boiler.publish("n", xiot.reading(temperature=(21.5, "Cel"), on=True), id="a")
            done: list[tuple[int, str, str]] = []

            async def subscribe() -> None:
                done.append(
                    await xiot_command(running, "sub", "n", "-n", "2", "--jid", "app@localhost", XIOT_PASSWORD=PASSWORD)
                )

            async with trio.open_nursery() as nursery:
                nursery.start_soon(subscribe)
                sessions = running.server.hosts["localhost"].online
                with trio.fail_after(20):
                    while not any(str(bare) == "app@localhost" for bare in sessions):
                        await trio.sleep(0.05)
                await trio.sleep(0.5)
                await boiler.publish("n", xiot.reading(temperature=(22, "Cel"), on=False), id="b")
            status, out, errors = done[0]
            assert (status, errors) == (0, "")
            assert out.splitlines() == [
                "boiler@localhost\ta\ttemperature=21.5 °C\ton=true",
                "boiler@localhost\tb\ttemperature=22 °C\ton=false",
            ]


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (["sub", "n", "--jid", "@x"], "'--jid': '@x'"),
        (["send", "ju liet@localhost", "hi", "--jid", "a@x"], "'TO': 'ju liet@localhost'"),
        (["read", "@", "--jid", "a@x"], "'JID': '@'"),
        (["sub", "n", "--jid", "a@x", "--address", "x:y"], "'--address': not an address"),
    ],
)
def test_a_bad_jid_or_address_is_a_usage_error(arguments: list[str], about: str) -> None:
    done = CliRunner().invoke(main, [*arguments, "--password-stdin"], input="p\n")
    assert done.exit_code == 2
    assert f"Invalid value for {about}" in done.stderr
