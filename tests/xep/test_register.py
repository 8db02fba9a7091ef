# SPDX-License-Identifier: Apache-2.0
"""XEP-0077: In-Band Registration."""

import pytest

from _xmppcore import JID, Element, Stanza, StreamParser
from xiot.errors import StanzaError
from xiot.stanzas import read_error
from xiot.xep import register
from xiot.xep.register import Query, Registrar

from .world import World

NS = "jabber:iq:register"


class Accounts(Registrar):
    """Accounts in a dict; says what it did."""

    def __init__(self) -> None:
        self.passwords = {"juliet@plant.example": "old"}
        self.ended: list[str] = []

    async def create(self, jid: JID, password: str) -> None:
        if str(jid) in self.passwords:
            raise StanzaError("conflict")
        self.passwords[str(jid)] = password

    async def set_password(self, jid: JID, password: str) -> None:
        self.passwords[str(jid)] = password

    async def remove(self, jid: JID) -> None:
        del self.passwords[str(jid)]

    async def end_sessions(self, jid: JID) -> None:
        self.ended.append(str(jid))


def a_world() -> tuple[World, Accounts]:
    accounts = Accounts()
    return World(register.ext, services=[accounts]), accounts


@pytest.mark.parametrize(
    ("query", "xml"),
    [
        (Query(), f"<query xmlns='{NS}'/>"),
        (
            Query(instructions="Hi", username="", password=""),
            f"<query xmlns='{NS}'><instructions>Hi</instructions><username/><password/></query>",
        ),
        (
            Query(registered=True, username="juliet", password=""),
            f"<query xmlns='{NS}'><registered/><username>juliet</username><password/></query>",
        ),
        (Query(remove=True), f"<query xmlns='{NS}'><remove/></query>"),
    ],
)
def test_query_both_ways(query: Query, xml: str) -> None:
    assert query.to_element() == Element.fromstring(xml)
    assert Query.from_element(Element.fromstring(xml)) == query


def test_password_is_in_no_repr() -> None:
    assert "s3cret" not in repr(Query(username="juliet", password="s3cret"))


def test_stream_feature_is_an_empty_element() -> None:
    assert register.StreamFeature().to_element() == Element("{http://jabber.org/features/iq-register}register")


def stanza(query: Query, type: str = "set") -> Stanza:
    head = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
    iq = f"<iq id='1' type='{type}'>".encode() + query.to_element().tobytes() + b"</iq>"
    _, parsed = StreamParser().feed(head.encode() + iq)
    assert isinstance(parsed, Stanza)
    return parsed


async def test_fields_are_told_before_login() -> None:
    answer = await register.before_login(stanza(Query(), "get"), "plant.example", Accounts())
    assert answer.get("type") == "result"
    fields = Query.from_element(answer[0])
    assert (fields.username, fields.password, fields.registered) == ("", "", False)


async def test_account_is_made_before_login() -> None:
    accounts = Accounts()
    request = stanza(Query(username="Romeo", password="pw"))
    answer = await register.before_login(request, "plant.example", accounts)
    assert answer == Element("{jabber:client}iq", {"id": "1", "type": "result"})
    assert accounts.passwords["romeo@plant.example"] == "pw"


@pytest.mark.parametrize(
    ("query", "condition"),
    [
        (Query(username="juliet", password="pw"), "conflict"),
        (Query(), "not-acceptable"),
        (Query(username="romeo"), "not-acceptable"),
        (Query(username="romeo", password=""), "not-acceptable"),
        (Query(username="", password="pw"), "not-acceptable"),
        (Query(username="a@b", password="pw"), "not-acceptable"),
        (Query(username="a b", password="pw"), "not-acceptable"),
        (Query(remove=True), "unexpected-request"),
    ],
)
async def test_account_is_not_made(query: Query, condition: str) -> None:
    accounts = Accounts()
    with pytest.raises(StanzaError, match=condition) as caught:
        await register.before_login(stanza(query), "plant.example", accounts)
    assert accounts.passwords == {"juliet@plant.example": "old"}
    answer = register.refusal(stanza(query), caught.value)
    assert answer is not None
    assert read_error(answer).condition == condition
    assert b"pw" not in answer.tobytes()


@pytest.mark.security(row=75)
async def test_host_without_registration_refuses_everything() -> None:
    closed, juliet = Registrar(), JID("juliet@plant.example")
    for attempt in (closed.create(juliet, "pw"), closed.set_password(juliet, "pw"), closed.remove(juliet)):
        with pytest.raises(StanzaError, match="not-allowed"):
            await attempt


@pytest.mark.parametrize("to", [None, "plant.example", "juliet@plant.example"])
async def test_logged_in_account_is_told_that_it_is_registered(to: str | None) -> None:
    world, _ = a_world()
    answer = await world.session("juliet@plant.example/a").request("get", Query(), to=to)
    assert Query.from_element(answer) == Query(registered=True, username="juliet", password="")


async def test_password_is_changed() -> None:
    world, accounts = a_world()
    await register.change_password(world.session("juliet@plant.example/a"), "new")
    assert accounts.passwords == {"juliet@plant.example": "new"}


@pytest.mark.parametrize(
    ("query", "condition"),
    [
        (Query(username="juliet"), "bad-request"),
        (Query(password="new"), "bad-request"),
        (Query(username="juliet", password=""), "bad-request"),
        (Query(username="romeo", password="new"), "not-allowed"),
        (Query(username="@", password="new"), "not-allowed"),
        (Query(remove=True, username="juliet"), "bad-request"),
    ],
)
async def test_password_and_account_stay_as_they_are(query: Query, condition: str) -> None:
    world, accounts = a_world()
    with pytest.raises(StanzaError, match=condition):
        await world.session("juliet@plant.example/a").request("set", query, to="plant.example")
    assert accounts.passwords == {"juliet@plant.example": "old"}


async def test_account_is_removed_and_then_its_sessions_end() -> None:
    world, accounts = a_world()
    await register.cancel(world.session("juliet@plant.example/a"))
    assert (accounts.passwords, accounts.ended) == ({}, ["juliet@plant.example"])


@pytest.mark.parametrize(
    ("jid", "to"),
    [
        ("romeo@other.example/x", "plant.example"),
        ("romeo@plant.example/x", "juliet@plant.example"),
        ("other.example", "plant.example"),
    ],
)
async def test_stranger_changes_nothing(jid: str, to: str) -> None:
    world, accounts = a_world()
    stranger = world.session(jid)
    for query in (Query(remove=True), Query(username="juliet", password="new")):
        with pytest.raises(StanzaError, match="forbidden"):
            await stranger.request("set", query, to=to)
    with pytest.raises(StanzaError, match="forbidden"):
        await stranger.request("get", Query(), to=to)
    assert accounts.passwords == {"juliet@plant.example": "old"}
