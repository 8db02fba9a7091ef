# SPDX-License-Identifier: Apache-2.0
"""XEP-0060: Publish-Subscribe."""

from typing import Any

import pytest

from _xmppcore import JID, Element
from xiot.errors import StanzaError
from xiot.model.nodes import NodeConfig, Service
from xiot.schema import Payload
from xiot.stanzas import NS_CLIENT
from xiot.xep import delay, disco, forms, pubsub, rsm
from xiot.xep.forms import Form
from xiot.xep.pubsub import (
    NS,
    NS_ERRORS,
    NS_EVENT,
    NS_OWNER,
    Affiliation,
    Affiliations,
    Configure,
    Create,
    Event,
    EventConfiguration,
    EventDelete,
    EventItem,
    EventItems,
    EventPurge,
    EventRedirect,
    EventRetract,
    EventSubscription,
    Item,
    Items,
    Owner,
    OwnerAffiliation,
    OwnerAffiliations,
    OwnerConfigure,
    OwnerDefault,
    OwnerDelete,
    OwnerPurge,
    OwnerRedirect,
    OwnerSubscription,
    OwnerSubscriptions,
    Publish,
    PublishOptions,
    PubSub,
    Retract,
    Subscribe,
    Subscription,
    Subscriptions,
    Unsubscribe,
)
from xiot.xep.rsm import Page

from .world import Client, World

AT = "pubsub.plant.example"
ENTRY = Element("{urn:example:entry}entry", {"n": "1"}, "hi")
ENTRY_XML = "<entry xmlns='urn:example:entry' n='1'>hi</entry>"
JULIET = JID("juliet@plant.example")

# ---- the elements ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "xml"),
    [
        (Create(), "<create/>"),
        (Create(node="n"), "<create node='n'/>"),
        (
            Publish(node="n", items=(Item(id="1", payload=(ENTRY,)),)),
            f"<publish node='n'><item id='1'>{ENTRY_XML}</item></publish>",
        ),
        (
            Retract(node="n", notify=True, items=(Item(id="1"),)),
            "<retract node='n' notify='true'><item id='1'/></retract>",
        ),
        (Subscribe(node="n", jid=JULIET), f"<subscribe node='n' jid='{JULIET}'/>"),
        (Unsubscribe(node="n", jid=JULIET, subid="s"), f"<unsubscribe node='n' jid='{JULIET}' subid='s'/>"),
        (Items(node="n", max_items=2), "<items node='n' max_items='2'/>"),
        (
            Items(node="n", items=(Item(id="1", publisher="a@b.example", payload=(ENTRY,)),)),
            f"<items node='n'><item id='1' publisher='a@b.example'>{ENTRY_XML}</item></items>",
        ),
        (
            Subscription(node="n", jid=JULIET, subscription="subscribed"),
            f"<subscription node='n' jid='{JULIET}' subscription='subscribed'/>",
        ),
        (
            Subscriptions(subscriptions=(Subscription(node="n", jid=JULIET, subscription="pending", subid="s"),)),
            f"<subscriptions><subscription node='n' jid='{JULIET}' subscription='pending' subid='s'/></subscriptions>",
        ),
        (
            Affiliations(node="n", affiliations=(Affiliation(node="n", affiliation="owner"),)),
            "<affiliations node='n'><affiliation node='n' affiliation='owner'/></affiliations>",
        ),
    ],
)
def test_verb_both_ways(verb: Any, xml: str) -> None:
    el = Element.fromstring(f"<pubsub xmlns='{NS}'>{xml}</pubsub>")
    assert PubSub(verb=verb).to_element() == el
    assert PubSub.from_element(el) == PubSub(verb=verb)


def test_what_goes_with_a_verb_both_ways() -> None:
    x = "<x xmlns='jabber:x:data' type='submit'/>"
    form = Form(type="submit")
    xml = f"<pubsub xmlns='{NS}'><create/><configure>{x}</configure></pubsub>"
    created = PubSub(verb=Create(), configure=Configure(form=form))
    assert created.to_element() == Element.fromstring(xml)
    assert PubSub.from_element(Element.fromstring(xml)) == created
    xml = f"<pubsub xmlns='{NS}'><publish node='n'/><publish-options>{x}</publish-options></pubsub>"
    published = PubSub(verb=Publish(node="n"), publish_options=PublishOptions(form=form))
    assert published.to_element() == Element.fromstring(xml)
    assert PubSub.from_element(Element.fromstring(xml)) == published


@pytest.mark.parametrize(
    ("verb", "xml"),
    [
        (OwnerConfigure(node="n"), "<configure node='n'/>"),
        (
            OwnerConfigure(node="n", form=Form(type="cancel")),
            "<configure node='n'><x xmlns='jabber:x:data' type='cancel'/></configure>",
        ),
        (OwnerDefault(), "<default/>"),
        (OwnerDelete(node="n"), "<delete node='n'/>"),
        (
            OwnerDelete(node="n", redirect=OwnerRedirect(uri="xmpp:a")),
            "<delete node='n'><redirect uri='xmpp:a'/></delete>",
        ),
        (OwnerPurge(node="n"), "<purge node='n'/>"),
        (
            OwnerSubscriptions(node="n", subscriptions=(OwnerSubscription(jid=JULIET, subscription="none"),)),
            f"<subscriptions node='n'><subscription jid='{JULIET}' subscription='none'/></subscriptions>",
        ),
        (
            OwnerAffiliations(node="n", affiliations=(OwnerAffiliation(jid=JULIET, affiliation="publish-only"),)),
            f"<affiliations node='n'><affiliation jid='{JULIET}' affiliation='publish-only'/></affiliations>",
        ),
    ],
)
def test_verb_of_an_owner_both_ways(verb: Any, xml: str) -> None:
    el = Element.fromstring(f"<pubsub xmlns='{NS_OWNER}'>{xml}</pubsub>")
    assert Owner(verb=verb).to_element() == el
    assert Owner.from_element(el) == Owner(verb=verb)


@pytest.mark.parametrize(
    ("verb", "xml"),
    [
        (
            EventItems(node="n", items=(EventItem(id="1", publisher="a@b.example", payload=ENTRY),)),
            f"<items node='n'><item id='1' publisher='a@b.example'>{ENTRY_XML}</item></items>",
        ),
        (EventItems(node="n", items=(EventItem(id="1"),)), "<items node='n'><item id='1'/></items>"),
        (EventItems(node="n"), "<items node='n'/>"),
        (
            EventItems(node="n", retracted=(EventRetract(id="1"), EventRetract(id="2"))),
            "<items node='n'><retract id='1'/><retract id='2'/></items>",
        ),
        (EventDelete(node="n"), "<delete node='n'/>"),
        (
            EventDelete(node="n", redirect=EventRedirect(uri="xmpp:a")),
            "<delete node='n'><redirect uri='xmpp:a'/></delete>",
        ),
        (EventPurge(node="n"), "<purge node='n'/>"),
        (
            EventConfiguration(node="n", form=Form(type="result")),
            "<configuration node='n'><x xmlns='jabber:x:data' type='result'/></configuration>",
        ),
        (
            EventSubscription(node="n", jid=JULIET, subscription="none"),
            f"<subscription node='n' jid='{JULIET}' subscription='none'/>",
        ),
    ],
)
def test_event_both_ways(verb: Any, xml: str) -> None:
    el = Element.fromstring(f"<event xmlns='{NS_EVENT}'>{xml}</event>")
    assert Event(verb=verb).to_element() == el
    assert Event.from_element(el) == Event(verb=verb)


def test_event_of_another_kind_is_none_of_ours() -> None:
    el = Element.fromstring(f"<event xmlns='{NS_EVENT}'><collection node='n'/></event>")
    assert Event.from_element(el).verb is None


# ---- both ends -------------------------------------------------------------------------------------------


def a_world(**limits: Any) -> World:
    extensions = [delay.ext, disco.ext, forms.ext, pubsub.ext, rsm.ext]
    service = Service(AT, frozenset(["plant.example"]), **limits)
    return World(*extensions, services=[service, pubsub.directory(extensions)])


def sessions(world: World) -> tuple[Client, Client]:
    return world.session("boiler@plant.example/x"), world.session("juliet@plant.example/a")


def events(client: Client) -> list[Any]:
    """What happened, from the messages that `client` got; forgets them."""
    found = [Event.from_element(stanza[0]).verb for stanza in client.inbox]
    assert all((stanza.name, stanza.get("type")) == ("message", "headline") for stanza in client.inbox)
    client.inbox.clear()
    return found


async def test_published_item_reaches_the_subscribers() -> None:
    boiler, juliet = sessions(a_world())
    assert await pubsub.create(boiler, "n", at=AT) == "n"
    assert await pubsub.subscribe(juliet, "n", at=AT) == Subscription(
        node="n", jid=juliet.jid, subscription="subscribed"
    )
    assert await pubsub.publish(boiler, "n", ENTRY, at=AT, id="1") == "1"
    item = EventItem(id="1", publisher="boiler@plant.example", payload=ENTRY)
    assert events(juliet) == [EventItems(node="n", items=(item,))]
    assert boiler.inbox == []
    await pubsub.unsubscribe(juliet, "n", at=AT)
    await pubsub.publish(boiler, "n", ENTRY, at=AT)
    assert juliet.inbox == []


async def test_first_publish_makes_the_node_and_the_service_makes_ids() -> None:
    boiler, juliet = sessions(a_world())
    first, second = [await pubsub.publish(boiler, "n", ENTRY, at=AT) for _ in range(2)]
    assert first != second
    found = await pubsub.items(juliet, "n", at=AT)
    assert [item.id for item in found] == [first, second]
    assert found[0] == Item(id=first, publisher="boiler@plant.example", payload=(ENTRY,))
    with pytest.raises(StanzaError, match="forbidden"):
        await pubsub.publish(juliet, "n", ENTRY, at=AT)


async def test_node_without_a_name_gets_one() -> None:
    boiler, _ = sessions(a_world())
    name = await pubsub.create(boiler, at=AT)
    assert name
    await pubsub.publish(boiler, name, ENTRY, at=AT)


async def test_last_item_comes_after_the_answer_and_says_when_it_was_published() -> None:
    world = a_world()
    boiler, juliet = sessions(world)
    await pubsub.publish(boiler, "n", ENTRY, at=AT, id="1")
    published = world.now
    boiler.now()
    await pubsub.subscribe(juliet, "n", at=AT)
    (stanza,) = juliet.inbox
    assert delay.Delay.from_element(stanza[1]) == delay.Delay(from_=AT, stamp=published)
    assert events(juliet) == [
        EventItems(node="n", items=(EventItem(id="1", publisher="boiler@plant.example", payload=ENTRY),))
    ]


async def test_items_are_found_by_id_and_by_number() -> None:
    boiler, juliet = sessions(a_world(max_items_per_reply=3))
    for id in "12345":
        await pubsub.publish(boiler, "n", ENTRY, at=AT, id=id)

    async def found(**wanted: Any) -> list[str | None]:
        return [item.id for item in await pubsub.items(juliet, "n", at=AT, **wanted)]

    assert await found() == ["3", "4", "5"]
    assert await found(max_items=1) == ["5"]
    assert await found(ids=["2", "x", "1"]) == ["2", "1"]
    answer = PubSub.from_element(await juliet.request("get", PubSub(verb=Items(node="n")), to=AT))
    assert answer.page == Page(first="3", last="5", count=5)


async def test_retracted_item_is_gone_and_told() -> None:
    boiler, juliet = sessions(a_world())
    await pubsub.create(boiler, "n", at=AT)
    await pubsub.subscribe(juliet, "n", at=AT)
    await pubsub.publish(boiler, "n", ENTRY, at=AT, id="1")
    await pubsub.retract(boiler, "n", "1", at=AT)
    assert events(juliet)[1:] == [EventItems(node="n", retracted=(EventRetract(id="1"),))]
    assert await pubsub.items(juliet, "n", at=AT) == ()


async def test_node_of_mere_notifications_has_events_without_items() -> None:
    boiler, juliet = sessions(a_world())
    await pubsub.create(boiler, "bell", at=AT, config={"persist_items": "0", "deliver_payloads": "0"})
    await pubsub.subscribe(juliet, "bell", at=AT)
    assert await pubsub.publish(boiler, "bell", None, at=AT) == ""
    assert events(juliet) == [EventItems(node="bell")]


async def test_node_that_delivers_no_payloads_keeps_them() -> None:
    boiler, juliet = sessions(a_world())
    await pubsub.create(boiler, "n", at=AT, config={"deliver_payloads": "false"})
    await pubsub.subscribe(juliet, "n", at=AT)
    await pubsub.publish(boiler, "n", ENTRY, at=AT, id="1")
    assert events(juliet) == [EventItems(node="n", items=(EventItem(id="1", publisher="boiler@plant.example"),))]
    (item,) = await pubsub.items(juliet, "n", at=AT)
    assert item.payload == (ENTRY,)


async def test_configuration_is_shown_as_a_form_and_changed_by_one() -> None:
    boiler, juliet = sessions(a_world())
    await pubsub.create(boiler, "n", at=AT, config={"title": "Boiler"})
    wanted = Owner(verb=OwnerConfigure(node="n"))

    async def shown() -> dict[str, tuple[str, ...]]:
        answer = Owner.from_element(await boiler.request("get", wanted, to=AT))
        assert isinstance(answer.verb, OwnerConfigure)
        assert answer.verb.form is not None
        assert (answer.verb.form.type, answer.verb.form.form_type) == ("form", pubsub.NODE_CONFIG)
        return answer.verb.form.values

    before = await shown()
    assert set(before) == {"FORM_TYPE", *(f"pubsub#{name}" for name in NodeConfig.__slots__)}
    assert before["pubsub#title"] == ("Boiler",)
    await pubsub.configure(boiler, "n", {"max_items": "7", "access_model": "whitelist"}, at=AT)
    assert await shown() == before | {"pubsub#max_items": ("7",), "pubsub#access_model": ("whitelist",)}
    await boiler.request("set", Owner(verb=OwnerConfigure(node="n", form=Form(type="cancel"))), to=AT)
    with pytest.raises(StanzaError, match="forbidden"):
        await juliet.request("get", wanted, to=AT)
    with pytest.raises(StanzaError, match="forbidden"):
        await pubsub.configure(juliet, "n", {"title": "mine"}, at=AT)


async def test_form_field_offers_the_values_it_can_have() -> None:
    boiler, _ = sessions(a_world())
    answer = Owner.from_element(await boiler.request("get", Owner(verb=OwnerDefault()), to=AT))
    assert isinstance(answer.verb, OwnerDefault)
    assert answer.verb.form is not None
    shown = {field.var: field for field in answer.verb.form.fields}
    assert [option.value for option in shown["pubsub#access_model"].options] == ["open", "whitelist"]
    assert (shown["pubsub#access_model"].type, shown["pubsub#persist_items"].type) == ("list-single", "boolean")
    assert (shown["pubsub#persist_items"].values, shown["pubsub#max_items"].type) == (("1",), "text-single")


async def test_purge_and_delete_are_told() -> None:
    boiler, juliet = sessions(a_world())
    await pubsub.create(boiler, "n", at=AT)
    await pubsub.subscribe(juliet, "n", at=AT)
    await boiler.request("set", Owner(verb=OwnerPurge(node="n")), to=AT)
    redirect = OwnerRedirect(uri="xmpp:pubsub.plant.example?;node=m")
    await boiler.request("set", Owner(verb=OwnerDelete(node="n", redirect=redirect)), to=AT)
    assert events(juliet) == [
        EventPurge(node="n"),
        EventDelete(node="n", redirect=EventRedirect(uri="xmpp:pubsub.plant.example?;node=m")),
    ]
    with pytest.raises(StanzaError, match="item-not-found"):
        await pubsub.delete(boiler, "n", at=AT)


async def test_affiliations_are_changed_and_shown() -> None:
    boiler, juliet = sessions(a_world())
    await pubsub.create(boiler, "n", at=AT)
    await pubsub.subscribe(juliet, "n", at=AT)
    await pubsub.set_affiliations(boiler, "n", {JULIET: "publisher"}, at=AT)
    await pubsub.publish(juliet, "n", ENTRY, at=AT)
    mine = PubSub.from_element(await juliet.request("get", PubSub(verb=Affiliations()), to=AT))
    assert mine.verb == Affiliations(affiliations=(Affiliation(node="n", affiliation="publisher"),))
    shown = Owner.from_element(await boiler.request("get", Owner(verb=OwnerAffiliations(node="n")), to=AT))
    assert shown.verb == OwnerAffiliations(
        node="n",
        affiliations=(
            OwnerAffiliation(jid=JID("boiler@plant.example"), affiliation="owner"),
            OwnerAffiliation(jid=JULIET, affiliation="publisher"),
        ),
    )
    juliet.inbox.clear()
    await pubsub.set_affiliations(boiler, "n", {JULIET: "outcast"}, at=AT)
    assert events(juliet) == [EventSubscription(node="n", jid=juliet.jid, subscription="none")]
    await pubsub.set_affiliations(boiler, "n", {JULIET: "none"}, at=AT)
    await pubsub.subscribe(juliet, "n", at=AT)


async def test_subscriptions_are_shown_and_ended_by_the_owner() -> None:
    boiler, juliet = sessions(a_world())
    for node in ("m", "n"):
        await pubsub.create(boiler, node, at=AT)
        await pubsub.subscribe(juliet, node, at=AT, jid=JULIET)
    m, n = (Subscription(node=node, jid=JULIET, subscription="subscribed") for node in "mn")
    assert await pubsub.subscriptions(juliet, at=AT) == (m, n)
    assert await pubsub.subscriptions(juliet, at=AT, node="n") == (n,)
    shown = Owner.from_element(await boiler.request("get", Owner(verb=OwnerSubscriptions(node="n")), to=AT))
    assert shown.verb == OwnerSubscriptions(
        node="n", subscriptions=(OwnerSubscription(jid=JULIET, subscription="subscribed"),)
    )
    ended = OwnerSubscriptions(node="n", subscriptions=(OwnerSubscription(jid=JULIET, subscription="none"),))
    await boiler.request("set", Owner(verb=ended), to=AT)
    assert events(juliet) == [EventSubscription(node="n", jid=JULIET, subscription="none")]
    assert await pubsub.subscriptions(juliet, at=AT) == (m,)


def submit(form_type: str, **values: str) -> Form:
    return Form.submit(form_type, {f"pubsub#{name}": value for name, value in values.items()})


REFUSED: list[tuple[str, Payload, str, str, str | None]] = [
    # who, what, condition, type, detail
    ("boiler", PubSub(verb=Create(node="n")), "conflict", "cancel", None),
    (
        "boiler",
        PubSub(verb=Create(node="m"), configure=Configure(form=submit(pubsub.NODE_CONFIG, access_model="roster"))),
        "not-acceptable",
        "modify",
        "unsupported-access-model",
    ),
    ("stranger", PubSub(verb=Create(node="m")), "forbidden", "auth", None),
    ("juliet", PubSub(verb=Publish(node="n", items=(Item(payload=(ENTRY,)),))), "forbidden", "auth", None),
    ("boiler", PubSub(verb=Publish(items=(Item(payload=(ENTRY,)),))), "bad-request", "modify", "nodeid-required"),
    ("boiler", PubSub(verb=Publish(node="n")), "bad-request", "modify", "item-required"),
    ("boiler", PubSub(verb=Publish(node="n", items=(Item(id="1"),))), "bad-request", "modify", "payload-required"),
    (
        "boiler",
        PubSub(verb=Publish(node="n", items=(Item(payload=(ENTRY, ENTRY)),))),
        "bad-request",
        "modify",
        "invalid-payload",
    ),
    ("boiler", PubSub(verb=Publish(node="n", items=(Item(), Item()))), "bad-request", "modify", None),
    (
        "boiler",
        PubSub(verb=Publish(node="n", items=(Item(payload=(Element("{urn:x}x", None, "y" * 2000),)),))),
        "not-acceptable",
        "modify",
        "payload-too-big",
    ),
    (
        "boiler",
        PubSub(
            verb=Publish(node="n", items=(Item(payload=(ENTRY,)),)),
            publish_options=PublishOptions(form=submit(pubsub.PUBLISH_OPTIONS, access_model="whitelist")),
        ),
        "conflict",
        "cancel",
        "precondition-not-met",
    ),
    ("juliet", PubSub(verb=Subscribe(node="n")), "bad-request", "modify", "invalid-jid"),
    ("juliet", PubSub(verb=Subscribe(node="n", jid=JID("a@b.example"))), "bad-request", "modify", "invalid-jid"),
    ("juliet", PubSub(verb=Subscribe(node="m", jid=JULIET)), "item-not-found", "cancel", None),
    ("juliet", PubSub(verb=Subscribe(node="closed", jid=JULIET)), "not-allowed", "cancel", "closed-node"),
    ("juliet", PubSub(verb=Unsubscribe(node="n")), "bad-request", "modify", "jid-required"),
    ("juliet", PubSub(verb=Unsubscribe(node="n", jid=JULIET)), "unexpected-request", "cancel", "not-subscribed"),
    (
        "juliet",
        PubSub(verb=Unsubscribe(node="n", jid=JULIET, subid="x")),
        "not-acceptable",
        "modify",
        "invalid-subid",
    ),
    ("boiler", PubSub(verb=Retract(node="n")), "bad-request", "modify", "item-required"),
    ("boiler", PubSub(verb=Retract(node="n", items=(Item(id="x"),))), "item-not-found", "cancel", None),
    ("boiler", PubSub(verb=Retract(node="n", items=(Item(id="x"), Item(id="y")))), "bad-request", "modify", None),
    ("boiler", PubSub(), "bad-request", "modify", None),
    ("boiler", PubSub(verb=Items(node="n")), "bad-request", "modify", None),
    (
        "boiler",
        PubSub(verb=Subscribe(node="n", jid=JID("boiler@plant.example")), others=(Element(f"{{{NS}}}options"),)),
        "feature-not-implemented",
        "cancel",
        "unsupported",
    ),
    ("boiler", Owner(), "bad-request", "modify", None),
    ("boiler", Owner(verb=OwnerDefault()), "bad-request", "modify", None),
    ("juliet", Owner(verb=OwnerDelete(node="n")), "forbidden", "auth", None),
    ("juliet", Owner(verb=OwnerPurge(node="n")), "forbidden", "auth", None),
    ("boiler", Owner(verb=OwnerConfigure(node="n", form=Form(type="result"))), "bad-request", "modify", None),
    (
        "boiler",
        Owner(verb=OwnerConfigure(node="n", form=submit("urn:other", title="x"))),
        "bad-request",
        "modify",
        None,
    ),
    (
        "boiler",
        Owner(
            verb=OwnerSubscriptions(node="n", subscriptions=(OwnerSubscription(jid=JULIET, subscription="subscribed"),))
        ),
        "not-acceptable",
        "modify",
        None,
    ),
]


@pytest.mark.parametrize(("who", "request_", "condition", "type", "detail"), REFUSED)
async def test_refusal_says_what_was_wrong(
    who: str, request_: Payload, condition: str, type: str, detail: str | None
) -> None:
    world = a_world(max_payload_bytes=1000)
    boiler, juliet = sessions(world)
    await pubsub.create(boiler, "n", at=AT)
    await pubsub.create(boiler, "closed", at=AT, config={"access_model": "whitelist"})
    client = {"boiler": boiler, "juliet": juliet, "stranger": world.session("x@other.example/x")}[who]
    with pytest.raises(StanzaError) as caught:
        await client.request("set", request_, to=AT)
    error = caught.value
    assert (error.condition, error.type) == (condition, type)
    assert (None if error.app is None else error.app.tag) == (None if detail is None else f"{{{NS_ERRORS}}}{detail}")


async def test_unsupported_feature_is_named() -> None:
    boiler, _ = sessions(a_world())
    for name, feature in (("options", "subscription-options"), ("default", "retrieve-default-sub")):
        with pytest.raises(StanzaError) as caught:
            await boiler.request("get", PubSub(others=(Element(f"{{{NS}}}{name}"),)), to=AT)
        assert caught.value.app == Element(f"{{{NS_ERRORS}}}unsupported", {"feature": feature})


# ---- service discovery -----------------------------------------------------------------------------------


async def test_service_tells_what_it_is() -> None:
    boiler, _ = sessions(a_world())
    info = await disco.info(boiler, AT)
    assert info.identities == (disco.Identity(category="pubsub", type="service"),)
    assert info.can(NS)
    assert info.can(NS + "#publish")
    assert all(feature.var.startswith(("http://jabber.org/protocol/", "urn:xmpp:")) for feature in info.features)


async def test_nodes_are_browsed_page_by_page() -> None:
    boiler, juliet = sessions(a_world())
    for node in ("plant/a", "plant/b", "plant/c"):
        await pubsub.create(boiler, node, at=AT)
    await pubsub.publish(boiler, "plant/a", ENTRY, at=AT, id="1")
    assert [item.node for item in await disco.items(juliet, AT)] == ["plant/a", "plant/b", "plant/c"]
    assert await disco.items(juliet, AT, "plant/a") == (disco.Item(jid=JID(AT), name="1"),)

    async def page(**asked: Any) -> disco.Items:
        return disco.Items.from_element(await juliet.request("get", disco.Items(page=Page(**asked)), to=AT))

    first = await page(max=2)
    assert [item.node for item in first.items] == ["plant/a", "plant/b"]
    assert first.page == Page(first="plant/a", last="plant/b", count=3)
    second = await page(max=2, after="plant/b")
    assert [item.node for item in second.items] == ["plant/c"]
    assert (await page(max=0)).page == Page(count=3)
    with pytest.raises(StanzaError, match="feature-not-implemented"):
        await page(before="")


async def test_node_tells_about_itself_who_may_read_it() -> None:
    boiler, juliet = sessions(a_world())
    await pubsub.create(boiler, "n", at=AT, config={"title": "Boiler"})
    info = await disco.info(juliet, AT, "n")
    assert info.node == "n"
    assert info.identities == (disco.Identity(category="pubsub", type="leaf"),)
    assert info.forms[0].values == {
        "FORM_TYPE": (pubsub.META_DATA,),
        "pubsub#title": ("Boiler",),
        "pubsub#creator": ("boiler@plant.example",),
        "pubsub#creation_date": ("2026-11-22T08:00:00Z",),
    }
    await pubsub.configure(boiler, "n", {"access_model": "whitelist"}, at=AT)
    assert (await disco.info(juliet, AT, "n")).forms == ()
    assert (await disco.info(boiler, AT, "n")).forms
    with pytest.raises(StanzaError, match="not-allowed"):
        await disco.items(juliet, AT, "n")
    with pytest.raises(StanzaError, match="item-not-found"):
        await disco.info(juliet, AT, "m")


def test_event_message_has_the_form_of_the_specification() -> None:
    xml = (
        f"<message xmlns='{NS_CLIENT}' type='headline'><event xmlns='{NS_EVENT}'><items node='n'><item id='1'>"
        f"{ENTRY_XML}</item></items></event></message>"
    )
    event = Event.from_element(Element.fromstring(xml)[0])
    assert event.verb == EventItems(node="n", items=(EventItem(id="1", payload=ENTRY),))
