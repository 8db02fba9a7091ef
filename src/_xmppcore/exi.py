# SPDX-License-Identifier: Apache-2.0
"""EXI 1.0 (W3C recommendation, second edition): XML to compact bits and back, with or without schemas.

    data = encode(b"<a>b</a>")
    decode(data)                                  # b"<a>b</a>"

Schemas come as a `Grammar`: tables made by ``xiot.exi.compile_schemas``. `Session` codes one small document after the other, as
XEP-0322 does with stanzas. Self-contained elements and document types are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Any

from _xmppcore.errors import ExiError
from _xmppcore.exi_codec import Decoder, Encoder, Grammar
from _xmppcore.exi_codec import Session as Session

EXI = "http://www.w3.org/2009/exi"
XSD = "http://www.w3.org/2001/XMLSchema"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
COOKIE = b"$EXI"
ALIGNMENTS = ("bit-packed", "byte-aligned", "pre-compression")

Event = tuple[Any, ...]
QName = tuple[str, str]


@dataclass(frozen=True)
class Options:
    """How a document is coded (EXI section 5.4), and what its header says of that.

    `value_max_length` (characters) and `value_partition_capacity` (strings) bound the string table; None: no bound.
    `schema_id`: None says nothing of the schema, False that there is none, "" that only built-in types are used.
    `local_value_partitions`, `max_grammars`, `max_productions`: the EXI Profile's (None: no bound).
    `plain_numbers` (decoding): floats as 23.4, not 234E-1, decimals as 3, not 3.0; they encode to the same bits. Within bounds of the
    Profile it also leaves out the xsi:type that these bounds make.
    `self_contained`, `dtd`: refused when it comes to coding. `sorted_attributes` (encoding): by name also without a schema. `cookie`, `in_header`: what stands in front.
    """

    strict: bool = False
    fragment: bool = False
    comments: bool = False
    pis: bool = False
    dtd: bool = False
    prefixes: bool = False
    lexical: bool = False
    alignment: str = "bit-packed"
    compression: bool = False
    block_size: int = 1_000_000
    value_max_length: int | None = None
    value_partition_capacity: int | None = None
    datatype_representations: tuple[tuple[QName, QName], ...] = ()
    schema_id: str | bool | None = None
    local_value_partitions: bool = True
    max_grammars: int | None = None
    max_productions: int | None = None
    self_contained: bool = False
    plain_numbers: bool = field(default=False, compare=False)
    sorted_attributes: bool = field(default=False, compare=False)
    cookie: bool = field(default=False, compare=False)
    in_header: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if self.alignment not in ALIGNMENTS:
            raise ValueError(f"alignment must be one of {', '.join(ALIGNMENTS)}, not {self.alignment!r}")
        if self.strict and (self.comments or self.pis or self.dtd or self.prefixes):
            raise ValueError("strict leaves out comments, processing instructions, DTDs and prefixes")
        if self.compression and self.alignment != "bit-packed":
            raise ValueError("compression and another alignment exclude each other")
        if self.block_size < 1:
            raise ValueError("a block holds at least one value")
        for name in ("value_max_length", "value_partition_capacity", "max_grammars", "max_productions"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1 << 32:
                raise ValueError(f"{name} must be from 0 to {(1 << 32) - 1}, not {value}")

    @property
    def _profile(self) -> bool:
        return not self.local_value_partitions or self.max_grammars is not None or self.max_productions is not None


_loaded: dict[str, Grammar] = {}


def _tables(name: str) -> Grammar:
    if name not in _loaded:
        _loaded[name] = Grammar((files("_xmppcore") / f"{name}.xeg").read_bytes())
    return _loaded[name]


def builtin_types() -> Grammar:
    """The grammar of XML Schema's built-in types and nothing else: schema id ""."""
    return _tables("exi_types")


def xmpp_schemas() -> Grammar:
    """The grammar of our schemas for XMPP and things, which give the same bits as those of the specifications; no fragments."""
    return _tables("exi_xmpp")


def default_schemas() -> Grammar:
    """The grammar of the default schema of XEP-0322: streams and what they import, but for TLS, and the elements of EXI."""
    return _tables("exi_default")


# -- the header (EXI section 5)

_OPTIONS_DOCUMENT = Options(strict=True)
_SMALL: dict[str, int] = {
    "max_depth": 16,
    "max_attributes": 16,
    "max_value_bytes": 4096,
    "max_output_bytes": 1 << 16,
    "max_table_bytes": 1 << 16,
}


def _options_events(o: Options, informed: bool) -> list[Event]:
    """The options document: only what is not the default (EXI section 5.4)."""
    events: list[Event] = []

    def element(name: str, *content: Event | list[Event], uri: str = EXI) -> list[Event]:
        inner: list[Event] = []
        for part in content:
            inner += part if isinstance(part, list) else [part]
        return [("start", uri, name, None), *inner, ("end",)]

    def number(name: str, value: int) -> list[Event]:
        return element(name, ("text", str(value)))

    uncommon: list[Event] = []
    if o._profile:  # the bounds are about deviations from a schema: without one there are none
        bounds = (o.max_grammars, o.max_productions) if informed else (None, None)
        grammars, productions = (0 if bound is None else bound + 1 for bound in bounds)
        text = f"{'-' if o.local_value_partitions else ''}{grammars}.{str(productions)[::-1]}"
        uncommon += element("p", ("type", XSI, "type", None, XSD, "decimal", None), ("text", text))
    if o.alignment != "bit-packed":
        uncommon += element("alignment", element("byte" if o.alignment == "byte-aligned" else "pre-compress"))
    if o.value_max_length is not None:
        uncommon += number("valueMaxLength", o.value_max_length)
    if o.value_partition_capacity is not None:
        uncommon += number("valuePartitionCapacity", o.value_partition_capacity)
    for (uri, local), (to_uri, to_local) in o.datatype_representations:
        uncommon += element("datatypeRepresentationMap", element(local, uri=uri), element(to_local, uri=to_uri))
    preserve: list[Event] = []
    for name, kept in (
        ("dtd", o.dtd), ("prefixes", o.prefixes), ("lexicalValues", o.lexical), ("comments", o.comments), ("pis", o.pis),
    ):  # fmt: skip
        if kept:
            preserve += element(name)
    lesscommon: list[Event] = []
    if uncommon:
        lesscommon += element("uncommon", uncommon)
    if preserve:
        lesscommon += element("preserve", preserve)
    if o.block_size != 1_000_000:
        lesscommon += number("blockSize", o.block_size)
    common: list[Event] = []
    if o.compression:
        common += element("compression")
    if o.fragment:
        common += element("fragment")
    if o.schema_id is False:
        common += element("schemaId", ("attribute", XSI, "nil", None, "true"))
    elif isinstance(o.schema_id, str):
        common += element("schemaId", ("text", o.schema_id))
    if lesscommon:
        events += element("lesscommon", lesscommon)
    if common:
        events += element("common", common)
    if o.strict:
        events += element("strict")
    return element("header", events)


def _options_from(events: list[Event]) -> Options:
    """Options from their document's events."""
    given: dict[str, Any] = {}
    path: list[str] = []
    text = ""
    pair: list[QName] = []
    pairs: list[tuple[QName, QName]] = []
    nil = False
    flags = {
        "strict": "strict", "dtd": "dtd", "prefixes": "prefixes", "lexicalValues": "lexical", "comments": "comments", "pis": "pis",
        "compression": "compression", "fragment": "fragment",
    }  # fmt: skip
    numbers = {
        "blockSize": "block_size",
        "valueMaxLength": "value_max_length",
        "valuePartitionCapacity": "value_partition_capacity",
    }
    for event in events:
        if event[0] == "start":
            path.append(event[2])
            text, nil = "", False
            if path[-2:-1] == ["datatypeRepresentationMap"]:
                pair.append((event[1], event[2]))
            elif event[1] != EXI:
                raise ExiError("unsupported", "user-defined options")
        elif event[0] == "text":
            text += event[1]
        elif event[0] == "attribute":
            nil = event[2] == "nil" and event[4] == "true"
        elif event[0] == "end":
            name = path.pop()
            above = path[-1] if path else ""
            if above == "datatypeRepresentationMap":
                continue
            if name in flags:
                given[flags[name]] = True
            elif name in numbers:
                given[numbers[name]] = int(text)
            elif name == "byte":
                given["alignment"] = "byte-aligned"
            elif name == "pre-compress":
                given["alignment"] = "pre-compression"
            elif name == "schemaId":
                given["schema_id"] = False if nil else text
            elif name == "datatypeRepresentationMap":
                pairs.append((pair[0], pair[1]))
                pair = []
            elif name == "p":
                whole, _, fraction = text.lstrip("-").partition(".")
                given["local_value_partitions"] = text.startswith("-")
                for bound, digits in (("max_grammars", whole), ("max_productions", fraction[::-1])):
                    if int(digits or "0"):
                        given[bound] = int(digits) - 1
            elif name == "selfContained":
                given["self_contained"] = True
            elif name not in ("header", "lesscommon", "uncommon", "alignment", "preserve", "common"):
                raise ExiError("unsupported", "user-defined options")
    try:
        return Options(**given, datatype_representations=tuple(pairs), in_header=True)
    except ValueError as error:
        raise ExiError("header", str(error)) from None


def _header(options: Options, informed: bool) -> tuple[bytes, int]:
    """The header, and how many of its bits count; the body follows at once, or after it is filled up to a byte."""
    front = COOKIE if options.cookie else b""
    if not options.in_header:
        return front + b"\x80", len(front) * 8 + 8
    encoder = Encoder(_tables("exi_options"), _OPTIONS_DOCUMENT, **_SMALL)
    return encoder.encode_events(_options_events(options, informed), front + b"\xa0", len(front) * 8 + 8, pad=False)  # type: ignore[no-any-return]


def read_header(data: bytes) -> tuple[Options | None, int]:
    """The options that a header gives, None if it gives none; and the bit behind it (EXI section 5)."""
    at = len(COOKIE) if data.startswith(COOKIE) else 0
    if len(data) <= at:
        raise ExiError("incomplete", "the input ends too early")
    first = data[at]
    if first >> 6 != 0b10:
        raise ExiError("header", "no EXI header")
    if first & 0x1F:
        raise ExiError("unsupported", "another version than EXI 1.0")
    bit = at * 8 + 8
    if not first & 0x20:
        return None, bit
    events, bit = Decoder(_tables("exi_options"), _OPTIONS_DOCUMENT, **_SMALL).events(data, bit)
    return replace(_options_from(events), cookie=at > 0), bit


# -- documents


def encode(xml: bytes, options: Options = Options(), grammar: Grammar | None = None, **limits: int) -> bytes:
    """Encode an XML document (with the option `fragment` a sequence of elements) as an EXI stream with its header.

    Raises `ExiError`: xml, strict, limit, unsupported.
    """
    header, bits = _header(options, grammar is not None)
    data: bytes = Encoder(_grammar(options, grammar), options, **limits).encode(xml, header, bits)[0]
    return data


def encode_events(
    events: Iterable[Event], options: Options = Options(), grammar: Grammar | None = None, **limits: int
) -> bytes:
    """Encode events, in the form of `Decoder.events`."""
    header, bits = _header(options, grammar is not None)
    data: bytes = Encoder(_grammar(options, grammar), options, **limits).encode_events(events, header, bits)[0]
    return data


def _grammar(options: Options, grammar: Grammar | None) -> Grammar | None:
    if options.schema_id == "":
        return builtin_types()
    return None if options.schema_id is False else grammar


def _prepare(
    data: bytes,
    options: Options,
    grammar: Grammar | None,
    schemas: Callable[[str], Grammar] | None,
    limits: dict[str, int],
) -> tuple[Decoder, int]:
    given, bit = read_header(data)
    if given is not None:
        options = replace(given, plain_numbers=options.plain_numbers)
        if given.schema_id and schemas is not None:
            grammar = schemas(str(given.schema_id))
    return Decoder(_grammar(options, grammar), options, **limits), bit


def decode(
    data: bytes,
    options: Options = Options(),
    grammar: Grammar | None = None,
    *,
    schemas: Callable[[str], Grammar] | None = None,
    **limits: int,
) -> bytes:
    """Decode an EXI stream to XML. Options in its header win; `schemas` finds the grammar of a schema id, else `grammar` is used.

    Raises `ExiError`: damaged, incomplete, header, limit, unsupported.
    """
    decoder, bit = _prepare(data, options, grammar, schemas, limits)
    xml: bytes = decoder.decode(data, bit)[0]
    return xml


def decode_events(
    data: bytes,
    options: Options = Options(),
    grammar: Grammar | None = None,
    *,
    schemas: Callable[[str], Grammar] | None = None,
    **limits: int,
) -> list[Event]:
    """Decode an EXI stream to events (see `Decoder.events`)."""
    decoder, bit = _prepare(data, options, grammar, schemas, limits)
    events: list[Event] = decoder.events(data, bit)[0]
    return events
