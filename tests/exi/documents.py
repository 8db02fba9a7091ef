# SPDX-License-Identifier: Apache-2.0
"""Documents made up by hypothesis, and what of a document has to survive."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from hypothesis import strategies as st
from lxml import etree

from tests.shared import shared

NAMES = ["a", "b", "x1", "temperature", "Überschrift", "long-name.with_all"]
URIS = ["", "urn:a", "urn:b&c", "http://example.org/ns#x"]
texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=12
) | st.sampled_from(["", "same", "23.4", " x ", "a\tb\nc", "]]>", "<&>\"'", "🚲"])


@st.composite
def elements(draw: st.DrawFn, depth: int = 3, outer: str = "") -> str:
    """An element as XML, with text, namespaces, prefixes and attributes."""
    uri = draw(st.sampled_from(URIS))
    name = draw(st.sampled_from(NAMES))
    prefixed = bool(uri) and draw(st.booleans())
    tag = f"p:{name}" if prefixed else name
    declarations = f" xmlns:p={quoteattr(uri)}" if prefixed else f" xmlns={quoteattr(uri)}" if uri != outer else ""
    inner = outer if prefixed else uri
    attributes = {
        (f"q:{key}" if other else key): (other, value)
        for key, other, value in draw(
            st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["", "urn:q"]), texts), max_size=3)
        )
    }
    if any(other for other, _ in attributes.values()):
        declarations += ' xmlns:q="urn:q"'
    written = "".join(f" {key}={_attribute(value)}" for key, (_, value) in attributes.items())
    content = draw(st.lists(texts.map(_text) | (elements(depth - 1, inner) if depth else texts.map(_text)), max_size=4))
    if not content and draw(st.booleans()):
        return f"<{tag}{declarations}{written}/>"
    return f"<{tag}{declarations}{written}>{''.join(content)}</{tag}>"


def _attribute(text: str) -> str:
    return quoteattr(text, {"\t": "&#9;", "\n": "&#10;", "\r": "&#13;"})


def _text(text: str) -> str:
    return escape(text, {"\r": "&#13;"})


def infoset(xml: bytes) -> Any:
    """Names, attributes and text of a document; prefixes, comments and instructions do not count."""

    def of(node: Any) -> Any:
        children: list[Any] = [node.text or ""]
        for child in node:
            if isinstance(child.tag, str):
                children.append(of(child))
                children.append("")
            children[-1] += child.tail or ""
        return node.tag, dict(node.attrib), children

    parser = etree.XMLParser(resolve_entities=False, huge_tree=True)
    return of(etree.fromstring(xml, parser))


def _loose(text: str) -> Any:
    """A value without what typed values do not keep of their text."""
    words = text.split()
    if len(words) == 1:
        try:
            return float(words[0])
        except ValueError:
            pass
    return {"true": 1.0, "false": 0.0}.get(text.strip(), text.strip())


def same(ours: Any, theirs: Any) -> bool:
    """Whether two infosets are equal but for white space and for how typed values are written."""
    (name, attributes, children), (other, values, others) = ours, theirs
    blank = [[part for part in all_ if not isinstance(part, str) or part.strip()] for all_ in (children, others)]
    return (
        name == other
        and attributes.keys() == values.keys()
        and all(_loose(attributes[key]) == _loose(values[key]) for key in values)
        and len(blank[0]) == len(blank[1])
        and all(
            _loose(a) == _loose(b) if isinstance(a, str) or isinstance(b, str) else same(a, b)
            for a, b in zip(*blank, strict=True)
        )
    )


@cache
def stanzas() -> tuple[bytes, ...]:
    """Example stanzas of the XEPs; a stanza without a namespace is a client's."""
    found = []
    for path in sorted(shared("data/stanzas").glob("*.jsonl")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            with suppress(etree.XMLSyntaxError):  # what a stream declares is missing
                name = etree.fromstring(entry["xml"]).tag
                of_client = f"<{name} xmlns='jabber:client'" if name in ("iq", "message", "presence") else f"<{name}"
                found.append(entry["xml"].replace(f"<{name}", of_client, 1).encode())
    return tuple(found)
