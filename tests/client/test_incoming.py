# SPDX-License-Identifier: Apache-2.0
"""What others may send a client: whatever it is, the stream is read on, and no handler fails on it."""

from __future__ import annotations

import logging
from importlib import import_module
from pkgutil import iter_modules

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xiot import xep
from xiot.client.client import Client
from xiot.client.login import Login
from xiot.core import JID, Element, Stanza, StreamParser
from xiot.schema import Payload

OWN = JID("me@localhost/r")
STREAM = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
TAGS = sorted(
    {
        payload.TAG
        for found in iter_modules(xep.__path__)
        for payload in vars(import_module(f"xiot.xep.{found.name}")).values()
        if isinstance(payload, type) and issubclass(payload, Payload) and payload.TAG
    }
)
VALUES = ["", "x", "@", "a@b/c", "-1", "9" * 50, "true", "2026-11-23T00:00:00Z", "2026-99-99T00:00:00Z", "1e999"]
VALUES += ["localhost", "me@localhost", "pubsub.localhost", "none", "remove", "\u0627"]
NAMES = [
    "id",
    "to",
    "from",
    "type",
    "jid",
    "node",
    "v",
    "ts",
    "n",
    "more",
    "ver",
    "hash",
    "stamp",
    "subscription",
    "by",
    "value",
    "name",
    "when",
    "all",
    "m",
]
TYPES = ["get", "set", "result", "error", "chat", "groupchat", "subscribe", "unavailable", "x"]
attributes = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=4)


def element(tag: str, attributes: dict[str, str], text: str | None, children: list[Element]) -> Element:
    made = Element(tag, attributes, text)
    for child in children:
        made.append(child)
    return made


def stanza(kind: str, sender: str, type: str, id: str, children: list[Element]) -> Element:
    return element(f"{{jabber:client}}{kind}", {"from": sender, "type": type, "id": id}, None, children)


def stanzas(children: st.SearchStrategy[Element]) -> st.SearchStrategy[Element]:
    kinds = st.sampled_from(["iq", "message", "presence"])
    senders = st.sampled_from(["me@localhost", "localhost", "pubsub.localhost", "you@localhost/x", "@"])
    return st.builds(
        stanza, kinds, senders, st.sampled_from(TYPES), st.sampled_from(VALUES), st.lists(children, max_size=2)
    )


texts = st.none() | st.sampled_from(VALUES)
leaves = st.builds(element, st.sampled_from(TAGS), attributes, texts, st.just([]))
trees = st.recursive(
    leaves,
    lambda inner: st.builds(
        element, st.sampled_from(TAGS), attributes, texts, st.lists(inner | stanzas(inner), max_size=2)
    ),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(stanzas(trees), min_size=1, max_size=20))
def test_whatever_others_send_is_dealt_with(caplog: pytest.LogCaptureFixture, sent: list[Element]) -> None:
    caplog.clear()

    async def receive() -> None:
        client = Client(
            Login(account=OWN),
            xep.standard(),
            timeout=1,
            reconnect=False,
            outage_s=0,
            ping_after_s=None,
            ping_timeout_s=1,
        )
        parser = StreamParser()
        parser.feed(STREAM)
        async with anyio.create_task_group() as client._handlers.tasks:
            for each in sent:
                for event in parser.feed(each.tobytes("jabber:client")):
                    assert isinstance(event, Stanza)
                    await client._incoming.receive(event, OWN)

    anyio.run(receive, backend="trio")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
