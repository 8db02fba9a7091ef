# SPDX-License-Identifier: Apache-2.0
"""The stores as plain dicts, and somebody to call the rules: load, decide and apply in one go, as a server does."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from xiot.model.effects import Effect, apply


class Rosters:
    """A `RosterStore`."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Any] = {}
        self.versions: dict[str, int] = {}
        self.asked: dict[tuple[str, str], Any] = {}

    def get(self, owner, jid):
        return self.rows.get((owner, jid))

    def items(self, owner):
        return [item for key, item in sorted(self.rows.items()) if key[0] == owner]

    def count(self, owner):
        return len(self.items(owner))

    def put(self, item):
        self.rows[item.owner, item.jid] = item

    def delete(self, owner, jid):
        self.rows.pop((owner, jid), None)

    def subscribed(self, owner):
        return [(item.jid, item.subscription) for item in self.items(owner) if item.subscription != "none"]

    def approvals(self, jid, limit=1000):
        return [item for key, item in sorted(self.rows.items()) if key[1] == jid and item.approved][:limit]

    def request(self, owner, jid):
        return self.asked.get((owner, jid))

    def requests(self, owner):
        return [request for key, request in sorted(self.asked.items()) if key[0] == owner]

    def request_count(self, owner):
        return len(self.requests(owner))

    def put_request(self, request):
        self.asked[request.owner, request.jid] = request

    def delete_request(self, owner, jid):
        self.asked.pop((owner, jid), None)

    def version(self, owner):
        return self.versions.get(owner, 0)

    def put_version(self, owner, version):
        self.versions[owner] = version


class Accounts:
    """The part of an `AccountStore` that rules ask."""

    def __init__(self) -> None:
        self.known: set[str] = set()

    def exists(self, bare):
        return bare in self.known


class Nodes:
    """A `NodeStore`; the order of a dict is the order of publication."""

    def __init__(self) -> None:
        self.nodes: dict[tuple[str, str], Any] = {}
        self.all_items: dict[tuple[str, str, str], Any] = {}
        self.subs: dict[tuple[str, str, str], Any] = {}
        self.roles: dict[tuple[str, str, str], Any] = {}

    def node(self, service, name):
        return self.nodes.get((service, name))

    def node_count(self, service):
        return sum(key[0] == service for key in self.nodes)

    def put_node(self, node):
        self.nodes[node.service, node.name] = node

    def delete_node(self, service, name):
        del self.nodes[service, name]
        for table in (self.all_items, self.subs, self.roles):
            for key in [key for key in table if key[:2] == (service, name)]:
                del table[key]

    def item(self, service, node, id):
        return self.all_items.get((service, node, id))

    def items(self, service, node, limit):
        return [item for key, item in self.all_items.items() if key[:2] == (service, node)][::-1][:limit]

    def item_count(self, service, node):
        return len(self.items(service, node, 10**9))

    def oldest_ids(self, service, node, limit):
        return [item.id for item in self.items(service, node, 10**9)[::-1][:limit]]

    def put_item(self, item):
        assert (item.service, item.node) in self.nodes
        self.all_items.pop((item.service, item.node, item.id), None)
        self.all_items[item.service, item.node, item.id] = item

    def delete_item(self, service, node, id):
        self.all_items.pop((service, node, id), None)

    def delete_items(self, service, node, keep=0):
        for item in self.items(service, node, 10**9)[keep:]:
            self.delete_item(service, node, item.id)

    def subscriber_jids(self, service, node):
        return sorted(key[2] for key in self.subs if key[:2] == (service, node))

    def subscription(self, service, node, jid):
        return self.subs.get((service, node, jid))

    def subscriptions_of(self, bare, service=None, node=None):
        return [
            sub
            for key, sub in sorted(self.subs.items())
            if key[2].partition("/")[0] == bare and service in (None, key[0]) and node in (None, key[1])
        ]

    def subscription_count(self, service, *, bare=None, node=None):
        return sum(
            key[0] == service and bare in (None, key[2].partition("/")[0]) and node in (None, key[1])
            for key in self.subs
        )

    def put_subscription(self, subscription):
        assert (subscription.service, subscription.node) in self.nodes
        self.subs[subscription.service, subscription.node, subscription.jid] = subscription

    def delete_subscription(self, service, node, jid):
        self.subs.pop((service, node, jid), None)

    def affiliation(self, service, node, jid):
        found = self.roles.get((service, node, jid))
        return found.role if found else None

    def affiliations(self, service, node):
        return [a for key, a in sorted(self.roles.items()) if key[:2] == (service, node)]

    def affiliations_of(self, jid, service):
        return [a for key, a in sorted(self.roles.items()) if (key[0], key[2]) == (service, jid)]

    def put_affiliation(self, affiliation):
        assert (affiliation.service, affiliation.node) in self.nodes
        self.roles[affiliation.service, affiliation.node, affiliation.jid] = affiliation

    def delete_affiliation(self, service, node, jid):
        self.roles.pop((service, node, jid), None)


@dataclass
class World:
    """A transaction that is always open."""

    accounts: Accounts = field(default_factory=Accounts)
    nodes: Nodes = field(default_factory=Nodes)
    roster: Rosters = field(default_factory=Rosters)

    def commit(self, rule: Callable[[Any], Iterable[Effect]]) -> list[Effect]:
        """Apply what `rule` decides, and return what is to be sent."""
        return apply(rule(self), self)  # type: ignore[arg-type]
