# SPDX-License-Identifier: Apache-2.0
"""Publish-subscribe (XEP-0060), verb by verb, and all of them in any order beside a naive model."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from _xmppcore import JID
from xiot.model import nodes
from xiot.model.effects import Effect
from xiot.model.nodes import (
    Affiliation,
    Deleted,
    Item,
    NodeConfig,
    NodeError,
    Notify,
    Published,
    Purged,
    Retracted,
    Service,
    Unsubscribed,
)

from .world import World

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
PUBSUB = "pubsub.plant.example"
SERVICE = Service(PUBSUB, frozenset({"plant.example"}))
BOILER = JID("boiler@plant.example/a")
APP = JID("app@plant.example/phone")
TABLET = JID("app@plant.example/tablet")
STRANGER = JID("stranger@elsewhere.example/x")
PAYLOAD = b"<t xmlns='urn:example'>21.5</t>"


class Plant(World):
    """The verbs, each in a transaction of its own, at one service."""

    service: Service = SERVICE

    def create(self, who: JID, name: str = "n", **config: str) -> list[Effect]:
        return self.commit(lambda tx: nodes.create(nodes.load_create(tx.nodes, self.service, name, who), NOW, config))

    def publish(
        self, who: JID, id: str | None = "1", payload: bytes = PAYLOAD, name: str = "n", **options: str
    ) -> list[Effect]:
        return self.commit(
            lambda tx: nodes.publish(
                nodes.load_publish(tx.nodes, self.service, name, who, id), id, payload, NOW, options
            )
        )

    def retract(self, who: JID, id: str = "1", notify: bool = False, name: str = "n") -> list[Effect]:
        return self.commit(
            lambda tx: nodes.retract(nodes.load_retract(tx.nodes, self.service, name, who, id), id, notify)
        )

    def subscribe(self, who: JID, jid: JID | None = None, name: str = "n") -> list[Effect]:
        return self.commit(
            lambda tx: nodes.subscribe(nodes.load_subscribe(tx.nodes, self.service, name, who), jid or who)
        )

    def unsubscribe(self, who: JID, jid: JID | None = None, name: str = "n") -> list[Effect]:
        return self.commit(
            lambda tx: nodes.unsubscribe(
                nodes.load_unsubscribe(tx.nodes, self.service, name, who, jid or who), jid or who
            )
        )

    def own(self, verb: Callable[..., list[Effect]], who: JID, *args: Any, name: str = "n") -> list[Effect]:
        return self.commit(lambda tx: verb(nodes.load_owner(tx.nodes, self.service, name, who), *args))

    def configure(self, who: JID, **changes: str) -> list[Effect]:
        return self.own(nodes.configure, who, changes)

    def affiliate(self, who: JID, changes: Mapping[JID, Any]) -> list[Effect]:
        return self.own(nodes.set_affiliations, who, changes)

    def gone(self, who: JID) -> list[Effect]:
        return self.commit(lambda tx: nodes.resource_gone(nodes.load_resource(tx.nodes, who)))

    def found(self, who: JID, *args: Any, name: str = "n") -> list[str]:
        return [item.id for item in nodes.find_items(self.nodes, self.service, name, who, *args).items]

    @property
    def config(self) -> NodeConfig:
        return self.nodes.node(PUBSUB, "n").config


@pytest.fixture
def plant() -> Plant:
    """A service that has the node ``n`` of the boiler."""
    world = Plant()
    world.create(BOILER)
    return world


def item(id: str, who: JID = BOILER, payload: bytes = PAYLOAD) -> Item:
    return Item(PUBSUB, "n", id, str(who.bare), NOW, payload)


def told(event: Any, *to: JID) -> Notify:
    return Notify(PUBSUB, "n", event, tuple(map(str, to)))


def same(effects: Iterable[Effect], *expected: Notify) -> bool:
    """Return whether the notifications are the expected ones, whatever the kind of sequence they are addressed to."""
    return [(e.event, tuple(e.to)) for e in effects if isinstance(e, Notify)] == [(e.event, e.to) for e in expected]


def refused(call: Callable[..., Any], *args: Any, **options: Any) -> tuple[str, ...]:
    with pytest.raises(NodeError) as caught:
        call(*args, **options)
    return (caught.value.condition, *filter(None, (caught.value.detail, caught.value.feature)))


# ---- create, configure, delete, purge --------------------------------------------------------------------


def test_creator_owns_the_node(plant: Plant) -> None:
    assert nodes.affiliations(plant.nodes, SERVICE, "n", BOILER) == [
        Affiliation(PUBSUB, "n", str(BOILER.bare), "owner")
    ]


def test_node_is_created_with_its_configuration(plant: Plant) -> None:
    plant.create(BOILER, "m", access_model="whitelist", max_items="max")
    config = plant.nodes.node(PUBSUB, "m").config
    assert (config.access_model, config.max_items) == ("whitelist", SERVICE.max_items)


def test_create_is_refused(plant: Plant) -> None:
    assert refused(plant.create, BOILER) == ("conflict",)
    assert refused(plant.create, STRANGER, "m") == ("forbidden",)
    assert refused(plant.create, BOILER, "") == ("not-acceptable", "nodeid-required")
    assert refused(plant.create, BOILER, "é" * 512) == ("not-acceptable",)
    assert refused(plant.create, BOILER, "m", access_model="presence") == ("not-acceptable", "unsupported-access-model")
    plant.service = Service(PUBSUB, frozenset({str(BOILER.bare)}), max_nodes=1)
    assert refused(plant.create, BOILER, "m") == ("resource-constraint",)
    assert refused(plant.create, APP, "m") == ("forbidden",)


@pytest.mark.parametrize("value", ["0", "100001", "-1", "1e3", "", "9" * 5000, "٣"])
def test_max_items_is_within_what_the_service_keeps(plant: Plant, value: str) -> None:
    assert refused(plant.configure, BOILER, max_items=value) == ("not-acceptable",)


def test_configuration_shows_and_takes_the_same_texts() -> None:
    config = NodeConfig(title="T", access_model="whitelist", persist_items=False, max_items=7)
    assert NodeConfig().changed(config.texts(), 10) == config
    assert config.changed({"pubsub#unknown": "x"}, 10) == config
    assert config.texts()["persist_items"] == "0"
    with pytest.raises(NodeError):
        config.changed({"persist_items": "yes"}, 10)


@pytest.mark.security(row=62)
def test_only_an_owner_configures_deletes_and_purges(plant: Plant) -> None:
    plant.affiliate(BOILER, {APP.bare: "publisher"})
    for who in (APP, STRANGER):
        for verb, *args in ((nodes.configure, {}), (nodes.delete,), (nodes.purge,), (nodes.set_affiliations, {})):
            assert refused(plant.own, verb, who, *args) == ("forbidden",)
        assert refused(nodes.affiliations, plant.nodes, SERVICE, "n", who) == ("forbidden",)
        assert refused(nodes.subscribers, plant.nodes, SERVICE, "n", who) == ("forbidden",)


def test_verbs_at_a_missing_node_are_item_not_found(plant: Plant) -> None:
    for verb, *args in ((nodes.configure, {}), (nodes.delete,), (nodes.purge,), (nodes.set_affiliations, {})):
        assert refused(plant.own, verb, BOILER, *args, name="m") == ("item-not-found",)
        assert refused(plant.own, verb, BOILER, *args, name="") == ("bad-request", "nodeid-required")
    for verb in (plant.retract, plant.subscribe, plant.unsubscribe, plant.found):
        assert refused(verb, BOILER, name="m") == ("item-not-found",)


def test_smaller_max_items_removes_the_oldest(plant: Plant) -> None:
    for id in "123":
        plant.publish(BOILER, id)
    plant.configure(BOILER, max_items="2")
    assert plant.found(APP) == ["2", "3"]


def test_node_that_stops_to_persist_loses_its_items(plant: Plant) -> None:
    plant.publish(BOILER)
    plant.configure(BOILER, persist_items="false")
    assert plant.nodes.item_count(PUBSUB, "n") == 0


def test_closing_a_node_ends_subscriptions_of_who_is_not_on_the_whitelist(plant: Plant) -> None:
    plant.affiliate(BOILER, {APP.bare: "member"})
    for who in (BOILER, APP, STRANGER):
        plant.subscribe(who)
    assert same(plant.configure(BOILER, access_model="whitelist"), told(Unsubscribed(), STRANGER))
    assert nodes.subscribers(plant.nodes, SERVICE, "n", BOILER) == [str(APP), str(BOILER)]


def test_deleting_a_node_tells_the_subscribers_and_leaves_nothing(plant: Plant) -> None:
    plant.publish(BOILER)
    plant.subscribe(APP)
    assert same(plant.own(nodes.delete, BOILER, "xmpp:other"), told(Deleted("xmpp:other"), APP))
    assert vars(plant.nodes) == vars(Plant().nodes)


def test_purge_tells_once(plant: Plant) -> None:
    plant.subscribe(APP)
    for id in "12":
        plant.publish(BOILER, id)
    assert same(plant.own(nodes.purge, BOILER), told(Purged(), APP))
    assert plant.found(APP) == []
    plant.configure(BOILER, notify_retract="0")
    assert same(plant.own(nodes.purge, BOILER))
    plant.configure(BOILER, persist_items="0")
    assert refused(plant.own, nodes.purge, BOILER) == ("feature-not-implemented", "unsupported", "persistent-items")


# ---- publish, retract, items -----------------------------------------------------------------------------


def test_first_publish_makes_the_node() -> None:
    plant = Plant()
    assert plant.publish(BOILER, access_model="whitelist") == []
    assert plant.nodes.affiliation(PUBSUB, "n", str(BOILER.bare)) == "owner"
    assert plant.config.access_model == "whitelist"
    assert plant.found(BOILER) == ["1"]


def test_first_publish_needs_the_right_to_create() -> None:
    assert refused(Plant().publish, STRANGER) == ("forbidden",)


def test_subscribers_are_told_of_an_item(plant: Plant) -> None:
    plant.subscribe(STRANGER)
    plant.subscribe(APP, APP.bare)
    assert same(plant.publish(BOILER), told(Published(item("1")), APP.bare, STRANGER))


def test_nobody_is_told_if_nobody_subscribed(plant: Plant) -> None:
    assert plant.publish(BOILER) == []


def test_item_of_the_same_id_is_replaced_and_becomes_the_newest(plant: Plant) -> None:
    for id in "121":
        plant.publish(BOILER, id, b"<n/>" if id == "1" else PAYLOAD)
    assert plant.found(APP) == ["2", "1"]


def test_full_node_evicts_the_oldest_in_silence(plant: Plant) -> None:
    plant.configure(BOILER, max_items="2")
    plant.subscribe(APP)
    plant.publish(BOILER, "1")
    plant.publish(BOILER, "2")
    assert same(plant.publish(BOILER, "3"), told(Published(item("3")), APP))
    assert plant.found(APP) == ["2", "3"]
    plant.publish(BOILER, "2")
    assert plant.found(APP) == ["3", "2"]


def test_node_without_payloads_keeps_them_but_sends_none(plant: Plant) -> None:
    plant.configure(BOILER, deliver_payloads="0")
    plant.subscribe(APP)
    assert same(plant.publish(BOILER), told(Published(item("1", payload=b"")), APP))
    assert plant.nodes.item(PUBSUB, "n", "1").payload == PAYLOAD
    assert same(plant.subscribe(APP), told(Published(item("1", payload=b""), last=True), APP))


def test_node_that_does_not_persist_sends_and_keeps_nothing(plant: Plant) -> None:
    plant.configure(BOILER, persist_items="0")
    plant.subscribe(APP)
    assert same(plant.publish(BOILER), told(Published(item("1")), APP))
    unsupported = ("feature-not-implemented", "unsupported", "persistent-items")
    assert refused(plant.found, APP) == unsupported
    assert refused(plant.retract, BOILER) == unsupported


def test_mere_notification_has_no_item(plant: Plant) -> None:
    plant.configure(BOILER, persist_items="0", deliver_payloads="0")
    plant.subscribe(APP)
    assert same(plant.publish(BOILER, None, b""), told(Published(None), APP))
    assert refused(plant.publish, BOILER, "1", b"") == ("bad-request", "item-forbidden")


def test_publish_that_does_not_fit_the_node_is_refused(plant: Plant) -> None:
    plant.service = Service(PUBSUB, max_payload_bytes=10)
    assert refused(plant.publish, BOILER, None, b"") == ("bad-request", "item-required")
    assert refused(plant.publish, BOILER, "1", b"") == ("bad-request", "payload-required")
    assert refused(plant.publish, BOILER, "1", b"<longer/>..") == ("not-acceptable", "payload-too-big")
    assert refused(plant.publish, BOILER, "", b"<a/>") == ("not-acceptable",)
    assert refused(plant.publish, BOILER, "é" * 512, b"<a/>") == ("not-acceptable",)
    assert refused(plant.publish, BOILER, name="") == ("bad-request", "nodeid-required")


@pytest.mark.security(row=59)
def test_publish_options_are_preconditions(plant: Plant) -> None:
    plant.publish(BOILER, access_model="open", max_items="20")
    unmet = ("conflict", "precondition-not-met")
    assert refused(plant.publish, BOILER, access_model="whitelist") == unmet
    assert refused(plant.publish, BOILER, access_model="presence") == unmet
    assert refused(plant.publish, BOILER, unknown="1") == unmet


@pytest.mark.parametrize(
    ("model", "role", "subscribed", "allowed"),
    [
        ("publishers", None, True, False),
        ("publishers", "member", True, False),
        ("publishers", "publisher", False, True),
        ("publishers", "publish-only", False, True),
        ("publishers", "owner", False, True),
        ("subscribers", None, False, False),
        ("subscribers", None, True, True),
        ("subscribers", "member", False, False),
        ("subscribers", "publisher", False, True),
        ("open", None, False, True),
        ("open", "outcast", False, False),
    ],
)
def test_publish_model_says_who_publishes(plant: Plant, model: str, role: Any, subscribed: bool, allowed: bool) -> None:
    plant.configure(BOILER, publish_model=model)
    plant.affiliate(BOILER, {APP.bare: role})
    if subscribed:
        plant.subscribe(TABLET)
    if allowed:
        plant.publish(APP, "2")
        assert plant.nodes.item(PUBSUB, "n", "2").publisher == str(APP.bare)
    else:
        assert refused(plant.publish, APP, "2") == ("forbidden",)


def test_retracted_item_is_gone_and_subscribers_are_told(plant: Plant) -> None:
    plant.publish(BOILER)
    plant.subscribe(APP)
    assert same(plant.retract(BOILER), told(Retracted(("1",)), APP))
    assert plant.found(APP) == []
    assert refused(plant.retract, BOILER) == ("item-not-found",)
    assert refused(plant.retract, BOILER, "") == ("bad-request", "item-required")


def test_retraction_is_silent_if_configured_unless_asked_for(plant: Plant) -> None:
    plant.configure(BOILER, notify_retract="0")
    plant.subscribe(APP)
    for id in "12":
        plant.publish(BOILER, id)
    assert same(plant.retract(BOILER, "1"))
    assert same(plant.retract(BOILER, "2", notify=True), told(Retracted(("2",)), APP))


def test_owner_retracts_any_item_and_publishers_their_own(plant: Plant) -> None:
    plant.configure(BOILER, publish_model="open")
    plant.publish(BOILER, "1")
    plant.publish(APP, "2")
    plant.publish(APP, "3")
    assert refused(plant.retract, APP, "1") == ("forbidden",)
    plant.retract(TABLET, "2")
    plant.retract(BOILER, "3")
    assert plant.found(APP) == ["1"]
    plant.publish(APP, "4")
    plant.affiliate(BOILER, {APP.bare: "outcast"})
    assert refused(plant.retract, APP, "4") == ("forbidden",)


def test_who_may_not_read_does_not_learn_which_items_there_are(plant: Plant) -> None:
    plant.configure(BOILER, access_model="whitelist")
    plant.publish(BOILER)
    assert refused(plant.retract, APP, "1") == refused(plant.retract, APP, "2") == ("forbidden",)


def test_items_are_found_by_id_by_number_or_as_many_as_fit(plant: Plant) -> None:
    for id in "1234":
        plant.publish(BOILER, id)
    assert plant.found(STRANGER) == ["1", "2", "3", "4"]
    assert plant.found(STRANGER, (), 2) == ["3", "4"]
    assert plant.found(STRANGER, ("3", "x", "1", "3")) == ["3", "1"]
    plant.service = Service(PUBSUB, max_items_per_reply=3)
    assert plant.found(STRANGER) == plant.found(STRANGER, (), 10**9) == ["2", "3", "4"]
    assert nodes.find_items(plant.nodes, plant.service, "n", STRANGER).total == 4
    assert refused(plant.found, STRANGER, ("1", "2", "3", "4")) == ("policy-violation",)
    assert refused(plant.found, STRANGER, (), 0) == ("bad-request",)


@pytest.mark.parametrize(
    ("access", "role", "answer"),
    [
        ("open", None, None),
        ("open", "outcast", ("forbidden",)),
        ("open", "publish-only", ("forbidden",)),
        ("whitelist", None, ("not-allowed", "closed-node")),
        ("whitelist", "outcast", ("forbidden",)),
        ("whitelist", "publisher", None),
        ("whitelist", "owner", None),
    ],
)
def test_access_model_says_who_subscribes_and_reads(plant: Plant, access: str, role: Any, answer: Any) -> None:
    plant.configure(BOILER, access_model=access)
    plant.affiliate(BOILER, {APP.bare: role})
    if answer is None:
        plant.found(APP)
        plant.subscribe(APP)
    else:
        assert refused(plant.found, APP) == refused(plant.subscribe, APP) == answer


def test_member_of_a_whitelist_reads_once_subscribed(plant: Plant) -> None:
    plant.configure(BOILER, access_model="whitelist")
    plant.affiliate(BOILER, {APP.bare: "member"})
    assert refused(plant.found, APP) == ("not-authorized", "not-subscribed")
    plant.subscribe(TABLET)
    assert plant.found(APP) == []


# ---- subscriptions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("jid", [TABLET, BOILER, BOILER.bare])
def test_nobody_subscribes_others(plant: Plant, jid: JID) -> None:
    assert refused(plant.subscribe, APP, jid) == ("bad-request", "invalid-jid")


def test_last_item_is_sent_to_a_new_subscriber(plant: Plant) -> None:
    for id in "12":
        plant.publish(BOILER, id)
    last = told(Published(item("2"), last=True), APP)
    assert same(plant.subscribe(APP), last)
    assert same(plant.subscribe(APP), last)
    plant.configure(BOILER, send_last_published_item="never")
    assert same(plant.subscribe(APP, APP.bare))


def test_subscribing_once_more_changes_nothing(plant: Plant) -> None:
    plant.service = Service(PUBSUB, max_subscriptions=1, max_subscribers=1)
    plant.subscribe(APP)
    plant.subscribe(APP)
    assert [s.jid for s in nodes.subscriptions(plant.nodes, SERVICE, TABLET)] == [str(APP)]


def test_number_of_subscriptions_is_bounded(plant: Plant) -> None:
    plant.service = Service(PUBSUB, max_subscriptions=1, max_subscribers=2)
    plant.subscribe(APP)
    with pytest.raises(NodeError) as caught:
        plant.subscribe(TABLET)
    error = caught.value
    assert (error.condition, error.detail, error.type) == ("policy-violation", "too-many-subscriptions", "wait")
    plant.subscribe(BOILER)
    assert refused(plant.subscribe, STRANGER) == ("resource-constraint",)


def test_unsubscribe_ends_exactly_that_subscription(plant: Plant) -> None:
    plant.subscribe(APP)
    plant.subscribe(APP, APP.bare)
    assert refused(plant.unsubscribe, APP, BOILER) == ("forbidden",)
    assert refused(plant.unsubscribe, APP, TABLET) == ("unexpected-request", "not-subscribed")
    plant.unsubscribe(TABLET, APP)
    assert [s.jid for s in nodes.subscriptions(plant.nodes, SERVICE, APP, "n")] == [str(APP.bare)]


def test_subscription_of_a_full_jid_ends_with_its_resource(plant: Plant) -> None:
    plant.create(BOILER, "m")
    for name in "nm":
        plant.subscribe(APP, name=name)
        plant.subscribe(TABLET, name=name)
    plant.subscribe(APP, APP.bare)
    assert plant.gone(APP) == []
    left = [(s.node, s.jid) for s in nodes.subscriptions(plant.nodes, SERVICE, APP)]
    assert left == [("m", str(TABLET)), ("n", str(APP.bare)), ("n", str(TABLET))]


def test_owner_removes_subscribers(plant: Plant) -> None:
    plant.subscribe(APP)
    assert refused(plant.own, nodes.remove_subscribers, APP, [APP]) == ("forbidden",)
    assert refused(plant.own, nodes.remove_subscribers, BOILER, [APP, TABLET]) == ("not-acceptable", "not-subscribed")
    assert same(plant.own(nodes.remove_subscribers, BOILER, [APP]), told(Unsubscribed(), APP))
    assert nodes.subscribers(plant.nodes, SERVICE, "n", BOILER) == []


# ---- affiliations ----------------------------------------------------------------------------------------


def test_affiliations_are_set_and_taken_away(plant: Plant) -> None:
    plant.affiliate(BOILER, {APP.bare: "publisher", STRANGER.bare: "member"})
    assert [a.role for a in nodes.own_affiliations(plant.nodes, SERVICE, APP)] == ["publisher"]
    plant.affiliate(BOILER, {APP.bare: None, JID("nobody@x.example"): None})
    assert nodes.own_affiliations(plant.nodes, SERVICE, APP, "n") == []
    assert [a.jid for a in nodes.affiliations(plant.nodes, SERVICE, "n", BOILER)] == [
        str(BOILER.bare),
        str(STRANGER.bare),
    ]


def test_outcast_loses_all_subscriptions(plant: Plant) -> None:
    for jid in (APP, APP.bare):
        plant.subscribe(APP, jid)
    plant.subscribe(STRANGER)
    effects = plant.affiliate(BOILER, {APP.bare: "outcast"})
    assert same(effects, told(Unsubscribed(), APP.bare), told(Unsubscribed(), APP))
    assert nodes.subscribers(plant.nodes, SERVICE, "n", BOILER) == [str(STRANGER)]


def test_node_keeps_an_owner(plant: Plant) -> None:
    assert refused(plant.affiliate, BOILER, {BOILER.bare: None}) == ("not-acceptable",)
    plant.affiliate(BOILER, {APP.bare: "owner"})
    plant.affiliate(BOILER, {BOILER.bare: None})
    assert refused(plant.affiliate, BOILER, {}) == ("forbidden",)


@pytest.mark.parametrize(
    ("before", "after"),
    [("owner", "outcast"), ("owner", "member"), ("owner", "publisher"), ("publisher", "member")],
)
def test_transition_that_the_table_rules_out_is_refused(plant: Plant, before: Any, after: Any) -> None:
    plant.affiliate(BOILER, {APP.bare: before})
    assert refused(plant.affiliate, BOILER, {APP.bare: after}) == ("not-acceptable",)
    plant.affiliate(BOILER, {APP.bare: None})
    plant.affiliate(BOILER, {APP.bare: after})


def test_affiliations_change_all_or_not_at_all(plant: Plant) -> None:
    plant.service = Service(PUBSUB, max_affiliations=2)
    for changes in ({APP.bare: "member", STRANGER.bare: "member"}, {APP.bare: "member", TABLET: "member"}):
        with pytest.raises(NodeError):
            plant.affiliate(BOILER, changes)
    assert len(nodes.affiliations(plant.nodes, SERVICE, "n", BOILER)) == 1


# ---- all verbs in any order ------------------------------------------------------------------------------

PEOPLE = [BOILER, APP, TABLET, STRANGER]
people = st.sampled_from([BOILER, BOILER, BOILER, *PEOPLE])  # mostly the owner, or little would happen
ids = st.sampled_from("abcd")


@dataclass
class Naive:
    """A node as one would write it on a napkin."""

    roles: dict[JID, str]
    access: str = "open"
    publishing: str = "publishers"
    max_items: int = 20
    items: list[tuple[str, JID]] = field(default_factory=list)
    subscribed: set[JID] = field(default_factory=set)

    def role(self, who: JID) -> str:
        return self.roles.get(who.bare, "none")

    def readable(self, who: JID) -> bool:
        return self.role(who) in ("owner", "publisher", "member") or (
            self.role(who) == "none" and self.access == "open"
        )

    def writable(self, who: JID) -> bool:
        here = {jid.bare for jid in self.subscribed}
        return (
            self.role(who) in ("owner", "publisher", "publish-only")
            or (self.publishing == "open" and self.role(who) != "outcast")
            or (self.publishing == "subscribers" and who.bare in here)
        )

    def expel(self) -> None:
        self.subscribed = {jid for jid in self.subscribed if self.readable(jid)}


class AnyOrder(RuleBasedStateMachine):
    """Each verb does what the napkin says, and is refused when the napkin says so."""

    def __init__(self) -> None:
        super().__init__()
        self.plant = Plant()
        self.naive: Naive | None = None

    def attempt(self, allowed: bool, verb: Callable[..., list[Effect]], *args: Any, **options: Any) -> list[Notify]:
        if not allowed:
            with pytest.raises(NodeError):
                verb(*args, **options)
            return []
        return [effect for effect in verb(*args, **options) if isinstance(effect, Notify)]

    def heard(self, effects: list[Notify], to: set[JID]) -> None:
        assert [set(effect.to) for effect in effects] == ([{str(jid) for jid in to}] if to else [])

    @rule(who=people, id=ids)
    def publish(self, who: JID, id: str) -> None:
        node = self.naive
        if node is None:
            allowed = who is not STRANGER
        else:
            allowed = node.writable(who)
        effects = self.attempt(allowed, self.plant.publish, who, id)
        if allowed:
            if self.naive is None:
                self.naive = Naive({who.bare: "owner"})
            self.naive.items = [row for row in self.naive.items if row[0] != id] + [(id, who.bare)]
            self.naive.items = self.naive.items[-self.naive.max_items :]
            self.heard(effects, self.naive.subscribed)

    @precondition(lambda self: self.naive)
    @rule(who=people, id=ids)
    def retract(self, who: JID, id: str) -> None:
        row = next((row for row in self.naive.items if row[0] == id), None)
        allowed = row is not None and (
            self.naive.role(who) == "owner" or (row[1] == who.bare and self.naive.role(who) != "outcast")
        )
        effects = self.attempt(allowed, self.plant.retract, who, id)
        if allowed:
            self.naive.items.remove(row)
            self.heard(effects, self.naive.subscribed)

    @precondition(lambda self: self.naive)
    @rule(who=people, jid=people, bare=st.booleans())
    def subscribe(self, who: JID, jid: JID, bare: bool) -> None:
        jid = jid.bare if bare else jid
        allowed = self.naive.readable(who) and jid in (who, who.bare)
        effects = self.attempt(allowed, self.plant.subscribe, who, jid)
        if allowed:
            self.naive.subscribed.add(jid)
            self.heard(effects, {jid} if self.naive.items else set())
            assert [e.event.item.id for e in effects] == [row[0] for row in self.naive.items[-1:]]

    @precondition(lambda self: self.naive)
    @rule(who=people, jid=people, bare=st.booleans())
    def unsubscribe(self, who: JID, jid: JID, bare: bool) -> None:
        jid = jid.bare if bare else jid
        allowed = jid.bare == who.bare and jid in self.naive.subscribed
        self.attempt(allowed, self.plant.unsubscribe, who, jid)
        if allowed:
            self.naive.subscribed.remove(jid)

    @rule(who=people)
    def resource_goes_offline(self, who: JID) -> None:
        self.plant.gone(who)
        if self.naive:
            self.naive.subscribed.discard(who)

    @precondition(lambda self: self.naive)
    @rule(
        who=people, of=people, role=st.sampled_from([None, "owner", "publisher", "publish-only", "member", "outcast"])
    )
    def affiliate(self, who: JID, of: JID, role: Any) -> None:
        before = self.naive.role(of)
        after = {**self.naive.roles, of.bare: role or "none"}
        ruled_out = (before == "owner" and role not in (None, "owner")) or (before, role) == ("publisher", "member")
        allowed = self.naive.role(who) == "owner" and not ruled_out and "owner" in after.values()
        effects = self.attempt(allowed, self.plant.affiliate, who, {of.bare: role})
        if allowed:
            subscribed = self.naive.subscribed
            self.naive.roles = after
            self.naive.expel()
            assert sorted(to for effect in effects for to in effect.to) == sorted(
                map(str, subscribed - self.naive.subscribed)
            )

    @precondition(lambda self: self.naive)
    @rule(
        who=people,
        access=st.sampled_from(["open", "whitelist"]),
        publishing=st.sampled_from(["publishers", "subscribers", "open"]),
        max_items=st.integers(0, 3),
    )
    def configure(self, who: JID, access: str, publishing: str, max_items: int) -> None:
        allowed = self.naive.role(who) == "owner" and max_items > 0
        changes = {"access_model": access, "publish_model": publishing, "max_items": str(max_items)}
        self.attempt(allowed, self.plant.configure, who, **changes)
        if allowed:
            self.naive.access, self.naive.publishing, self.naive.max_items = access, publishing, max_items
            self.naive.items = self.naive.items[-max_items:]
            self.naive.expel()

    @precondition(lambda self: self.naive)
    @rule(who=people)
    def purge(self, who: JID) -> None:
        allowed = self.naive.role(who) == "owner"
        self.heard(self.attempt(allowed, self.plant.own, nodes.purge, who), self.naive.subscribed if allowed else set())
        if allowed:
            self.naive.items = []

    @precondition(lambda self: self.naive)
    @rule(who=people)
    def delete(self, who: JID) -> None:
        allowed = self.naive.role(who) == "owner"
        self.heard(
            self.attempt(allowed, self.plant.own, nodes.delete, who), self.naive.subscribed if allowed else set()
        )
        if allowed:
            self.naive = None

    @invariant()
    def store_is_as_the_napkin_says(self) -> None:
        store, node = self.plant.nodes, self.naive
        assert (store.node(PUBSUB, "n") is None) == (node is None)
        items = [(i.id, JID(i.publisher)) for i in store.items(PUBSUB, "n", 99)[::-1]]
        assert items == (node.items if node else [])
        assert set(map(JID, store.subscriber_jids(PUBSUB, "n"))) == (node.subscribed if node else set())
        roles = {JID(a.jid): a.role for a in store.affiliations(PUBSUB, "n")}
        assert roles == ({jid: role for jid, role in node.roles.items() if role != "none"} if node else {})


AnyOrder.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase
