# SPDX-License-Identifier: Apache-2.0
"""Schemas to tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exi.documents import infoset
from tests.shared import shared
from xiot.exi import Grammar, Options, compile_schemas, decode, encode
from xiot.exi.compiler.charset import charset
from xiot.exi.compiler.tables import compile_files
from xiot.exi.compiler.xsd import Limits, SchemaError

HEAD = '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:t" xmlns="urn:t" elementFormDefault="qualified">'


@pytest.fixture
def schema(tmp_path: Path):  # type: ignore[no-untyped-def]
    def write(body: str, name: str = "t.xsd", head: str = HEAD) -> Path:
        path = tmp_path / name
        path.write_text(f"{head}{body}</xs:schema>")
        return path

    return write


def both_ways(xml: bytes, grammar: Grammar, strict: bool = True) -> int:
    options = Options(strict=strict)
    data = encode(xml, options, grammar)
    assert infoset(decode(data, options, grammar)) == infoset(xml)
    return len(data)


def test_the_same_schemas_give_the_same_tables(schema) -> None:  # type: ignore[no-untyped-def]
    path = schema(
        "<xs:element name='b' type='xs:int'/><xs:element name='a'><xs:complexType><xs:choice><xs:element ref='b'/></xs:choice></xs:complexType></xs:element>"
    )
    assert compile_files([path]) == compile_files([path])


def test_xmpp_tables_are_at_most_96_kib() -> None:
    path = shared("data/exi/vectors/exi-schemas/xmpp/iot.xsd")
    assert compile_schemas(path, fragments=False).size_bytes <= 96 << 10
    assert compile_schemas(path).size_bytes <= 96 << 10


@pytest.mark.parametrize("occurs", [(0, 1), (1, 1), (2, 4), (0, 7), (3, 3)])
def test_occurrence_bounds_are_exact(schema, occurs: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    low, high = occurs
    grammar = compile_schemas(
        schema(
            f"<xs:element name='a'><xs:complexType><xs:sequence><xs:element name='b' type='xs:int' minOccurs='{low}' maxOccurs='{high}'/></xs:sequence></xs:complexType></xs:element>"
        )
    )
    for count in range(high + 2):
        xml = b"<a xmlns='urn:t'>" + b"<b>1</b>" * count + b"</a>"
        if low <= count <= high:
            both_ways(xml, grammar)
        else:
            with pytest.raises(ValueError, match="strict"):
                encode(xml, Options(strict=True), grammar)
            both_ways(xml, grammar, strict=False)


def test_an_element_beside_a_wildcard_wins(schema) -> None:  # type: ignore[no-untyped-def]
    """XML Schema 1.1: a wildcard that also matches a declared element does not count for it."""
    grammar = compile_schemas(
        schema("<xs:element name='a'><xs:complexType><xs:sequence><xs:element name='b' type='xs:unsignedByte' minOccurs='0'/>"
               "<xs:any processContents='lax' minOccurs='0' maxOccurs='unbounded'/></xs:sequence></xs:complexType></xs:element>")
    )  # fmt: skip
    assert both_ways(b"<a xmlns='urn:t'><b>7</b></a>", grammar) < both_ways(b"<a xmlns='urn:t'><c>7</c></a>", grammar)


def test_members_of_a_substitution_group_may_stand_for_its_head(schema) -> None:  # type: ignore[no-untyped-def]
    grammar = compile_schemas(
        schema("<xs:element name='h' type='xs:string'/><xs:element name='m' type='xs:string' substitutionGroup='h'/>"
               "<xs:element name='mm' type='xs:string' substitutionGroup='m'/>"
               "<xs:element name='a'><xs:complexType><xs:sequence><xs:element ref='h' maxOccurs='3'/></xs:sequence></xs:complexType></xs:element>")
    )  # fmt: skip
    both_ways(b"<a xmlns='urn:t'><h>1</h><m>2</m><mm>3</mm></a>", grammar)


def test_imports_are_found_by_namespace_in_the_same_folder_only(schema, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    other = HEAD.replace("urn:t", "urn:other")
    schema("<xs:element name='o' type='xs:int'/>", "other.xsd", other)
    path = schema(
        "<xs:import namespace='urn:other' schemaLocation='http://example.org/elsewhere.xsd'/><xs:element name='a' type='xs:int'/>"
    )
    assert compile_schemas(path).globals == 2
    outside = schema("<xs:include schemaLocation='../../../etc/passwd'/>", "u.xsd")
    with pytest.raises(SchemaError):
        compile_schemas(outside)


@pytest.mark.parametrize(
    ("body", "limits"),
    [
        ("<xs:element name='a'><xs:complexType><xs:sequence><xs:element name='b' maxOccurs='100000'/></xs:sequence></xs:complexType></xs:element>", Limits(particles=1000)),
        ("<xs:element name='a'><xs:complexType><xs:sequence><xs:element name='b' minOccurs='0' maxOccurs='15000'/></xs:sequence></xs:complexType></xs:element>", Limits()),
        ("<xs:element name='a'/>", Limits(seconds=0)),
        ("<xs:group name='g'><xs:sequence><xs:group ref='g'/></xs:sequence></xs:group><xs:element name='a'><xs:complexType><xs:group ref='g'/></xs:complexType></xs:element>", Limits()),
        ("<xs:simpleType name='s'><xs:restriction base='s'/></xs:simpleType>", Limits()),
        ("<xs:element name='a' type='nowhere'/>", Limits()),
        ("<!-- " + "x" * 2000 + " -->", Limits(file_bytes=1000)),
        ("<xs:element name='a'", Limits()),
    ],
)  # fmt: skip
@pytest.mark.security(row=20)
def test_schemas_that_cost_too_much_or_are_none_are_refused(schema, body: str, limits: Limits) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SchemaError):
        compile_files([schema(body)], limits=limits)


def test_entities_and_the_network_are_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "t.xsd"
    secret = tmp_path / "secret"
    secret.write_text("urn:secret")
    path.write_text(
        f'<!DOCTYPE x [<!ENTITY e SYSTEM "{secret}">]>{HEAD}<xs:element name="a" type="xs:int"/>&e;</xs:schema>'
    )
    with pytest.raises(SchemaError, match="entity"):
        compile_files([path])


def test_damaged_tables_are_refused() -> None:
    tables = compile_files([])
    assert Grammar(tables).globals == 0
    for wrong in (b"", tables[:-8], b"XXXX" + tables[4:], tables[:40] + b"\xff\xff" + tables[42:]):
        with pytest.raises(ValueError, match="tables"):
            Grammar(wrong)


@pytest.mark.parametrize(
    ("patterns", "characters"),
    [
        (["[A-D]{2,4}[0-9]*"], "0123456789ABCD"),
        (["a|b", "c"], "abc"),
        (["(x[yz])?"], "xyz"),
        (["[a-z-[aeiou]]"], "bcdfghjklmnpqrstvwxyz"),
        (["\\."], "."),
        (["a\\sb"], "\t\n\r ab"),
        (["^a$"], "$^a"),
        (["[+\\-]"], "+-"),
        (["[a\\-c]"], "-ac"),
        (["x{0}y"], "y"),
        ([".*"], None),
        (["\\d"], None),
        (["[^a]"], None),
        (["[\\w]"], None),
        (["\\p{L}"], None),
        (["[\u4e00-\u9fff]"], None),
        (["\U0001f6b2"], None),
        (["(a"], None),
    ],
)
def test_characters_of_a_pattern(patterns: list[str], characters: str | None) -> None:
    found = charset(tuple(patterns))
    assert (None if found is None else "".join(map(chr, found))) == characters


def test_a_global_attribute_that_nobody_uses_has_its_name_and_type(schema) -> None:  # type: ignore[no-untyped-def]
    grammar = compile_schemas(schema("<xs:attribute name='n' type='xs:unsignedByte'/><xs:element name='a'/>"))
    other = compile_schemas(schema("<xs:element name='a'/>", "u.xsd"))
    xml = b"<a xmlns='urn:t' xmlns:t='urn:t' t:n='7'/>"
    assert both_ways(xml, grammar, strict=False) < both_ways(xml, other, strict=False)


def test_namespaces_of_a_wildcard_count_in_the_order_they_are_written(schema) -> None:  # type: ignore[no-untyped-def]
    """Section 8.5.4.3: productions of a wildcard are in schema order; of attributes they are sorted."""
    model = (
        "<xs:element name='a'><xs:complexType><xs:sequence><xs:any namespace='urn:{} urn:{}'/></xs:sequence>"
        "</xs:complexType></xs:element>"
    )
    first, second = (compile_schemas(schema(model.format(*uris), f"{uris}.xsd")) for uris in ("zy", "yz"))
    xml = {uri: encode(b"<a xmlns='urn:t'><b xmlns='urn:%s'/></a>" % uri, grammar=first) for uri in (b"z", b"y")}
    assert xml[b"z"] == encode(b"<a xmlns='urn:t'><b xmlns='urn:y'/></a>", grammar=second)
    assert xml[b"z"] != xml[b"y"]
