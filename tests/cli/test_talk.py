# SPDX-License-Identifier: Apache-2.0
"""``xiot send`` and ``xiot sub`` as somebody types them, against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import trio

import xiot
from tests.server.serving import PASSWORD, Running, next_of, serving


async def xiot_command(running: Running, *arguments: str, stdin: str = "", **environment: str) -> tuple[int, str, str]:
    """Run the command with what it needs to reach the server; exit status, output, errors."""
    command = [sys.executable, "-m", "xiot.cli.main", *arguments, "--address", running.address]
    with trio.fail_after(30):
        done = await trio.run_process(
            [*command, "--ca-file", str(running.ca_file)],
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


def test_a_bad_jid_is_a_usage_error() -> None:
    command = [sys.executable, "-m", "xiot.cli.main", "sub", "n", "--jid", "@x", "--password-stdin"]
    done = subprocess.run(command, input="p\n", capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert "--jid" in done.stderr
