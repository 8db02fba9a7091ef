# SPDX-License-Identifier: Apache-2.0
"""Streams in EXI (XEP-0322), octets in and XML out: what begins them, what is refused, and the XEP's own streams."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _xmppcore import Router, parse_element
from _xmppcore.exi import Options, encode
from _xmppcore.exi_stream import DEFAULT_OPTIONS, Exi, ExiStream, Kind, Setup
from tests.exi.documents import infoset
from tests.shared import ROOT, shared
from xiot.exi import ExiError, xiot_schemas

DEFAULT = Setup()
OURS = Setup(Options(value_max_length=64, value_partition_capacity=64, plain_numbers=True), xiot_schemas(), id="ours")
KEPT = Setup(OURS.options, OURS.grammar, keep=True, id="kept")
HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "
    b"version='1.0' to='localhost' xml:lang='en'>"
)
STANZAS = [
    b"<message to='a@b' type='chat'><body>wherefore &amp; art \xe2\x99\xa5</body></message>",
    b"<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>",
    b"<iq type='get' id='1'><odd xmlns='urn:odd' a='1'><deep/></odd></iq>",
    b"<r xmlns='urn:xmpp:sm:3'/>",
    b"<a xmlns='urn:xmpp:sm:3' h='2'/>",
    b"<message to='a@b' type='chat'><body>wherefore &amp; art \xe2\x99\xa5</body></message>",
]


def choose(options: Options | None) -> Setup | None:
    if options is None:
        return DEFAULT
    return {"c:ours": OURS, "c:kept": KEPT}.get(str(options.schema_id))


def receiving(**options: int) -> ExiStream:
    return ExiStream(Kind.RECEIVING, choose=choose, **options)


def pieces(stream: ExiStream, octets: bytes, size: int = 1 << 20) -> list[bytes]:
    """All that comes of `octets`, given in parts of so many."""
    found = []
    for at in range(0, len(octets), size):
        stream.receive(octets[at : at + size])
        while (piece := stream.next()) is not None:
            found.append(piece)
    return found


def standing(stanza: bytes) -> object:
    """A stanza as it means by itself."""
    root = b"<s xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>" + stanza + b"</s>"
    return infoset(parse_element(root)[0].tobytes())


@pytest.mark.parametrize("setup", [DEFAULT, OURS, KEPT], ids=["default", "ours", "kept"])
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("bound", [False, True])
def test_a_stream_comes_out_as_it_went_in_however_it_is_split(setup: Setup, size: int, bound: bool) -> None:
    ours = ExiStream(Kind.BOUND if bound else Kind.INITIATING, setup)
    theirs = ExiStream(Kind.BOUND, setup) if bound else receiving()
    octets = b"".join(ours.send(part) for part in (HEADER, *STANZAS, b"</stream:stream>"))
    assert octets.startswith(b"$EXI") is not bound
    header, *stanzas, end = pieces(theirs, octets, size)
    assert header == (
        b"<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:client' to='localhost'"
        b" version='1.0' xml:lang='en'>"
    )
    assert end == b"</stream:stream>"
    assert [standing(stanza) for stanza in stanzas] == [standing(stanza) for stanza in STANZAS]
    assert stanzas[0].startswith(b"<message to=")  # the link can route it as it is
    assert ours.octets_out == theirs.octets_in == len(octets)
    assert octets[-1:] != b""
    assert ours.send(b"<r xmlns='urn:xmpp:sm:3'/>") == b""


def test_tables_that_are_kept_make_the_second_stanza_smaller() -> None:
    fresh, kept = (ExiStream(Kind.BOUND, setup) for setup in (OURS, KEPT))
    for stream in fresh, kept:
        stream.send(HEADER)
    sizes = [[len(stream.send(STANZAS[0])) for _ in range(2)] for stream in (fresh, kept)]
    assert sizes[0][0] == sizes[0][1]
    assert sizes[1][1] < sizes[0][1]


def test_streams_without_kept_tables_share_their_coders() -> None:
    assert OURS.coders() is OURS.coders()
    assert KEPT.coders()[0] is not KEPT.coders()[0]


def test_a_kept_stream_stays_within_its_memory() -> None:
    """12 KiB at limits 64/64, whatever comes."""
    setup = Setup(OURS.options, OURS.grammar, keep=True)
    encoder, decoder, _ = setup.coders()
    for number in range(2000):
        xml = f"<message xmlns='jabber:client' to='u{number}@example.org' id='{number}'><body>text {number}</body></message>"
        decoder.decode(encoder.encode(xml.encode(), keep=number > 0)[0], keep=number > 0)
    assert encoder.table_bytes + decoder.table_bytes <= 12 << 10


def test_the_answer_names_the_configuration_that_the_client_has_named() -> None:
    client, server = ExiStream(Kind.INITIATING, OURS), receiving()
    pieces(server, client.send(HEADER))
    assert server.setup is OURS
    answer = server.send(HEADER)
    assert answer.startswith(b"$EXI\xa0")
    assert len(pieces(client, answer)) == 1
    assert not server.send(STANZAS[0]).startswith(b"$EXI")


@pytest.mark.parametrize("cookie", [True, False])
def test_a_configuration_that_is_not_known_is_answered_by_streamend_in_the_default_one(cookie: bool) -> None:
    client, server = ExiStream(Kind.INITIATING, Setup(OURS.options, OURS.grammar, id="other")), receiving()
    with pytest.raises(ExiError, match="no such configuration"):
        pieces(server, client.send(HEADER).removeprefix(b"" if cookie else b"$EXI"))
    answer = server.send(HEADER + b"<stream:error/></stream:stream>")
    assert answer == (b"$EXI" if cookie else b"") + b"\x80\x88"  # section 3.4: one octet of a body, and no error
    if cookie:
        with pytest.raises(ExiError, match="no such configuration"):
            pieces(client, answer)
        assert client.refused


@pytest.mark.parametrize(
    "octets",
    [b"<?xml version='1.0'?><stream:stream>", b" <", b"\xef\xbb\xbf<", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01"],
)
def test_what_begins_otherwise_is_xml_and_goes_through(octets: bytes) -> None:
    stream = receiving()
    assert b"".join(pieces(stream, octets, 1)) == octets
    assert stream.xml
    assert stream.send(b"<stream:stream>") == b"<stream:stream>"


def options_octets(options: Options) -> bytes:
    return encode(b"<a/>", options)


@pytest.mark.parametrize(
    ("octets", "condition"),
    [
        (b"$EXX\x80", "header"),
        (b"$EXI<stream:stream>", "header"),
        (b"$EXI\x9f", "unsupported"),
        (b"$EXI\x80\xff\xff\xff\xff\xff\xff", "header"),
        (b"\x80\x80\x80\x80\x80\x80", "header"),
        (b"$EXI\x90\x00", "unsupported"),
        (b"$EXI" + options_octets(Options(in_header=True, compression=True)), "refused"),
        (b"$EXI" + options_octets(Options(in_header=True, value_partition_capacity=1 << 30)), "refused"),
        (b"$EXI\xa0" + b"\xff" * 2000, "header"),
    ],
    ids=["cookie", "xml behind it", "version", "garbage", "no stream", "preview", "compression", "capacity", "options"],
)
def test_what_is_no_exi_of_ours_is_refused(octets: bytes, condition: str) -> None:
    for size in 1, 1 << 20:
        with pytest.raises(ExiError) as caught:
            pieces(receiving(), octets, size)
        assert caught.value.condition in (condition, "damaged")


def opened(setup: Setup = DEFAULT, **options: int) -> tuple[ExiStream, ExiStream]:
    client, server = ExiStream(Kind.BOUND, setup), ExiStream(Kind.BOUND, setup, **options)
    assert len(pieces(server, client.send(HEADER))) == 1
    return client, server


def test_a_body_that_does_not_end_is_refused_at_the_limit() -> None:
    client, server = opened(max_bytes=4000)
    octets = client.send(b"<message><body>" + b"x" * 8000 + b"</body></message>")
    with pytest.raises(ExiError) as caught:
        pieces(server, octets[:-1], 1000)
    assert caught.value.condition == "limit"


def test_one_octet_at_a_time_is_paid_for_only_up_to_a_bound() -> None:
    client, server = opened(max_bytes=4000)
    octets = client.send(b"<message><body>" + b"x" * 3000 + b"</body></message>")
    with pytest.raises(ExiError, match="does not end"):
        pieces(server, octets, 1)
    assert len(pieces(opened(max_bytes=4000)[1], octets, 100)) == 1


@pytest.mark.security(row=16)
def test_a_small_body_that_grows_large_is_refused() -> None:
    """A list of ids in a table, each of them 64 characters: a bomb."""
    small = Setup(KEPT.options, KEPT.grammar, keep=True, max_stanza_bytes=20_000)
    client, server = opened(small)
    body = (
        b"<message>"
        + b"<x xmlns='urn:x'>"
        + b"<y>"
        + b"z" * 60
        + b"</y>"
        + (b"<y>" + b"z" * 60 + b"</y>") * 600
        + b"</x></message>"
    )
    octets = client.send(body)
    assert len(octets) * 15 < len(body)
    with pytest.raises(ExiError) as caught:
        pieces(server, octets)
    assert caught.value.condition == "limit"


@given(st.binary(max_size=200), st.sampled_from([DEFAULT, OURS, KEPT]), st.booleans())
def test_no_octets_do_more_than_end_the_stream(octets: bytes, setup: Setup, begun: bool) -> None:
    server = opened(setup)[1] if begun else receiving()
    try:
        pieces(server, octets)
    except ExiError:
        return
    assert server.xml or server.pending <= len(octets)


def test_the_streams_of_the_specification_are_decoded_and_their_heads_encode_again() -> None:
    samples = [json.loads(line) for line in shared("data/exi/vectors.jsonl").read_text().splitlines()]
    starts = [bytes.fromhex(sample["hex"]) for sample in samples[:2]]
    names: list[Callable[[bytes], bool]] = [
        lambda xml: b"to='jabber.example.org'" in xml,
        lambda xml: b"from='jabber.example.org'" in xml,
    ]
    for octets, named in zip(starts, names, strict=True):
        (header,) = pieces(receiving(), b"$EXI\x80" + octets)
        assert named(header)
        assert b"xmlns='jabber:client'" in header
        assert b"version='1.0'" in header
    encoder, decoder, _ = DEFAULT.coders()
    for octets in starts:  # but for the bits that fill up the last octet
        again = encoder.encode(decoder.decode(octets)[0])[0]
        assert again[:-1] == octets[: len(again) - 1]
    _, server = opened()
    server.restart()
    setup, answer = (bytes.fromhex(sample["hex"]) for sample in samples[2:4])
    (header, asked, told) = pieces(server, starts[0] + setup + answer)
    assert [child.get("ns") for child in parse_element(asked)] == [
        "http://jabber.org/protocol/muc",
        "http://jabber.org/protocol/muc#owner",
    ]
    assert parse_element(told).get("agreement") == "true"


def test_a_client_that_puts_the_header_octet_before_each_body_is_answered_likewise() -> None:
    """As one server does (its plug-in reads no other)."""
    client, server = ExiStream(Kind.BOUND, OURS), ExiStream(Kind.BOUND, OURS)
    octets = b"".join(b"\x80" + client.send(part) for part in (HEADER, *STANZAS))
    assert len(pieces(server, octets, 3)) == 1 + len(STANZAS)
    assert server.send(HEADER).startswith(b"\x80")
    assert server.send(STANZAS[0]).startswith(b"\x80")
    with pytest.raises(ExiError):
        pieces(server, client.send(STANZAS[0]))


def test_a_setup_agreed_on_within_exi_is_used_from_the_next_header_on() -> None:
    _client, server = opened()
    server = receiving()
    first = ExiStream(Kind.INITIATING, DEFAULT)
    pieces(server, first.send(HEADER))
    server.propose(OURS)
    assert pieces(server, first.send(STANZAS[3])) == [b'<r xmlns="urn:xmpp:sm:3"/>']  # it may go on as before
    second = ExiStream(Kind.BOUND, OURS)
    header, _stanza = pieces(server, second.send(HEADER) + second.send(STANZAS[0]), 1)
    assert header.startswith(b"<stream:stream")
    assert server.setup is OURS


def test_a_link_under_exi_is_fed_and_drained_as_one_in_xml() -> None:
    router = Router()
    link, layer = router.link(), Exi(receiving())
    client = ExiStream(Kind.INITIATING, DEFAULT)
    octets = client.send(HEADER) + client.send(STANZAS[0]) + client.send(b"</stream:stream>")
    events = []
    for octet in octets:
        router.buffer[0] = octet
        layer.receive(link, 1)
        while (event := layer.feed(link)) is not None:
            events.append(type(event).__name__)
            while (event := link.feed()) is not None:
                events.append(type(event).__name__)
    assert events == ["StreamOpen", "Stanza", "StreamClose"]
    link.write(HEADER + STANZAS[1])
    link.send(b"<message><body>" + b"x" * 100_000 + b"</body></message>")
    sent = b""
    while part := layer.output(link, False):
        layer.sent(100)
        sent += part[:100]
    assert [len(piece) for piece in pieces(client, sent)][2] > 100_000
    assert link.queued_bytes == 0


def test_options_of_the_default_setup_are_those_of_the_specification() -> None:
    o = DEFAULT_OPTIONS
    assert (o.strict, o.alignment, o.value_max_length, o.value_partition_capacity) == (True, "bit-packed", 64, 64)
    assert (o.local_value_partitions, o.max_grammars, o.max_productions) == (False, 0, 0)
    assert ROOT
