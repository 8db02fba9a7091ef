# SPDX-License-Identifier: Apache-2.0
"""Documents through the codec and back, in every mode; hostile bits; limits."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any
from xml.parsers import expat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _xmppcore import XmlError, parse_element
from tests.exi.documents import elements, infoset, stanzas
from tests.shared import ROOT, shared
from xiot.exi import (
    ALIGNMENTS,
    ExiError,
    Grammar,
    Options,
    Session,
    compile_schemas,
    decode,
    decode_events,
    encode,
    encode_events,
    read_header,
    xmpp_schemas,
)

LONG = 50 if os.environ.get("XIOT_SOAK") == "1" else 1  # make soak
VECTORS = ROOT / "tests/vectors/exi"
MODES = [
    Options(alignment=alignment, compression=compression)
    for alignment, compression in (
        ("bit-packed", False),
        ("byte-aligned", False),
        ("pre-compression", False),
        ("bit-packed", True),
    )
]
documents = elements().map(str.encode)


@cache
def grammar(name: str = "vec/types.xsd") -> Grammar:
    return compile_schemas(VECTORS / "exi-schemas" / name)


@st.composite
def modes(draw: st.DrawFn) -> Options:
    return replace(
        draw(st.sampled_from(MODES)),
        prefixes=draw(st.booleans()),
        lexical=draw(st.booleans()),
        comments=draw(st.booleans()),
        pis=draw(st.booleans()),
        value_max_length=draw(st.sampled_from([None, 0, 3, 64])),
        value_partition_capacity=draw(st.sampled_from([None, 0, 1, 3, 64])),
        block_size=draw(st.sampled_from([1, 2, 1_000_000])),
        local_value_partitions=draw(st.booleans()),
        in_header=draw(st.booleans()),
        cookie=draw(st.booleans()),
    )


@given(documents, modes())
@settings(max_examples=20 * LONG, deadline=None)
def test_a_document_survives_without_schema(xml: bytes, options: Options) -> None:
    assert infoset(decode(encode(xml, options), options)) == infoset(xml)


@given(documents, modes())
@settings(max_examples=30 * LONG, deadline=None)
def test_a_document_that_no_schema_knows_survives(xml: bytes, options: Options) -> None:
    data = encode(xml, options, grammar())
    assert infoset(decode(data, options, grammar())) == infoset(xml)


@given(documents, modes())
@settings(max_examples=25 * LONG, deadline=None)
def test_events_encode_to_the_bits_they_came_from(xml: bytes, options: Options) -> None:
    data = encode(xml, options)
    assert encode_events(decode_events(data, options), options) == data


@given(st.lists(documents, max_size=4), st.booleans())
@settings(max_examples=25 * LONG, deadline=None)
def test_a_fragment_survives(parts: list[bytes], informed: bool) -> None:
    options = Options(fragment=True)
    xml = b"".join(parts)
    schema = grammar() if informed else None
    out = decode(encode(xml, options, schema), options, schema)
    assert infoset(b"<r>" + out + b"</r>") == infoset(b"<r>" + xml + b"</r>")


@given(st.lists(documents, min_size=2, max_size=6), st.sampled_from([None, 2, 64]))
@settings(max_examples=25 * LONG, deadline=None)
def test_a_session_keeps_its_tables_in_step(bodies: list[bytes], capacity: int | None) -> None:
    options = Options(value_partition_capacity=capacity)
    ours, theirs = Session(options, keep=True), Session(options, keep=True)
    first = [ours.encode(xml) for xml in bodies]
    assert [infoset(theirs.decode(data)) for data in first] == [infoset(xml) for xml in bodies]
    assert len(ours.encode(bodies[0])) <= len(first[0])


@given(st.lists(documents, min_size=2, max_size=4))
@settings(max_examples=20 * LONG, deadline=None)
def test_a_session_without_tables_codes_each_body_alike(bodies: list[bytes]) -> None:
    session = Session()
    first = [session.encode(xml) for xml in bodies]
    assert [session.encode(xml) for xml in bodies] == first
    assert [Session().encode(xml) for xml in bodies] == first


@given(st.lists(documents, min_size=2, max_size=5), st.sampled_from([None, 1, 2, 5]), st.booleans(), st.booleans())
@settings(max_examples=30 * LONG, deadline=None)
def test_a_body_that_is_not_whole_changes_nothing(
    bodies: list[bytes], capacity: int | None, informed: bool, prefixes: bool
) -> None:
    options = Options(value_partition_capacity=capacity, prefixes=prefixes)
    schema = grammar() if informed else None
    ours, theirs, plain = (Session(options, schema, keep=True) for _ in range(3))
    for xml in bodies:
        data = ours.encode(xml)
        for end in {0, 1, len(data) // 3, len(data) // 2, len(data) - 1} - {len(data)}:
            with pytest.raises(ExiError, match="incomplete"):
                theirs.decode(data[:end])
        theirs.peek(data)
        theirs.head(data)
        assert theirs.decode(data) == plain.decode(data)


@given(
    st.lists(documents, min_size=1, max_size=4), st.sampled_from([None, 2]), st.sampled_from(ALIGNMENTS), st.booleans()
)
@settings(max_examples=30 * LONG, deadline=None)
def test_xml_that_is_written_at_once_is_that_of_the_events(
    bodies: list[bytes], capacity: int | None, alignment: str, informed: bool
) -> None:
    options = Options(value_partition_capacity=capacity, alignment=alignment)
    schema = grammar() if informed else None
    ours, theirs, again = (Session(options, schema, keep=True) for _ in range(3))
    for xml in bodies:
        data = ours.encode(xml)
        read = infoset(theirs.decode(data))
        told = again.decode_events(data)
        assert encode_events(told, options, schema) == encode(xml, options, schema)
        assert read == infoset(xml)


@pytest.mark.parametrize("digits", [1000, 1023, 1024])
def test_the_longest_integers_survive(digits: int) -> None:
    for text in ("9" * digits, "-" + "9" * digits, "1" + "0" * (digits - 1)):
        xml = f"<all xmlns='urn:t:types'><integer>{text}</integer></all>".encode()
        assert infoset(decode(encode(xml, grammar=grammar()), grammar=grammar())) == infoset(xml)


def test_a_head_is_the_root_and_what_routing_asks_of_it() -> None:
    xml = (
        b"<message xmlns='jabber:client' xml:lang='de' to='romeo@montague.example/&amp;' type='chat' id='a1'"
        b" from='j\xc3\xbclia@capulet.example/balcony' xmlns:x='urn:x' x:to='nobody'><body to='nobody'>hi</body></message>"
    )
    head = (
        "jabber:client", "message", "romeo@montague.example/&", "j\u00fclia@capulet.example/balcony", "a1", "chat",
    )  # fmt: skip
    for schema, alignment in product((None, xmpp_schemas()), ALIGNMENTS):
        session = Session(Options(alignment=alignment), schema, keep=True)
        for _ in range(3):
            data = session.encode(xml)
            assert session.head(data) == session.head(data) == head
            assert infoset(session.decode(data)) == infoset(xml)
        bare = session.encode(b"<presence xmlns='jabber:client'/>")
        assert session.head(bare) == ("jabber:client", "presence", None, None, None, None)
        with pytest.raises(ExiError, match="incomplete"):
            session.head(bare[:0])


@pytest.mark.parametrize("options", MODES, ids=["bits", "bytes", "pre-compression", "compression"])
def test_every_stanza_survives_without_schema(options: Options) -> None:
    all_ = stanzas()
    assert len(all_) > 1000
    for xml in all_ if options is MODES[0] else all_[::7]:
        assert infoset(decode(encode(xml, options), options)) == infoset(xml)


# -- what is refused


@pytest.mark.parametrize(
    "xml",
    [
        b"", b"x", b"<a>", b"<a></b>", b"<a/><b/>", b"<a b='1' b='2'/>", b"<a b=1/>", b"<a b='<'/>", b"<p:a/>", b"<a>&nope;</a>",
        b"<a>&#0;</a>", b"<a>&#xD800;</a>", b"<a>]]></a>", b"<a>\x01</a>", b"<a>\xff</a>", b"<1a/>", b"<a><!-- -- --></a>",
        b"<a xmlns:x=''/>", b"<a xmlns:xml='urn:x'/>", b"<a xmlns:x='u' xmlns:y='u' x:b='' y:b=''/>", b"<a>&#x;</a>", b"<a>&#99999999;</a>",
        b"<a\x00/>", b"<a>\x00</a>", b"<?xml version='1.0'?>", b" <?xml version='1.0'?><a/>", b"<a><![CDATA[</a>", b"<a", b"<a b", b"<a b=",
        b"<a b='", b"</a>", b"<a/>x", b"<!-- x", b"<a><?x", b"<?xm?><!a>",
    ],
)  # fmt: skip
def test_xml_that_is_not_well_formed_is_refused(xml: bytes) -> None:
    with pytest.raises(ExiError) as caught:
        encode(xml)
    assert caught.value.condition == "xml"


def test_other_encodings_and_document_types_are_refused() -> None:
    for xml in (b"<!DOCTYPE a><a/>", b"<?xml version='1.0' encoding='UTF-16'?><a/>"):
        with pytest.raises(ExiError) as caught:
            encode(xml)
        assert caught.value.condition == "unsupported"
    assert decode(encode(b"\xef\xbb\xbf<?xml version='1.0' encoding='utf-8'?><a/>")) == b"<a/>"


def test_options_that_exclude_each_other_are_refused() -> None:
    for wrong in (
        {"strict": True, "comments": True},
        {"compression": True, "alignment": "byte-aligned"},
        {"alignment": "x"},
    ):
        with pytest.raises(ValueError, match="strict|exclude|alignment"):
            Options(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ExiError, match="self-contained"):
        encode(b"<a/>", Options(self_contained=True))


def test_strict_refuses_what_the_schema_does_not_have() -> None:
    for xml in (
        b"<x/>",
        b"<all xmlns='urn:t:types'><int>x</int></all>",
        b"<all xmlns='urn:t:types'><y/></all>",
        b"<all xmlns='urn:t:types' z=''/>",
        b"<all xmlns='urn:t:types'>text</all>",
    ):
        if xml == b"<x/>":
            assert decode(encode(xml, Options(strict=True), grammar()), Options(strict=True), grammar()) == b"<x/>"
            continue
        with pytest.raises(ExiError) as caught:
            encode(xml, Options(strict=True), grammar())
        assert caught.value.condition == "strict"
        assert infoset(decode(encode(xml, grammar=grammar()), grammar=grammar())) == infoset(xml)


@pytest.mark.parametrize("data", [b"", b"\x00", b"$EXI", b"\x81\x00", b"\x90\x00", b"<a/>", b"\xa0"])
def test_what_has_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(ExiError) as caught:
        decode(data)
    assert caught.value.condition in ("header", "incomplete", "unsupported", "damaged")


@given(modes())
@settings(max_examples=25 * LONG, deadline=None)
def test_a_header_carries_all_options(options: Options) -> None:
    options = replace(options, in_header=True, schema_id="urn:x")
    found, _ = read_header(encode(b"<a/>", options))
    assert found == options


def test_numbers_are_plain_if_wanted_and_encode_to_the_same_bits() -> None:
    xml = b"<all xmlns='urn:t:types'><dbl>23.4</dbl><dbl>100</dbl><dbl>1e-3</dbl><dbl>1e30</dbl><dec>3</dec><dec>-2.50</dec></all>"
    plain = Options(plain_numbers=True)
    data = encode(xml, grammar=grammar())
    assert b"<dbl>234E-1</dbl>" in decode(data, grammar=grammar())
    out = decode(data, plain, grammar())
    assert b"<dbl>23.4</dbl><dbl>100</dbl><dbl>0.001</dbl><dbl>1E30</dbl><dec>3</dec><dec>-2.5</dec>" in out
    assert encode(out, grammar=grammar()) == data


@given(st.integers(min_value=-(10**60), max_value=10**60))
@settings(max_examples=25 * LONG, deadline=None)
def test_integers_of_any_size_survive(number: int) -> None:
    xml = b"<all xmlns='urn:t:types'><integer>%d</integer><dec>%d.%d</dec></all>" % (number, number, abs(number))
    fraction = str(abs(number)).rstrip("0") or "0"
    zero = "-" if number < 0 else ""
    out = decode(encode(xml, grammar=grammar()), grammar=grammar())
    assert f"<integer>{number}</integer><dec>{zero}{abs(number)}.{fraction}</dec>".encode() in out


# -- hostile bits


def _well_formed(xml: bytes) -> bool:
    """To expat (names of the fourth edition), or to the parser of streams (no instructions)."""
    try:
        expat.ParserCreate("UTF-8", " ").Parse(xml, True)
    except expat.ExpatError:
        try:
            parse_element(xml)
        except XmlError:
            return False
    return True


def _attempt(data: bytes, options: Options, schema: Grammar | None) -> None:
    try:
        out = decode(data, options, schema, max_output_bytes=1 << 20)
    except ExiError:
        return
    except ValueError as error:
        pytest.fail(f"{error!r} from {data.hex()}")
    if not options.fragment:  # whatever comes out is well-formed
        assert _well_formed(out), out


@pytest.mark.security(row=18)
def test_flipped_bits_in_all_vectors_do_no_harm() -> None:
    rng = random.Random(5)
    from xiot.exi.check import Checker, options_of

    checker = Checker(VECTORS)
    for path in sorted(VECTORS.glob("*/case.json")):
        case = json.loads(path.read_text())
        if case["status"] == "out-of-scope":
            continue
        oracle = (path.parent / "oracle.exi").read_bytes()
        options, schema = replace(options_of(case), in_header=False, cookie=False), checker.grammar(case["schema"])
        for _ in range(12):
            data = bytearray(oracle)
            for _ in range(rng.choice([1, 1, 2, 5])):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            _attempt(bytes(data[: rng.randrange(1, len(data) + 1)] if rng.random() < 0.2 else data), options, schema)


@given(st.binary(max_size=200), st.sampled_from(MODES), st.booleans(), st.booleans())
@settings(max_examples=25 * LONG, deadline=None)
def test_random_bits_do_no_harm(data: bytes, mode: Options, informed: bool, prefixes: bool) -> None:
    _attempt(b"\x80" + data, replace(mode, prefixes=prefixes, comments=True, pis=True), grammar() if informed else None)


def test_every_cut_document_is_incomplete() -> None:
    xml = b"<all xmlns='urn:t:types'><str>hello world</str><dbl>23.4</dbl><dt>2026-11-22T06:44:10Z</dt></all>"
    for schema in (None, grammar()):
        data = encode(xml, grammar=schema)
        for end in range(1, len(data)):
            with pytest.raises(ExiError) as caught:
                decode(data[:end], grammar=schema)
            assert caught.value.condition == "incomplete"


def _limit(function: Any, *arguments: Any, **limits: int) -> None:
    with pytest.raises(ExiError) as caught:
        function(*arguments, **limits)
    assert caught.value.condition == "limit"


@pytest.mark.security(row=18)
def test_depth_attributes_values_and_results_have_limits() -> None:
    deep = b"<a>" * 20 + b"</a>" * 20
    wide = b"<a " + b" ".join(b"x%d='1'" % i for i in range(20)) + b"/>"
    long = b"<a>" + b"x" * 5000 + b"</a>"
    for xml, limits in ((deep, {"max_depth": 10}), (wide, {"max_attributes": 10}), (long, {"max_output_bytes": 1000})):
        _limit(encode, xml, **limits)
        _limit(decode, encode(xml), **limits)
    _limit(decode, encode(long), max_value_bytes=1000)
    _limit(decode, encode(b"<a>" + b"".join(b"<b%d/>" % i for i in range(500)) + b"</a>"), max_table_bytes=4096)


@pytest.mark.security(row=18)
def test_a_length_that_nothing_backs_takes_no_memory() -> None:
    body = bytes.fromhex("80 40 98") + b"\xff\xff\xff\xff\x7f" + b"x" * 20
    with pytest.raises(ExiError):
        decode(body)


@pytest.mark.security(row=(16, 18))
def test_expansion_of_a_stanza_is_bounded() -> None:
    xml = b"<a>" + b"<b>%s</b>" % (b"x" * 4000) * 400 + b"</a>"
    data = encode(xml)
    assert len(xml) > 256 * len(data) / 2
    session = Session(Options(), max_output_bytes=1 << 24)
    _limit(session.decode, data[1:])
    packed = encode(b"<a>" + b"y" * 3_000_000 + b"</a>", Options(compression=True))
    with pytest.raises(ExiError) as caught:
        Session(Options(compression=True)).decode(packed[1:])
    assert caught.value.condition in ("limit", "damaged")


# -- memory


@pytest.mark.security(row=19)
def test_a_session_of_64_values_stays_within_12_kib_and_one_of_256_within_32() -> None:
    """With all that it has, in both directions: in a process in which Python objects, too, are of malloc()."""
    command = [sys.executable, "-m", "tests.exi.memory"]
    ran = subprocess.run(command, env=os.environ | {"PYTHONMALLOC": "malloc"}, capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    small, large = map(float, ran.stdout.split())
    assert 0 < small <= 12 << 10
    assert 0 < large <= 32 << 10


@pytest.mark.security(row=19)
def test_any_number_of_values_does_not_grow_a_session() -> None:
    options = Options(value_max_length=128, value_partition_capacity=256)
    ours, theirs = (Session(options, keep=True) for _ in range(2))
    sizes = []
    for i in range(20_000 if LONG > 1 else 1000):  # in make soak a million values
        xml = b"<a>" + b"".join(b"<b>value %08d</b>" % (i * 50 + k) for k in range(50)) + b"</a>"
        theirs.decode(ours.encode(xml))
        sizes.append(ours.table_bytes + theirs.table_bytes)
    assert sizes[20] == sizes[-1]
    assert sizes[-1] <= 32 << 10


def test_the_streams_of_xep_0322_decode_and_encode_again() -> None:
    """Their first event code counts the elements of schemas that are no more; all bits behind it are what we read and write."""
    schemas = compile_schemas(shared("data/exi/vectors/exi-schemas/xmpp/default.xsd"))
    options = Options(strict=True)
    width = schemas.globals.bit_length()
    lines = shared("data/exi/vectors.jsonl").read_text().splitlines()
    for line in lines:
        sample = json.loads(line)
        published = bytes.fromhex(sample["hex"])
        bits = len(published) * 8
        rest = int.from_bytes(published, "big") & ((1 << bits - width) - 1)
        root = infoset(sample["xml"].encode())[0].rpartition("}")[2]
        found = 0
        for code in range(schemas.globals):
            data = (rest | code << bits - width).to_bytes(len(published), "big")
            try:
                xml = Session(options, schemas).decode(data)
            except ExiError:
                continue
            if infoset(xml)[0].rpartition("}")[2] == root:
                assert Session(options, schemas).encode(xml) == data
                found += 1
        assert found == 1, sample["sample"]
    assert len(lines) == 8
