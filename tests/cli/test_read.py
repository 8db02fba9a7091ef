# SPDX-License-Identifier: Apache-2.0
"""``xiot read`` and ``xiot set`` as somebody types them, against a thing on a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

import xiot
from tests.cli.test_talk import xiot_command
from tests.server.serving import PASSWORD, serving

Command = Callable[..., Awaitable[tuple[int, str, str]]]


@asynccontextmanager
async def a_thing(folder: Path) -> AsyncIterator[tuple[Command, dict[str, object]]]:
    """The command, logged in with the account of a thing, unless ``who`` is another one; and the thing's state."""
    thing = xiot.Thing("boiler", limit_s=1)
    state: dict[str, object] = {"on": True, "offset": 0.0}

    @thing.field("temperature", unit="Cel")
    def temperature() -> float:
        return 61.5

    @thing.field("[red]serial[/]", kind="identity")
    def serial() -> str:
        return "[bold]A-1[/]\x9b2J\n"

    @thing.field("on", kind="status")
    async def read_on() -> object:
        return state["on"]

    @thing.field("broken", kind="peak")
    def broken() -> float:
        raise OSError("no probe")

    @thing.control("on")
    async def set_on(value: bool) -> None:
        state["on"] = value

    @thing.control("offset", unit="K", low=-5, high=5)
    async def offset(value: float) -> None:
        state["offset"] = value

    async with serving(folder) as running:
        await running.account("boiler", "app")

        async def command(*arguments: str, who: str = "boiler") -> tuple[int, str, str]:
            return await xiot_command(running, *arguments, XIOT_JID=f"{who}@localhost", XIOT_PASSWORD=PASSWORD)

        async with running.connect("boiler@localhost/thing") as boiler, trio.open_nursery() as nursery:
            nursery.start_soon(boiler.serve, thing)
            yield command, state
            nursery.cancel_scope.cancel()


async def test_read_prints_values_with_units_and_what_could_not_be_read(tmp_path: Path) -> None:
    async with a_thing(tmp_path) as (command, _):
        status, out, errors = await command("read", "boiler@localhost")
        assert status == 1
        assert out.splitlines() == [
            "temperature\t61.5\t°C\tmomentary",
            "[red]serial[/]\t[bold]A-1[/]\\x9b2J\\n\t\tidentity",
            "on\ttrue\t\tstatus",
        ]
        assert errors == "not read: broken: cannot be read\n"
        assert await command("read", "boiler@localhost/thing", "temperature") == (
            0,
            "temperature\t61.5\t°C\tmomentary\n",
            "",
        )
        assert await command("read", "boiler@localhost", "--kind", "status") == (0, "on\ttrue\t\tstatus\n", "")


async def test_read_prints_json(tmp_path: Path) -> None:
    async with a_thing(tmp_path) as (command, _):
        status, out, _ = await command("read", "boiler@localhost/thing", "temperature", "on", "--json")
        assert status == 0
        found = json.loads(out)
        assert found.pop("timestamp").startswith("20")
        assert found == {
            "jid": "boiler@localhost/thing",
            "fields": [
                {"name": "temperature", "value": 61.5, "unit": "Cel", "type": "numeric", "kinds": ["momentary"]},
                {"name": "on", "value": True, "unit": None, "type": "boolean", "kinds": ["status"]},
            ],
            "errors": [],
        }


async def test_errors_say_what_to_do(tmp_path: Path) -> None:
    thing = "boiler@localhost/thing"
    async with a_thing(tmp_path) as (command, _):
        for arguments, who, line in (
            (("read", thing), "app", f"{thing}: it does not let us read it: log in with its own account, or have its owner allow ours"),
            (("set", thing, "on", "off"), "app", f"{thing}: it does not let us control it: log in with its own account, or have its owner allow ours"),
            (("read", "app@localhost"), "boiler", "app@localhost shows us no such thing; try its full JID, app@localhost/..."),
            (("read", "app@localhost/x"), "boiler", "app@localhost/x: no thing answers there: is it online, and is the resource right?"),
            (("read", thing, "pressure"), "boiler", f"{thing}: there is no field pressure"),
            (("read", thing, "pressure", "on"), "boiler", f"{thing} has no field pressure; xiot read {thing} shows all it has"),
            (("set", thing, "mode", "1"), "boiler", f"{thing} has no parameter mode, but: on, offset"),
            (("set", thing, "offset", "7"), "boiler", "offset: more than 5"),
            (("set", thing, "on", "perhaps"), "boiler", "on: not a value of type boolean"),
        ):  # fmt: skip
            status, _, errors = await command(*arguments, who=who)
            assert (status, errors) == (1, f"Error: {line}\n")


async def test_set_sets_and_shows_what_can_be_set(tmp_path: Path) -> None:
    async with a_thing(tmp_path) as (command, state):
        assert await command("set", "boiler@localhost", "on", "off") == (0, "", "")
        assert await command("set", "--timeout", "20", "boiler@localhost", "offset", "2.5") == (0, "", "")
        assert state == {"on": False, "offset": 2.5}
        assert await command("set", "boiler@localhost") == (
            0,
            "on\tfalse\tboolean\noffset (K)\t\tnumeric from -5 to 5\n",
            "",
        )
        status, _, errors = await command("set", "boiler@localhost", "on")
        assert status == 2
        assert "what shall on be set to?" in errors
