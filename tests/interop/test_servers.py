# SPDX-License-Identifier: Apache-2.0
"""Our client at the servers of others, and at ours: login, messages, presence, roster, and what their extensions answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import xiot
from tests.scripts.stages import Stage, absent, open_stage
from tests.server.serving import PASSWORD, next_of
from tests.shared import missing
from xiot.core import JID
from xiot.xep import disco, ping, roster
from xiot.xep import version as software

from .peers import TEXT, presence_of, until


@pytest.fixture(
    params=["tcp", pytest.param("prosody", marks=pytest.mark.peers), pytest.param("ejabberd", marks=pytest.mark.peers)]
)
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    if (reason := absent(request.param)) is not None:
        missing(reason)
    async with open_stage(request.param, tmp_path) as found:
        for name in ("romeo", "juliet"):
            await found.register(name)
        yield found


def connect(stage: Stage, jid: str, password: str = PASSWORD) -> Any:
    """Our client, over STARTTLS with the certificate verified."""
    return xiot.connect(jid, password, address=stage.address, ca_file=stage.ca_file)


async def test_our_client_talks_at_any_server(stage: Stage) -> None:
    """One walk through everything, since ejabberd takes seconds to start."""
    with pytest.raises(xiot.AuthError):
        async with connect(stage, "romeo@localhost", "wrong"):
            pass
    with pytest.raises(xiot.LinkError, match="certificate"):
        async with xiot.connect("romeo@localhost", PASSWORD, address=stage.address):  # trusts the system's authorities
            pass
    async with connect(stage, "romeo@localhost/orchard") as romeo, connect(stage, "juliet@localhost/balcony") as juliet:
        assert (str(romeo.jid), str(juliet.jid)) == ("romeo@localhost/orchard", "juliet@localhost/balcony")

        await romeo.send_message(juliet.jid, TEXT)
        got = await next_of(juliet.messages())
        assert (got.sender, got.type, got.body) == (romeo.jid, "chat", TEXT)
        await romeo.send_message("nobody@localhost", "hi")
        assert (await next_of(romeo.messages())).type == "error"

        await juliet.send_presence(romeo.jid, show="xa", status=TEXT, priority=-1)
        seen = await presence_of(romeo, juliet.jid)
        assert (seen.type, seen.show, seen.status, seen.priority) == (None, "xa", TEXT, -1)

        await roster.fetch(romeo, romeo.roster)
        assert not romeo.roster.items
        contact = JID("juliet@localhost")
        await roster.set_item(romeo, contact, "Julia \u2665", ["Verona & <more>", "Capulets"])
        await until(lambda: contact in romeo.roster.items)
        item = romeo.roster.items[contact]
        assert (item.name, item.subscription, set(item.groups)) == (
            "Julia \u2665",
            "none",
            {"Verona & <more>", "Capulets"},
        )
        await roster.remove(romeo, contact)
        await until(lambda: contact not in romeo.roster.items)

        assert await ping.ping(romeo) < 5
        assert await ping.ping(romeo, str(juliet.jid)) < 5

        found = await disco.info(romeo, "localhost")
        assert ("server", "im") in [(identity.category, identity.type) for identity in found.identities]
        name = {"xiot": "xiot", "prosody": "Prosody", "ejabberd": "ejabberd"}[stage.server]
        assert (await software.version(romeo, "localhost")).name == name
