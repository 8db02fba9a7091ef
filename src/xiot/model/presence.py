# SPDX-License-Identifier: Apache-2.0
"""Who may see whose presence: the subscription states of RFC 6121 section 3 and appendix A.

Theory of operation. Each side keeps its own state of a pair (`State`, nine of them). What a client sends is judged by
the sender's state (`outbound`); if it goes on, what arrives is judged by the receiver's (`inbound`). Both accounts of
one server change in one transaction, so they cannot contradict each other: `send` takes both `RosterState` and returns
what both are to be told. If there is no state of the other side, it is at another server or nowhere, and a `Route` says
what is to be sent there; what comes from there goes through `receive`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from _xmppcore import JID
from xiot.errors import StanzaError
from xiot.model import roster
from xiot.model.effects import Delete, Effect, Put, apply
from xiot.model.roster import Request, RosterLimits, RosterState, SubscriptionState, item_to_be

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xiot.model.effects import Tx

Verb = Literal["subscribe", "subscribed", "unsubscribe", "unsubscribed"]

_NAMES: dict[tuple[bool, bool], SubscriptionState] = {
    (False, False): "none",
    (True, False): "to",
    (False, True): "from",
    (True, True): "both",
}


@dataclass(frozen=True, slots=True)
class State:
    """What one side knows of a pair (appendix A.1)."""

    to: bool = False
    """This side sees the other's presence."""
    from_: bool = False
    """The other side sees the presence of this one."""
    pending_out: bool = False
    """This side has asked to see; never together with `to`."""
    pending_in: bool = False
    """The other side has asked to see; never together with `from_`."""


def outbound(state: State, verb: Verb) -> tuple[State, bool]:
    """Return the new state of who sends `verb`, and whether the stanza goes on to the other side (appendix A.2)."""
    match verb:
        case "subscribe":
            return replace(state, pending_out=not state.to), True
        case "unsubscribe":
            return replace(state, to=False, pending_out=False), True
        case "subscribed":
            return replace(state, from_=state.from_ or state.pending_in, pending_in=False), state.pending_in
        case "unsubscribed":
            return replace(state, from_=False, pending_in=False), state.from_ or state.pending_in


def inbound(state: State, verb: Verb) -> tuple[State, bool]:
    """Return the new state of who gets `verb`, and whether the stanza is shown to the clients (appendix A.3)."""
    match verb:
        case "subscribe":
            return replace(state, pending_in=not state.from_), not (state.from_ or state.pending_in)
        case "unsubscribe":
            return replace(state, from_=False, pending_in=False), state.from_ or state.pending_in
        case "subscribed":
            return replace(state, to=state.to or state.pending_out, pending_out=False), state.pending_out
        case "unsubscribed":
            return replace(state, to=False, pending_out=False), state.to or state.pending_out


@dataclass(frozen=True, slots=True)
class Deliver(Effect):
    """Show the clients of `owner` that `jid` has sent `verb`; both are bare JIDs."""

    owner: str
    jid: str
    verb: Verb
    stanza: bytes
    """As it was sent; empty if a server has made it up."""


@dataclass(frozen=True, slots=True)
class Route(Effect):
    """Send `verb` from `owner` to `jid`, of which this server keeps no state."""

    owner: str
    jid: str
    verb: Verb
    stanza: bytes


@dataclass(frozen=True, slots=True)
class Announce(Effect):
    """From now on `jid` sees the presence of `owner`, or sees it no more: send what there is, or unavailable."""

    owner: str
    jid: str
    visible: bool


class Subscriptions:
    """Who carries the effects of this file out; a server derives its own. This one tells nobody: nobody is connected."""

    def perform(self, effects: Iterable[Effect]) -> None:
        """Send what `effects` say, in order; they are stored already."""


def state_of(side: RosterState) -> State:
    """Return the state that the stored rows say."""
    item = side.item
    return State(
        to=item is not None and item.subscription in ("to", "both"),
        from_=item is not None and item.subscription in ("from", "both"),
        pending_out=item is not None and item.ask,
        pending_in=side.request is not None,
    )


def send(
    mine: RosterState, theirs: RosterState | None, verb: Verb, stanza: bytes = b"", limits: RosterLimits | None = None
) -> list[Effect]:
    """The account `mine` sends `verb` to its contact, or grants it beforehand (sections 3.1.2 to 3.4.2).

    Raises StanzaError if a roster or a list of requests is full, or the stanza too long.
    """
    limits = limits or RosterLimits()
    before = state_of(mine)
    after, goes_on = outbound(before, verb)
    approved = mine.item is not None and mine.item.approved
    if verb == "subscribed":  # section 3.4.2: with no request to answer, of a contact that does not see us yet
        approved = approved or not (goes_on or before.from_)
    elif verb == "unsubscribed":
        approved = False
    hidden = [Announce(str(mine.owner), str(mine.jid), False)] if before.from_ and not after.from_ else []
    effects = [*hidden, *_become(mine, after, approved, limits)]  # section 3.2.2: hidden first, as they still see us
    if goes_on:
        effects += _pass_on(mine, theirs, verb, stanza, limits)
    if after.from_ and not before.from_:
        effects.append(Announce(str(mine.owner), str(mine.jid), True))  # section 3.1.5
    return effects


def receive(
    mine: RosterState, theirs: RosterState | None, verb: Verb, stanza: bytes = b"", limits: RosterLimits | None = None
) -> list[Effect]:
    """The account `mine` gets `verb` of its contact (sections 3.1.3, 3.1.6, 3.2.3, 3.3.3). Raises as `send`."""
    limits = limits or RosterLimits()
    if len(stanza) > limits.max_request_bytes:
        raise StanzaError("not-acceptable", text=f"this has at most {limits.max_request_bytes} bytes")
    before = state_of(mine)
    approved = mine.item is not None and mine.item.approved
    if verb == "subscribe" and (before.from_ or approved):  # section 3.1.3: answered without asking
        effects = _become(mine, replace(before, from_=True, pending_in=False), approved, limits)
        effects += _pass_on(mine, theirs, "subscribed", b"", limits)
        return [*effects, Announce(str(mine.owner), str(mine.jid), True)]
    after, shown = inbound(before, verb)
    effects = [Deliver(str(mine.owner), str(mine.jid), verb, stanza)] if shown else []
    effects += _become(mine, after, approved, limits, stanza)
    if before.from_ and not after.from_:
        effects.append(Announce(str(mine.owner), str(mine.jid), False))
    return effects


def remove(mine: RosterState, theirs: RosterState | None) -> list[Effect]:
    """Remove a contact from the roster, and end all subscriptions with it (section 2.5)."""
    if mine.item is None:
        raise StanzaError("item-not-found")
    return [*end(mine, theirs), *mine.delete()]


def end(mine: RosterState, theirs: RosterState | None) -> list[Effect]:
    """Tell a contact that all is over, in both directions; the account's own item stays as it is (section 2.5.2)."""
    state, effects = state_of(mine), list[Effect]()
    if state.from_:
        effects.append(Announce(str(mine.owner), str(mine.jid), False))
    if mine.request is not None:
        effects.append(Delete(mine.request))
        mine.request = None
    if state.to or state.pending_out:
        effects += _pass_on(mine, theirs, "unsubscribe", b"", RosterLimits())
    if state.from_ or state.pending_in:
        effects += _pass_on(mine, theirs, "unsubscribed", b"", RosterLimits())
    return effects


def end_all(tx: Tx, owner: JID) -> list[Effect]:
    """End all that the account `owner` has with others, which is about to be removed, and store that.

    Nobody who has approved it beforehand approves the next one of its name. Returns what is to be sent.
    """
    bare, effects = str(owner), list[Effect]()
    jids = {jid for jid, _ in tx.roster.subscribed(bare)} | {item.jid for item in tx.roster.items(bare) if item.ask}
    jids |= {request.jid for request in tx.roster.requests(bare)}
    for jid in sorted(jids):
        effects += apply(end(*load(tx, owner, JID(jid))), tx)
    while items := tx.roster.approvals(bare):
        for item in items:
            side = roster.load(tx.roster, JID(item.owner), owner)
            effects += apply(side.put(replace(item, approved=False)), tx)
    return effects


def load(tx: Tx, owner: JID, jid: JID) -> tuple[RosterState, RosterState | None]:
    """Read both sides of a pair of bare JIDs; None if `jid` has no account here."""
    theirs = roster.load(tx.roster, jid, owner) if tx.accounts.exists(str(jid)) else None
    return roster.load(tx.roster, owner, jid), theirs


def _pass_on(
    mine: RosterState, theirs: RosterState | None, verb: Verb, stanza: bytes, limits: RosterLimits
) -> list[Effect]:
    if theirs is None:
        return [Route(str(mine.owner), str(mine.jid), verb, stanza)]
    return receive(theirs, mine, verb, stanza, limits)


def _become(mine: RosterState, state: State, approved: bool, limits: RosterLimits, stanza: bytes = b"") -> list[Effect]:
    """Store the new state of one side; it is pushed if it shows in the roster (section 2.1.2)."""
    effects: list[Effect] = []
    if state.pending_in and mine.request is None:
        if mine.requests >= limits.max_requests:
            raise StanzaError("resource-constraint", text="too many requests wait for an answer")
        mine.request = Request(str(mine.owner), str(mine.jid), stanza)
        effects.append(Put(mine.request))
    elif mine.request is not None and not state.pending_in:
        effects.append(Delete(mine.request))
        mine.request = None
    name = _NAMES[state.to, state.from_]
    if mine.item is None and name == "none" and not (state.pending_out or approved):
        return effects
    item = replace(item_to_be(mine, limits), subscription=name, ask=state.pending_out, approved=approved)
    return effects if item == mine.item else effects + mine.put(item)
