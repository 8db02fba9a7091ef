# SPDX-License-Identifier: Apache-2.0
"""A slixmpp client that a test drives: see `lines`.

slixmpp needs asyncio, the tests run under trio: so it is a program of its own. The end of stdin logs it out.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Any
from xml.etree import ElementTree

from lines import commands, say
from slixmpp import ClientXMPP
from slixmpp.exceptions import IqError

SENSOR_DATA = "urn:nfi:iot:sd:1.0"


class Peer(ClientXMPP):
    """One account at one resource, over STARTTLS with the certificate verified; it does nothing unless told to."""

    def __init__(self, jid: str, password: str, ca_file: str | None, tls_version: str) -> None:
        context = ssl.create_default_context(cafile=ca_file)
        context.maximum_version = ssl.TLSVersion[tls_version]
        super().__init__(jid, password, ssl_context=context)
        self.where = ("", 0)
        self.enable_direct_tls = self.enable_plaintext = False
        self.add_event_handler("session_start", self.on_session)
        self.add_event_handler("message", self.on_message)
        self.add_event_handler("message_error", self.on_message)
        for kind in ("available", "unavailable"):
            self.add_event_handler(f"presence_{kind}", self.on_presence)
        for show in ("away", "chat", "dnd", "xa"):
            self.add_event_handler(f"presence_{show}", self.on_presence)
        self.add_event_handler("roster_update", self.on_roster)
        for plugin in ("xep_0054", "xep_0191", "xep_0198", "xep_0280"):
            self.register_plugin(plugin)
        self.add_event_handler("carbon_sent", self.on_carbon)
        self.add_event_handler("carbon_received", self.on_carbon)
        self.add_event_handler("sm_enabled", lambda _: say("managed"))
        self.add_event_handler("session_resumed", lambda _: say("resumed"))
        self.add_event_handler("disconnected", self.on_disconnected)
        self.resuming = False
        self.add_event_handler("failed_all_auth", lambda _: say("refused"))
        self.add_event_handler("ssl_invalid_chain", self.on_untrusted)

    def on_session(self, _: Any) -> None:
        assert self.transport is not None
        tls = self.transport.get_extra_info("ssl_object")
        sasl: Any = self.plugin["feature_mechanisms"]
        say(
            "session",
            jid=str(self.boundjid),
            tls=tls.version(),
            verified=tls.context.verify_mode is ssl.CERT_REQUIRED and tls.context.check_hostname,
            mechanism=sasl.mech.name,
        )

    def on_message(self, stanza: Any) -> None:
        say("message", sender=str(stanza["from"]), type=stanza["type"], id=stanza["id"], body=stanza["body"])

    def on_presence(self, stanza: Any) -> None:
        say(
            "presence",
            sender=str(stanza["from"]),
            type=stanza.xml.get("type"),
            show=stanza["show"],
            status=stanza["status"],
            priority=stanza["priority"],
        )

    def on_roster(self, stanza: Any) -> None:
        """A roster, as an answer (result) or a push (set); and whom slixmpp knows after it."""
        items = [
            {
                "jid": str(jid),
                "name": item["name"],
                "subscription": item["subscription"],
                "groups": sorted(item["groups"]),
            }
            for jid, item in stanza["roster"]["items"].items()
        ]
        say("roster", type=stanza["type"], items=items, known=sorted(self.client_roster.keys()))

    def on_carbon(self, stanza: Any) -> None:
        direction = "sent" if stanza.match("message/carbon_sent") else "received"
        inner = stanza[f"carbon_{direction}"]
        say("carbon", direction=direction, sender=str(inner["from"]), to=str(inner["to"]), body=inner["body"])

    def on_disconnected(self, _: Any) -> None:
        if self.resuming:
            self.resuming = False
            say("suspended")

    def on_untrusted(self, error: Exception) -> None:
        say("untrusted", reason=str(error))
        self.abort()

    async def do(self, verb: str, **arguments: Any) -> None:
        """Carry out one command of the test."""
        match verb:
            case "message":
                self.send_message(mto=arguments["jid"], mbody=arguments["body"], mtype="chat")
            case "presence":
                self.send_presence(**{f"p{name}": value for name, value in arguments.items()})
            case "get_roster":
                await self.get_roster(timeout=5)
            case "set_roster":
                jid = arguments.pop("jid")
                try:
                    answer = self.update_roster(jid, timeout=5, **arguments)
                    assert answer is not None
                    await answer
                except IqError as error:
                    say("error", condition=error.condition)
                else:
                    say("done")
            case "set_vcard":
                card = self.plugin["xep_0054"].make_vcard()
                card["FN"] = arguments["name"]
                await self.plugin["xep_0054"].publish_vcard(card)
                say("set_vcard")
            case "get_vcard":
                answer = await self.plugin["xep_0054"].get_vcard(arguments["jid"], cached=False)
                say("get_vcard", name=answer["vcard_temp"]["FN"])
            case "read":  # the newest generation of XEP-0323, which slixmpp has no plugin for
                query = self.make_iq_get(ito=arguments["jid"])
                query.append(ElementTree.Element(f"{{{SENSOR_DATA}}}req", {"id": "1", "m": "true"}))
                answer = (await query.send(timeout=5)).xml
                found = [(v.get("n"), float(v.get("v")), v.get("u")) for v in answer.iter(f"{{{SENSOR_DATA}}}q")]
                say("read", fields=found)
            case "block" | "unblock":
                await getattr(self.plugin["xep_0191"], verb)([arguments["jid"]])
                say(verb)
            case "blocked":
                answer = await self.plugin["xep_0191"].get_blocked()
                say("blocked", jids=sorted(str(item["jid"]) for item in answer["blocklist"]["items"]))
            case "carbons":
                await self.plugin["xep_0280"].enable()
                say("carbons")
            case "cut":
                self.resuming = True
                assert self.transport is not None
                self.transport.abort()
            case "reconnect":
                self.connect(self.where[0], self.where[1])
            case _:
                raise ValueError(verb)


async def main(jid: str, password: str, address: str, ca_file: str, tls_version: str) -> None:
    peer = Peer(jid, password, ca_file or None, tls_version)
    host, _, port = address.rpartition(":")
    peer.where = host, int(port)
    peer.connect(host, int(port))
    async for command in commands():
        await peer.do(**command)
    await peer.disconnect(wait=2)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
