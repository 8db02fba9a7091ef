# SPDX-License-Identifier: Apache-2.0
"""Read-outs and control on the wire: the XML that goes in and comes out, and what the thing is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _xmppcore import JID, Element, parse_element
from xiot.errors import StanzaError
from xiot.model.control import Assignment, Parameter, ParameterError
from xiot.model.reading import CURRENT, EVERYTHING, Category, Field, FieldType, Query, Reading, parse
from xiot.model.thing import Answers
from xiot.schema import Payload, PayloadError
from xiot.stanzas import error_element
from xiot.xep import control, forms, sensordata, validation

from ..shared import shared

T = TypeVar("T")
NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
READING = Reading(NOW, (Field("t", 21.5, "Cel"),), ("p: broken",))
RESP = (
    "<resp xmlns='urn:nfi:iot:sd:1.0' id='q'{}><ts v='2026-11-22T08:00:00Z'><err>p: broken</err>"
    "<q n='t' v='21.5' u='Cel' m='true' ar='true'/></ts></resp>"
)


class Thing:
    """A device that notes what it is asked, and answers by a script."""

    def __init__(self, *script: str) -> None:
        self.script = script
        self.asked: list[Any] = []

    async def read_out(self, sender: JID, id: str, query: Query, when: datetime | None, answers: Answers) -> None:
        self.asked.append((sender, id, query, when))
        for step in self.script:
            if step == "fail":
                raise StanzaError("resource-constraint")
            if step in ("more", "last"):
                await answers.readings([READING], more=step == "more")
            else:
                await getattr(answers, step)()

    def cancel(self, sender: JID, id: str) -> None:
        self.asked.append((sender, id))

    async def control(self, sender: JID, given: Sequence[Assignment]) -> Sequence[str]:
        self.asked.append((sender, *given))
        if self.script:
            raise ParameterError("bad-request", self.script[0], "too <hot>")
        return [one.parameter for one in given]

    async def parameters(self, sender: JID) -> Sequence[Parameter]:
        return [
            Parameter("setpoint", "numeric", "Cel", 5, 90.5, value=60),
            Parameter("count", "int"),
            Parameter("on", "boolean", value=True),
            Parameter("mode", "enum", options=("OFF", "HEAT"), data_type="Mode", value="OFF"),
            Parameter("text", "string"),
        ]


class Asking:
    """What a handler gets; keeps what it answers and sends."""

    sender, to, id = JID("app@plant.example/x"), JID("boiler@plant.example/thing"), "1"

    def __init__(self, thing: Thing) -> None:
        self.thing = thing
        self.out: list[str] = []

    def service(self, kind: type[T]) -> T:
        assert isinstance(self.thing, kind)
        return self.thing

    async def reply(self, payload: Payload | None) -> None:
        assert payload is not None
        self.out.append(canonical(payload.to_element()))

    async def send(self, stanza: Element) -> None:
        assert (stanza.name, stanza.get("to")) == ("message", str(self.sender))
        self.out.append("message " + canonical(next(iter(stanza))))


def canonical(xml: Element | str) -> str:
    el = Element.fromstring(xml) if isinstance(xml, str) else parse_element(xml.tobytes())
    return el.tobytes().decode()


def sd(xml: str) -> str:
    name, _, rest = xml.partition(" ")
    return f"<{name} xmlns='urn:nfi:iot:sd:1.0' {rest}"


async def ask(xml: str, *script: str) -> tuple[list[str], list[Any]]:
    """Have a request answered; the answers and what the thing was asked."""
    thing = Thing(*script)
    asking = Asking(thing)
    await sensordata.on_request(sensordata.Request.from_element(Element.fromstring(xml)), asking)
    return asking.out, thing.asked


# ---- read-outs --------------------------------------------------------------------------------------------------


async def test_data_that_are_there_at_once_are_the_result() -> None:
    out, _ = await ask(sd("req id='q' all='true'/>"), "last")
    assert out == [canonical(RESP.format(""))]


async def test_the_first_answer_is_the_result_and_all_others_are_messages() -> None:
    out, _ = await ask(sd("req id='q' m='true'/>"), "accepted", "started", "more", "last")
    assert out == [
        canonical(sd("accepted id='q' queued='true'/>")),
        "message " + canonical(sd("started id='q'/>")),
        "message " + canonical(RESP.format(" more='true'")),
        "message " + canonical(RESP.format("")),
    ]
    out, _ = await ask(sd("req id='q' m='true'/>"), "started", "last")
    assert out == [canonical(sd("started id='q'/>")), "message " + canonical(RESP.format(""))]


async def test_a_read_out_that_fails_is_an_error_or_if_it_was_answered_done() -> None:
    with pytest.raises(StanzaError, match="resource-constraint"):
        await ask(sd("req id='q' m='true'/>"), "fail")
    out, _ = await ask(sd("req id='q' m='true'/>"), "started", "fail")
    assert out[1:] == ["message " + canonical(sd("done id='q'/>"))]


@pytest.mark.parametrize(
    ("attributes", "query", "when"),
    [
        ("", Query(), None),
        ("all='1'", Query(categories=EVERYTHING), None),
        ("m='true' h='1' s='false'", Query(categories=Category.MOMENTARY | Category.HISTORICAL), None),
        ("p='1' c='1' i='1' s='1' m='1'", Query(categories=CURRENT), None),
        ("i='1' when='2026-11-22T09:00:00+01:00'", Query(categories=Category.IDENTITY), NOW),
        ("h='1' from='2026-11-22T08:00:00' to='2026-11-22T08:00:00Z'", Query(frozenset(), Category.HISTORICAL, NOW, NOW), None),
    ],
)  # fmt: skip
async def test_a_request_is_understood(attributes: str, query: Query, when: datetime | None) -> None:
    _, asked = await ask(sd(f"req id='q' {attributes}/>"), "last")
    assert asked == [(Asking.sender, "q", query, when)]


async def test_fields_are_named() -> None:
    _, asked = await ask(sd("req id='q' all='1'><f n='a'/><f n='b'/><f n='a'/><new/></req>"), "last")
    assert asked[0][2].fields == {"a", "b"}


@pytest.mark.parametrize(
    "xml",
    ["req all='true'/>", "req id='q' all='maybe'/>", "req id='q' from='yesterday'/>", "req id='q'><f/></req>", "req id='q'><nd/></req>"],
)  # fmt: skip
async def test_a_request_that_makes_no_sense_is_bad(xml: str) -> None:
    with pytest.raises(StanzaError, match="bad-request"):
        await ask(sd(xml), "last")


async def test_our_request_is_one_that_we_understand() -> None:
    asked: list[Element] = []

    class Session:
        async def request(self, type: str, payload: Payload, **_: object) -> Element:
            assert type == "get"
            asked.append(payload.to_element())
            return Element.fromstring(RESP.format(""))

    for query in (
        Query(),
        Query(frozenset("ab"), Category.PEAK | Category.STATUS),
        Query(frozenset(), EVERYTHING, NOW, NOW),
    ):
        answer = await sensordata.request(cast("Any", Session()), JID("a@b/c"), "q", query, when=NOW)
        assert answer is not None
        assert sensordata.readings_of(answer) == [READING]
        _, heard = await ask(asked.pop().tobytes().decode(), "last")
        assert heard == [(Asking.sender, "q", query, NOW)]


# ---- control ----------------------------------------------------------------------------------------------------


def ctr(xml: str) -> control.Set:
    return control.Set.from_element(Element.fromstring(f"<set xmlns='urn:nfi:iot:ctr:1.0'>{xml}</set>"))


async def test_every_type_of_parameter_is_understood() -> None:
    thing = Thing()
    xml = (
        "<b n='1' v='true'/><db n='2' v='0.5'/><i n='3' v='1'/><l n='4' v='5000000000'/><s n='5' v='x'/><d n='6' v='2026-11-22'/>"
        "<dt n='7' v='2026-11-22T08:00:00Z'/><dr n='8' v='PT1S'/><t n='9' v='08:00:00'/><e n='10' v='OFF' t='Mode'/>"
    )
    answer = await control.on_set(ctr(xml), Asking(thing))
    types = ("boolean", "numeric", "int", "int", "string", "date", "dateTime", "duration", "time", "enum")
    assert [one.type for one in thing.asked[0][1:]] == list(types)
    assert [name.n for name in answer.parameters] == [str(n) for n in range(1, 11)]


async def test_a_form_sets_what_it_names() -> None:
    thing = Thing()
    form = (
        "<x xmlns='jabber:x:data' type='submit'><field var='xdd session' type='hidden'><value>s</value></field>"
        "<field var='a' type='boolean'><value>1</value></field><field var='b'><value>0</value></field><field var='c'/></x>"
    )
    await control.on_set(ctr(form), Asking(thing))
    assert thing.asked[0][1:] == (Assignment("a", "1"), Assignment("b", "0"), Assignment("c", ""))


@pytest.mark.parametrize(
    ("xml", "condition"),
    [
        ("", "bad-request"),
        ("<b n='x'/>", "bad-request"),
        ("<b v='1'/>", "bad-request"),
        ("<b xmlns='urn:other' n='x' v='1'/>", "bad-request"),
        ("<cl n='x' v='FFFFFF'/>", "feature-not-implemented"),
        ("<x xmlns='jabber:x:data' type='form'/>", "bad-request"),
        ("<x xmlns='jabber:x:data' type='submit'/>", "bad-request"),
        ("<nd id='n'/><b n='x' v='1'/>", "item-not-found"),
    ],
)
async def test_what_cannot_be_set_does_not_reach_the_thing(xml: str, condition: str) -> None:
    thing = Thing()
    with pytest.raises(StanzaError) as refused:
        await control.on_set(ctr(xml), Asking(thing))
    assert refused.value.condition == condition
    assert thing.asked == []


async def test_the_error_names_the_parameter() -> None:
    with pytest.raises(StanzaError) as refused:
        await control.on_set(ctr("<b n='x' v='1'/>"), Asking(Thing("x")))
    written = error_element(refused.value)
    assert canonical(written) == canonical(
        "<error xmlns='jabber:client' type='modify'><bad-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>too &lt;hot></text>"
        "<paramError xmlns='urn:nfi:iot:ctr:1.0' var='x'>too &lt;hot></paramError></error>"
    )


class Answering:
    """A session whose requests have one answer."""

    def __init__(self, answer: Element | StanzaError | None) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def request(self, type: str, payload: Payload, **_: object) -> Element | None:
        self.asked.append(canonical(payload.to_element()))
        if isinstance(self.answer, StanzaError):
            raise self.answer
        return self.answer


async def test_values_are_sent_by_their_types() -> None:
    session: Any = Answering(Element.fromstring("<resp xmlns='urn:nfi:iot:ctr:1.0'/>"))
    values: Any = {"b": True, "db": 0.5, "i": 1, "l": 2**40, "s": "x", "dt": NOW}
    assert await control.set_parameters(session, JID("a@b/c"), values) == tuple(values)
    assert session.asked == [
        canonical(
            "<set xmlns='urn:nfi:iot:ctr:1.0'><b n='b' v='true'/><db n='db' v='0.5'/><i n='i' v='1'/><l n='l' v='1099511627776'/>"
            "<s n='s' v='x'/><dt n='dt' v='2026-11-22T08:00:00Z'/></set>"
        )
    ]
    session.answer = Element.fromstring("<resp xmlns='urn:nfi:iot:ctr:1.0'><p n='b'/></resp>")
    assert await control.set_parameters(session, JID("a@b/c"), values) == ("b",)


@pytest.mark.parametrize("attribute", ["var", "n"])
async def test_the_parameter_in_an_error_is_read_by_either_name(attribute: str) -> None:
    app = Element("{urn:nfi:iot:ctr:1.0}paramError", {attribute: "x"}, "why")
    session: Any = Answering(StanzaError("bad-request", "modify", None, app))
    with pytest.raises(ParameterError, match="x: why"):
        await control.set_parameters(session, JID("a@b/c"), {"x": 1})
    session.answer = StanzaError("forbidden", "cancel")
    with pytest.raises(StanzaError, match="forbidden"):
        await control.set_parameters(session, JID("a@b/c"), {"x": 1})


async def test_a_form_tells_what_can_be_set() -> None:
    form = await control.on_get_form(control.GetForm(), Asking(Thing()))
    setpoint, count, on, mode, _ = form.fields
    assert canonical(setpoint.to_element()) == canonical(
        "<field xmlns='jabber:x:data' var='setpoint' type='text-single' label='setpoint (°C)'><value>60</value>"
        "<validate xmlns='http://jabber.org/protocol/xdata-validate' datatype='xs:double'><range min='5' max='90.5'/></validate></field>"
    )
    assert validation.Validate.from_element(count.extensions[0]) == validation.Validate(datatype="xs:long")
    assert (on.type, on.values, on.extensions) == ("boolean", ("true",), ())
    assert (mode.type, [option.value for option in mode.options]) == ("list-single", ["OFF", "HEAT"])
    session: Any = Answering(form.to_element())
    again = await control.get_form(session, JID("a@b/c"))
    assert [(p.name, p.type, p.low, p.high, p.value, p.options) for p in again] == [
        ("setpoint", "numeric", 5, 90.5, 60, ()),
        ("count", "int", None, None, None, ()),
        ("on", "boolean", None, None, True, ()),
        ("mode", "string", None, None, "OFF", ("OFF", "HEAT")),
        ("text", "string", None, None, None, ()),
    ]


async def test_a_form_that_makes_no_sense_is_refused() -> None:
    for bad in (
        "<field var='x'><validate xmlns='http://jabber.org/protocol/xdata-validate' datatype='xs:int'/><value>y</value></field>",
        "<field var='x'><validate xmlns='http://jabber.org/protocol/xdata-validate' datatype='xs:int'><range min='2' max='1'/></validate></field>",
    ):
        session: Any = Answering(Element.fromstring(f"<x xmlns='jabber:x:data' type='form'>{bad}</x>"))
        with pytest.raises(PayloadError):
            await control.get_form(session, JID("a@b/c"))


# ---- anything ------------------------------------------------------------------------------------------------------

SAMPLES = (
    "true",
    "1",
    "-5",
    "1e999",
    "NaN",
    "P1D",
    "P9999999999D",
    "2026-11-22T08:00:00Z",
    "0001-01-01T00:00:00+14:00",
)
CHILDREN = {
    sensordata.NS: ("ts", "nd", "f", "b", "q", "i", "l", "e", "d", "dt", "dr", "t", "s", "err", "x"),
    control.NS: ("nd", "b", "db", "i", "l", "e", "d", "dt", "dr", "t", "s", "cl"),
    forms.NS: ("field", "value", "option", "x"),
    validation.NS: ("validate", "range"),
}
ATTRIBUTES = (
    "n",
    "v",
    "u",
    "t",
    "m",
    "all",
    "from",
    "to",
    "when",
    "more",
    "var",
    "type",
    "datatype",
    "min",
    "max",
    "label",
)
plain = st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\ufffe\uffff"), max_size=12)
texts = st.one_of(plain, st.sampled_from((*SAMPLES, "submit", "form", "boolean", "xs:int", "xs:double")))
attributes = st.dictionaries(st.sampled_from(ATTRIBUTES), texts, max_size=6).map(lambda given: {"id": "q", **given})


def make(tag: tuple[str, str], attributes: dict[str, str], text: str, children: list[Element]) -> Element:
    return Element(f"{{{tag[0]}}}{tag[1]}", attributes, text, *children)


tags = st.sampled_from([(ns, name) for ns, names in CHILDREN.items() for name in names])
leaves = st.builds(make, tags, attributes, texts, st.just([]))
inside = st.recursive(leaves, lambda inner: st.builds(make, tags, attributes, texts, st.lists(inner, max_size=3)))


def elements(names: Sequence[str], ns: str) -> st.SearchStrategy[Element]:
    roots = st.sampled_from([(ns, name) for name in names])
    return st.builds(make, roots, attributes, texts, st.lists(inside, max_size=4))


@given(elements(["req", "resp", "nd", "ts"], sensordata.NS))
async def test_any_sensor_data_is_taken_or_refused_in_order(el: Element) -> None:
    with suppress(StanzaError):
        await ask(el.tobytes().decode(), "last")
    with suppress(ValueError):
        for reading in sensordata.readings(el):
            assert sensordata.readings(sensordata.write(reading)) == [reading]


@given(elements(["set"], control.NS))
async def test_any_setting_is_taken_or_refused_in_order(el: Element) -> None:
    with suppress(StanzaError):
        await control.on_set(control.Set.from_element(el), Asking(Thing()))


@given(elements(["x"], forms.NS))
async def test_any_form_is_taken_or_refused_in_order(el: Element) -> None:
    with suppress(StanzaError):
        for parameter in await control.get_form(cast("Any", Answering(el)), JID("a@b/c")):
            assert parameter.value is None or parameter.text_of(parameter.value) is not None


# ---- what the first generation prints: other words for the same ------------------------------------------------------

FIRST: dict[str, FieldType] = {
    "numeric": "numeric",
    "double": "numeric",
    "int": "int",
    "long": "int",
    "string": "string",
    "boolean": "boolean",
    "date": "date",
    "dateTime": "dateTime",
    "duration": "duration",
    "time": "time",
    "enum": "enum",
}


@pytest.mark.parametrize(("xep", "ns"), [("0323", "urn:xmpp:iot:sensordata"), ("0325", "urn:xmpp:iot:control")])
def test_every_value_in_the_examples_of_the_first_generation_is_one_of_ours(xep: str, ns: str) -> None:
    seen = 0
    for line in shared(f"data/stanzas/{xep}.jsonl").read_text().splitlines():
        for el in Element.fromstring(json.loads(line)["xml"]).iter():
            if el.ns != ns or el.name not in FIRST or el.get("value") is None:
                continue
            kind, name, text = FIRST[el.name], el.get("name", ""), el.get("value", "")
            value = parse(kind, text)
            if xep == "0325":
                assert Parameter(name, kind).check(Assignment(name, text, kind)) == value
                again = control._write_value(Field(name, value, type=kind))
                assert parse(control._TYPES[again.name], again.get("v", "")) == value
            else:
                data_type = el.get("dataType") if kind == "enum" else None
                reading = Reading(NOW, (Field(name, value, el.get("unit"), kind, data_type=data_type),))
                assert sensordata.read(sensordata.write(reading)) == reading
            seen += 1
    assert seen >= 12
