# SPDX-License-Identifier: Apache-2.0
"""Random XML streams and mutants of them, to feed the parser with. Everything follows from the seed."""

from __future__ import annotations

from random import Random

CLIENT = "jabber:client"
STREAMS = "http://etherx.jabber.org/streams"
OPEN = f"<stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAMS}' version='1.0' xml:lang='en'>".encode()
CLOSE = b"</stream:stream>"

PROLOGS = [
    "", "", "<?xml version='1.0'?>", "<?xml version=\"1.0\"  encoding='UTF-8' standalone='no' ?>\r\n", "\ufeff", "\n ",
    "\ufeff<?xml version='1.0' encoding=\"utf-8\"?>",
]  # fmt: skip
NAMES = [
    "a",
    "body",
    "message",
    "iq",
    "x-y.z_1",
    "xmlns",
    "xml",
    "to",
    "from",
    "query",
    "a-name-longer-than-a-register",
]
PREFIXES = ["p", "q", "stream", "xml", "longer-than-8"]
URIS = [CLIENT, STREAMS, "u", "u&#49;", "u1", "urn:example:1?a=b&amp;c"]
NAMESPACES = [*URIS, "a&quot;b", "ü", "{}"]
CHARACTERS = [
    "x", "hello world", " ", "\n", "\r\n", "\r", "\t", "]", "]]", ">", "'", '"', "é", "日本語", "\U0001f600", "\x7f", "\u0085",
    "\ufffd", "&lt;", "&gt;", "&amp;", "&quot;", "&apos;", "&#65;", "&#x1F600;", "&#13;", "&#x9;", "&#010;",
    "plain ASCII text of some length, " * 3,
]  # fmt: skip
TOKENS = [
    b"<", b">", b"/", b"'", b'"', b"=", b"&", b";", b"]]>", b"<![CDATA[", b"<!--", b"-->", b"<!DOCTYPE ", b"<?", b"?>",
    b"</", b"/>", b" ", b":", b"&#0;", b"&x;", b"&#x110000;", b"\0", b"\x01", b"\x80", b"\xc0\xaf", b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80", b"\xef\xbf\xbe", b"\xef\xbb\xbf", b"\xe2\x82", b"<a", b"</a>", b"a", b"xmlns=''",
    b"xmlns:p=''", b" xmlns:p='u'", b"p:", b" a='1'", b"<?xml version='1.0'?>", b"standalone='maybe'",
]  # fmt: skip


class Generator:
    def __init__(self, seed: int, namespaces: list[str] = NAMESPACES) -> None:
        self.random = Random(seed)
        self.namespaces = namespaces

    def text(self, most: int) -> str:
        return "".join(self.random.choices(CHARACTERS, k=self.random.randint(0, most)))

    def value(self) -> str:
        quote = self.random.choice("'\"")
        return quote + self.text(3).replace(quote, "&#34;") + quote

    def space(self) -> str:
        return self.random.choice(["", "", "", " ", "\n", "\t "])

    def start(self, bound: set[str], root: bool = False) -> tuple[str, str, set[str]]:
        """A start tag without its end; its name; the prefixes bound inside it."""
        bound = set(bound)
        attributes = {}
        declared = self.random.sample(["", *PREFIXES], self.random.choice([0, 0, 0, 1, 2]))
        for prefix in [*declared, "", "stream"] if root else declared:
            if prefix != "xml":
                attributes[f"xmlns:{prefix}" if prefix else "xmlns"] = f"'{self.random.choice(self.namespaces)}'"
                bound |= {prefix} if prefix else set()
        prefixes = sorted(bound)
        for name in self.random.sample(NAMES[:-2], self.random.choice([0, 1, 2, 4])):
            prefix = self.random.choice(["", "", *prefixes])
            if prefix or name != "xmlns":
                attributes[f"{prefix}:{name}" if prefix else name] = self.value()
        name = self.random.choice(NAMES)
        prefix = self.random.choice(["", "", *prefixes])
        name = f"{prefix}:{name}" if prefix else name
        items = list(attributes.items())
        self.random.shuffle(items)
        tag = "".join(f" {self.space()}{key}{self.space()}={self.space()}{value}" for key, value in items)
        return f"<{name}{tag}{self.space()}", name, bound

    def element(self, bound: set[str], depth: int) -> str:
        tag, name, bound = self.start(bound)
        if self.random.random() < 0.3:
            return tag + "/>"
        return f"{tag}>{self.content(bound, depth)}</{name}{self.space()}>"

    def content(self, bound: set[str], depth: int) -> str:
        parts = []
        for _ in range(self.random.choice([0, 1, 2, 3])):
            kind = self.random.random()
            if kind < 0.5:
                parts.append(self.text(3).replace("]]>", ""))
            elif kind < 0.6:
                parts.append(f"<![CDATA[{self.text(3).replace(']]>', '')}]]>")
            elif depth:
                parts.append(self.element(bound, depth - 1))
        return "".join(parts).replace("]]>>", "]]>")

    def stream(self, stanzas: int = 3, closed: bool = True) -> bytes:
        """A stream of that many stanzas; nearly always well-formed, and never with names beyond ASCII."""
        tag, name, bound = self.start({"xml"}, root=True)
        parts = [self.random.choice(PROLOGS), tag, ">"]
        for _ in range(stanzas):
            parts += [self.space(), self.element(bound, 3)]
        if closed:
            parts += [f"</{name}{self.space()}>", self.space()]
        return "".join(parts).encode()

    def mutant(self, data: bytes) -> bytes:
        """`data` with one to three small changes."""
        for _ in range(self.random.choice([1, 1, 2, 3])):
            i, j = self.random.randrange(len(data) + 1), self.random.randrange(len(data) + 1)
            n = self.random.choice([1, 1, 2, 5, 20])
            change = self.random.random()
            if change < 0.45:
                data = data[:i] + self.random.choice(TOKENS) + data[i:]
            elif change < 0.65:
                data = data[:i] + data[i + n :]
            elif change < 0.8:
                data = data[:i] + bytes([self.random.randrange(256)]) + data[i + 1 :]
            elif change < 0.9:
                data = data[:i] + data[j : j + n] + data[i:]
            else:
                data = data[:i] + data[j : j + n] + data[i + n :]
        return data

    def splits(self, n: int, pieces: int) -> list[int]:
        """Sorted places to cut n bytes at."""
        return sorted(self.random.randrange(n + 1) for _ in range(pieces - 1))
