# SPDX-License-Identifier: Apache-2.0
"""Element trees: time to write, build and copy one, beside lxml and xml.etree on the same trees.

`extra_info` holds the bytes written and the number of elements.
"""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import lxml.etree
import pytest

from _xmppcore.element import Element

ROSTER_ITEM = "<item jid='valve-12@iot.example.org' name='Valve' subscription='both'><group>Hall B</group></item>"
CHAT = (
    "<message xmlns='jabber:client' from='alice@example.org/phone' to='bob@example.net/desktop' id='bV8TV' type='chat'>"
    "<body>{}</body><active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/>"
    "</message>"
)
READING = (
    "<message xmlns='jabber:client' from='pubsub.plant.example' to='app@plant.example/1' id='e1'>"
    "<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='plant/boiler'><item id='i1'>"
    "<resp xmlns='urn:nfi:iot:sd:1.0'><ts v='2026-11-20T10:00:00Z'>"
    "<q n='Temperature' v='71.5' u='Cel' m='true' ar='true'/><q n='Pressure' v='1.013' u='bar' m='true' ar='true'/>"
    "</ts></resp></item></items></event></message>"
)
TREES = {
    "presence": "<presence xmlns='jabber:client'/>",
    "chat": CHAT.format("The temperature in hall B looks wrong again, can you check the sensor? I don't know."),
    "chat cyrillic": CHAT.format("Температура в цехе Б снова выглядит неверной, проверьте, пожалуйста, датчик."),
    "chat escaped": CHAT.format("if (a &lt; b &amp;&amp; c &gt; d) { return &lt;x/&gt;; }\n" * 4),
    "reading": READING,
    "roster of 50": "<iq xmlns='jabber:client' type='result' id='44' to='thermo-7f3a@iot.example.org/dev'>"
    f"<query xmlns='jabber:iq:roster' ver='ver8'>{ROSTER_ITEM * 50}</query></iq>",
    "text of 64 KiB": CHAT.format("0123456789abcdef" * 4096),
}
Build = Callable[..., Any]


def rebuild(node: Any, make: Build, sub: Build) -> Any:
    """The tree of `node` made anew: `make(tag, attrib)` makes the root, `sub(parent, tag, attrib)` all others."""
    root = make(node.tag, dict(node.attrib))
    root.text = node.text
    todo = [(node, root)]
    while todo:
        source, target = todo.pop()
        for child in source:
            twin = sub(target, child.tag, dict(child.attrib))
            twin.text = child.text
            todo.append((child, twin))
    return root


def sub_element(parent: Element, tag: str, attrib: dict[str, str]) -> Element:
    child = Element(tag, attrib)
    parent.append(child)
    return child


def ours(xml: str) -> Element:
    return rebuild(ET.fromstring(xml), Element, sub_element)  # type: ignore[no-any-return]


# Each library's own parser gives its tree, namespaces declared where the bytes declare them.
LIBRARIES: dict[str, tuple[Callable[[str], Any], Callable[[Any], bytes]]] = {
    "xiot": (ours, Element.tobytes),
    "lxml": (lxml.etree.fromstring, lambda tree: lxml.etree.tostring(tree, encoding="utf-8")),
    "xml.etree": (ET.fromstring, lambda tree: ET.tostring(tree, encoding="utf-8")),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("tree", TREES)
def test_serialise(benchmark: Any, tree: str, library: str) -> None:
    parse, write = LIBRARIES[library]
    root = parse(TREES[tree])
    benchmark.group = f"serialise: {tree}"
    written = benchmark(write, root)
    benchmark.extra_info.update(bytes=len(written), stanzas=1, elements=sum(1 for _ in root.iter()))
    assert ours(written.decode()) == ours(TREES[tree])


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("tree", ["presence", "reading", "roster of 50"])
def test_build(benchmark: Any, tree: str, library: str) -> None:
    make, sub = {
        "xiot": (Element, sub_element),
        "lxml": (lxml.etree.Element, lxml.etree.SubElement),
        "xml.etree": (ET.Element, ET.SubElement),
    }[library]
    source = ours(TREES[tree])
    benchmark.group = f"build: {tree}"
    benchmark(rebuild, source, make, sub)
    benchmark.extra_info.update(stanzas=1, elements=sum(1 for _ in source.iter()))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("tree", ["reading", "roster of 50"])
def test_deepcopy(benchmark: Any, tree: str, library: str) -> None:
    root = LIBRARIES[library][0](TREES[tree])
    benchmark.group = f"deepcopy: {tree}"
    benchmark(copy.deepcopy, root)
    benchmark.extra_info.update(stanzas=1, elements=sum(1 for _ in root.iter()))
