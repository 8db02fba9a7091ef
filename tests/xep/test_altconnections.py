# SPDX-License-Identifier: Apache-2.0
"""XEP-0156: Discovering Alternative XMPP Connection Methods."""

import json

import pytest

from _xmppcore import Element
from xiot.xep.altconnections import Connection, Method, host_meta, host_meta_json, read_host_meta_json

BOTH = [
    Connection("xbosh", "https://web.example.com:5280/bosh"),
    Connection("websocket", "wss://web.example.com/ws?a&b"),
]


def test_xml_has_a_link_for_each() -> None:
    data = host_meta(BOTH)
    assert data.startswith(b"<?xml version='1.0' encoding='utf-8'?>\n<XRD ")
    root = Element.fromstring(data.partition(b"\n")[2])
    assert root.tag == "{http://docs.oasis-open.org/ns/xri/xrd-1.0}XRD"
    assert [(link.get("rel"), link.get("href")) for link in root] == [
        ("urn:xmpp:alt-connections:xbosh", "https://web.example.com:5280/bosh"),
        ("urn:xmpp:alt-connections:websocket", "wss://web.example.com/ws?a&b"),
    ]


def test_json_tells_the_same() -> None:
    assert read_host_meta_json(host_meta_json(BOTH)) == BOTH
    assert json.loads(host_meta_json([])) == {"links": []}


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("websocket", "ws://a/ws"),
        ("websocket", "https://a/ws"),
        ("xbosh", "http://a/bosh"),
        ("xbosh", "https:///bosh"),
        ("xbosh", ""),
    ],
)
def test_connection_without_tls_is_neither_told_nor_believed(method: Method, url: str) -> None:
    for write in (host_meta, host_meta_json):
        with pytest.raises(ValueError, match="does not begin with"):
            write([Connection(method, url)])
    links = [{"rel": f"urn:xmpp:alt-connections:{method}", "href": url}, {"rel": "lrdd", "href": "https://a/"}, 7]
    assert read_host_meta_json(json.dumps({"links": links}).encode()) == []


@pytest.mark.parametrize("data", [b"", b"[]", b'{"links": 7}', b"\xff"])
def test_other_documents_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_host_meta_json(data)
