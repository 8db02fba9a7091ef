# SPDX-License-Identifier: Apache-2.0
"""How two ends agree on EXI (XEP-0322 on XEP-0138): what is proposed, lowered, refused, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from xiot.core import parse_element
from xiot.errors import StreamError
from xiot.exi import ExiError, Options
from xiot.exi.configurations import DEFAULT_OPTIONS
from xiot.proto import exi
from xiot.proto.events import NeedExi, Ready, StartExi

from .ends import BIND, HEADER, PLAIN_LOGIN, End, client_end, policy, server_end, talk

PING = exi.Schema("urn:xmpp:ping", 602, "a2a720f5ee6da310e3a05ba89b89eb20")
TIME = exi.Schema("urn:xmpp:time", 658, "001c5347c00da7aad231504ec706fbb3")
LOW = Options(value_max_length=64, value_partition_capacity=64)
COMPRESS = "<compress xmlns='http://jabber.org/protocol/compress'><method>exi</method></compress>"
QUICK = "<setup xmlns='http://jabber.org/protocol/compress/exi' configurationId='x'/>"
BOUNDS = exi.Bounds()


def asked(request: exi.Request) -> exi.Request:
    """As the other end reads it."""
    return exi.parse_request(parse_element(exi.build_request(request).tobytes()))


@pytest.mark.parametrize(
    "request_",
    [
        exi.Request(LOW, True, (PING, TIME)),
        exi.Request(configuration="xiot-1"),
        exi.Request(replace(LOW, strict=True, lexical=True, alignment="byte-aligned", block_size=1024)),
        exi.Request(Options(prefixes=True, comments=True, pis=True, self_contained=True)),
    ],
)
def test_a_setup_is_read_as_it_was_written(request_: exi.Request) -> None:
    assert asked(request_) == request_


def test_a_setup_that_the_server_can_do_is_agreed_to() -> None:
    request = exi.Request(LOW, True, (PING,))
    answer = exi.answer(request, BOUNDS, lambda _: True)
    assert answer == exi.Answer(request, (), True)
    written = exi.build_answer(replace(answer, request=replace(request, configuration="abc")))
    assert exi.parse_answer(parse_element(written.tobytes())) == exi.Answer(
        replace(request, configuration="abc"), (), True
    )


@pytest.mark.parametrize(
    ("given", "possible"),
    [
        (Options(), LOW),
        (replace(LOW, value_max_length=10**8), LOW),
        (replace(LOW, value_partition_capacity=8), replace(LOW, value_partition_capacity=8)),
        (replace(LOW, compression=True), LOW),
        (replace(LOW, alignment="pre-compression"), LOW),
        (replace(LOW, comments=True, pis=True, dtd=True, self_contained=True), LOW),
        (replace(LOW, strict=True), replace(LOW, strict=True)),
        (replace(LOW, prefixes=True), replace(LOW, prefixes=True)),
    ],
    ids=["unbounded", "length", "capacity", "compression", "alignment", "what XMPP forbids", "strict", "prefixes"],
)
def test_numbers_are_lowered_and_what_is_not_done_is_left_out(given: Options, possible: Options) -> None:
    answer = exi.answer(exi.Request(given), BOUNDS, lambda _: True)
    assert answer.request.options == possible
    assert answer.agreement is (given == possible)


def test_schemas_that_are_not_known_are_missing() -> None:
    answer = exi.answer(exi.Request(LOW, False, (PING, TIME)), BOUNDS, lambda schema: schema == TIME)
    assert (answer.request.schemas, answer.missing, answer.agreement) == ((TIME,), (PING,), False)
    read = exi.parse_answer(parse_element(exi.build_answer(answer).tobytes()))
    assert (read.request.schemas, read.missing, read.agreement) == ((TIME,), (PING,), False)


def test_kept_tables_are_the_servers_to_allow() -> None:
    answer = exi.answer(exi.Request(LOW, True), exi.Bounds(keep=False), lambda _: True)
    assert (answer.request.keep, answer.agreement) == (False, False)


def test_what_nobody_does_is_not_agreed_to() -> None:
    element = parse_element(
        "<setup xmlns='http://jabber.org/protocol/compress/exi' valueMaxLength='64' valuePartitionCapacity='64'>"
        "<datatypeRepresentationMap type='a' representAs='b'/></setup>"
    )
    assert not exi.answer(exi.parse_request(element), BOUNDS, lambda _: True).agreement


def test_within_exi_what_is_not_told_is_as_in_the_default_setup() -> None:
    element = parse_element("<setup xmlns='http://jabber.org/protocol/compress/exi'/>")
    assert exi.parse_request(element, DEFAULT_OPTIONS).options == DEFAULT_OPTIONS
    assert exi.answer(exi.parse_request(element, DEFAULT_OPTIONS), BOUNDS, lambda _: True).agreement


@pytest.mark.parametrize(
    "words",
    [
        "strict='true' preservePrefixes='true'",
        "compression='true' alignment='byte-alignment'",
        "valueMaxLength='0'",
        "valueMaxLength='-1'",
        "blockSize='99999999999999'",
        "alignment='wide'",
        "strict='yes'",
        "configurationId=''",
        f"configurationId='{'x' * 200}'",
        "version='one'",
    ],
)
def test_a_setup_that_is_none_is_refused(words: str) -> None:
    with pytest.raises(ValueError):
        exi.parse_request(parse_element(f"<setup xmlns='http://jabber.org/protocol/compress/exi' {words}/>"))


@pytest.mark.parametrize("attribute", ["ns='a' bytes='1' md5Hash='x'", "ns='a' bytes='x' md5Hash='" + "0" * 32 + "'"])
def test_a_schema_that_is_none_is_refused(attribute: str) -> None:
    with pytest.raises(ValueError):
        exi.parse_request(
            parse_element(f"<setup xmlns='http://jabber.org/protocol/compress/exi'><schema {attribute}/></setup>")
        )


def test_a_client_proposes_what_the_server_can_do_once_and_only_if_something_is_left() -> None:
    first = exi.Request(Options(), False, (PING, TIME))
    answer = exi.answer(first, BOUNDS, lambda schema: schema == TIME)
    (second,) = exi.next_requests(first, answer)
    assert second == exi.Request(LOW, False, (TIME,))
    assert list(exi.next_requests(second, replace(answer, missing=()))) == []
    assert list(exi.next_requests(exi.Request(configuration="x"), answer)) == []


@pytest.mark.parametrize("condition", ["damaged", "header", "unsupported", "refused", "limit"])
def test_each_failure_has_its_stream_error(condition: str) -> None:
    error = exi.failure(ExiError(condition, "why"))
    if condition == "limit":
        assert (error.condition, error.app) == ("policy-violation", None)
    else:
        assert error.condition == "undefined-condition"
        assert error.app is not None
        assert [child.name for child in error.app] == ["processing-failed"]


# ---- the machines


def server(*, agreed: bool = True, **options: Any) -> End:
    """A server that agrees to whatever is asked, and a client that has logged in."""
    element = exi.build_answer(exi.Answer(exi.Request(configuration="x"), agreement=agreed), quick=True)
    answers = {NeedExi: lambda stream, event: stream.exi_answered(element, agreed=agreed)}
    end = server_end(policy(mechanisms=["PLAIN"], extra={"exi": True}), answers=answers, **options)
    end.feed(HEADER)
    end.feed(PLAIN_LOGIN)
    return end


def test_exi_is_offered_after_the_login_and_under_tls_alone() -> None:
    assert b"<method>exi</method>" in server().feed(HEADER)
    plain = server_end(policy(starttls="optional", extra={"exi": True}), secure=False)
    assert b"compress" not in plain.feed(HEADER)
    assert b"compress" not in server_end(policy(extra={"exi": True})).feed(HEADER)


def test_compress_without_a_setup_fails_and_the_stream_goes_on() -> None:
    end = server()
    end.feed(HEADER)
    assert b"<setup-failed/>" in end.feed(COMPRESS)
    assert b"<unsupported-method/>" in end.feed(COMPRESS.replace(">exi<", ">zlib<"))
    assert b"jid" in end.feed(BIND)


def test_compress_after_an_agreement_begins_a_new_stream() -> None:
    end = server()
    end.feed(HEADER)
    assert b"agreement='true'" in end.feed(QUICK)
    end.take()
    assert end.feed(COMPRESS) == exi.COMPRESSED
    assert [type(event).__name__ for event in end.take()] == ["StartExi", "RestartStream"]
    answer = end.feed(HEADER)
    assert b"xmpp-bind" in answer
    assert b"jid" in end.feed(BIND)


def test_a_refused_setup_does_not_make_compress_work() -> None:
    end = server(agreed=False)
    end.feed(HEADER)
    end.feed(QUICK)
    assert b"<setup-failed/>" in end.feed(COMPRESS)


def test_nobody_negotiates_exi_before_the_login_or_after_the_binding() -> None:
    early = server_end(policy(extra={"exi": True}))
    early.feed(HEADER)
    early.feed(QUICK)
    assert isinstance(early.error, StreamError)
    late = server()
    late.feed(HEADER)
    late.feed(BIND)
    assert any(isinstance(event, Ready) for event in late.take())
    late.feed(QUICK)
    assert isinstance(late.error, StreamError)


def test_a_client_binds_in_xml_if_the_server_has_no_exi_or_does_not_agree() -> None:
    for end in (server_end(policy(mechanisms=["PLAIN"])), server_end_refusing()):
        client = client_end(secure=True, plain_without_tls=True, compress=[exi.Request(configuration="x")])
        talk(client, end)
        assert client.stream.agreed is None
        assert any(isinstance(event, Ready) for event in client.events)


def test_a_server_that_always_wants_another_setup_gets_xml() -> None:
    schema = exi.Schema("urn:a", 1, "0" * 32)
    asked = []

    def other(stream: Any, event: Any) -> Any:
        asked.append(event.request)
        lower = exi.Request(Options(value_max_length=100 - len(asked)), False, (schema,))
        return stream.exi_answered(exi.build_answer(exi.Answer(lower)))

    end = server_end(policy(mechanisms=["PLAIN"], extra={"exi": True}), answers={NeedExi: other})
    client = client_end(secure=True, plain_without_tls=True, compress=[exi.Request(Options(), False, (schema,))])
    talk(client, end)
    assert client.stream.agreed is None
    assert len(asked) == 6
    assert any(isinstance(event, Ready) for event in client.events)


def test_a_schema_is_sent_once_to_a_server_that_misses_it() -> None:
    schema = exi.Schema("urn:a", 4, "0" * 32)
    asked = []

    def missing(stream: Any, event: Any) -> Any:
        asked.append(event.request)
        if event.request.name == "uploadSchema":
            return stream.exi_answered(None)
        return stream.exi_answered(exi.build_answer(exi.Answer(exi.Request(), (schema,))))

    end = server_end(policy(mechanisms=["PLAIN"], extra={"exi": True}), answers={NeedExi: missing})
    client = client_end(
        secure=True, plain_without_tls=True, compress=[exi.Request(schemas=(schema,))], uploads={schema: b"<a/>"}
    )
    talk(client, end)
    assert [request.name for request in asked] == ["setup", "uploadSchema", "setup"]
    assert asked[1].text == "PGEvPg=="
    assert any(isinstance(event, Ready) for event in client.events)


def server_end_refusing() -> End:
    element = exi.build_answer(exi.Answer(exi.Request(configuration="x")), quick=True)
    answers = {NeedExi: lambda stream, event: stream.exi_answered(element)}
    return server_end(policy(mechanisms=["PLAIN"], extra={"exi": True}), answers=answers)


def test_a_client_and_a_server_agree_and_bind_on_the_new_stream() -> None:
    element = exi.build_answer(exi.Answer(exi.Request(configuration="x"), agreement=True), quick=True)
    answers = {NeedExi: lambda stream, event: stream.exi_answered(element, agreed=True)}
    end = server_end(policy(mechanisms=["PLAIN"], extra={"exi": True}), answers=answers)
    client = client_end(secure=True, compress=[exi.Request(configuration="x")])
    talk(client, end)
    names = [type(event).__name__ for event in client.events]
    assert names.index("StartExi") < names.index("Ready")
    assert client.stream.agreed == exi.Request(configuration="x")
    assert any(isinstance(event, StartExi) for event in end.events)
