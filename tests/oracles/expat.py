# SPDX-License-Identifier: Apache-2.0
"""What expat makes of a stream: the second opinion on StreamParser.

Expat's names are XML 1.0 fourth edition, ours fifth: streams with names beyond ASCII go to `oracles.lxml`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat

from _xmppcore.element import Element

SEPARATOR = "!"  # in no name; expat lets it stand in a namespace, since URIs may have it


@dataclass
class Verdict:
    """What was read before the end of the input or the first error."""

    root: tuple[str, dict[str, str]] | None = None  # tag and attributes
    stanzas: list[Element] = field(default_factory=list)
    closed: bool = False
    error: str | None = None
    error_at: int = 0  # byte offset


def clark(name: str) -> str:
    ns, _, local = name.rpartition(SEPARATOR)
    return f"{{{ns}}}{local}" if ns else local


def read(data: bytes) -> Verdict:
    """Parse `data`, the beginning of a stream, as UTF-8 whatever it declares."""
    verdict = Verdict()
    open_: list[Element] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        tag, attrib = clark(name), {clark(key): value for key, value in attributes.items()}
        if verdict.root is None:
            verdict.root = tag, attrib
            return
        element = Element(tag, attrib)
        if open_:
            open_[-1].append(element)
        open_.append(element)

    def end(_: str) -> None:
        if not open_:
            verdict.closed = True
            return
        element = open_.pop()
        if not open_:
            verdict.stanzas.append(element)

    def text(characters: str) -> None:
        if not open_:
            return
        if len(open_[-1]):
            last = open_[-1][-1]
            last.tail = (last.tail or "") + characters
        else:
            open_[-1].text = (open_[-1].text or "") + characters

    parser = expat.ParserCreate("utf-8", SEPARATOR)
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    if hasattr(parser, "SetReparseDeferralEnabled"):
        parser.SetReparseDeferralEnabled(False)
    try:
        parser.Parse(data, False)
    except expat.ExpatError as error:
        verdict.error, verdict.error_at = str(error), parser.ErrorByteIndex
    return verdict
