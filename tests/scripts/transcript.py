# SPDX-License-Identifier: Apache-2.0
"""Transcripts: what users of a server send and receive, as plain text. Reading them, and comparing XML with them.

A file holds scenarios, each under a line with its title; what stands above the first holds for all of them::

    # a comment
    Romeo is romeo@localhost/orchard
    Juliet is juliet@localhost/balcony
    ignoring: @xml:lang, {urn:xmpp:sid:0}stanza-id

    == A message to a full JID goes to that resource (RFC 6121 8.5.3.1)
    needs: RFC 6121
    differs: prosody: RFC 6121 8.5.3.1: why it does not do this, by right or by its own choice

    Romeo connects
    Juliet is online
    Romeo sends: <message to='juliet@localhost/balcony'><body>hi</body></message>
    Juliet receives:
        <message from='romeo@localhost/orchard' to='juliet@localhost/balcony'>
            <body>hi</body>
        </message>
    Romeo receives nothing

Accounts are made for each scenario anew, by their names here. Steps:

* ``X connects``: over TLS where the stage has it, logs in and binds its resource; ``X logs in``: without binding.
* ``X is online``: connects and sends available presence; what anybody receives because of that is passed over.
* ``X sends: <xml/>``, or the XML in the lines below, indented: one or more elements, as they stand.
* ``X receives: <xml/>``: the next elements that come; ``X receives in any order:`` where several senders race.
  ``X receives among others:`` these, in any order, and what else comes until then is passed over.
  ``X receives (ignoring @id, status): ...`` passes over these attributes and children in them.
* ``X receives nothing``: once all that was sent before has been dealt with. At the end it holds for everybody.
* ``X passes over what came``: forgets it, once all that was sent before has been dealt with.
* ``X disconnects``: closes the stream in order; ``X drops``: only the socket; ``X is disconnected``: by the server.
* ``wait 1 s``.

XML is compared as a tree: names with their namespaces, attributes in any order, children in the order they were sent;
blanks between elements do not count. Nothing may be there that is not written down, but for what ``ignoring:`` names;
``all NAME`` there passes over whole stanzas or other elements of that name.
In what is received ``{any}`` stands for any text, ``{any ver}`` as well and ``{ver}`` for that text from then on,
``{a|b}`` for either; ``{more}`` in an element allows other children in it, and then their order is free. There, ``error:``
is the prefix of urn:ietf:params:xml:ns:xmpp-stanzas, and ``stream:`` the usual one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

NS_CLIENT = "jabber:client"
NS_STREAM = "http://etherx.jabber.org/streams"
NS_STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
_WRAPPER = f"<w xmlns='{NS_CLIENT}' xmlns:stream='{NS_STREAM}' xmlns:error='{NS_STANZAS}'>%s</w>"
_XML_LANG = "{http://www.w3.org/XML/1998/namespace}"

_VERBS = (
    "connects|logs in|is online|sends|receives nothing|receives in any order|receives among others|receives|passes over what came"
    "|disconnects|drops|is disconnected"
)
_STEP = re.compile(
    rf"(?P<who>[A-Z][\w']*(?: \w+)?) (?P<verb>{_VERBS})(?: \(ignoring (?P<ignoring>.*?)\))?(?::\s*(?P<xml>.*))?"
)
_CLIENT = re.compile(r"(?P<who>[A-Z][\w']*(?: \w+)?) is (?P<account>\w+)@localhost/(?P<resource>\S+)")
_WAIT = re.compile(r"wait (?P<seconds>[\d.]+) s")
_PLACEHOLDER = re.compile(r"\{(any(?: \w+)?|\w+|[^{}]*\|[^{}]*)\}")


class TranscriptError(Exception):
    """A transcript cannot be read; the text says where and why."""


class Mismatch(Exception):
    """What came is not what the transcript says; the text says where they differ."""


@dataclass(frozen=True)
class Step:
    """One thing that happens."""

    line: int
    who: str
    verb: str
    xml: str = ""
    ignoring: frozenset[str] = frozenset()
    seconds: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """Steps under a title."""

    file: str
    title: str
    line: int
    clients: Mapping[str, tuple[str, str]]
    """Name -> (localpart of the account, resource)."""
    needs: tuple[str, ...] = ()
    differs: Mapping[str, str] = field(default_factory=dict)
    """Server -> the reason, with its section."""
    ignoring: frozenset[str] = frozenset()
    steps: tuple[Step, ...] = ()

    @property
    def name(self) -> str:
        """The file and the title."""
        return f"{self.file}: {self.title}"


@dataclass
class _Draft:
    """What is being read."""

    clients: dict[str, tuple[str, str]] = field(default_factory=dict)
    needs: list[str] = field(default_factory=list)
    differs: dict[str, str] = field(default_factory=dict)
    ignoring: set[str] = field(default_factory=set)
    steps: list[Step] = field(default_factory=list)

    def copy(self) -> _Draft:
        return _Draft(dict(self.clients), list(self.needs), dict(self.differs), set(self.ignoring), list(self.steps))


def read(path: Path) -> list[Scenario]:
    """The scenarios of a file. Raises TranscriptError."""
    return list(parse(path.stem, path.read_text(encoding="utf-8")))


def parse(file: str, text: str) -> Iterator[Scenario]:
    """Yield the scenarios of `text`. Raises TranscriptError."""
    common = draft = _Draft()
    title, begun = "", 0
    lines = list(enumerate(text.splitlines(), 1))
    while lines:
        number, line = lines.pop(0)
        if not line.strip() or line.startswith("#"):
            continue
        try:
            if line.startswith("== "):
                if title:
                    yield _finish(file, title, begun, draft)
                title, begun, draft = line[3:].strip(), number, common.copy()
                continue
            xml = []
            while lines and (lines[0][1].startswith((" ", "\t")) or not lines[0][1].strip()):
                xml.append(lines.pop(0)[1])
            _take(draft, number, line, "\n".join(xml).strip())
        except (ValueError, ElementTree.ParseError) as error:
            raise TranscriptError(f"{file}:{number}: {error}") from None
    if title:
        yield _finish(file, title, begun, draft)


def _finish(file: str, title: str, line: int, draft: _Draft) -> Scenario:
    for step in draft.steps:
        if step.who and step.who not in draft.clients:
            raise TranscriptError(f"{file}:{step.line}: nobody said who {step.who} is")
    return Scenario(
        file,
        title,
        line,
        draft.clients,
        tuple(draft.needs),
        draft.differs,
        frozenset(draft.ignoring),
        tuple(draft.steps),
    )


def _take(draft: _Draft, number: int, line: str, below: str) -> None:
    if found := _STEP.fullmatch(line):
        inline = found["xml"] or ""
        xml = f"{inline}{below}"
        takes = found["verb"] in ("sends", "receives", "receives in any order", "receives among others")
        if takes is not bool(xml):
            raise ValueError(f"{found['verb']} takes {'some XML' if takes else 'no XML'}")
        if found["verb"].startswith("receives") and xml:
            elements(xml)
        draft.steps.append(Step(number, found["who"], found["verb"], xml, _names(found["ignoring"] or "")))
    elif found := _CLIENT.fullmatch(line):
        draft.clients[found["who"]] = (found["account"], found["resource"])
    elif found := _WAIT.fullmatch(line):
        draft.steps.append(Step(number, "", "wait", seconds=float(found["seconds"])))
    else:
        key, _, value = line.partition(":")
        value = f"{value} {below}".strip()
        if key == "needs":
            draft.needs += [need.strip() for need in value.split(",")]
        elif key == "ignoring":
            draft.ignoring |= _names(value)
        elif key == "differs" and ":" in value:
            server, _, reason = value.partition(":")
            draft.differs[server.strip()] = " ".join(reason.split())
        else:
            raise ValueError(f"not understood: {line}")


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())


def elements(xml: str) -> list[Element]:
    """The elements in `xml`, in the namespace jabber:client unless they say otherwise."""
    return list(ElementTree.fromstring(_WRAPPER % xml))


def compare(expected: Element, got: Element, ignoring: Iterable[str], captured: dict[str, str]) -> None:
    """Put what ``{any name}`` stands for into `captured`. Raises Mismatch."""
    _compare(expected, got, frozenset(ignoring), captured, expected.tag)


def _compare(expected: Element, got: Element, ignoring: frozenset[str], captured: dict[str, str], where: str) -> None:
    if expected.tag != got.tag:
        raise Mismatch(f"{where} expected, not {got.tag}")
    attributes = {key: value for key, value in got.items() if not _is_ignored("@" + key, ignoring, expected.attrib)}
    for key in expected.keys() | attributes.keys():
        if key not in attributes:
            raise Mismatch(f"{where}: attribute {key} is missing")
        if key not in expected.attrib:
            raise Mismatch(f"{where}: attribute {key}={attributes[key]!r} should not be there")
        _compare_text(expected.attrib[key], attributes[key], captured, f"{where}: attribute {key}")
    wanted, text = list(expected), _text(expected)
    named = {child.tag for child in wanted}
    children = [child for child in got if child.tag in named or not _is_ignored(child.tag, ignoring, ())]
    if "{more}" in text:
        text = text.replace("{more}", "").strip()
        for child in wanted:
            _take_one(child, children, ignoring, captured, where)
        if text:
            _compare_text(text, _text(got), captured, f"{where}: text")
        return
    for child, other in zip(wanted, children, strict=False):
        _compare(child, other, ignoring, captured, f"{where}/{_short(child.tag)}")
    if len(wanted) > len(children):
        raise Mismatch(f"{where}: {_short(wanted[len(children)].tag)} is missing")
    if len(wanted) < len(children):
        raise Mismatch(f"{where}: {children[len(wanted)].tag} should not be there")
    _compare_text(text, _text(got), captured, f"{where}: text")


def _take_one(
    expected: Element, among: list[Element], ignoring: frozenset[str], captured: dict[str, str], where: str
) -> None:
    """Remove the one element of `among` that is as expected. Raises Mismatch, about the nearest one."""
    problem = Mismatch(f"{where}: {_short(expected.tag)} is missing")
    for index, other in enumerate(among):
        seen = dict(captured)
        try:
            _compare(expected, other, ignoring, seen, f"{where}/{_short(expected.tag)}")
        except Mismatch as error:
            if other.tag == expected.tag:
                problem = error
            continue
        captured.update(seen)
        del among[index]
        return
    raise problem


def compare_any_order(
    expected: list[Element], got: list[Element], ignoring: Iterable[str], captured: dict[str, str]
) -> None:
    """As `compare`, each of `expected` with another one of `got`. Raises Mismatch."""
    rest = list(got)
    for element in expected:
        _take_one(element, rest, frozenset(ignoring), captured, "in any order")


def find(expected: list[Element], got: Element, ignoring: Iterable[str], captured: dict[str, str]) -> Element | None:
    """The one of `expected` that `got` is; None if it is none."""
    for element in expected:
        seen = dict(captured)
        try:
            compare(element, got, ignoring, seen)
        except Mismatch:
            continue
        captured.update(seen)
        return element
    return None


def is_named(element: Element, names: Iterable[str]) -> bool:
    """Returns whether `names` has the element's name, with its namespace or without."""
    return element.tag in names or _short(element.tag) in names


def _is_ignored(name: str, ignoring: frozenset[str], written: Iterable[str]) -> bool:
    if name[1:] in written:
        return False
    plain = name.replace(_XML_LANG, "xml:")
    at = "@" if name.startswith("@") else ""
    return plain in ignoring or at + _short(plain.removeprefix("@")) in ignoring


def _short(tag: str) -> str:
    return tag.rpartition("}")[2]


def _text(element: Element) -> str:
    """The text of the element, without its children's."""
    found = (element.text or "") + "".join(child.tail or "" for child in element)
    return found if not len(element) and found.strip() else found.strip()


def _compare_text(expected: str, got: str, captured: dict[str, str], where: str) -> None:
    names: list[str] = []

    def pattern(found: re.Match[str]) -> str:
        word = found[1]
        if word == "any":
            return "(?s:.*)"
        if word.startswith("any "):
            names.append(word[4:])
            return f"(?P<{word[4:]}>(?s:.*))"
        if "|" in word:
            return "(?:" + "|".join(re.escape(each) for each in word.split("|")) + ")"
        if word not in captured:
            raise Mismatch(f"{where}: nothing is known as {{{word}}} yet")
        return re.escape(captured[word])

    parts, at = [], 0
    for placeholder in _PLACEHOLDER.finditer(expected):
        parts += [re.escape(expected[at : placeholder.start()]), pattern(placeholder)]
        at = placeholder.end()
    found = re.fullmatch("".join(parts) + re.escape(expected[at:]), got)
    if found is None:
        raise Mismatch(f"{where} is {got!r}, not {expected!r}")
    captured.update({name: found[name] for name in names})


def fill_in(xml: str, captured: Mapping[str, str]) -> str:
    """`xml` as it is sent: with what was captured in place of its name in braces."""
    for name, value in captured.items():
        xml = xml.replace(f"{{{name}}}", value)
    return xml
