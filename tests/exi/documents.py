# SPDX-License-Identifier: Apache-2.0
"""Documents made up by hypothesis, and what of a document has to survive."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape, quoteattr

from hypothesis import strategies as st
from lxml import etree

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
