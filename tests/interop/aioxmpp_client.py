# SPDX-License-Identifier: Apache-2.0
"""An aioxmpp client that a test drives: see `lines`.

It runs in a Python environment of its own, without xiot. The end of stdin logs it out.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")

import aioxmpp  # noqa: E402
import aioxmpp.connector  # noqa: E402
import aioxmpp.security_layer  # noqa: E402
import OpenSSL.SSL  # noqa: E402
from lines import commands, say  # noqa: E402
from lxml import etree  # noqa: E402


def text_of(body: Any) -> str | None:
    """The text of a message or a status in any language."""
    return next(iter(body.values()), None)


class Report(logging.Handler):
    """Tells the test what the library warns of."""

    def emit(self, record: logging.LogRecord) -> None:
        say("warning", text=record.getMessage())


class Client:
    """One account at one resource; it does nothing unless told to."""

    def __init__(self, jid: str, password: str, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.client = client = aioxmpp.Client(
            aioxmpp.JID.fromstr(jid),
            aioxmpp.security_layer.make(password),
            override_peer=[(host, int(port), aioxmpp.connector.STARTTLSConnector())],
            max_initial_attempts=1,
        )
        presences = client.summon(aioxmpp.PresenceClient)
        for signal in (presences.on_available, presences.on_changed, presences.on_unavailable):
            signal.connect(self.on_presence)
        self.roster = client.summon(aioxmpp.RosterClient)
        self.vcard = client.summon(aioxmpp.vcard.VCardService)
        self.blocking = client.summon(aioxmpp.BlockingClient)
        self.carbons = client.summon(aioxmpp.CarbonsClient)
        self.dispatcher = client.summon(aioxmpp.dispatcher.SimpleMessageDispatcher)
        self.dispatcher.register_callback(None, None, self.on_message)
        self.roster.on_entry_added.connect(self.on_entry)
        self.roster.on_entry_name_changed.connect(self.on_entry)
        self.roster.on_entry_subscription_state_changed.connect(self.on_entry)
        self.roster.on_entry_removed.connect(lambda item: say("removed", jid=str(item.jid)) and None)
        client.on_stream_established.connect(self.on_session)
        client.on_stream_suspended.connect(lambda reason: say("suspended") and None)
        client.on_stream_resumed.connect(lambda: say("resumed") and None)
        client.on_failure.connect(self.on_failure)

    def on_session(self) -> None:
        stream = self.client.stream
        transport = stream._xmlstream.transport
        ssl = transport.get_extra_info("ssl_object")
        say(
            "session",
            jid=str(self.client.local_jid),
            tls=ssl.get_protocol_version_name(),
            verified=bool(ssl.get_context().get_verify_mode() & OpenSSL.SSL.VERIFY_PEER),
            resumable=bool(stream.sm_enabled and stream.sm_resumable),
        )

    def on_failure(self, error: Exception) -> None:
        say("failure", kind=type(error).__name__, reason=str(error))

    def on_message(self, message: Any) -> None:
        carbon = message.xep0280_sent or message.xep0280_received
        if carbon is not None:
            direction = "sent" if message.xep0280_sent else "received"
            inner = carbon.stanza
            say("carbon", direction=direction, sender=str(inner.from_), to=str(inner.to), body=text_of(inner.body))
            return
        say(
            "message",
            sender=str(message.from_),
            type=message.type_.value,
            id=message.id_,
            body=text_of(message.body),
        )

    def on_presence(self, _: Any, presence: Any) -> None:
        say(
            "presence",
            sender=str(presence.from_),
            type=presence.type_.value,
            show=presence.show.value,
            status=text_of(presence.status),
            priority=presence.priority,
        )

    def on_entry(self, item: Any) -> None:
        groups = sorted(str(group) for group in item.groups)
        say("entry", jid=str(item.jid), name=item.name, subscription=item.subscription, groups=groups)

    async def do(self, verb: str, **arguments: Any) -> None:
        """Carry out one command of the test."""
        client = self.client
        jid = aioxmpp.JID.fromstr(arguments["jid"]) if "jid" in arguments else None
        match verb:
            case "message":
                message = aioxmpp.Message(type_=aioxmpp.MessageType.CHAT, to=jid)
                message.body[None] = arguments["body"]
                await client.send(message)
            case "presence":
                show = aioxmpp.PresenceShow(arguments.get("show"))
                presence = aioxmpp.Presence(type_=aioxmpp.PresenceType(arguments.get("type")), to=jid, show=show)
                if "status" in arguments:
                    presence.status[None] = arguments["status"]
                presence.priority = arguments.get("priority", 0)
                await client.send(presence)
            case "roster":
                items = self.roster.items.values()
                say("roster", items=[[str(i.jid), i.name, i.subscription, sorted(map(str, i.groups))] for i in items])
            case "set_roster":
                await self.roster.set_entry(
                    jid, name=arguments.get("name"), add_to_groups=frozenset(arguments.get("groups", ()))
                )
                say("set_roster")
            case "remove_roster":
                await self.roster.remove_entry(jid)
                say("remove_roster")
            case "set_vcard":
                card = await self.vcard.get_vcard()
                card.elements.append(etree.fromstring(arguments["xml"]))
                await self.vcard.set_vcard(card)
                say("set_vcard")
            case "get_vcard":
                card = await self.vcard.get_vcard(jid)
                say("get_vcard", elements={each.tag: each.text for each in card.elements})
            case "block":
                await self.blocking.block_jids([jid])
                say("block")
            case "unblock":
                await self.blocking.unblock_jids([jid])
                say("unblock")
            case "blocked":
                say("blocked", jids=sorted(map(str, self.blocking.blocklist)))
            case "carbons":
                await self.carbons.enable()
                say("carbons")
            case "cut":
                client.stream._xmlstream.transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            case _:
                raise ValueError(verb)

    async def run(self) -> None:
        self.client.start()
        async for command in commands():
            try:
                await self.do(**command)
            except aioxmpp.errors.XMPPError as error:
                say("error", condition=error.condition.value[1])
        if self.client.running:
            ended = asyncio.get_running_loop().create_future()
            self.client.on_stopped.connect(lambda: ended.set_result(None) and None)
            self.client.stop()
            await asyncio.wait_for(ended, 3)


async def main() -> None:
    logging.basicConfig(level=logging.WARNING, handlers=[Report()])
    await Client(*sys.argv[1:]).run()


if __name__ == "__main__":
    asyncio.run(main())
