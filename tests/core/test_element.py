# SPDX-License-Identifier: Apache-2.0
"""The tree node and its serialiser, with lxml and expat as second opinions on what was written."""

from __future__ import annotations

import copy
import enum
import gc
import operator
import pickle
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import lxml.etree
import pytest
from hypothesis import given
from hypothesis import strategies as st

from _xmppcore.element import Element
from _xmppcore.errors import XmlError

XML_NS = "http://www.w3.org/XML/1998/namespace"
DEPTH = 100_000

# The ends of the ranges in XML 1.0 fifth edition, productions [4] and [4a]; test_names.py tries all characters.
NAME_START = (
    "AZ_az\xc0\xd6\xd8\xf6\xf8\u02ff\u0370\u037d\u037f\u1fff\u200c\u200d\u2070\u218f\u2c00\u2fef\u3001\ud7ff\uf900\ufdcf\ufdf0\ufffd"
    "\U00010000\U000effff"
)
NAME_REST = NAME_START + "-.09\xb7\u0300\u036f\u203f\u2040"
CONTROLS = [chr(c) for c in range(0x20) if chr(c) not in "\t\n\r"]

# What markup is made of comes often, so that escaping is tried everywhere.
texts = st.text(
    st.one_of(
        st.sampled_from("&<>'\"\t\n\r ]x"),
        st.characters(exclude_categories=["Cs"], exclude_characters=[*CONTROLS, "\ufffe", "\uffff"]),
    ),
    max_size=40,
)
local_names = st.one_of(
    st.sampled_from(["body", "x", "iq", "xmlfoo", "ns0"]),
    st.builds(operator.add, st.sampled_from(NAME_START), st.text(st.sampled_from(NAME_REST), max_size=6)),
)
ascii_names = st.builds(operator.add, st.sampled_from("AZ_az"), st.text(st.sampled_from("AZ_az-.09"), max_size=6))
# lxml (libxml2) refuses namespaces that are not URI references, expat knows the names of the fourth edition only.
uris = st.one_of(
    st.sampled_from(["jabber:client", "urn:xmpp:ping", "http://jabber.org/protocol/pubsub#event", XML_NS]),
    st.text(st.sampled_from("az09&'()*+,;=~!$._-"), min_size=1, max_size=20).map("urn:{}".format),
)
any_namespaces = st.one_of(uris, texts.filter(lambda text: text != "" and "}" not in text))


def tags(namespaces: st.SearchStrategy[str], names: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(names, st.builds("{{{}}}{}".format, namespaces, names))


def trees(
    namespaces: st.SearchStrategy[str] = uris, names: st.SearchStrategy[str] = local_names
) -> st.SearchStrategy[Element]:
    elements = tags(namespaces, names)
    attribs = st.dictionaries(elements.filter(lambda tag: tag not in ("xmlns", f"{{{XML_NS}}}id")), texts, max_size=4)

    def node(children: st.SearchStrategy[list[tuple[Element, str | None]]]) -> st.SearchStrategy[Element]:
        return st.builds(build, elements, attribs, st.none() | texts, children)

    def build(
        tag: str, attrib: dict[str, str], text: str | None, children: list[tuple[Element, str | None]]
    ) -> Element:
        element = Element(tag, attrib, text)
        for child, tail in children:
            child.tail = tail
            element.append(child)
        return element

    return st.recursive(
        node(st.just([])), lambda inner: node(st.lists(st.tuples(inner, st.none() | texts), max_size=4)), max_leaves=12
    )


def from_oracle(node: Any) -> Element:
    """The tree of lxml or ElementTree as ours."""
    element = Element(node.tag, dict(node.attrib), node.text, *map(from_oracle, node))
    element.tail = node.tail
    return element


def read_with_lxml(data: bytes) -> Element:
    return from_oracle(lxml.etree.fromstring(data, lxml.etree.XMLParser(huge_tree=True)))


def deep_tree(depth: int) -> Element:
    root = element = Element("{urn:a}x")
    for _ in range(depth - 1):
        child = Element("{urn:a}x")
        element.append(child)
        element = child
    element.text = "bottom"
    return root


# The serialiser


@given(trees())
@pytest.mark.security(row=(13, 15))
def test_lxml_reads_the_tree_that_was_written(tree: Element) -> None:
    assert read_with_lxml(tree.tobytes()) == tree


@given(trees(any_namespaces, ascii_names))
@pytest.mark.security(row=(13, 15))
def test_expat_reads_the_tree_that_was_written(tree: Element) -> None:
    assert from_oracle(ET.fromstring(tree.tobytes())) == tree


@given(trees(), uris.filter(lambda ns: ns != XML_NS))
def test_tree_means_the_same_inside_its_default_namespace(tree: Element, ns: str) -> None:
    around = Element(f"{{{ns}}}stream").tobytes().removesuffix(b"/>")
    (inner,) = read_with_lxml(around + b">" + tree.tobytes(default_ns=ns) + b"</stream>")
    assert inner == tree


@given(texts, st.integers(0, 20))
def test_text_and_value_survive_at_every_alignment(text: str, pad: int) -> None:
    tree = Element("a", {"b": "x" * pad + text}, "x" * pad + text)
    assert read_with_lxml(tree.tobytes()) == tree


@pytest.mark.parametrize("length", range(1, 18))
def test_each_character_survives_at_each_place_of_a_block(length: int) -> None:
    tree = Element("root")
    for code in (*range(0x20, 0x80), 9, 10, 13, 0xFF, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFD, 0x10000, 0x10FFFF):
        for place in range(length):
            text = "-" * place + chr(code) + "-" * (length - place - 1)
            tree.append(Element("a", {"b": text}, text))
    assert from_oracle(ET.fromstring(tree.tobytes())) == tree


def test_namespace_is_declared_only_where_it_changes() -> None:
    payload = Element("{urn:x}x", None, None, Element("{urn:x}y"))
    tree = Element("{jabber:client}message", None, None, Element("{jabber:client}body"), payload)
    body = b"<body/><x xmlns='urn:x'><y/></x></message>"
    assert tree.tobytes() == b"<message xmlns='jabber:client'>" + body
    assert tree.tobytes(default_ns="jabber:client") == b"<message>" + body
    assert tree.tobytes("jabber:server") == b"<message xmlns='jabber:client'>" + body


def test_no_namespace_under_a_default_one_is_declared_empty() -> None:
    assert Element("a").tobytes() == b"<a/>"
    assert Element("a").tobytes("urn:x") == b"<a xmlns=''/>"
    tree = Element("{urn:x}a", None, None, Element("b", None, None, Element("c")))
    assert tree.tobytes("urn:x") == b"<a><b xmlns=''><c/></b></a>"


def test_child_that_changes_the_namespace_does_not_change_it_for_its_siblings() -> None:
    tree = Element("{urn:a}a", None, None, Element("{urn:b}b", None, "text"), Element("{urn:b}b"), Element("{urn:a}c"))
    assert tree.tobytes() == b"<a xmlns='urn:a'><b xmlns='urn:b'>text</b><b xmlns='urn:b'/><c/></a>"


def test_attribute_namespaces_get_prefixes_of_their_own_element() -> None:
    attrib = {"{urn:x}k": "1", "{urn:x}l": "2", "m": "3", "{urn:y}k": "4"}
    tree = Element("{urn:a}a", attrib, None, Element("b", {"{urn:z}k": "5"}))
    assert tree.tobytes() == (
        b"<a xmlns='urn:a' xmlns:ns0='urn:x' ns0:k='1' ns0:l='2' m='3' xmlns:ns1='urn:y' ns1:k='4'>"
        b"<b xmlns='' xmlns:ns0='urn:z' ns0:k='5'/></a>"
    )


def test_attribute_in_the_namespace_of_its_element_still_gets_a_prefix() -> None:
    assert Element("{urn:a}a", {"{urn:a}k": ""}).tobytes("urn:a") == b"<a xmlns:ns0='urn:a' ns0:k=''/>"


def test_xml_namespace_is_written_with_its_own_prefix() -> None:
    tree = Element(f"{{{XML_NS}}}a", {f"{{{XML_NS}}}lang": "en"}, None, Element("{urn:x}b"))
    assert tree.tobytes("urn:x") == b"<xml:a xml:lang='en'><b/></xml:a>"


@pytest.mark.security(row=15)
def test_markup_and_white_space_are_escaped() -> None:
    tree = Element("a", {"k": "&<>'\"\t\n\r"}, "&<>'\"\t\n\r]]>")
    assert tree.tobytes() == b"<a k='&amp;&lt;&gt;&apos;\"&#9;&#10;&#13;'>&amp;&lt;&gt;'\"\t\n&#13;]]&gt;</a>"


def test_tail_of_the_element_itself_is_not_written() -> None:
    child = Element("b")
    child.tail = "tail"
    assert child.tobytes() == b"<b/>"
    assert Element("a", None, None, child).tobytes() == b"<a><b/>tail</a>"


def test_empty_text_and_no_text_are_written_alike() -> None:
    assert Element("a", None, "").tobytes() == Element("a").tobytes() == b"<a/>"


@pytest.mark.parametrize("size", [4000, 4090, 4096, 5000, 1_000_000])
def test_large_trees_are_written_whole(size: int) -> None:
    assert Element("a", {"b": "y" * size}).tobytes() == b"<a b='" + b"y" * size + b"'/>"
    assert Element("a", None, "'&" * size).tobytes() == b"<a>" + b"'&amp;" * size + b"</a>"


def test_many_names_are_all_written_right() -> None:
    # More than the table of known names holds.
    tree = Element("root", None, None, *(Element(f"{{urn:{i}}}n{i}", {f"a{i}": str(i)}) for i in range(10_000)))
    written = b"".join(b"<n%d xmlns='urn:%d' a%d='%d'/>" % (i, i, i, i) for i in range(10_000))
    for _ in range(2):
        assert tree.tobytes() == b"<root>" + written + b"</root>"


def test_names_too_long_to_be_remembered_are_written() -> None:
    tree = Element("{urn:" + "x" * 1000 + "}" + "n" * 1000, {"{urn:y}" + "k" * 5000: "v"})
    assert read_with_lxml(tree.tobytes()) == tree


def test_default_ns_has_to_be_a_str() -> None:
    with pytest.raises(TypeError):
        Element("a").tobytes(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        Element("a").tobytes("\ud800")


# What it refuses


BAD_NAMES = (
    *("", "a b", "a:b", ":", "1a", "-a", ".a", "a>", "a/", "a'", "a=", "<a", "a\n", "a\x00", "\xd7", "a\xf7", "\u0300"),
    *("a\u037e", "a\u2000", "a\ud800", "\ufffe", "a\uffff", "\U000f0000"),
    *("{", "}", "a}", "a{", "{}", "{}a", "{urn:x", "{urn:x}", "{urn:x}a b", "{urn:x}a:b", "{urn:x}{a"),
)


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.security(row=14)
def test_bad_name_is_refused_for_elements_and_attributes(name: str) -> None:
    for tree in (Element(name), Element("a", {name: ""}), Element("{urn:a}a", None, None, Element(name))):
        with pytest.raises(ValueError, match="not a"):
            tree.tobytes()


@pytest.mark.parametrize("ns", ["http://www.w3.org/2000/xmlns/", "\x00", "a\x1f", "\ud800", "\ufffe", "\uffff"])
@pytest.mark.security(row=14)
def test_bad_namespace_is_refused_for_elements_and_attributes(ns: str) -> None:
    for tree in (Element(f"{{{ns}}}a"), Element("a", {f"{{{ns}}}a": ""})):
        with pytest.raises(ValueError, match="not a"):
            tree.tobytes()
        with pytest.raises(ValueError, match="not a"):  # nor when its default has been declared by somebody
            tree.tobytes("urn:x")


def test_xmlns_is_a_name_for_an_element_but_not_for_an_attribute() -> None:
    assert Element("xmlns").tobytes() == b"<xmlns/>"
    assert read_with_lxml(Element("a", {"{urn:x}xmlns": ""}).tobytes()).attrib == {"{urn:x}xmlns": ""}
    with pytest.raises(ValueError, match="xmlns"):
        Element("a", {"xmlns": "urn:x"}).tobytes()


@given(local_names)
def test_names_of_the_fifth_edition_are_written(name: str) -> None:
    assert Element(name).tobytes() == f"<{name}/>".encode()


@pytest.mark.parametrize("code", [*map(ord, CONTROLS), 0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xFFFE, 0xFFFF])
@pytest.mark.parametrize("around", ["", "x" * 7, "x" * 8, "é", "я" * 9, "😀"])
@pytest.mark.security(row=15)
def test_character_that_xml_has_not_is_refused(code: int, around: str) -> None:
    text = around + chr(code) + around
    child = Element("b")
    child.tail = text
    for tree in (Element("a", None, text), Element("a", {"k": text}), Element("a", None, None, child)):
        with pytest.raises(ValueError, match=f"U\\+{code:04X}"):
            tree.tobytes()


def test_refusal_does_not_show_the_text() -> None:
    with pytest.raises(ValueError) as caught:
        Element("password", None, "s3cret\x00").tobytes()
    assert "s3cret" not in str(caught.value)


def test_attribute_that_is_not_a_str_is_refused() -> None:
    with pytest.raises(TypeError, match="'count' must be str, not int"):
        Element("a", {"count": 5}).tobytes()  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="not bytes"):
        Element("a", {b"k": "v"}).tobytes()  # type: ignore[dict-item]


def test_element_without_init_is_refused() -> None:
    with pytest.raises(ValueError, match="without a name"):
        Element.__new__(Element).tobytes()


def test_element_that_contains_itself_is_refused() -> None:
    tree = Element("a")
    tree.append(tree)
    with pytest.raises(ValueError, match="contain itself"):
        tree.tobytes()


class Kind(enum.StrEnum):
    GET = "get"
    KEY = "{urn:x}key"


def test_members_of_a_str_enum_are_strings() -> None:
    tree = Element("iq", {"type": Kind.GET, Kind.KEY: Kind.GET}, Kind.GET)
    tree.set("a", Kind.GET)
    assert type(tree.get("a")) is type(tree.text) is str
    assert tree.tobytes() == b"<iq type='get' xmlns:ns0='urn:x' ns0:key='get' a='get'>get</iq>"


# The tree


def test_parts_of_an_element() -> None:
    child = Element("{urn:x}child")
    tree = Element("{urn:x}a", {"k": "v"}, "text", child)
    assert (tree.tag, tree.ns, tree.name) == ("{urn:x}a", "urn:x", "a")
    assert (tree.attrib, tree.text, tree.tail) == ({"k": "v"}, "text", None)
    assert list(tree) == [child]
    assert len(tree) == 1
    assert tree[0] is tree[-1] is child
    assert tree[:] == [child]


def test_leaf_has_empty_parts() -> None:
    leaf = Element("a")
    assert (leaf.ns, leaf.name, leaf.attrib, leaf.text, leaf.tail) == ("", "a", {}, None, None)
    assert (len(leaf), list(leaf), leaf[:]) == (0, [], [])
    assert leaf.get("k") is None
    assert leaf.get("k", "default") == "default"
    with pytest.raises(IndexError):
        leaf[0]


def test_namespace_ends_at_the_last_brace() -> None:
    assert (Element("{a}b}c").ns, Element("{a}b}c").name) == ("a}b", "c")
    assert (Element("{a").ns, Element("{a").name) == ("", "{a")


def test_element_is_true_even_without_children() -> None:
    assert Element("a")


def test_given_attributes_are_copied_and_then_shared() -> None:
    given_attrib = {"k": "v"}
    tree = Element("a", given_attrib)
    given_attrib["k"] = "other"
    assert tree.get("k") == "v"
    tree.attrib["l"] = "w"
    tree.set("m", "x")
    assert tree.attrib == {"k": "v", "l": "w", "m": "x"}
    assert tree.attrib is tree.attrib


def test_children_are_added_and_removed() -> None:
    a, b, c, d = (Element(name) for name in "abcd")
    tree = Element("t")
    tree.insert(0, b)
    tree.append(d)
    tree.insert(0, a)
    tree.insert(-1, c)
    assert list(tree) == [a, b, c, d]
    tree.remove(b)
    tree.extend(iter([b]))
    assert list(tree) == [a, c, d, b]


def test_remove_takes_the_element_itself_not_an_equal_one() -> None:
    first, second = Element("a"), Element("a")
    tree = Element("t", None, None, first, second)
    tree.remove(second)
    assert tree[0] is first
    with pytest.raises(ValueError):
        tree.remove(second)


def test_find_looks_at_children_only_and_at_whole_tags() -> None:
    deep = Element("{urn:x}deep")
    first, second = Element("{urn:x}a", None, "1", deep), Element("{urn:x}a", None, "2")
    tree = Element("t", None, None, Element("a"), first, second)
    assert tree.find("{urn:x}a") is first
    assert tree.findall("{urn:x}a") == [first, second]
    assert tree.find("{urn:x}deep") is None
    assert tree.findall("{urn:x}deep") == Element("a").findall("a") == []
    assert tree.findtext("{urn:x}a") == "1"
    assert tree.findtext("a") == ""
    assert tree.findtext("b") is None
    assert tree.findtext("b", "default") == "default"


@given(trees())
def test_walks_are_in_document_order(tree: Element) -> None:
    oracle = lxml.etree.fromstring(tree.tobytes())
    assert [element.tag for element in tree.iter()] == [node.tag for node in oracle.iter()]
    assert "".join(tree.itertext()) == "".join(map(str, oracle.itertext()))
    assert all(tree.itertext())


def test_walk_stays_inside_the_element() -> None:
    tree = Element("a", None, "in")
    tree.tail = "out"
    assert list(tree.itertext()) == ["in"]
    assert [element is tree for element in tree.iter()] == [True]


def test_equality_is_structural_and_counts_every_part() -> None:
    def make() -> Element:
        child = Element("b", {"k": "v"}, "text")
        child.tail = "tail"
        return Element("a", None, None, child)

    changes: list[Callable[[Element], object]] = [
        lambda tree: setattr(tree, "tag", "c"),
        lambda tree: setattr(tree, "text", "x"),
        lambda tree: setattr(tree, "tail", "x"),
        lambda tree: tree.set("k", "v"),
        lambda tree: tree.append(Element("b")),
        lambda tree: tree.remove(tree[0]),
        lambda tree: setattr(tree[0], "tag", "{urn:x}b"),
        lambda tree: setattr(tree[0], "text", None),
        lambda tree: setattr(tree[0], "tail", "x"),
        lambda tree: tree[0].set("k", "w"),
    ]
    assert make() == make()
    for change in changes:
        changed = make()
        change(changed)
        assert changed != make()
        assert make() != changed


def test_none_and_empty_are_equal() -> None:
    tree = Element("a", {}, "")
    tree.tail = ""
    tree.append(Element("b"))
    tree.remove(tree[0])
    assert tree == Element("a")
    assert tree != "a"
    assert tree is not None


def test_elements_are_not_hashable() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Element("a"))


def test_repr_shows_neither_attributes_nor_text() -> None:
    assert repr(Element("{urn:x}a", {"k": "s3cret"}, "s3cret")) == "<Element '{urn:x}a'>"


def test_misuse_raises_type_error() -> None:
    tree = Element("a")
    misuses: list[Callable[[], object]] = [
        lambda: Element(None),  # type: ignore[arg-type]
        lambda: Element(b"a"),  # type: ignore[arg-type]
        lambda: Element("a", None, 5),  # type: ignore[arg-type]
        lambda: Element("a", None, None, "b"),  # type: ignore[arg-type]
        lambda: tree.append(None),  # type: ignore[arg-type]
        lambda: tree.insert(0, "b"),  # type: ignore[arg-type]
        lambda: tree.extend(["b"]),  # type: ignore[list-item]
        lambda: tree.set("k", 5),  # type: ignore[arg-type]
        lambda: tree.set(5, "v"),  # type: ignore[arg-type]
        lambda: setattr(tree, "tag", None),
        lambda: setattr(tree, "text", b"x"),
        lambda: setattr(tree, "tail", 5),
        lambda: tree.find(None),  # type: ignore[arg-type]
    ]
    for misuse in misuses:
        with pytest.raises(TypeError):
            misuse()
    assert tree == Element("a")


# Copies, depth, memory


@given(trees())
def test_copies_are_equal_and_apart(tree: Element) -> None:
    before = tree.tobytes()
    for twin in (copy.deepcopy(tree), pickle.loads(pickle.dumps(tree))):
        assert twin == tree
        for element in twin.iter():
            element.set("changed", "yes")
            element.append(Element("changed"))
            element.text = "changed"
            break
        assert tree.tobytes() == before


def test_shallow_copy_shares_the_children() -> None:
    tree = Element("a", {"k": "v"}, "text", Element("b"))
    twin = copy.copy(tree)
    assert twin == tree
    assert twin[0] is tree[0]
    twin.set("k", "w")
    twin.append(Element("c"))
    assert tree == Element("a", {"k": "v"}, "text", Element("b"))


def test_deepcopy_keeps_sharing_and_cycles() -> None:
    child = Element("b")
    tree = Element("a", None, None, child, child)
    tree.append(tree)
    twin, twin_child = copy.deepcopy([tree, child])
    assert twin[0] is twin[1] is twin_child
    assert twin[2] is twin
    assert twin_child is not child


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol_keeps_the_tree(protocol: int) -> None:
    tree = Element("{urn:x}a", {"k": "v"}, "text", Element("b", None, None, Element("c"), Element("d")), Element("e"))
    tree.tail = "tail"
    tree[0].tail = "inner"
    assert pickle.loads(pickle.dumps(tree, protocol)) == tree


@pytest.mark.security(row=5)
def test_depth_is_no_problem() -> None:
    tree = deep_tree(DEPTH)
    assert tree.tobytes("urn:a") == b"<x>" * DEPTH + b"bottom" + b"</x>" * DEPTH
    assert sum(1 for _ in tree.iter()) == DEPTH
    assert list(tree.itertext()) == ["bottom"]
    twin = copy.deepcopy(tree)
    assert twin == tree
    assert pickle.loads(pickle.dumps(tree)) == tree
    bottom = list(twin.iter())[-1]
    bottom.text = "other"
    assert twin != tree
    del tree, twin  # freed here: no crash


def test_deep_tree_is_freed_by_the_garbage_collector() -> None:
    text = "".join(["a marker ", "of its own"])
    before = sys.getrefcount(text)
    tree = deep_tree(DEPTH)
    bottom = list(tree.iter())[-1]
    bottom.text = text
    bottom.append(tree)  # a cycle
    assert sys.getrefcount(text) == before + 1
    del tree, bottom
    gc.collect()
    assert sys.getrefcount(text) == before


def test_writing_leaks_nothing() -> None:
    name, value = "".join(["na", "me"]), "".join(["val", "ue"])
    tree = Element(name, {name: value}, value, Element("b"))
    tree.tobytes()
    before = sys.getrefcount(name), sys.getrefcount(value), sys.getrefcount(tree[0])
    for _ in range(100):
        tree.tobytes()
        tree.attrib["\x00"] = value
        with pytest.raises(ValueError):
            tree.tobytes()
        del tree.attrib["\x00"]
    assert before == (sys.getrefcount(name), sys.getrefcount(value), sys.getrefcount(tree[0]))


def test_fromstring_is_the_inverse_of_tobytes() -> None:
    body = Element("{jabber:client}body", None, "a < b")
    tree = Element("{jabber:client}message", {"to": "a@b", f"{{{XML_NS}}}lang": "en"}, None, body)
    assert Element.fromstring(tree.tobytes()) == tree
    assert Element.fromstring(tree.tobytes("jabber:client").decode(), "jabber:client") == tree


@given(trees(any_namespaces))
@pytest.mark.security(row=(13, 15))
def test_our_parser_reads_the_tree_that_was_written(tree: Element) -> None:
    assert Element.fromstring(tree.tobytes()) == tree


@pytest.mark.security(row=(5, 22))
def test_fromstring_limits_the_depth() -> None:
    assert Element.fromstring("<a><b/></a>", max_depth=2) == Element("a", None, None, Element("b"))
    with pytest.raises(XmlError):
        Element.fromstring("<a><b/></a>", max_depth=1)
