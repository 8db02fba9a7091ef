# SPDX-License-Identifier: Apache-2.0
"""What libxml2 makes of a stream, through lxml: another second opinion on StreamParser, with names of the fifth edition."""

from __future__ import annotations

from lxml import etree

from _xmppcore.element import Element


def convert(node: etree._Element) -> Element:
    element = Element(str(node.tag), {str(key): str(value) for key, value in node.attrib.items()}, node.text)
    for child in node:
        twin = convert(child)
        twin.tail = child.tail
        element.append(twin)
    return element


def read(data: bytes) -> Element | None:
    """The tree of a whole document in UTF-8, None if it is not well-formed or its namespaces are not."""
    parser = etree.XMLParser(encoding="utf-8", resolve_entities=False, huge_tree=True)
    try:
        return convert(etree.fromstring(data, parser))
    except etree.XMLSyntaxError:
        return None
