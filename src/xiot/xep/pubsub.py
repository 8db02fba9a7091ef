# SPDX-License-Identifier: Apache-2.0
"""XEP-0060: Publish-Subscribe, both ends.

The rules are in `xiot.model.nodes`; here is only what they look like in XML. The host gives the rules its `nodes.Service`.
"""

import typing
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar
from uuid import uuid4

from _xmppcore import JID, Element, parse_element
from xiot.errors import StanzaError
from xiot.ext import HOST, Context, Extension, Load, Session
from xiot.model import nodes
from xiot.model.effects import Effect, Tx
from xiot.schema import Payload, any_child, any_children, attr, child, children, write_datetime
from xiot.stanzas import message
from xiot.xep import disco
from xiot.xep.delay import Delay
from xiot.xep.forms import Field, Form, Option
from xiot.xep.rsm import Page

NS = "http://jabber.org/protocol/pubsub"
NS_ERRORS = NS + "#errors"
NS_EVENT = NS + "#event"
NS_OWNER = NS + "#owner"
META_DATA = NS + "#meta-data"
NODE_CONFIG = NS + "#node_config"
PUBLISH_OPTIONS = NS + "#publish-options"

_FEATURES = """access-open access-whitelist auto-create config-node create-and-configure create-nodes delete-items
    delete-nodes instant-nodes item-ids last-published member-affiliation meta-data modify-affiliations multi-items
    outcast-affiliation persistent-items publish publish-only-affiliation publish-options publisher-affiliation
    purge-nodes retract-items retrieve-affiliations retrieve-default retrieve-items retrieve-subscriptions subscribe
    subscription-notifications"""

ext = Extension(
    "pubsub",
    spec="XEP-0060",
    version="1.30.0",
    features=[NS, *(f"{NS}#{name}" for name in _FEATURES.split())],
    identity=("pubsub", "service"),
    needs=["delay", "disco", "forms", "rsm"],
)

T = TypeVar("T")
Steps = Generator[Load[Any], Any, T]
AffiliationName = Literal["owner", "publisher", "publish-only", "member", "outcast", "none"]
SubscriptionName = Literal["none", "pending", "subscribed", "unconfigured"]

# ---- what is asked of a service: sections 5, 6, 7 and 8.1 ------------------------------------------------


class Item(Payload, tag=(NS, "item")):
    """An item to publish or to retract, or one that was found."""

    id: str | None = attr(default=None)
    publisher: str | None = attr(default=None)
    payload: tuple[Element, ...] = any_children(default=())
    """At most one (section 7.1.3.4)."""


class Create(Payload, tag=(NS, "create")):
    """Make a node; without a name the service finds one (section 8.1)."""

    node: str | None = attr(default=None)


class Configure(Payload, tag=(NS, "configure")):
    """What the new node is to be like (section 8.1.3)."""

    form: Form | None = child(default=None)


class Publish(Payload, tag=(NS, "publish")):
    """Publish an item (section 7.1)."""

    node: str = attr(default="")
    items: tuple[Item, ...] = children(default=())


class PublishOptions(Payload, tag=(NS, "publish-options")):
    """What the node must be like for the item to be published (section 7.1.5)."""

    form: Form | None = child(default=None)


class Retract(Payload, tag=(NS, "retract")):
    """Delete an item (section 7.2)."""

    node: str = attr(default="")
    notify: bool = attr(default=False)
    items: tuple[Item, ...] = children(default=())


class Subscribe(Payload, tag=(NS, "subscribe")):
    """Have `jid` get the events of a node (section 6.1)."""

    node: str = attr(default="")
    jid: JID | None = attr(default=None)


class Unsubscribe(Payload, tag=(NS, "unsubscribe")):
    """No longer have `jid` get the events of a node (section 6.2)."""

    node: str = attr(default="")
    jid: JID | None = attr(default=None)
    subid: str | None = attr(default=None)


class Items(Payload, tag=(NS, "items")):
    """Ask for items, all or the newest or those named; or the items found, the oldest first (section 6.5)."""

    node: str = attr(default="")
    max_items: int | None = attr(default=None)
    items: tuple[Item, ...] = children(default=())


class Subscription(Payload, tag=(NS, "subscription")):
    """A subscription (section 4.2)."""

    node: str | None = attr(default=None)
    jid: JID = attr()
    subscription: SubscriptionName | None = attr(default=None)
    subid: str | None = attr(default=None)


class Subscriptions(Payload, tag=(NS, "subscriptions")):
    """Ask what one is subscribed to, at one node or all; or the answer (section 5.6)."""

    node: str | None = attr(default=None)
    subscriptions: tuple[Subscription, ...] = children(default=())


class Affiliation(Payload, tag=(NS, "affiliation")):
    """What one may do at a node (section 4.1)."""

    node: str = attr()
    affiliation: AffiliationName = attr()


class Affiliations(Payload, tag=(NS, "affiliations")):
    """Ask what one may do, at one node or all; or the answer (section 5.7)."""

    node: str | None = attr(default=None)
    affiliations: tuple[Affiliation, ...] = children(default=())


_Verb = Create | Publish | Retract | Subscribe | Unsubscribe | Items | Subscription | Subscriptions | Affiliations


class PubSub(Payload, tag=(NS, "pubsub")):
    """One verb or its answer, and what goes with it."""

    verb: _Verb | None = child(default=None)
    configure: Configure | None = child(default=None)
    publish_options: PublishOptions | None = child(default=None)
    page: Page | None = child(default=None)
    """In an answer that does not hold all items (section 6.5.4)."""
    others: tuple[Element, ...] = any_children(default=())


# ---- what an owner asks of a service: section 8 ----------------------------------------------------------


class OwnerConfigure(Payload, tag=(NS_OWNER, "configure")):
    """Ask for the configuration of a node, or change it (section 8.2)."""

    node: str = attr(default="")
    form: Form | None = child(default=None)


class OwnerDefault(Payload, tag=(NS_OWNER, "default")):
    """Ask for the configuration that new nodes have (section 8.3)."""

    form: Form | None = child(default=None)


class OwnerRedirect(Payload, tag=(NS_OWNER, "redirect")):
    """Where the content of a deleted node is now, as a URI."""

    uri: str = attr()


class OwnerDelete(Payload, tag=(NS_OWNER, "delete")):
    """Delete a node (section 8.4)."""

    node: str = attr(default="")
    redirect: OwnerRedirect | None = child(default=None)


class OwnerPurge(Payload, tag=(NS_OWNER, "purge")):
    """Delete all items of a node (section 8.5)."""

    node: str = attr(default="")


class OwnerSubscription(Payload, tag=(NS_OWNER, "subscription")):
    """Somebody's subscription (section 8.8)."""

    jid: JID = attr()
    subscription: SubscriptionName = attr()


class OwnerSubscriptions(Payload, tag=(NS_OWNER, "subscriptions")):
    """Ask who is subscribed to a node, or end subscriptions (section 8.8)."""

    node: str = attr(default="")
    subscriptions: tuple[OwnerSubscription, ...] = children(default=())


class OwnerAffiliation(Payload, tag=(NS_OWNER, "affiliation")):
    """What somebody may do at a node (section 8.9)."""

    jid: JID = attr()
    affiliation: AffiliationName = attr()


class OwnerAffiliations(Payload, tag=(NS_OWNER, "affiliations")):
    """Ask who may do what at a node, or change it (section 8.9)."""

    node: str = attr(default="")
    affiliations: tuple[OwnerAffiliation, ...] = children(default=())


_OwnerVerb = OwnerConfigure | OwnerDefault | OwnerDelete | OwnerPurge | OwnerSubscriptions | OwnerAffiliations


class Owner(Payload, tag=(NS_OWNER, "pubsub")):
    """One verb of an owner, or its answer."""

    verb: _OwnerVerb | None = child(default=None)


# ---- what a service tells: sections 7.1.2, 7.2.2, 8.4.2, 8.5.2 and 12.10 ---------------------------------


class EventItem(Payload, tag=(NS_EVENT, "item")):
    """An item that was published."""

    id: str | None = attr(default=None)
    publisher: str | None = attr(default=None)
    payload: Element | None = any_child(default=None)
    """None if the node does not deliver payloads."""


class EventRetract(Payload, tag=(NS_EVENT, "retract")):
    """An item that is gone."""

    id: str = attr()


class EventItems(Payload, tag=(NS_EVENT, "items")):
    """Items of a node that came or went; neither if the node is of mere notifications."""

    node: str = attr()
    items: tuple[EventItem, ...] = children(default=())
    retracted: tuple[EventRetract, ...] = children(default=())


class EventRedirect(Payload, tag=(NS_EVENT, "redirect")):
    """Where the content of a deleted node is now, as a URI."""

    uri: str = attr()


class EventDelete(Payload, tag=(NS_EVENT, "delete")):
    """A node that is gone."""

    node: str = attr()
    redirect: EventRedirect | None = child(default=None)


class EventPurge(Payload, tag=(NS_EVENT, "purge")):
    """A node whose items are all gone."""

    node: str = attr()


class EventConfiguration(Payload, tag=(NS_EVENT, "configuration")):
    """A node that was configured, and how, if the service tells that (section 8.2.5.3)."""

    node: str | None = attr(default=None)
    form: Form | None = child(default=None)


class EventSubscription(Payload, tag=(NS_EVENT, "subscription")):
    """A subscription that changed without being asked."""

    node: str = attr()
    jid: JID = attr()
    subscription: SubscriptionName = attr()


_EventVerb = EventItems | EventDelete | EventPurge | EventConfiguration | EventSubscription


class Event(Payload, tag=(NS_EVENT, "event")):
    """What happened at a node; it comes in a message from the service."""

    verb: _EventVerb | None = child(default=None)


# ---- a service -------------------------------------------------------------------------------------------


@ext.iq_get(PubSub, at=HOST)
def on_get(request: PubSub, ctx: Context) -> Steps[PubSub]:
    """Answer what anybody may ask (sections 5.6, 5.7 and 6.5)."""
    return (yield from _explained(_get(request, ctx)))


@ext.iq_set(PubSub, at=HOST)
def on_set(request: PubSub, ctx: Context) -> Steps[PubSub | None]:
    """Do what anybody may ask (sections 6.1, 6.2, 7 and 8.1)."""
    return (yield from _explained(_set(request, ctx)))


@ext.iq_get(Owner, at=HOST)
def on_owner_get(request: Owner, ctx: Context) -> Steps[Owner]:
    """Answer what an owner may ask (section 8)."""
    return (yield from _explained(_owner_get(request, ctx)))


@ext.iq_set(Owner, at=HOST)
def on_owner_set(request: Owner, ctx: Context) -> Steps[None]:
    """Do what an owner may ask (section 8)."""
    yield from _explained(_owner_set(request, ctx))


def _explained(steps: Steps[T]) -> Steps[T]:
    """Give each refusal of the rules its element of the ``#errors`` namespace (section 14)."""
    try:
        return (yield from steps)
    except nodes.NodeError as error:
        if error.detail is not None:
            feature = None if error.feature is None else {"feature": error.feature}
            error.app = Element(f"{{{NS_ERRORS}}}{error.detail}", feature)
        raise


def _get(request: PubSub, ctx: Context) -> Steps[PubSub]:
    service, sender = ctx.service(nodes.Service), ctx.sender
    match request.verb:
        case Items(node=node, max_items=most) as verb:
            ids = [item.id for item in verb.items if item.id]
            found = yield from ctx.load(lambda tx: nodes.find_items(tx.nodes, service, node, sender, ids, most))
            cut = not ids and len(found.items) < found.total
            page = Page.of([item.id for item in found.items], found.total) if cut else None
            return PubSub(verb=Items(node=node, items=tuple(map(_item, found.items))), page=page)
        case Subscriptions(node=only):
            mine = yield from ctx.load(lambda tx: nodes.subscriptions(tx.nodes, service, sender, only))
            subscribed = (Subscription(node=s.node, jid=JID(s.jid), subscription="subscribed") for s in mine)
            return PubSub(verb=Subscriptions(node=only, subscriptions=tuple(subscribed)))
        case Affiliations(node=only):
            roles = yield from ctx.load(lambda tx: nodes.own_affiliations(tx.nodes, service, sender, only))
            affiliated = (Affiliation(node=a.node, affiliation=a.role) for a in roles)
            return PubSub(verb=Affiliations(node=only, affiliations=tuple(affiliated)))
    raise _no_verb(request)


def _set(request: PubSub, ctx: Context) -> Steps[PubSub | None]:
    service, sender, now = ctx.service(nodes.Service), ctx.sender, ctx.now()
    if any(other.name == "options" for other in request.others):
        raise _no_verb(request)
    match request.verb:
        case Publish() as verb:
            return (yield from _publish(verb, request.publish_options, ctx))
        case Create(node=name):
            new = name or uuid4().hex
            config = _submitted(request.configure.form if request.configure else None, NODE_CONFIG)
            yield from ctx.commit(
                lambda tx: nodes.create(nodes.load_create(tx.nodes, service, new, sender), now, config)
            )
            return None if name else PubSub(verb=Create(node=new))
        case Subscribe(jid=None):
            raise nodes.NodeError("bad-request", "invalid-jid")
        case Subscribe(node=node, jid=JID() as jid):
            told = yield from ctx.commit(
                lambda tx: nodes.subscribe(nodes.load_subscribe(tx.nodes, service, node, sender), jid)
            )
            # The answer first: no item comes before one knows to be subscribed.
            ctx.reply(PubSub(verb=Subscription(node=node, jid=jid, subscription="subscribed")))
            _tell(ctx, told)
            return None
        case Unsubscribe(jid=None):
            raise nodes.NodeError("bad-request", "jid-required")
        case Unsubscribe(subid=str()):  # section 6.2.3.5: we give none, so it is wrong
            raise nodes.NodeError("not-acceptable", "invalid-subid")
        case Unsubscribe(node=node, jid=JID() as jid):
            yield from ctx.commit(
                lambda tx: nodes.unsubscribe(nodes.load_unsubscribe(tx.nodes, service, node, sender, jid), jid)
            )
            return None
        case Retract(node=node, notify=notify, items=items):
            if len(items) > 1:
                raise StanzaError("bad-request", text="one item at a time")
            id = next((item.id or "" for item in items), "")
            told = yield from ctx.commit(
                lambda tx: nodes.retract(nodes.load_retract(tx.nodes, service, node, sender, id), id, notify)
            )
            _tell(ctx, told)
            return None
    raise _no_verb(request)


def _publish(verb: Publish, options: PublishOptions | None, ctx: Context) -> Steps[PubSub]:
    service, sender, now, node = ctx.service(nodes.Service), ctx.sender, ctx.now(), verb.node
    if len(verb.items) > 1:
        raise StanzaError("bad-request", text="one item at a time")
    id: str | None = None
    payload: Element | None = None
    for item in verb.items:
        if len(item.payload) > 1:
            raise nodes.NodeError("bad-request", "invalid-payload")
        id = item.id or uuid4().hex
        payload = next(iter(item.payload), None)
    data = b"" if payload is None else payload.tobytes()
    wanted = _submitted(options.form if options else None, PUBLISH_OPTIONS)
    told = yield from ctx.commit(
        lambda tx: nodes.publish(nodes.load_publish(tx.nodes, service, node, sender, id), id, data, now, wanted)
    )
    _tell(ctx, told, payload)
    return PubSub(verb=Publish(node=node, items=() if id is None else (Item(id=id),)))


def _no_verb(request: PubSub) -> StanzaError:
    """Return why a request is refused that has no verb of ours: for want of a feature, or of a verb."""
    features = {"options": "subscription-options", "default": "retrieve-default-sub"}
    for other in request.others:
        if other.name in features:
            return nodes.NodeError("feature-not-implemented", "unsupported", feature=features[other.name])
    return StanzaError("bad-request")


def _owner_get(request: Owner, ctx: Context) -> Steps[Owner]:
    service, sender = ctx.service(nodes.Service), ctx.sender
    match request.verb:
        case OwnerDefault():
            return Owner(verb=OwnerDefault(form=_config_form(service.default)))
        case OwnerConfigure(node=node):
            owned = yield from ctx.load(lambda tx: nodes.load_at(tx.nodes, service, node, sender).owned())
            return Owner(verb=OwnerConfigure(node=node, form=_config_form(owned.config)))
        case OwnerSubscriptions(node=node):
            jids = yield from ctx.load(lambda tx: nodes.subscribers(tx.nodes, service, node, sender))
            subscribed = (OwnerSubscription(jid=JID(jid), subscription="subscribed") for jid in jids)
            return Owner(verb=OwnerSubscriptions(node=node, subscriptions=tuple(subscribed)))
        case OwnerAffiliations(node=node):
            roles = yield from ctx.load(lambda tx: nodes.affiliations(tx.nodes, service, node, sender))
            affiliated = (OwnerAffiliation(jid=JID(a.jid), affiliation=a.role) for a in roles)
            return Owner(verb=OwnerAffiliations(node=node, affiliations=tuple(affiliated)))
    raise StanzaError("bad-request")


def _owner_set(request: Owner, ctx: Context) -> Steps[None]:
    service, sender, verb = ctx.service(nodes.Service), ctx.sender, request.verb
    if verb is None or isinstance(verb, OwnerDefault):
        raise StanzaError("bad-request")

    def rule(tx: Tx) -> list[Effect]:
        state = nodes.load_owner(tx.nodes, service, verb.node, sender)
        match verb:
            case OwnerConfigure(form=form):
                if form is None or form.type == "cancel":  # section 8.2.5.2: nothing is to change
                    return []
                return nodes.configure(state, _submitted(form, NODE_CONFIG))
            case OwnerDelete(redirect=redirect):
                return nodes.delete(state, None if redirect is None else redirect.uri)
            case OwnerPurge():
                return nodes.purge(state)
            case OwnerSubscriptions(subscriptions=changes):
                if any(change.subscription != "none" for change in changes):
                    raise StanzaError("not-acceptable", text="nobody is subscribed by somebody else")
                return nodes.remove_subscribers(state, [change.jid for change in changes])
            case OwnerAffiliations(affiliations=changes):
                roles = {c.jid: None if c.affiliation == "none" else c.affiliation for c in changes}
                return nodes.set_affiliations(state, roles)

    _tell(ctx, (yield from ctx.commit(rule)))


def _tell(ctx: Context, effects: Iterable[Effect], payload: Element | None = None) -> None:
    """Send what the rules want told; `payload` is that of the item just published, which need not be parsed again."""
    for effect in effects:
        assert isinstance(effect, nodes.Notify)
        rest: tuple[Element, ...] = ()
        if isinstance(effect.event, nodes.Published) and effect.event.last and effect.event.item is not None:
            rest = (Delay(from_=effect.service, stamp=effect.event.item.published).to_element(),)  # section 6.1.7
        event = Event(verb=_event(effect, payload)).to_element()
        # A headline: the newest value is what counts, so nobody keeps it for who is offline (section 16.4.4).
        ctx.fan_out(effect.to, message(event, *rest, type="headline"))


def _event(effect: nodes.Notify, payload: Element | None) -> _EventVerb:
    node = effect.node
    match effect.event:
        case nodes.Published(item=None):
            return EventItems(node=node)
        case nodes.Published(item=item):
            assert item is not None
            content = None
            if item.payload:
                content = _stored(item.payload) if payload is None else payload
            return EventItems(node=node, items=(EventItem(id=item.id, publisher=item.publisher, payload=content),))
        case nodes.Retracted(ids=ids):
            return EventItems(node=node, retracted=tuple(EventRetract(id=id) for id in ids))
        case nodes.Purged():
            return EventPurge(node=node)
        case nodes.Deleted(redirect=uri):
            return EventDelete(node=node, redirect=None if uri is None else EventRedirect(uri=uri))
        case nodes.Unsubscribed():
            (jid,) = effect.to
            return EventSubscription(node=node, jid=JID(jid), subscription="none")


def _item(item: nodes.Item) -> Item:
    return Item(id=item.id, publisher=item.publisher, payload=(_stored(item.payload),) if item.payload else ())


def _stored(payload: bytes) -> Element:
    # It passed the limits of the stream it came by; these are the most that the parser knows.
    return parse_element(payload, max_bytes=2**30, max_depth=1000, max_attributes=1024)


# ---- configuration as a form: section 16.4 ---------------------------------------------------------------

_PREFIX = "pubsub#"
_HINTS = typing.get_type_hints(nodes.NodeConfig)


def _submitted(form: Form | None, form_type: str) -> dict[str, str]:
    """Return the values that `form` sets, by the names of `nodes.NodeConfig`; none if there is no form."""
    if form is None:
        return {}
    if form.type != "submit" or form.form_type not in (None, form_type):
        raise StanzaError("bad-request", text=f"not a submitted form of {form_type}")
    values = {var: texts[0] if texts else "" for var, texts in form.values.items() if var != "FORM_TYPE"}
    return {var.removeprefix(_PREFIX): text for var, text in values.items()}


def _config_form(config: nodes.NodeConfig) -> Form:
    """Return the form in which an owner changes `config`."""
    fields = [Field(var="FORM_TYPE", type="hidden", values=(NODE_CONFIG,))]
    for name, text in config.texts().items():
        choices = typing.get_args(_HINTS[name])
        kind = "boolean" if _HINTS[name] is bool else "list-single" if choices else "text-single"
        options = tuple(Option(value=choice) for choice in choices)
        fields.append(Field(var=_PREFIX + name, type=kind, values=(text,), options=options))
    return Form(type="form", fields=tuple(fields))


# ---- the nodes, as service discovery shows them: sections 5.2 to 5.5 -------------------------------------

NODES_PER_PAGE = 1000  # about 100 KiB of names in one answer


def directory(extensions: Iterable[Extension]) -> disco.Directory:
    """Return what a service with `extensions` tells of itself, its nodes and their items."""
    return disco.Directory(extensions, info_of_node=_info_of_node, items_of_node=_items_of_node)


def _info_of_node(name: str, ctx: Context) -> Steps[disco.Info]:
    service, sender = ctx.service(nodes.Service), ctx.sender
    at = yield from ctx.load(lambda tx: nodes.load_at(tx.nodes, service, name, sender))
    node = at.existing()
    forms: tuple[Form, ...] = ()
    if node.config.access_model == "open" or at.role not in (None, "outcast"):
        about = {"title": node.config.title, "creator": node.creator, "creation_date": write_datetime(node.created)}
        fields = [Field(var=_PREFIX + name, values=(text,)) for name, text in about.items()]
        form_type = Field(var="FORM_TYPE", type="hidden", values=(META_DATA,))
        forms = (Form(type="result", fields=(form_type, *fields)),)
    identity = disco.Identity(category="pubsub", type="leaf")
    return disco.Info(node=name, identities=(identity,), features=(disco.Feature(var=NS),), forms=forms)


def _items_of_node(query: disco.Items, ctx: Context) -> Steps[disco.Items]:
    service, sender, asked = ctx.service(nodes.Service), ctx.sender, query.page or Page()
    here = JID(service.jid)
    if query.node:
        node = query.node
        found = yield from _explained(_loaded(ctx.load(lambda tx: nodes.find_items(tx.nodes, service, node, sender))))
        return disco.Items(node=node, items=tuple(disco.Item(jid=here, name=item.id) for item in found.items))
    if asked.before is not None:
        raise StanzaError("feature-not-implemented", text="pages can only be turned forward")
    most = asked.limit(NODES_PER_PAGE)
    names, count = yield from ctx.load(
        lambda tx: (tx.nodes.node_names(service.jid, asked.after or "", most), tx.nodes.node_count(service.jid))
    )
    page = Page.of(names, count) if query.page is not None or len(names) < count else None
    return disco.Items(items=tuple(disco.Item(jid=here, node=name) for name in names), page=page)


def _loaded(load: Load[T]) -> Steps[T]:
    return (yield from load)


# ---- a client --------------------------------------------------------------------------------------------
#
# In all of these, `at` is the service; None is our own account. They raise as `Session.request`.


async def create(
    session: Session, node: str | None = None, *, at: JID | str | None, config: Mapping[str, str] | None = None
) -> str:
    """Make a node that we own, with `config` by the names of section 16.4.4 without ``pubsub#`` (section 8.1).

    Returns its name, which the service chooses if `node` is None.
    """
    configure = None if config is None else Configure(form=_form(NODE_CONFIG, config))
    answer = await session.request("set", PubSub(verb=Create(node=node), configure=configure), to=at)
    if node is not None:
        return node
    match PubSub.from_element(answer).verb:
        case Create(node=str(name)):
            return name
    raise StanzaError("undefined-condition", text="the service did not say which node it made")


async def configure(session: Session, node: str, config: Mapping[str, str], *, at: JID | str | None) -> None:
    """Change the configuration of a node that we own; what `config` does not name stays (section 8.2)."""
    form = _form(NODE_CONFIG, config)
    await session.request("set", Owner(verb=OwnerConfigure(node=node, form=form)), to=at)


async def delete(session: Session, node: str, *, at: JID | str | None) -> None:
    """Delete a node that we own, with all its items (section 8.4)."""
    await session.request("set", Owner(verb=OwnerDelete(node=node)), to=at)


async def publish(
    session: Session,
    node: str,
    payload: Element | None,
    *,
    at: JID | str | None,
    id: str | None = None,
    options: Mapping[str, str] | None = None,
) -> str:
    """Publish an item; most services make the node if there is none, and `options` says how it must be (section 7.1).

    Returns the item's id, which the service chooses if `id` is None; empty if it did not say.
    """
    item = Item(id=id, payload=() if payload is None else (payload,))
    request = PubSub(
        verb=Publish(node=node, items=() if id is None and payload is None else (item,)),
        publish_options=None if options is None else PublishOptions(form=_form(PUBLISH_OPTIONS, options)),
    )
    answer = await session.request("set", request, to=at)
    if answer is not None:
        match PubSub.from_element(answer).verb:
            case Publish(items=(Item(id=str(chosen)),)):
                return chosen
    return id or ""


async def retract(session: Session, node: str, id: str, *, at: JID | str | None, notify: bool = False) -> None:
    """Delete an item; the subscribers are told if `notify`, or if the node is so configured (section 7.2)."""
    await session.request("set", PubSub(verb=Retract(node=node, notify=notify, items=(Item(id=id),))), to=at)


async def items(
    session: Session,
    node: str,
    *,
    at: JID | str | None,
    ids: Iterable[str] = (),
    max_items: int | None = None,
) -> Sequence[Item]:
    """Return the items with `ids`, else the newest `max_items`, else as many as the service likes (section 6.5)."""
    wanted = Items(node=node, max_items=max_items, items=tuple(Item(id=id) for id in ids))
    match PubSub.from_element(await session.request("get", PubSub(verb=wanted), to=at)).verb:
        case Items(items=found):
            return found
    return ()


async def subscribe(session: Session, node: str, *, at: JID | str | None, jid: JID | None = None) -> Subscription:
    """Have the events of a node sent to `jid`: our full JID if None, so that it ends with us (section 6.1)."""
    wanted = Subscribe(node=node, jid=jid or session.jid)
    answer = await session.request("set", PubSub(verb=wanted), to=at)
    if answer is not None:
        match PubSub.from_element(answer).verb:
            case Subscription() as subscription:
                return subscription
    return Subscription(node=node, jid=jid or session.jid, subscription="subscribed")  # section 6.1.2 lets it be empty


async def unsubscribe(session: Session, node: str, *, at: JID | str | None, jid: JID | None = None) -> None:
    """No longer have the events of a node sent to `jid`, our full JID if None (section 6.2)."""
    await session.request("set", PubSub(verb=Unsubscribe(node=node, jid=jid or session.jid)), to=at)


async def subscriptions(session: Session, *, at: JID | str | None, node: str | None = None) -> Sequence[Subscription]:
    """Return what we are subscribed to, at one node or all of the service (section 5.6)."""
    answer = await session.request("get", PubSub(verb=Subscriptions(node=node)), to=at)
    match PubSub.from_element(answer).verb:
        case Subscriptions(subscriptions=found):
            return found
    return ()


async def set_affiliations(
    session: Session, node: str, changes: Mapping[JID, AffiliationName], *, at: JID | str | None
) -> None:
    """Change what accounts may do at a node that we own (section 8.9)."""
    roles = tuple(OwnerAffiliation(jid=jid, affiliation=name) for jid, name in changes.items())
    await session.request("set", Owner(verb=OwnerAffiliations(node=node, affiliations=roles)), to=at)


def _form(form_type: str, values: Mapping[str, str]) -> Form:
    return Form.submit(form_type, {_PREFIX + name: text for name, text in values.items()})
