# SPDX-License-Identifier: Apache-2.0
"""Payload declarations: what is read, what is written, what is refused."""

import enum
import math
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _xmppcore import JID, Element
from xiot.errors import StanzaError
from xiot.schema import Payload, PayloadError, any_child, any_children, attr, child, children, flag, text

NS = "urn:example:schema"
OTHER = "urn:example:other"
NO_TIME = "not a date and time with a time zone"


class Colour(enum.Enum):
    RED = "red"
    DARK_BLUE = "dark-blue"


class Values(Payload, tag=(NS, "values")):
    name: str | None = attr(default=None)
    count: int | None = attr(default=None)
    on: bool = attr(default=False)
    ratio: float | None = attr(default=None)
    price: Decimal | None = attr(default=None)
    when: datetime | None = attr(default=None)
    colour: Colour | None = attr(default=None)
    mode: Literal["slow", "fast"] = attr(default="slow")
    peer: JID | None = attr(default=None)
    key: bytes | None = attr(default=None)
    from_: str | None = attr(default=None)
    lang: str | None = attr(name="{http://www.w3.org/XML/1998/namespace}lang", default=None)


class Note(Payload, tag=(OTHER, "note")):
    value: str = text()


class Size(Payload, tag=(NS, "size")):
    bytes_: int = text(default=0)


class Part(Payload, tag=(NS, "part")):
    id: str = attr()
    size: Size | None = child(default=None)


class Tree(Payload, tag=(NS, "tree")):
    id: str = attr()
    title: str | None = child(default=None)
    password: str | None = child(default=None, secret=True)
    closed: bool = flag(default=False)
    labels: tuple[str, ...] = children(name="label", default=())
    parts: tuple[Part, ...] = children(default=())
    note: Note | None = child(default=None)
    form: Element | None = child(name="x", ns="jabber:x:data", default=None)


class Choice(Payload, tag=(NS, "choice")):
    verb: Note | Size = child()


class Mixed(Payload, tag=(NS, "mixed")):
    things: tuple[Note | Part, ...] = children()


class Envelope(Payload, tag=(NS, "envelope")):
    size: Size | None = child(default=None)
    payload: Element | None = any_child(default=None)


class Bag(Payload, tag=(NS, "bag")):
    payloads: tuple[Element, ...] = any_children(default=())


TABLE: list[tuple[Payload, str]] = [
    (Values(), f"<values xmlns='{NS}'/>"),
    (
        Values(name="a<b", count=-3, on=True, ratio=1.5, price=Decimal("12.30")),
        f"<values xmlns='{NS}' name='a&lt;b' count='-3' on='true' ratio='1.5' price='12.30'/>",
    ),
    (
        Values(
            when=datetime(2026, 11, 22, 8, 0, 0, 250000, UTC),
            colour=Colour.DARK_BLUE,
            mode="fast",
            from_="x",
            lang="en",
        ),
        f"<values xmlns='{NS}' when='2026-11-22T08:00:00.250000Z' colour='dark-blue' mode='fast' from='x' "
        "xml:lang='en'/>",
    ),
    (
        Values(peer=JID("boiler@plant.example/x"), key=b"\0\1"),
        f"<values xmlns='{NS}' peer='boiler@plant.example/x' key='AAE='/>",
    ),
    (Tree(id="1"), f"<tree xmlns='{NS}' id='1'/>"),
    (
        Tree(id="1", title="", closed=True, labels=("a", ""), parts=(Part(id="p"), Part(id="q", size=Size(bytes_=7)))),
        f"<tree xmlns='{NS}' id='1'><title/><closed/><label>a</label><label/><part id='p'/>"
        "<part id='q'><size>7</size></part></tree>",
    ),
    (
        Tree(id="1", note=Note(value="n"), form=Element("{jabber:x:data}x", {"type": "submit"})),
        f"<tree xmlns='{NS}' id='1'><note xmlns='{OTHER}'>n</note><x xmlns='jabber:x:data' type='submit'/></tree>",
    ),
    (Choice(verb=Size(bytes_=9)), f"<choice xmlns='{NS}'><size>9</size></choice>"),
    (Choice(verb=Note(value="")), f"<choice xmlns='{NS}'><note xmlns='{OTHER}'/></choice>"),
    (
        Mixed(things=(Part(id="1"), Note(value="n"), Part(id="2"))),
        f"<mixed xmlns='{NS}'><part id='1'/><note xmlns='{OTHER}'>n</note><part id='2'/></mixed>",
    ),
    (
        Envelope(size=Size(bytes_=1), payload=Element("{urn:p}p", None, "hi")),
        f"<envelope xmlns='{NS}'><size>1</size><p xmlns='urn:p'>hi</p></envelope>",
    ),
    (
        Bag(payloads=(Element("{urn:p}p"), Element(f"{{{NS}}}size"))),
        f"<bag xmlns='{NS}'><p xmlns='urn:p'/><size/></bag>",
    ),
]


@pytest.mark.parametrize(("payload", "xml"), TABLE)
def test_payload_is_written_and_read_from_one_declaration(payload: Payload, xml: str) -> None:
    assert payload.to_element() == Element.fromstring(xml)
    assert type(payload).from_element(Element.fromstring(xml)) == payload


def read(cls: type[Payload], xml: str) -> Any:
    return cls.from_element(Element.fromstring(xml))


def test_unknown_attributes_and_children_are_ignored() -> None:
    xml = f"<part xmlns='{NS}' id='1' new='2'><size xmlns='urn:new'>x</size>text<more/><size>4</size></part>"
    assert read(Part, xml) == Part(id="1", size=Size(bytes_=4))


@pytest.mark.parametrize(
    ("cls", "xml", "problem"),
    [
        (Part, f"<part xmlns='{NS}'/>", "part@id: missing"),
        (Tree, f"<tree xmlns='{NS}' id='1'><part/></tree>", "tree/part@id: missing"),
        (
            Tree,
            f"<tree xmlns='{NS}' id='1'><part id='1'><size>big</size></part></tree>",
            "tree/part/size: not an integer",
        ),
        (Tree, f"<tree xmlns='{NS}' id='1'><title>a</title><title>b</title></tree>", "tree/title: more than one"),
        (Tree, f"<tree xmlns='{NS}' id='1'><closed/><closed/></tree>", "tree/closed: more than one"),
        (Choice, f"<choice xmlns='{NS}'/>", "choice/verb: missing"),
        (Choice, f"<choice xmlns='{NS}'><size/><note xmlns='{OTHER}'/></choice>", "choice/note: more than one"),
        (Mixed, f"<mixed xmlns='{NS}'/>", "mixed/things: missing"),
        (Part, f"<size xmlns='{NS}'>1</size>", "part: missing; there is size"),
        (Values, f"<values xmlns='{NS}' count='1_0'/>", "values@count: not an integer"),
        (Values, f"<values xmlns='{NS}' count='\u0663'/>", "values@count: not an integer"),
        (Values, f"<values xmlns='{NS}' on='yes'/>", "values@on: not a boolean"),
        (Values, f"<values xmlns='{NS}' ratio='infinity'/>", "values@ratio: not a number"),
        (Values, f"<values xmlns='{NS}' price='1e3'/>", "values@price: not a decimal number"),
        (Values, f"<values xmlns='{NS}' when='2026-11-22'/>", "values@when: " + NO_TIME),
        (Values, f"<values xmlns='{NS}' when='2026-11-22T08:00:00'/>", "values@when: " + NO_TIME),
        (Values, f"<values xmlns='{NS}' when='0001-01-01T00:00:00+01:00'/>", "values@when: " + NO_TIME),
        (Values, f"<values xmlns='{NS}' colour='green'/>", "values@colour: not one of red, dark-blue"),
        (Values, f"<values xmlns='{NS}' mode='sly'/>", "values@mode: not one of slow, fast"),
        (Values, f"<values xmlns='{NS}' peer='@'/>", "values@peer: not a JID"),
        (Values, f"<values xmlns='{NS}' key='*'/>", "values@key: not base64"),
    ],
)
def test_bad_request_says_where_and_why(cls: type[Payload], xml: str, problem: str) -> None:
    with pytest.raises(PayloadError) as caught:
        read(cls, xml)
    assert (caught.value.condition, caught.value.type, caught.value.text) == ("bad-request", "modify", problem)
    assert isinstance(caught.value, StanzaError)
    assert isinstance(caught.value, ValueError)


def test_no_element_is_a_bad_request() -> None:
    with pytest.raises(PayloadError, match="part: missing; there is nothing"):
        Part.from_element(None)


def test_attribute_equal_to_its_default_is_not_written() -> None:
    assert Values(on=False, mode="slow").to_element().attrib == {}


def test_whitespace_around_a_value_is_collapsed() -> None:
    got = read(Values, f"<values xmlns='{NS}' count=' 7 ' on='&#10;1' ratio=' INF '/>")
    assert (got.count, got.on, got.ratio) == (7, True, math.inf)


def test_empty_text_is_the_default() -> None:
    assert read(Size, f"<size xmlns='{NS}'/>") == Size()


def test_datetime_is_an_instant_whatever_its_offset() -> None:
    got = read(Values, f"<values xmlns='{NS}' when='2026-11-22T10:00:00.1234567+02:00'/>")
    assert got.when == datetime(2026, 11, 22, 8, 0, 0, 123456, UTC)
    assert got.when.tzinfo is UTC
    moved = Values(when=datetime(2026, 11, 22, 10, tzinfo=timezone(timedelta(hours=2))))
    assert moved.to_element().get("when") == "2026-11-22T08:00:00Z"


def test_value_without_text_form_is_refused_when_written() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Values(when=datetime(2026, 11, 22)).to_element()
    with pytest.raises(ValueError, match="decimal"):
        Values(price=Decimal("NaN")).to_element()


finite_decimals = st.decimals(allow_nan=False, allow_infinity=False)


@given(st.none() | st.floats(), st.none() | st.integers(), st.none() | finite_decimals)
def test_numbers_read_back_equal(ratio: float | None, count: int | None, price: Decimal | None) -> None:
    payload = Values(ratio=ratio, count=count, price=price)
    got = Values.from_element(payload.to_element())
    assert got == payload or (ratio is not None and math.isnan(ratio))
    assert got.ratio is ratio or str(got.ratio) == str(ratio)


@given(st.datetimes(timezones=st.just(UTC)), st.binary(max_size=40))
def test_datetimes_and_bytes_read_back_equal(when: datetime, key: bytes) -> None:
    payload = Values(when=when, key=key)
    assert Values.from_element(payload.to_element()) == payload


def test_payload_is_a_value() -> None:
    part = Part(id="1")
    assert part == Part(id="1") != Part(id="2")
    assert hash(part) == hash(Part(id="1"))
    assert repr(part) == "Part(id='1', size=None)"
    assert replace(part, id="2") == Part(id="2")
    with pytest.raises(FrozenInstanceError):
        part.id = "3"  # type: ignore[misc]


def test_secret_is_not_in_repr() -> None:
    assert "s3cret" not in repr(Tree(id="1", password="s3cret"))


def test_fields_are_inherited() -> None:
    class Base(Payload):
        n: str = attr()

    class Leaf(Base, tag=(NS, "leaf")):
        v: int = attr()

    assert Leaf.QNAME == (NS, "leaf")
    assert read(Leaf, f"<leaf xmlns='{NS}' n='a' v='1'/>") == Leaf(n="a", v=1)


def test_wrong_declarations_are_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match=r"Bare\.x: declare it by"):

        class Bare(Payload, tag=(NS, "bare")):
            x: str

    with pytest.raises(TypeError, match=r"Twice\.b: another field claims"):

        class Twice(Payload, tag=(NS, "twice")):
            a: Size | None = child(default=None)
            b: Size | None = child(default=None)

    with pytest.raises(TypeError, match=r"Odd\.x: .* is neither a type that has a text form"):

        class Odd(Payload, tag=(NS, "odd")):
            x: dict[str, str] = attr()
