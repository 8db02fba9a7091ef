# SPDX-License-Identifier: Apache-2.0
"""Who gets a message or an iq (RFC 6121 section 8.5: each cell of its table; statements 62 to 65), over real streams."""

from __future__ import annotations

from pathlib import Path

import pytest

from .actors import HOST, stage

KINDS = ["normal", "chat", "groupchat", "headline", "error"]
STORED, REFUSED, SILENT = ["stored"], ["service-unavailable"], list[str]()

# Resources of the account (name and priority), the address, and for each type who gets it or what becomes of it.
TABLE = {
    "no account, bare": (None, "", [REFUSED, REFUSED, REFUSED, SILENT, SILENT]),
    "no account, full": (None, "/a", [REFUSED, REFUSED, REFUSED, SILENT, SILENT]),
    "nobody there, bare": ({}, "", [STORED, STORED, REFUSED, SILENT, SILENT]),
    "nobody there, full": ({}, "/a", [REFUSED, STORED, REFUSED, SILENT, SILENT]),
    "not available, bare": ({"a": None}, "", [STORED, STORED, REFUSED, SILENT, SILENT]),
    "not available, full": ({"a": None}, "/a", [["a"]] * 5),
    "negative, bare": ({"a": -1}, "", [STORED, STORED, REFUSED, SILENT, SILENT]),
    "negative, full": ({"a": -1}, "/a", [["a"]] * 5),
    "negative, other": ({"a": -1}, "/b", [REFUSED, STORED, REFUSED, SILENT, SILENT]),
    "one, bare": ({"a": 0}, "", [["a"], ["a"], REFUSED, ["a"], SILENT]),
    "one, full": ({"a": 0}, "/a", [["a"]] * 5),
    "one, other": ({"a": 0}, "/b", [REFUSED, ["a"], REFUSED, SILENT, SILENT]),
    "several, bare": (
        {"a": 5, "b": 5, "c": 1, "d": -1},
        "",
        [["a", "b"], ["a", "b"], REFUSED, ["a", "b", "c"], SILENT],
    ),
    "several, full": ({"a": 5, "b": 5, "c": 1, "d": -1}, "/d", [["d"]] * 5),
    "several, other": ({"a": 5, "b": 1}, "/x", [REFUSED, ["a"], REFUSED, SILENT, SILENT]),
}


@pytest.mark.parametrize("case", TABLE)
@pytest.mark.security(statement=(62, 63, 64, 65))
async def test_message(tmp_path: Path, case: str) -> None:
    resources, address, row = TABLE[case]
    account = "nobody" if resources is None else "juliet"
    async with stage(tmp_path, "romeo", "juliet") as play:
        there = {name: await play.enter(f"juliet/{name}", priority) for name, priority in (resources or {}).items()}
        for actor in there.values():
            await actor.stanzas()
        romeo = await play.enter("romeo/orchard")
        for kind, expected in zip(KINDS, row, strict=True):
            message = f"<message to='{account}@{HOST}{address}' type='{kind}'><body>{kind}</body></message>"
            answers = await romeo.says(message)
            got = [name for name, actor in there.items() if await actor.says()]
            queued, _ = await play.server.store.run(lambda tx: tx.offline.usage(f"juliet@{HOST}"))
            await play.server.store.run(lambda tx: tx.offline.clear(f"juliet@{HOST}"))
            got += ["stored"] if queued else []
            got += [answer.rpartition(" ")[2] for answer in answers]
            assert got == expected, kind


PING = "<ping xmlns='urn:xmpp:ping'/>"


@pytest.mark.parametrize("available", [True, False])
@pytest.mark.security(statement=(55, 65))
async def test_iq(tmp_path: Path, available: bool) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        juliet = await play.enter("juliet/a", 0 if available else None)
        romeo = await play.enter("romeo/orchard")
        for to, answer in {
            f"juliet@{HOST}": ["iq result juliet"],  # by the server, section 8.5.2.1.3
            f"juliet@{HOST}/b": ["iq error juliet/b service-unavailable"],
            f"nobody@{HOST}": ["iq error nobody service-unavailable"],
            f"nobody@{HOST}/b": ["iq error nobody/b service-unavailable"],
            juliet.jid: [],
        }.items():
            assert await romeo.says(f"<iq type='get' id='1' to='{to}'>{PING}</iq>") == answer
            assert await romeo.says(f"<iq type='result' id='1' to='{to}'/>") == []
        assert await juliet.says() == ["iq get romeo/orchard", "iq result romeo/orchard"]


async def test_iq_for_who_is_not_there_is_answered_before_what_comes_behind_it(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:  # first the store says whether there is such an account
        romeo = await play.enter("romeo/orchard")
        ask = "<query xmlns='jabber:iq:roster'/>"  # then the handler asks it again
        said = await romeo.says(
            f"<iq type='get' id='1' to='juliet@{HOST}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
            f"<iq type='get' id='2' to='juliet@{HOST}'>{ask}</iq><iq type='get' id='3'>{ask}</iq>"
            f"<message to='{romeo.jid}'><body>x</body></message>"
        )
        assert [line.split()[0] for line in said] == ["iq", "iq", "iq", "message"]


async def test_message_without_to_is_for_oneself(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo") as play:
        romeo = await play.enter("romeo/orchard")
        (got,) = await romeo.stanzas("<message><body>O me</body></message>")
        assert (got.get("from"), got.get("to")) == (romeo.jid, f"romeo@{HOST}")


async def test_unknown_type_is_normal(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo", "juliet") as play:
        juliet, romeo = await play.enter("juliet/a"), await play.enter("romeo/orchard")
        await romeo.stanzas(f"<message to='juliet@{HOST}' type='sonnet'><body>x</body></message>")
        assert await juliet.says() == ["message sonnet romeo/orchard x"]
