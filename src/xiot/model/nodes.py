# SPDX-License-Identifier: Apache-2.0
"""Publish-subscribe as plain data and rules (XEP-0060): nodes, items, subscriptions, affiliations.

Theory of operation. There are three kinds of functions here. ``load_...`` reads from a store what one verb needs, and
never all items; the verb itself (`publish`, `subscribe`, ...) takes that state and returns effects, or raises
`NodeError`; a question (`find_items`, `subscriptions`, ...) changes nothing, so it reads the store and answers at once.
A verb's state holds only as long as its transaction: load, verb and `xiot.model.effects.apply` belong into one. A node
has at most ``max_items`` items at any time, so a publish evicts at most one.

Sections cited are those of XEP-0060.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from xiot.errors import StanzaError
from xiot.model.effects import Delete, Effect, Put

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from _xmppcore import JID
    from xiot.model.effects import Tx

AccessModel = Literal["open", "whitelist"]
PublishModel = Literal["publishers", "subscribers", "open"]
SendLast = Literal["never", "on_sub", "on_sub_and_presence"]
Role = Literal["owner", "publisher", "publish-only", "member", "outcast"]
"""An affiliation that is stored; having none is having no row (section 4.1)."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What an owner can set at a node (section 17.4.4); each field is a str, an int or a bool."""

    title: str = ""
    access_model: AccessModel = "open"
    publish_model: PublishModel = "publishers"
    max_items: int = 20
    persist_items: bool = True
    deliver_payloads: bool = True
    send_last_published_item: SendLast = "on_sub"
    notify_retract: bool = True

    def texts(self) -> dict[str, str]:
        """Return the fields as a form shows them: by name, booleans as ``0`` or ``1``."""
        return {name: str(int(v)) if isinstance(v, bool) else str(v) for name, v in asdict(self).items()}

    def changed(self, texts: Mapping[str, str], max_items: int) -> NodeConfig:
        """Return this configuration with the fields in `texts` changed, as a form gave them (section 8.2.5).

        Names that are no fields of ours are passed over: nobody was offered them. `max_items` is the most a node may
        keep. Raises NodeError ``not-acceptable`` if a value is not one of those the field can have.
        """
        values: dict[str, Any] = {}
        for name in _READERS.keys() & texts.keys():
            text = str(max_items) if (name, texts[name]) == ("max_items", "max") else texts[name]
            try:
                values[name] = _READERS[name](text)
            except ValueError:
                detail = "unsupported-access-model" if name == "access_model" else None  # section 8.1.2
                raise NodeError("not-acceptable", detail, text=f"not a value of {name}") from None
        if not 1 <= values.get("max_items", 1) <= max_items:
            raise NodeError("not-acceptable", text=f"max_items is 1 to {max_items}")
        return replace(self, **values)


@dataclass(frozen=True, slots=True)
class Node:
    """A leaf node; the key is (service, name)."""

    service: str
    """JID of the service: ``pubsub.plant.example``, or a bare account JID for PEP."""
    name: str
    creator: str
    """Bare JID."""
    created: datetime
    config: NodeConfig = NodeConfig()

    def put(self, tx: Tx) -> None:
        """Store this node."""
        tx.nodes.put_node(self)

    def delete(self, tx: Tx) -> None:
        """Remove this node with its items, subscriptions and affiliations."""
        tx.nodes.delete_node(self.service, self.name)


@dataclass(frozen=True, slots=True)
class Item:
    """A published item; the key is (service, node, id)."""

    service: str
    node: str
    id: str
    publisher: str
    """Bare JID."""
    published: datetime
    payload: bytes = field(default=b"", repr=False)
    """The payload element as XML that stands alone (all its namespaces declared in it); empty if there is none."""

    def put(self, tx: Tx) -> None:
        """Store this item as the newest of its node."""
        tx.nodes.put_item(self)


@dataclass(frozen=True, slots=True)
class ItemKey:
    """Which item, without its payload."""

    service: str
    node: str
    id: str

    def delete(self, tx: Tx) -> None:
        """Remove the item."""
        tx.nodes.delete_item(self.service, self.node, self.id)


@dataclass(frozen=True, slots=True)
class AllItems:
    """All items of a node but the newest `keep`."""

    service: str
    node: str
    keep: int = 0

    def delete(self, tx: Tx) -> None:
        """Remove the items, not the node."""
        tx.nodes.delete_items(self.service, self.node, self.keep)


@dataclass(frozen=True, slots=True)
class Subscription:
    """A JID that gets the events of a node; the key is (service, node, jid)."""

    service: str
    node: str
    jid: str
    """Bare, or full: then it ends with that resource."""

    def put(self, tx: Tx) -> None:
        """Store this subscription."""
        tx.nodes.put_subscription(self)

    def delete(self, tx: Tx) -> None:
        """Remove this subscription."""
        tx.nodes.delete_subscription(self.service, self.node, self.jid)


@dataclass(frozen=True, slots=True)
class Affiliation:
    """What an account may do at a node (section 4.1); the key is (service, node, jid)."""

    service: str
    node: str
    jid: str
    """Bare JID."""
    role: Role

    def put(self, tx: Tx) -> None:
        """Store this affiliation."""
        tx.nodes.put_affiliation(self)

    def delete(self, tx: Tx) -> None:
        """Remove this affiliation."""
        tx.nodes.delete_affiliation(self.service, self.node, self.jid)


class NodeStore(Protocol):
    """The nodes of all services of this server; every `service` and `jid` is a prepared JID.

    Items have an order: a stored item becomes the newest, also when it replaces one with the same id. No method reads
    more items than its `limit`.
    """

    def node(self, service: str, name: str) -> Node | None:
        """Return one node, or None."""

    def node_names(self, service: str, after: str = "", limit: int = 1000) -> Sequence[str]:
        """Return at most `limit` names of nodes that are greater than `after`, in ascending order of code points."""

    def node_count(self, service: str) -> int:
        """Return how many nodes the service has."""

    def put_node(self, node: Node) -> None:
        """Store `node`, replacing the one of the same name; what belongs to it stays."""

    def delete_node(self, service: str, name: str) -> None:
        """Remove a node with its items, subscriptions and affiliations; no error if there is none."""

    def item(self, service: str, node: str, id: str) -> Item | None:
        """Return one item, or None."""

    def items(self, service: str, node: str, limit: int) -> Sequence[Item]:
        """Return the newest `limit` items, the newest first."""

    def item_count(self, service: str, node: str) -> int:
        """Return how many items the node has; cheap, since every publish asks."""

    def oldest_ids(self, service: str, node: str, limit: int) -> Sequence[str]:
        """Return the ids of the oldest `limit` items, the oldest first."""

    def put_item(self, item: Item) -> None:
        """Store `item` as the newest of its node, replacing the one with the same id."""

    def delete_item(self, service: str, node: str, id: str) -> None:
        """Remove one item; no error if there is none."""

    def delete_items(self, service: str, node: str, keep: int = 0) -> None:
        """Remove all items of a node but the newest `keep`."""

    def subscriber_jids(self, service: str, node: str) -> Sequence[str]:
        """Return the JIDs subscribed to a node, in ascending order; every publish asks, so it may be cached."""

    def subscription(self, service: str, node: str, jid: str) -> Subscription | None:
        """Return the subscription of exactly this JID, or None."""

    def subscriptions_of(
        self, bare: str, service: str | None = None, node: str | None = None
    ) -> Sequence[Subscription]:
        """Return the subscriptions of `bare` and its resources, at a service, a node or everywhere, ordered by key."""

    def subscription_count(self, service: str, *, bare: str | None = None, node: str | None = None) -> int:
        """Return how many subscriptions a service has: of `bare` and its resources, at one node, or both."""

    def put_subscription(self, subscription: Subscription) -> None:
        """Store `subscription`; once more is no error."""

    def delete_subscription(self, service: str, node: str, jid: str) -> None:
        """Remove the subscription of exactly this JID; no error if there is none."""

    def delete_resource_subscriptions(self, domain: str) -> None:
        """Remove the subscriptions of all full JIDs at `domain` but those of durable sessions: who else is online when a host starts?"""

    def affiliation(self, service: str, node: str, jid: str) -> Role | None:
        """Return the affiliation of the bare JID `jid`, or None."""

    def affiliations(self, service: str, node: str) -> Sequence[Affiliation]:
        """Return all affiliations with a node, ordered by JID."""

    def affiliations_of(self, jid: str, service: str) -> Sequence[Affiliation]:
        """Return the affiliations of the bare JID `jid` at a service, ordered by node."""

    def put_affiliation(self, affiliation: Affiliation) -> None:
        """Store `affiliation`, replacing the one of the same node and JID."""

    def delete_affiliation(self, service: str, node: str, jid: str) -> None:
        """Remove one affiliation; no error if there is none."""


# ---- what goes wrong, and what is told -------------------------------------------------------------------


class NodeError(StanzaError):
    """A request that a service refuses; `detail` is the child in the ``#errors`` namespace, if any (section 12)."""

    def __init__(
        self,
        condition: str,
        detail: str | None = None,
        *,
        type: str | None = None,
        feature: str | None = None,
        text: str | None = None,
    ) -> None:
        """Refuse with `condition`; `feature` is what ``unsupported`` speaks of."""
        super().__init__(condition, type, text)
        self.detail = detail
        self.feature = feature


@dataclass(frozen=True, slots=True)
class Published:
    """An item was published (section 7.1.2)."""

    item: Item | None
    """Without its payload if the node delivers none; None if the node is of mere notifications (section 4.3)."""
    last: bool = False
    """The item is not new but the last one, sent since somebody subscribed (section 6.1.7)."""


@dataclass(frozen=True, slots=True)
class Retracted:
    """Items are gone (section 7.2.2)."""

    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Purged:
    """All items are gone (section 8.5.2)."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """The node is gone (section 8.4.2)."""

    redirect: str | None = None
    """URI of the node that takes its place."""


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """The one who is told is no longer subscribed (section 13.14)."""


@dataclass(frozen=True, slots=True)
class Notify(Effect):
    """Tell `to`, which is not empty, what happened at a node."""

    service: str
    node: str
    event: Published | Retracted | Purged | Deleted | Unsubscribed
    to: Sequence[str]


# ---- what the verbs look at ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Service:
    """A publish-subscribe service, as its host sets it up."""

    jid: str
    """``pubsub.plant.example``, or a bare account JID for PEP."""
    creators: frozenset[str] = frozenset()
    """Who may make nodes: domains, for all of their accounts, and bare JIDs."""
    default: NodeConfig = NodeConfig()
    max_nodes: int = 100_000
    """So that one account cannot fill the disk with names; about 50 MB of rows."""
    max_items: int = 100_000
    """The most an owner can set for a node; an operator with larger disks raises it."""
    max_items_per_reply: int = 100
    """The most items in one answer, which is one stanza in memory."""
    max_payload_bytes: int = 65_536
    """A fan-out shares the payload, but each subscriber must be able to take a stanza of this size."""
    max_subscribers: int = 100_000
    """Per node: one publish reaches them all in one go."""
    max_subscriptions: int = 10_000
    """Per account, resources included."""
    max_affiliations: int = 1_000
    """Per node: they are read whole when an owner changes them."""
    max_id_bytes: int = 1_023
    """Of the name of a node and the id of an item, in UTF-8: what a part of a JID may have (RFC 7622 section 3.1)."""

    def may_create(self, sender: JID) -> bool:
        """Return whether `sender` may make nodes (section 8.1.1)."""
        return sender.domain in self.creators or str(sender.bare) in self.creators


@dataclass(frozen=True, slots=True)
class At:
    """Somebody at a node, or at a name that no node has."""

    service: Service
    name: str
    sender: JID
    node: Node | None
    role: Role | None

    def existing(self) -> Node:
        """Return the node. Raises NodeError."""
        if not self.name:
            raise NodeError("bad-request", "nodeid-required")
        if self.node is None:
            raise NodeError("item-not-found")
        return self.node

    def owned(self) -> Node:
        """Return the node if the sender owns it. Raises NodeError."""
        node = self.existing()
        if self.role != "owner":
            raise NodeError("forbidden")
        return node

    def notify(self, event: Published | Retracted | Purged | Deleted | Unsubscribed, to: Sequence[str]) -> list[Effect]:
        """Return what tells `to` of `event`: nothing if that is nobody."""
        return [Notify(self.service.jid, self.name, event, to)] if to else []


def load_at(store: NodeStore, service: Service, name: str, sender: JID) -> At:
    """Read what every verb looks at."""
    node = store.node(service.jid, name) if name else None
    role = store.affiliation(service.jid, name, str(sender.bare)) if node else None
    return At(service, name, sender, node, role)


# ---- nodes -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CreateState:
    """What `create` looks at."""

    at: At
    node_count: int


def load_create(store: NodeStore, service: Service, name: str, sender: JID) -> CreateState:
    """Read what `create` looks at."""
    return CreateState(load_at(store, service, name, sender), store.node_count(service.jid))


def create(state: CreateState, now: datetime, config: Mapping[str, str] | None = None) -> list[Effect]:
    """Make a node that the sender owns, with `config` in place of the defaults (section 8.1)."""
    at = state.at
    if not at.name:
        raise NodeError("not-acceptable", "nodeid-required")
    if at.node is not None:
        raise NodeError("conflict")
    return _create(at, state.node_count, now, config or {})[1]


def _create(at: At, node_count: int, now: datetime, config: Mapping[str, str]) -> tuple[Node, list[Effect]]:
    service = at.service
    if not service.may_create(at.sender):
        raise NodeError("forbidden")
    if len(at.name.encode()) > service.max_id_bytes:
        raise NodeError("not-acceptable", text=f"the name of a node has at most {service.max_id_bytes} bytes")
    if node_count >= service.max_nodes:
        raise NodeError("resource-constraint", text="the service has as many nodes as it can hold")
    creator = str(at.sender.bare)
    node = Node(service.jid, at.name, creator, now, service.default.changed(config, service.max_items))
    return node, [Put(node), Put(Affiliation(service.jid, at.name, creator, "owner"))]


@dataclass(frozen=True, slots=True)
class OwnerState:
    """What the verbs of an owner look at."""

    at: At
    affiliations: Sequence[Affiliation]
    subscribers: Sequence[str]


def load_owner(store: NodeStore, service: Service, name: str, sender: JID) -> OwnerState:
    """Read what `configure`, `delete`, `purge`, `set_affiliations` and `remove_subscribers` look at."""
    at = load_at(store, service, name, sender)
    if at.role != "owner":
        return OwnerState(at, (), ())
    return OwnerState(at, store.affiliations(service.jid, name), store.subscriber_jids(service.jid, name))


def configure(state: OwnerState, changes: Mapping[str, str]) -> list[Effect]:
    """Change the configuration (section 8.2); items and subscribers that it has no place for go."""
    at = state.at
    node = at.owned()
    config = node.config.changed(changes, at.service.max_items)
    effects: list[Effect] = [Put(replace(node, config=config))]
    keep = config.max_items if config.persist_items else 0
    if node.config.persist_items and keep < node.config.max_items:
        effects.append(Delete(AllItems(at.service.jid, at.name, keep)))
    if config.access_model != node.config.access_model:
        effects += _expel(state, config, {a.jid: a.role for a in state.affiliations})
    return effects


def delete(state: OwnerState, redirect: str | None = None) -> list[Effect]:
    """Remove the node and tell its subscribers, with the URI of the node that takes its place, if any (section 8.4)."""
    return [Delete(state.at.owned()), *state.at.notify(Deleted(redirect), state.subscribers)]


def purge(state: OwnerState) -> list[Effect]:
    """Remove all items (section 8.5)."""
    at = state.at
    config = at.owned().config
    if not config.persist_items:
        raise _unsupported("persistent-items")
    return [
        Delete(AllItems(at.service.jid, at.name)),
        *at.notify(Purged(), state.subscribers if config.notify_retract else ()),
    ]


# ---- items -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PublishState:
    """What `publish` looks at."""

    at: At
    node_count: int
    """Only read if the node is to be made."""
    subscribed: bool
    """Only read if it matters."""
    evicted: Sequence[str]
    """Ids of the items that make room for the new one."""
    subscribers: Sequence[str]


def load_publish(store: NodeStore, service: Service, name: str, sender: JID, item_id: str | None) -> PublishState:
    """Read what `publish` looks at."""
    at = load_at(store, service, name, sender)
    if at.node is None:
        return PublishState(at, store.node_count(service.jid), False, (), ())
    config = at.node.config
    subscribed = config.publish_model == "subscribers" and _is_subscribed(store, at)
    evicted: Sequence[str] = ()
    if config.persist_items and item_id is not None:
        excess = store.item_count(service.jid, name) + 1 - config.max_items
        if excess > 0 and store.item(service.jid, name, item_id) is None:
            evicted = store.oldest_ids(service.jid, name, excess)
    return PublishState(at, 0, subscribed, evicted, store.subscriber_jids(service.jid, name))


def publish(
    state: PublishState,
    item_id: str | None,
    payload: bytes,
    now: datetime,
    options: Mapping[str, str] | None = None,
) -> list[Effect]:
    """Publish an item; makes the node if there is none (section 7.1).

    `item_id` is the publisher's, or else one that the caller made; None if the request had no item at all. `payload` is
    an XML element that stands alone, or empty. `options` are what the node must be like, or is made like (section
    7.1.5).
    """
    at, service, options = state.at, state.at.service, options or {}
    if not at.name:
        raise NodeError("bad-request", "nodeid-required")
    if options.keys() - _READERS.keys():
        raise NodeError("conflict", "precondition-not-met")
    if at.node is None:
        node, effects = _create(at, state.node_count, now, options)
    else:
        node, effects = at.node, []
        if not _may_publish(at.role, node.config, state.subscribed):
            raise NodeError("forbidden")
        if not _meets(node.config, options, service.max_items):
            raise NodeError("conflict", "precondition-not-met")
    _check_item(node.config, service, item_id, payload)
    if item_id is None:
        return effects + at.notify(Published(None), state.subscribers)
    item = Item(service.jid, at.name, item_id, str(at.sender.bare), now, payload)
    if node.config.persist_items:
        effects += [Delete(ItemKey(service.jid, at.name, id)) for id in state.evicted]
        effects.append(Put(item))
    # Nobody is told of evicted items (section 7.1.2.5 leaves it open): at a full node that would double each event.
    return effects + at.notify(Published(_shown(item, node.config)), state.subscribers)


def _may_publish(role: Role | None, config: NodeConfig, subscribed: bool) -> bool:
    if role in ("owner", "publisher", "publish-only"):
        return True
    return role != "outcast" and (
        config.publish_model == "open" or (config.publish_model == "subscribers" and subscribed)
    )


def _meets(config: NodeConfig, options: Mapping[str, str], max_items: int) -> bool:
    try:
        return config.changed(options, max_items) == config
    except NodeError:
        return False


def _check_item(config: NodeConfig, service: Service, item_id: str | None, payload: bytes) -> None:
    """Hold a request against the kind of events the node has (sections 4.3 and 7.1.3)."""
    if item_id is None and config.persist_items:
        raise NodeError("bad-request", "item-required")
    if item_id is not None and not config.persist_items and not config.deliver_payloads:
        raise NodeError("bad-request", "item-forbidden")
    if config.deliver_payloads and not payload:
        raise NodeError("bad-request", "payload-required")
    if len(payload) > service.max_payload_bytes:
        raise NodeError("not-acceptable", "payload-too-big")
    if item_id is not None and not 1 <= len(item_id.encode()) <= service.max_id_bytes:
        raise NodeError("not-acceptable", text=f"the id of an item has 1 to {service.max_id_bytes} bytes")


def _shown(item: Item, config: NodeConfig) -> Item:
    """Return the item as an event has it."""
    return item if config.deliver_payloads else replace(item, payload=b"")


@dataclass(frozen=True, slots=True)
class RetractState:
    """What `retract` looks at."""

    at: At
    item: Item | None
    subscribers: Sequence[str]


def load_retract(store: NodeStore, service: Service, name: str, sender: JID, item_id: str) -> RetractState:
    """Read what `retract` looks at."""
    at = load_at(store, service, name, sender)
    if at.node is None:
        return RetractState(at, None, ())
    item = store.item(service.jid, name, item_id) if item_id else None
    return RetractState(at, item, store.subscriber_jids(service.jid, name))


def retract(state: RetractState, item_id: str, notify: bool = False) -> list[Effect]:
    """Remove an item (section 7.2): an owner any, others what they published.

    Tells the subscribers if `notify`, or if the node is configured so.
    """
    at = state.at
    config = at.existing().config
    if not item_id:
        raise NodeError("bad-request", "item-required")
    if not config.persist_items:
        raise _unsupported("persistent-items")
    if at.role == "outcast":
        raise NodeError("forbidden")
    if state.item is None:
        # Who could not read the item learns nothing of which ids there are.
        raise NodeError("forbidden" if at.role is None and config.access_model != "open" else "item-not-found")
    if at.role != "owner" and state.item.publisher != str(at.sender.bare):
        raise NodeError("forbidden")
    told = state.subscribers if notify or config.notify_retract else ()
    return [Delete(ItemKey(at.service.jid, at.name, item_id)), *at.notify(Retracted((item_id,)), told)]


@dataclass(frozen=True, slots=True)
class Found:
    """An answer to `find_items`."""

    items: Sequence[Item]
    """In the order of publication, the oldest first."""
    total: int
    """How many items the node has."""


def find_items(
    store: NodeStore, service: Service, name: str, sender: JID, ids: Sequence[str] = (), max_items: int | None = None
) -> Found:
    """Return the items with `ids`, or the newest `max_items`, or the newest that fit an answer (section 6.5)."""
    at = load_at(store, service, name, sender)
    config = at.existing().config
    _check_access(at, config)
    if config.access_model == "whitelist" and at.role == "member" and not _is_subscribed(store, at):
        raise NodeError("not-authorized", "not-subscribed")  # section 6.5.1: only subscribers, owners and publishers
    if not config.persist_items:
        raise _unsupported("persistent-items")
    total = store.item_count(service.jid, name)
    limit = service.max_items_per_reply
    if ids:
        wanted = dict.fromkeys(ids)
        if len(wanted) > limit:
            raise NodeError("policy-violation", text=f"at most {limit} items at a time")
        found = (store.item(service.jid, name, id) for id in wanted)
        return Found([item for item in found if item is not None], total)
    if max_items is not None:
        if max_items < 1:
            raise NodeError("bad-request")
        limit = min(limit, max_items)
    return Found(store.items(service.jid, name, limit)[::-1], total)


# ---- subscriptions ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SubscribeState:
    """What `subscribe` looks at."""

    at: At
    subscribed: Sequence[str]
    """What of the account is subscribed to the node."""
    account_count: int
    """How many subscriptions the account has at the service."""
    node_count: int
    """How many subscriptions the node has."""
    last: Item | None
    """The newest item; only read if it is to be sent."""


def load_subscribe(store: NodeStore, service: Service, name: str, sender: JID) -> SubscribeState:
    """Read what `subscribe` looks at."""
    at = load_at(store, service, name, sender)
    if at.node is None:
        return SubscribeState(at, (), 0, 0, None)
    config = at.node.config
    send_last = config.persist_items and config.send_last_published_item != "never"
    newest = store.items(service.jid, name, 1) if send_last else ()
    bare = str(sender.bare)
    return SubscribeState(
        at,
        [subscription.jid for subscription in store.subscriptions_of(bare, service.jid, name)],
        store.subscription_count(service.jid, bare=bare),
        store.subscription_count(service.jid, node=name),
        newest[0] if newest else None,
    )


def subscribe(state: SubscribeState, jid: JID) -> list[Effect]:
    """Subscribe `jid`, the bare or the full JID of the sender (section 6.1).

    Once more is no error, and sends the last item again. A full JID's subscription ends with that resource
    (`resource_gone`), so no other resource can ask for it.
    """
    at = state.at
    if jid not in (at.sender, at.sender.bare):
        raise NodeError("bad-request", "invalid-jid")
    node = at.existing()
    _check_access(at, node.config)
    effects: list[Effect] = []
    if str(jid) not in state.subscribed:
        if state.account_count >= at.service.max_subscriptions:
            raise NodeError("policy-violation", "too-many-subscriptions", type="wait")
        if state.node_count >= at.service.max_subscribers:
            raise NodeError("resource-constraint", text="the node has as many subscribers as it can serve")
        effects.append(Put(Subscription(at.service.jid, at.name, str(jid))))
    if state.last is not None:
        effects += at.notify(Published(_shown(state.last, node.config), last=True), (str(jid),))
    return effects


@dataclass(frozen=True, slots=True)
class UnsubscribeState:
    """What `unsubscribe` looks at."""

    at: At
    subscription: Subscription | None


def load_unsubscribe(store: NodeStore, service: Service, name: str, sender: JID, jid: JID) -> UnsubscribeState:
    """Read what `unsubscribe` looks at."""
    at = load_at(store, service, name, sender)
    return UnsubscribeState(at, store.subscription(service.jid, name, str(jid)) if at.node else None)


def unsubscribe(state: UnsubscribeState, jid: JID) -> list[Effect]:
    """End the subscription of exactly `jid`, which is of the sender's account (section 6.2)."""
    state.at.existing()
    if jid.bare != state.at.sender.bare:
        raise NodeError("forbidden")
    if state.subscription is None:
        raise NodeError("unexpected-request", "not-subscribed", type="cancel")  # the type of section 6.2.3.2
    return [Delete(state.subscription)]


def load_resource(store: NodeStore, jid: JID) -> Sequence[Subscription]:
    """Read what `resource_gone` takes: the subscriptions of exactly this full JID, at all services."""
    return [s for s in store.subscriptions_of(str(jid.bare)) if s.jid == str(jid)]


def resource_gone(subscriptions: Sequence[Subscription]) -> list[Effect]:
    """End the subscriptions of a full JID whose resource went offline (section 13.5)."""
    return [Delete(subscription) for subscription in subscriptions]


def subscriptions(store: NodeStore, service: Service, sender: JID, name: str | None = None) -> Sequence[Subscription]:
    """Return what the sender's account is subscribed to, at one node or all (section 5.6)."""
    return store.subscriptions_of(str(sender.bare), service.jid, name)


def subscribers(store: NodeStore, service: Service, name: str, sender: JID) -> Sequence[str]:
    """Return the JIDs subscribed to a node, for its owner (section 8.8.1)."""
    load_at(store, service, name, sender).owned()
    return store.subscriber_jids(service.jid, name)


def remove_subscribers(state: OwnerState, jids: Iterable[JID]) -> list[Effect]:
    """End the subscriptions of exactly `jids`, by an owner (section 8.8.3)."""
    state.at.owned()
    present = set(state.subscribers)
    gone = dict.fromkeys(str(jid) for jid in jids)
    if gone.keys() - present:
        raise NodeError("not-acceptable", "not-subscribed")
    return _end(state.at, gone)


# ---- affiliations ----------------------------------------------------------------------------------------


def affiliations(store: NodeStore, service: Service, name: str, sender: JID) -> Sequence[Affiliation]:
    """Return all affiliations with a node, for its owner (section 8.9.1)."""
    load_at(store, service, name, sender).owned()
    return store.affiliations(service.jid, name)


def own_affiliations(store: NodeStore, service: Service, sender: JID, name: str | None = None) -> Sequence[Affiliation]:
    """Return the affiliations of the sender, with one node or all (section 5.7)."""
    found = store.affiliations_of(str(sender.bare), service.jid)
    return found if name is None else [affiliation for affiliation in found if affiliation.node == name]


def set_affiliations(state: OwnerState, changes: Mapping[JID, Role | None]) -> list[Effect]:
    """Change what accounts may do at the node, all or nothing (section 8.9.2); None takes the affiliation away.

    Who may no longer subscribe loses the subscriptions.
    """
    at = state.at
    node = at.owned()
    rows = {a.jid: a for a in state.affiliations}
    effects: list[Effect] = []
    for jid, role in changes.items():
        if not jid.is_bare:
            raise NodeError("not-acceptable", text="an affiliation is of a bare JID")  # section 4.1
        before = rows.pop(str(jid), None)
        if before is not None and role in _NO_WAY_TO.get(before.role, ()):
            raise NodeError("not-acceptable", text=f"nobody becomes {role} after {before.role}")
        if role is not None:
            rows[str(jid)] = Affiliation(at.service.jid, at.name, str(jid), role)
            effects.append(Put(rows[str(jid)]))
        elif before is not None:
            effects.append(Delete(before))
    roles = {a.jid: a.role for a in rows.values()}
    if "owner" not in roles.values():
        raise NodeError("not-acceptable", text="a node has an owner")  # section 8.9.2.4
    if len(roles) > at.service.max_affiliations:
        raise NodeError("resource-constraint", text=f"a node has at most {at.service.max_affiliations} affiliations")
    return effects + _expel(state, node.config, roles)


_NO_WAY_TO: dict[Role, tuple[Role, ...]] = {
    "owner": ("publisher", "publish-only", "member", "outcast"),
    "publisher": ("member",),
}
"""The transitions that the table of section 4.1 rules out: an owner resigns first."""


# ---- shared ----------------------------------------------------------------------------------------------


def _is_subscribed(store: NodeStore, at: At) -> bool:
    return bool(store.subscriptions_of(str(at.sender.bare), at.service.jid, at.name))


def _may_access(role: Role | None, config: NodeConfig) -> bool:
    """Return whether one may subscribe and read (sections 4.1 and 4.5)."""
    if role in ("outcast", "publish-only"):
        return False
    return role is not None or config.access_model == "open"


def _check_access(at: At, config: NodeConfig) -> None:
    if not _may_access(at.role, config):
        raise NodeError("forbidden") if at.role else NodeError("not-allowed", "closed-node")


def _expel(state: OwnerState, config: NodeConfig, roles: Mapping[str, Role]) -> list[Effect]:
    """End the subscriptions of all who may not have one any more."""
    return _end(state.at, [j for j in state.subscribers if not _may_access(roles.get(j.partition("/")[0]), config)])


def _end(at: At, jids: Iterable[str]) -> list[Effect]:
    effects: list[Effect] = []
    for jid in jids:
        effects.append(Delete(Subscription(at.service.jid, at.name, jid)))
        effects += at.notify(Unsubscribed(), (jid,))
    return effects


def _unsupported(feature: str) -> NodeError:
    return NodeError("feature-not-implemented", "unsupported", feature=feature)


def _one_of(choices: object) -> Callable[[str], str]:
    values = get_args(choices)

    def read(text: str) -> str:
        if text not in values:
            raise ValueError(text)
        return text

    return read


def _read_bool(text: str) -> bool:
    if text not in ("0", "1", "false", "true"):
        raise ValueError(text)
    return text in ("1", "true")


def _read_int(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError(text)
    return int(text)


_READERS: dict[str, Callable[[str], object]] = {
    "title": str,
    "access_model": _one_of(AccessModel),
    "publish_model": _one_of(PublishModel),
    "max_items": _read_int,
    "persist_items": _read_bool,
    "deliver_payloads": _read_bool,
    "send_last_published_item": _one_of(SendLast),
    "notify_retract": _read_bool,
}
