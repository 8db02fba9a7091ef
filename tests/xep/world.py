# SPDX-License-Identifier: Apache-2.0
"""A host in memory that runs the handlers of extensions, and sessions that send it requests: real bytes, no network."""

from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar, cast

from _xmppcore import JID, Element
from xiot.errors import StanzaError
from xiot.ext import ACCOUNT, HOST, SESSION, Context, Extension, Key, Load, Style, dispatch_table, find_service
from xiot.model.accounts import Credentials
from xiot.schema import Payload
from xiot.stanzas import error_element, iq, read_error, reread
from xiot.store.memory import MemoryStore

T = TypeVar("T")
KEYS = Credentials("SCRAM-SHA-256", b"salt", 4096, b"stored", b"server")


class Ctx(Context):
    """What one handler gets; keeps the replies the handler made before it returned."""

    def __init__(self, world: "World", sender: JID, to: JID) -> None:
        self.world = world
        self.replies: list[Payload | None] = []
        self._sender = sender
        self._to = to

    @property
    def sender(self) -> JID:
        return self._sender

    @property
    def to(self) -> JID:
        return self._to

    @property
    def id(self) -> str:
        return "1"

    @property
    def host(self) -> str:
        return self.to.domain

    @property
    def account(self) -> JID | None:
        return self.to.bare if self.to.local is not None else None

    def service(self, kind: type[T]) -> T:
        return find_service(self.world.services, kind)

    def reply(self, payload: Payload | None) -> None:
        self.replies.append(payload)

    def send(self, stanza: Element) -> None:
        self.world.deliver(stanza.get("to", ""), stanza)

    def fan_out(self, jids: Iterable[str], stanza: Element) -> None:
        for jid in jids:
            self.world.deliver(jid, stanza)

    def push(self, account: JID, payload: Payload) -> None:
        for full in self.world.interested.get((account, payload.QNAME[0]), []):
            self.world.deliver(str(full), iq("set", payload.to_element(), id="push", to=full))

    def interest(self, ns: str) -> None:
        self.world.interested.setdefault((self.sender.bare, ns), []).append(self.sender)

    def resources(self, bare: JID) -> Sequence[JID]:
        return [session.jid for session in self.world.sessions if session.jid.bare == bare]

    def now(self) -> datetime:
        return self.world.now

    def after(self, seconds: float, fn: Callable[[], None]) -> None:
        raise NotImplementedError

    def spawn(self, fn: Callable[[], Awaitable[None]]) -> None:
        raise NotImplementedError


@dataclass
class Client:
    """A session of an account: sends requests to the world, keeps what it is sent."""

    world: "World"
    jid: JID
    inbox: list[Element] = field(default_factory=list)

    async def request(
        self,
        type: Literal["get", "set"],
        payload: Payload,
        *,
        to: JID | str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Element | None:
        stanza = iq(type, payload.to_element(), id="1", to=to)
        answer = await self.world.request(self.jid, reread(stanza.tobytes()))
        if answer.get("type") == "error":
            raise read_error(answer)
        return answer[0] if len(answer) else None

    async def send(self, stanza: Element) -> None:
        stanza.set("from", str(self.jid))
        self.world.deliver(stanza.get("to", ""), stanza)

    def now(self) -> float:
        self.world.now += timedelta(milliseconds=250)
        return self.world.now.timestamp()


class World:
    """One host with its extensions, its store and its sessions."""

    def __init__(self, *extensions: Extension, services: Sequence[object] = ()) -> None:
        self.table = dispatch_table(extensions)
        self.services = services
        self.store = MemoryStore()
        self.sessions: list[Client] = []
        self.interested: dict[tuple[JID, str], list[JID]] = {}
        self.now = datetime(2026, 11, 22, 8, tzinfo=UTC)

    async def account(self, bare: str) -> None:
        """Register an account."""
        await self.store.run(lambda tx: tx.accounts.put(bare, KEYS))

    def session(self, jid: str) -> Client:
        client = Client(self, JID(jid))
        self.sessions.append(client)
        return client

    def deliver(self, to: str, stanza: Element) -> None:
        jid = JID(to)
        for session in self.sessions:
            if jid in (session.jid, session.jid.bare):
                session.inbox.append(reread(stanza.tobytes()))

    async def request(self, sender: JID, stanza: Element) -> Element:
        """Answer the iq `stanza` as a server would: with the handler's result, or its error."""
        ctx = Ctx(self, sender, JID(stanza.get("to") or str(sender.bare)))
        scope = SESSION if ctx.to.resource else ACCOUNT if ctx.to.local else HOST
        payload = stanza[0]
        key = Key("iq", cast("Any", stanza.get("type")), scope, (payload.ns, payload.name))
        try:
            if key not in self.table:
                raise StanzaError("service-unavailable")
            (handler,) = self.table[key]
            answer: Any = handler(payload, ctx)
            if handler.style is Style.GENERATOR:
                answer = await self.run(answer)
            elif handler.style is Style.ASYNC:
                answer = await answer
        except StanzaError as err:
            reply = iq("error", error_element(err), id="1", from_=stanza.get("to"))
        else:
            answer = ctx.replies[0] if ctx.replies else answer
            reply = iq("result", None if answer is None else answer.to_element(), id="1", from_=stanza.get("to"))
        return reread(reply.tobytes())

    async def run(self, steps: Generator[Load[Any], Any, T]) -> T:
        """Run a generator handler on the store; what a load raises is raised in the handler."""
        try:
            load = next(steps)
            while True:
                try:
                    result = await self.store.run(load.run)
                except StanzaError as err:
                    load = steps.throw(err)
                else:
                    load = steps.send(result)
        except StopIteration as stop:
            return cast("T", stop.value)
