# SPDX-License-Identifier: Apache-2.0
"""Whether two sets of schemas are grammar-equal; our schemas are so with those of the specifications."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.exi.documents import infoset
from tests.shared import shared
from xiot.exi import Grammar, Options, decode, encode
from xiot.exi.aliases import ALIASES, SCHEMAS, grammar, known, triple
from xiot.exi.compiler.equal import differences
from xiot.exi.compiler.tables import compile_files
from xiot.exi.sets import XMPP

OURS = sorted(path.name for path in SCHEMAS.glob("*.xsd") if path.name not in ("exi-options.xsd", "canonical.xsd"))
SET = [SCHEMAS / f"{name}.xsd" for name in XMPP]
HEAD = '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:t" xmlns="urn:t" elementFormDefault="qualified">'
Compare = Callable[[str, str], list[str]]


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    def both(ours: str, theirs: str) -> list[str]:
        files = []
        for name, body in ("ours", ours), ("theirs", theirs):
            (tmp_path / name).mkdir()
            files.append(tmp_path / name / "t.xsd")
            files[-1].write_text(f"{HEAD}{body}</xs:schema>")
        return [str(difference) for difference in differences(files[:1], files[1:])]

    return both


def of(content: str, more: str = "") -> str:
    return f"<xs:element name='a'><xs:complexType>{content}</xs:complexType></xs:element>{more}"


def simple(facets: str, base: str = "xs:NMTOKEN") -> str:
    return f"<xs:element name='a'><xs:simpleType><xs:restriction base='{base}'>{facets}</xs:restriction></xs:simpleType></xs:element>"


B, C = "<xs:element name='b' type='xs:int'/>", "<xs:element name='c' type='xs:int'/>"
BC = f"<xs:sequence>{B}{C}</xs:sequence>"
X, Y = "<xs:attribute name='x' type='xs:int'/>", "<xs:attribute name='y' type='xs:int'/>"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (of(BC), of(BC.replace(B, B.replace("/>", " minOccurs='1' maxOccurs='1'/>")))),
        (of(X + Y), of(Y + X)),
        (of(BC), of("<xs:sequence><xs:group ref='g'/></xs:sequence>", f"<xs:group name='g'>{BC}</xs:group>")),
        (of(X), of("<xs:attributeGroup ref='g'/>", f"<xs:attributeGroup name='g'>{X}</xs:attributeGroup>")),
        (
            of(f"<xs:choice minOccurs='0'>{B}</xs:choice>"),
            of("<xs:sequence>" + B.replace("/>", " minOccurs='0'/>") + "</xs:sequence>"),
        ),
        (of(BC) + C, C + of(BC)),
        (simple("<xs:maxLength value='9'/>", "xs:string"), simple("<xs:maxLength value='8'/>", "xs:string")),
    ],
    ids=["bounds said", "attributes", "group", "attribute group", "choice of one", "declarations", "length"],
)
def test_how_a_schema_is_written_does_not_matter(compare: Compare, ours: str, theirs: str) -> None:
    assert compare(ours, theirs) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (of(BC), of(f"<xs:sequence>{C}{B}</xs:sequence>"), "urn:t: element a: {urn:t}b | {urn:t}c"),
        (of(BC), of(BC.replace("name='c' type='xs:int'", "name='c' type='xs:long'")), "/{urn:t}c"),
        (of(X), of(X.replace("/>", " use='required'/>")), "urn:t: element a: ... end | ..."),
        (of(X), of(X.replace("int", "byte")), "element a/@{}x: kind=5 "),
        (of(BC), f"{of(BC)}<xs:element name='z' type='xs:int'/>", "urn:t: elements: missing | ('urn:t', 'z')"),
        (of(BC), f"{of(BC)}<xs:complexType name='z'/>", "urn:t: types: missing | ('urn:t', 'z')"),
        (of(BC), of(BC).replace("name='a'", "name='a' nillable='true'"), "nillable=False | nillable=True"),
        (of(BC), of(BC).replace("complexType>", "complexType mixed='true'>", 1), "element a: ... nothing more | ... text"),
        (
            of("<xs:sequence><xs:any/></xs:sequence>"),
            of("<xs:sequence><xs:any namespace='##local'/></xs:sequence>"),
            "element a: * | {}*",
        ),
        (
            simple("<xs:enumeration value='p'/><xs:enumeration value='q'/>"),
            simple("<xs:enumeration value='q'/><xs:enumeration value='p'/>"),
            "enumeration=('p', 'q')",
        ),
        (simple("<xs:pattern value='[ab]'/>", "xs:string"), simple("", "xs:string"), "characters=(97, 98)"),
        (simple("", "xs:string"), simple("", "xs:token"), "collapse=False"),
    ],
    ids=[
        "order", "type below", "use", "integer", "element", "type", "nillable", "mixed", "wildcard", "enumeration", "pattern", "white space"
    ],
)  # fmt: skip
def test_what_changes_the_bits_is_found(compare: Compare, ours: str, theirs: str, expected: str) -> None:
    found = compare(ours, theirs)
    assert any(expected in line for line in found), found


def test_types_that_contain_themselves_are_compared(compare: Compare) -> None:
    deep = "<xs:sequence><xs:element ref='a' minOccurs='0'/>{}</xs:sequence>"
    assert compare(of(deep.format(B)), of(deep.format(C)))


def namespace(path: Path) -> str:
    return triple(path.read_bytes())[0]


@cache
def of_specifications() -> dict[str, Path]:
    """The schemas of the specifications by namespace, in their present versions."""
    return {namespace(path): path for path in sorted(shared("data/xsd/resolved").glob("*.xsd"))}


@pytest.mark.parametrize("name", sorted(set(OURS) - set(ALIASES.values())))
def test_our_schemas_are_grammar_equal_to_those_of_the_specifications(name: str) -> None:
    assert differences([SCHEMAS / name], [of_specifications()[namespace(SCHEMAS / name)]]) == []


@pytest.mark.parametrize(("key", "name"), ALIASES.items(), ids=ALIASES.values())
def test_a_schema_that_is_listed_is_known_because_ours_is_equal(key: tuple[str, int, str], name: str) -> None:
    listed = shared("data/xsd/known322") / name.replace(
        "-listed", ""
    )  # to the byte; it finds its imports by their namespaces
    assert triple(listed.read_bytes()) == key
    assert differences([SCHEMAS / name], [listed]) == []


def test_our_schemas_are_known_by_their_own_hashes_and_by_those_that_are_listed() -> None:
    for (namespace, size, md5), name in ALIASES.items():
        assert known(namespace, size, md5.upper()) == SCHEMAS / name
        assert known(namespace, size + 1, md5) is known("urn:x", size, md5) is None
    for name in OURS:
        assert known(*triple((SCHEMAS / name).read_bytes())) == SCHEMAS / name


def test_the_grammar_of_what_two_ends_know_is_that_of_the_listed_schemas() -> None:
    folder = shared("data/xsd/known322")
    names = ["jabber-client.xsd", "x-data.xsd", "stanzaerror.xsd", "xml.xsd", "ping.xsd"]
    files = [known(*triple((folder / name).read_bytes())) for name in names]
    ours = grammar([path for path in files if path is not None])
    theirs = Grammar(compile_files([*(folder / name for name in names), SCHEMAS / "canonical.xsd"], fragments=False))
    xml = b"<iq xmlns='jabber:client' id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"
    data = encode(xml, Options(strict=True), ours)
    assert infoset(decode(data, Options(strict=True), theirs)) == infoset(xml)
    without = Grammar(compile_files([folder / name for name in names], fragments=False))
    assert ours.size_bytes == theirs.size_bytes > without.size_bytes  # the canonical schema has a namespace too


def test_all_schemas_that_are_listed_and_not_lost_are_known() -> None:
    listed = {triple(path.read_bytes()) for path in shared("data/xsd/known322").glob("*.xsd")}
    assert listed == ALIASES.keys()
    assert len(listed) == 83


def test_the_listed_schema_of_delay_is_not_that_of_today() -> None:
    found = differences([SCHEMAS / "delay-listed.xsd"], [SCHEMAS / "delay.xsd"])
    assert any(difference.path == "element delay/@{}stamp" for difference in found)


def test_elements_declared_differently_in_two_places_are_compared(compare: Compare) -> None:
    twice = of(f"<xs:sequence>{B}</xs:sequence>") + "<xs:element name='b' type='xs:string'/>"
    once = of("<xs:sequence><xs:element ref='b'/></xs:sequence>", "<xs:element name='b' type='xs:string'/>")
    assert any("declared differently" in line for line in compare(twice, once))


def test_the_set_of_ours_is_grammar_equal_as_a_whole() -> None:
    theirs = [path if path.stem == "canonical" else of_specifications()[namespace(path)] for path in SET]
    assert differences(SET, theirs) == []


def test_a_stanza_takes_the_same_bits_by_our_tables_as_by_those_of_the_specifications() -> None:
    folder = shared("data/xsd/resolved")
    theirs = Grammar(
        compile_files([folder / path.name for path in SET if (folder / path.name).exists()], fragments=False)
    )
    ours = Grammar(compile_files([path for path in SET if (folder / path.name).exists()], fragments=False))
    xml = (
        b"<message xmlns='jabber:client' to='a@example.org' type='chat'><body>on</body>"
        b"<fields xmlns='urn:xmpp:iot:sensordata' seqnr='1'><node nodeId='t'><timestamp value='2026-01-01T00:00:00Z'>"
        b"<numeric name='T' value='23.4' unit='C' momentary='true'/></timestamp></node></fields></message>"
    )
    data = encode(xml, Options(strict=True), ours)
    assert data == encode(xml, Options(strict=True), theirs)
    assert infoset(decode(data, Options(strict=True, plain_numbers=True), theirs)) == infoset(xml)


@pytest.mark.parametrize("name", ["jabber-client.xsd", "jabber-server.xsd", "roster.xsd", "sasl.xsd", "streams.xsd"])
def test_our_schemas_are_not_equal_once_one_word_is_changed(tmp_path: Path, name: str) -> None:
    for path in SCHEMAS.glob("*.xsd"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    changed = tmp_path / name
    text = changed.read_text()
    word = 'minOccurs="0"' if 'minOccurs="0"' in text else 'use="required"'
    changed.write_text(text.replace(word, "", 1))
    assert differences([changed], [SCHEMAS / name])
