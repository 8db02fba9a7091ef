# SPDX-License-Identifier: Apache-2.0
"""Random calls of the stores' methods, from small pools of keys so that they meet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from xiot.model.accounts import Credentials
from xiot.model.blocking import Block
from xiot.model.documents import Document
from xiot.model.durable import DurableSession
from xiot.model.exi import AgreedSetup, StoredSchema
from xiot.model.logout import Logout
from xiot.model.nodes import Affiliation, Item, Node, NodeConfig, Subscription
from xiot.model.roster import Request, RosterItem
from xiot.model.tokens import Token
from xiot.store import Transaction

Call = tuple[str, str, tuple[Any, ...], dict[str, Any]]
"""Store, method, arguments, keywords."""

# What has gone wrong elsewhere: quotes, wildcards, other planes, cases, prefixes of each other, very long.
ODD = ["", "a", "A", "a%", "a_", "a'", 'a"--', "é", "\U0001f600", "\uffff", "a" * 1023]
texts = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
localparts = st.sampled_from(["a", "A", "a'", "%", "é", "\U0001f600", "x" * 1023])
few = st.sampled_from(["a@a.example", "b@a.example"])
domains = st.sampled_from(["a.example", "b.example", "%"])
bares = st.builds("{}@{}".format, localparts, domains)
jids = bares | st.builds("{}/{}".format, bares | domains, st.sampled_from(["r", "r/@", "%", "R" * 1023])) | domains
services = st.sampled_from(["pubsub.a.example", "a@a.example"])
names = st.sampled_from(["a", "é'"])
ids = st.sampled_from(["1", "2", "3", "%", "\U0001f600"])
times = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 1, 1), timezones=st.just(UTC))
payloads = st.binary(max_size=20)
limits = st.integers(0, 4)

configs = st.builds(
    NodeConfig,
    title=texts,
    access_model=st.sampled_from(["open", "whitelist"]),
    max_items=st.integers(0, 2**53),
    persist_items=st.booleans(),
)
nodes = st.builds(Node, services, names, bares, times, configs)
items = st.builds(Item, services, names, ids, bares, times, payloads)
subscriptions = st.builds(Subscription, services, names, jids)
roles = st.sampled_from(["owner", "publisher", "publish-only", "member", "outcast"])
affiliations = st.builds(Affiliation, services, names, bares, roles)
mechanisms = st.sampled_from(["SCRAM-SHA-1", "SCRAM-SHA-256"])
credentials = st.builds(Credentials, mechanisms, payloads, st.integers(1, 2**31 - 1), payloads, payloads)
states = st.sampled_from(["none", "to", "from", "both"])
contacts = st.builds(
    RosterItem, bares, jids, texts, st.frozensets(texts, max_size=3), states, st.booleans(), st.booleans()
)
requests = st.builds(Request, bares, bares, payloads)
clients = st.sampled_from(["c", "d"])
slots = st.sampled_from(["new", "current"])
tokens = st.builds(Token, bares, clients, slots, mechanisms, payloads, times, times, st.integers(0, 2**31 - 1))
kinds = st.sampled_from(["private", "vcard"])
documents = st.builds(Document, bares, kinds, texts, payloads)
logouts = st.builds(Logout, bares, times, texts)
blocks = st.builds(Block, bares, jids)
sessions = st.sampled_from(["s", "t"])
numbers = st.integers(1, 6)
keys = st.sampled_from([b"1", b"2", b"3"])
durables = st.builds(DurableSession, sessions, jids, st.floats(0, 600), payloads, st.integers(0, 9), st.integers(0, 9))


setups = st.builds(AgreedSetup, sessions, texts, st.booleans(), times)
schemas = st.builds(StoredSchema, texts, numbers, clients, payloads, times)


METHODS: set[tuple[str, str]] = set()
"""What is called at all."""


def call(store: str, method: str, *arguments: st.SearchStrategy[Any], **keywords: st.SearchStrategy[Any]) -> Any:
    METHODS.add((store, method))
    return st.tuples(
        st.just(store), st.just(method), st.tuples(*arguments), st.fixed_dictionaries({}, optional=keywords)
    )


READS = [
    call("accounts", "get", bares, mechanisms),
    call("accounts", "exists", bares),
    call("accounts", "list", domains, after=bares, limit=limits),
    call("secrets", "get", texts),
    call("tokens", "get", bares, clients),
    call("tokens", "list", bares),
    call("roster", "get", bares, jids),
    call("roster", "items", bares),
    call("roster", "count", bares),
    call("roster", "version", bares),
    call("roster", "subscribed", bares),
    call("roster", "lonely", bares),
    call("roster", "approvals", jids, limit=limits),
    call("roster", "request", bares, bares),
    call("roster", "requests", bares),
    call("roster", "request_count", bares),
    call("offline", "usage", few),
    call("offline", "page", few, limits, st.integers(0, 40), st.frozensets(st.integers(1, 20), max_size=4)),
    call("documents", "get", bares, kinds, texts),
    call("documents", "sizes", bares),
    call("logouts", "get", bares),
    call("blocks", "jids", bares),
    call("exi", "setups"),
    call("exi", "schemas"),
    call("durable", "sessions"),
    call("durable", "received"),
    call("durable", "sent", sessions),
    call("durable", "remembers", few, keys, times),
    call("nodes", "node", services, names),
    call("nodes", "node_names", services, after=names, limit=limits),
    call("nodes", "node_count", services),
    call("nodes", "item", services, names, ids),
    call("nodes", "items", services, names, limits),
    call("nodes", "item_count", services, names),
    call("nodes", "oldest_ids", services, names, limits),
    call("nodes", "subscriber_jids", services, names),
    call("nodes", "subscription", services, names, jids),
    call("nodes", "subscriptions_of", bares | domains, service=services, node=names),
    call("nodes", "subscription_count", services, bare=bares, node=names),
    call("nodes", "affiliation", services, names, bares),
    call("nodes", "affiliations", services, names),
    call("nodes", "affiliations_of", bares, services),
]
WRITES = [
    call("accounts", "put", bares, credentials),
    call("accounts", "remove", bares),
    call("secrets", "put", texts, payloads),
    call("tokens", "put", tokens),
    call("exi", "put_setup", setups),
    call("exi", "delete_setup", sessions),
    call("exi", "put_schema", schemas),
    call("exi", "delete_schema", texts, numbers, clients),
    call("tokens", "delete", bares, clients, slots),
    call("tokens", "clear", bares),
    call("roster", "put", contacts),
    call("roster", "delete", bares, jids),
    call("roster", "put_version", bares, st.integers(0, 2**63 - 1)),
    call("roster", "put_request", requests),
    call("roster", "delete_request", bares, bares),
    call("roster", "clear", bares),
    call("offline", "put", few, payloads),
    call("offline", "delete", few, st.lists(st.integers(1, 20), max_size=4)),
    call("offline", "clear", few),
    call("documents", "put", documents),
    call("documents", "delete", bares, kinds, texts),
    call("documents", "clear", bares),
    call("logouts", "put", st.lists(logouts, max_size=3)),
    call("logouts", "clear", bares),
    call("blocks", "put", blocks),
    call("blocks", "delete", bares, jids),
    call("blocks", "clear", bares),
    call("durable", "put", durables),
    call("durable", "delete", sessions),
    call("durable", "count", sessions, st.integers(0, 2**62)),
    call("durable", "receive", sessions, bares, payloads),
    call("durable", "remove", st.integers(1, 20)),
    call("durable", "send", sessions, numbers, payloads),
    call("durable", "acknowledge", sessions, numbers),
    call("durable", "remember", few, keys, times, st.integers(1, 2)),
    call("durable", "forget", times),
    call("nodes", "delete_node", services, names),
    call("nodes", "delete_item", services, names, ids),
    call("nodes", "delete_items", services, names, keep=limits),
    call("nodes", "put_subscription", subscriptions),
    call("nodes", "delete_subscription", services, names, jids),
    call("nodes", "delete_resource_subscriptions", domains),
    call("nodes", "put_affiliation", affiliations),
    call("nodes", "delete_affiliation", services, names, bares),
]
OFTEN = [call("nodes", "put_node", nodes), call("nodes", "put_item", items)]
"""Without nodes and items, little of the rest does anything."""

calls = st.booleans().flatmap(lambda often: st.one_of(OFTEN) if often else st.one_of(READS + WRITES))
transactions = st.tuples(st.lists(calls, min_size=5, max_size=20), st.sampled_from([False, False, True]))
"""What one function calls, and whether it then raises."""


class Wanted(Exception):
    """Raised by a function that is to be taken back."""


def perform(tx: Transaction, calls: list[Call], raises: bool) -> list[Any]:
    """Do all `calls`; return the answers."""
    answers = [
        answer(getattr(getattr(tx, store), method), *args, **keywords) for store, method, args, keywords in calls
    ]
    if raises:
        raise Wanted
    return answers


def answer(method: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """Call `method`; return what it returned, or that there was no node."""
    try:
        result = method(*args, **keywords)
    except LookupError as error:
        return str(error)
    return list(result) if isinstance(result, list | tuple) else result


def dump(tx: Transaction) -> list[Any]:
    """Return all that the pools above can reach."""
    found: list[Any] = []
    for service in ("pubsub.a.example", "a@a.example"):
        for name in tx.nodes.node_names(service):
            found.append(tx.nodes.node(service, name))
            found.append(list(tx.nodes.items(service, name, 100)))
            found.append(tx.nodes.item_count(service, name))
            found.append(list(tx.nodes.subscriber_jids(service, name)))
            found.append(list(tx.nodes.affiliations(service, name)))
    found.append(list(tx.durable.sessions()))
    for owner in ("a@a.example", "b@a.example"):
        found.append(list(tx.offline.page(owner, 1000, 10**6)))
    for domain in ("a.example", "b.example", "%"):
        found.append(list(tx.accounts.list(domain)))
    return found
