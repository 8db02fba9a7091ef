# SPDX-License-Identifier: Apache-2.0
"""How a specification registers itself, and what its handlers may do.

Theory of operation. Each file in `xiot.xep` makes one `Extension` and puts handlers into it by decorators. A host or a
client builds its dispatch table from the Extensions it is configured with (`dispatch_table`); nothing is global, and
importing a file changes nothing elsewhere. A handler gets the typed payload and a context, and is one of three:

* a plain function, which answers at once;
* a generator, which may use stored state: ``items = yield from ctx.load(lambda tx: tx.roster.items(owner))``. The shell
  runs that function on a transaction, in the store's thread, and sends back what it returned or throws in what it
  raised. ``ctx.commit(rule)`` also stores what the rule decided, and comes back once that is durable. All else of the
  handler runs in the server's thread;
* an ``async def``, for slow outside work: it runs in the server's nursery, under a limit.

What a handler returns is the payload of the iq result (None: an empty result); a `StanzaError` that it raises is the
error reply.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Awaitable, Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from xiot.model.effects import Effect, apply
from xiot.schema import Payload

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from _xmppcore import JID, Element
    from xiot.model.effects import Tx

P = TypeVar("P", bound=Payload)
T = TypeVar("T")


class Scope(enum.Flag):
    """Whom a stanza is addressed to, when a handler takes it."""

    HOST = enum.auto()
    """A domain of this server, such as ``plant.example`` or its service ``pubsub.plant.example``."""
    ACCOUNT = enum.auto()
    """A bare JID: the server answers for the account."""
    SESSION = enum.auto()
    """Ourselves, in a client or a thing."""


HOST, ACCOUNT, SESSION = Scope.HOST, Scope.ACCOUNT, Scope.SESSION
NOWHERE = Scope(0)


class Load(Generic[T]):
    """What a generator handler yields: `run` is called with a transaction, and its result sent back.

    If `writes`, the transaction is committed, durably, before the handler goes on.
    """

    __slots__ = ("run", "writes")

    def __init__(self, run: Callable[[Tx], T], *, writes: bool = False) -> None:
        self.run = run
        self.writes = writes

    def __iter__(self) -> Generator[Load[T], T, T]:
        return (yield self)


class Inbound(Protocol):
    """What every handler knows of the stanza it got, in a server, a client or a thing."""

    @property
    def sender(self) -> JID:
        """Who sent it: the address the server stamped, or verified, not the one the peer wrote."""

    @property
    def to(self) -> JID:
        """Whom it is addressed to; the sender's own bare JID if it had no ``to`` (RFC 6120 section 10.3)."""

    @property
    def id(self) -> str:
        """The id of the stanza, empty if it has none."""

    def service(self, kind: type[T]) -> T:
        """Return the object of class `kind` that the host or client was built with; LookupError if there is none."""


class Answering(Inbound, Protocol):
    """What a slow handler of a client or a thing may do before it returns."""

    async def reply(self, payload: Payload | None) -> None:
        """Answer the iq now; what the handler returns or raises later is not sent."""

    async def send(self, stanza: Element) -> None:
        """Send `stanza`. Raises LinkError if the stream has ended."""


class Context(Inbound, Protocol):
    """What a handler may do in a server; a server derives its own class from this one."""

    @property
    def host(self) -> str:
        """The domain that handles the stanza, prepared."""

    @property
    def account(self) -> JID | None:
        """The bare JID the server answers for, if the scope is ACCOUNT."""

    def load(self, read: Callable[[Tx], T]) -> Load[T]:
        """Return what to ``yield from`` to get ``read(tx)``."""
        return Load(read)

    def commit(self, rule: Callable[[Tx], Iterable[Effect]]) -> Load[list[Effect]]:
        """Return what to ``yield from`` to have ``rule(tx)`` decide, and what it decided stored, in one transaction.

        The result is the effects that are to be sent, which the handler does by `send`, `fan_out` and `push`.
        """
        return Load(lambda tx: apply(rule(tx), tx), writes=True)

    def reply(self, payload: Payload | None) -> None:
        """Answer the iq now; what the handler returns later is then ignored."""

    def send(self, stanza: Element) -> None:
        """Route `stanza`, whose ``to`` is set, as from `to`."""

    def fan_out(self, jids: Iterable[str], stanza: Element) -> None:
        """Route one copy of `stanza`, which has no ``to``, to each of `jids`; encoded once."""

    def push(self, account: JID, payload: Payload) -> None:
        """Send `payload` in an iq set to each resource of `account` that showed `interest` in its namespace."""

    def interest(self, ns: str) -> None:
        """Note that the sender's session wants pushes of the namespace `ns`, as from now (RFC 6121 section 2.1.6)."""

    def resources(self, bare: JID) -> Sequence[JID]:
        """Return the full JIDs at which the account `bare` is available."""

    def now(self) -> datetime:
        """Return the time, in UTC."""

    def after(self, seconds: float, fn: Callable[[], None]) -> None:
        """Call `fn` once, `seconds` from now, unless the session has ended."""

    def spawn(self, fn: Callable[[], Awaitable[None]]) -> None:
        """Run `fn` as a task that ends with the session."""


class Session(Protocol):
    """What the client's half of a specification may do: a logged-in stream, seen from `xiot.xep`."""

    @property
    def jid(self) -> JID:
        """Our full JID."""

    async def request(
        self,
        type: Literal["get", "set"],
        payload: Payload,
        *,
        to: JID | str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - a waiter in a table, not a task
    ) -> Element | None:
        """Send an iq and wait at most `timeout` seconds (None: the session's own limit) for its answer.

        Returns the child of the result, None if it is empty. Only an answer with our id that comes from `to` counts.
        Raises StanzaError as the peer answered, TimeoutError, or LinkError if the stream ended.
        """

    async def send(self, stanza: Element) -> object:
        """Send `stanza`; returns when it is on its way, not when it has arrived."""

    def now(self) -> float:
        """Return the session's clock, in seconds from some start: it never goes back."""


Answer = Payload | None | Generator[Load[Any], Any, Payload | None] | Awaitable[Payload | None]
R = TypeVar("R", bound=Answer)
Kind = Literal["iq", "message", "presence"]


class Style(enum.Enum):
    """How a handler is run."""

    PLAIN = enum.auto()
    GENERATOR = enum.auto()
    ASYNC = enum.auto()


class Key(NamedTuple):
    """What a stanza is dispatched on."""

    kind: Kind
    type: Literal["get", "set"] | None
    """None for message and presence: every type but error."""
    scope: Scope
    payload: tuple[str, str]
    """(ns, name) of the first child."""


@dataclass(frozen=True, slots=True)
class Handler:
    """A function, and what it takes; calling it reads the payload and calls the function."""

    extension: str
    kind: Kind
    payload: type[Payload]
    type: Literal["get", "set"] | None
    scope: Scope
    function: Callable[[Any, Any], Answer]
    style: Style

    def __call__(self, element: Element, ctx: Inbound) -> Answer:
        """Hand `element` to the function. Raises PayloadError (``bad-request``) if it does not fit the declaration."""
        return self.function(self.payload.from_element(element), ctx)


class Extension:
    """One specification: what it is called, what it adds to service discovery, and its handlers."""

    def __init__(
        self,
        name: str,
        *,
        spec: str,
        version: str | None = None,
        features: Sequence[str] = (),
        identity: tuple[str, str] | None = None,
        needs: Sequence[str] = (),
        at: Scope = NOWHERE,
    ) -> None:
        """Describe the specification `spec` (``XEP-0199``), in that `version` of it.

        `features` and `identity` (category, type) are shown by service discovery wherever the extension has a handler,
        and at `at`. `needs` names the extensions that this one relies on.
        """
        self.name = name
        self.spec = spec
        self.version = version
        self.features = tuple(features)
        self.identity = identity
        self.needs = tuple(needs)
        self.handlers: list[Handler] = []
        self._at = at

    def __repr__(self) -> str:
        return f"<Extension {self.name} ({self.spec})>"

    @property
    def scopes(self) -> Scope:
        """Where the extension shows itself."""
        scopes = self._at
        for handler in self.handlers:
            scopes |= handler.scope
        return scopes

    def iq_get(self, payload: type[P], *, at: Scope) -> Callable[[Callable[[P, Any], R]], Callable[[P, Any], R]]:
        """Have the function answer each iq get with this payload."""
        return self._register("iq", "get", payload, at)

    def iq_set(self, payload: type[P], *, at: Scope) -> Callable[[Callable[[P, Any], R]], Callable[[P, Any], R]]:
        """Have the function answer each iq set with this payload."""
        return self._register("iq", "set", payload, at)

    def message(self, payload: type[P], *, at: Scope) -> Callable[[Callable[[P, Any], R]], Callable[[P, Any], R]]:
        """Have the function see each message, but errors, whose first child is this payload."""
        return self._register("message", None, payload, at)

    def presence(self, payload: type[P], *, at: Scope) -> Callable[[Callable[[P, Any], R]], Callable[[P, Any], R]]:
        """Have the function see each presence, but errors, whose first child is this payload."""
        return self._register("presence", None, payload, at)

    def _register(
        self, kind: Kind, type: Literal["get", "set"] | None, payload: type[P], at: Scope
    ) -> Callable[[Callable[[P, Any], R]], Callable[[P, Any], R]]:
        def register(function: Callable[[P, Any], R]) -> Callable[[P, Any], R]:
            if inspect.isgeneratorfunction(function):
                style = Style.GENERATOR
            elif inspect.iscoroutinefunction(function):
                style = Style.ASYNC
            else:
                style = Style.PLAIN
            self.handlers.append(Handler(self.name, kind, payload, type, at, function, style))
            return function

        return register


def dispatch_table(extensions: Iterable[Extension]) -> dict[Key, tuple[Handler, ...]]:
    """Return the handlers of `extensions` by what they are dispatched on, in the order of the extensions.

    Raises ValueError if two handlers claim the same iq, if two extensions have one name, or if one is missing that
    another needs.
    """
    extensions = list(extensions)
    names = {extension.name for extension in extensions}
    if len(names) < len(extensions):
        raise ValueError("two extensions have the same name")
    table: dict[Key, tuple[Handler, ...]] = {}
    for extension in extensions:
        for need in extension.needs:
            if need not in names:
                raise ValueError(f"extension {extension.name} needs {need}")
        for handler in extension.handlers:
            for scope in handler.scope:
                key = Key(handler.kind, handler.type, scope, handler.payload.QNAME)
                others = table.get(key, ())
                if others and key.kind == "iq":
                    raise ValueError(f"{others[0].extension} and {handler.extension} both claim {key}")
                table[key] = (*others, handler)
    return table


def find_service(objects: Iterable[object], kind: type[T]) -> T:
    """Return the first of `objects` that is of class `kind`. Raises LookupError."""
    for thing in objects:
        if isinstance(thing, kind):
            return thing
    raise LookupError(f"no {kind.__name__} here")


def third_party() -> list[Extension]:
    """Return what installed packages offer in the entry-point group ``xiot.extensions``, ordered by name.

    Raises TypeError if one of them is not an `Extension`.
    """
    from importlib.metadata import entry_points  # slow to import, and a device has no use for it

    found = [entry.load() for entry in entry_points(group="xiot.extensions")]
    for extension in found:
        if not isinstance(extension, Extension):
            raise TypeError(f"not an Extension: {extension!r}")
    return sorted(found, key=lambda extension: extension.name)


def specification_table(extensions: Iterable[Extension]) -> str:
    """Return a Markdown table of the specifications, ordered by number, with where each is answered."""
    lines = ["| specification | version | name | answers at |", "| --- | --- | --- | --- |"]
    for ext in sorted(extensions, key=lambda extension: (extension.spec, extension.name)):
        scopes = ", ".join(str(scope.name).lower() for scope in ext.scopes)
        lines.append(f"| {ext.spec} | {ext.version or ''} | {ext.name} | {scopes} |")
    return "\n".join(lines) + "\n"
