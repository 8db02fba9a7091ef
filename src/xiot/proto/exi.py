# SPDX-License-Identifier: Apache-2.0
"""How two ends of a stream agree on EXI, and what goes wrong with it (XEP-0322 on XEP-0138); sans-IO.

Theory of operation. The client proposes options and schemas by ``<setup/>``, or names a configuration that was agreed on before. The
server answers by ``<setupResponse/>`` with what it can do: numbers may be lower, schemas missing. If nothing is, it says so by
``agreement`` and gives the configuration an id; otherwise the client may propose just that. Then ``<compress/>``, ``<compressed/>``, and a
new stream begins in EXI.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from xiot.core import Element
from xiot.errors import StreamError
from xiot.exi import ExiError, Options
from xiot.exi.configurations import NS as NS

NS_COMPRESS = "http://jabber.org/protocol/compress"
NS_FEATURE = "http://jabber.org/features/compress"
METHOD = "exi"
MAX_SCHEMAS = 256  # in a setup: the XEP lists 124
LONGEST_ID = 128
COMPRESS = f"<compress xmlns='{NS_COMPRESS}'><method>{METHOD}</method></compress>".encode()
COMPRESSED = f"<compressed xmlns='{NS_COMPRESS}'/>".encode()

# The alignments as a setup writes them.
_ALIGNMENTS = {"bit-packed": "bit-packed", "byte-alignment": "byte-aligned", "pre-compression": "pre-compression"}
_FLAGS = {
    "compression": "compression",
    "strict": "strict",
    "preserveComments": "comments",
    "preservePIs": "pis",
    "preserveDTD": "dtd",
    "preservePrefixes": "prefixes",
    "preserveLexical": "lexical",
    "selfContained": "self_contained",
}
_NUMBERS = {
    "blockSize": "block_size",
    "valueMaxLength": "value_max_length",
    "valuePartitionCapacity": "value_partition_capacity",
}


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema file: its target namespace, its size, and its MD5 in hexadecimal (section 3.2.2)."""

    namespace: str
    bytes: int
    md5: str


@dataclass(frozen=True, slots=True)
class Request:
    """``<setup/>``: options and schemas, or the id of a configuration that has them."""

    options: Options = Options()  # noqa: RUF009  (frozen)
    keep: bool = False
    """``sessionWideBuffers``: string tables and learned grammars last as long as the stream."""
    schemas: tuple[Schema, ...] = ()
    configuration: str | None = None
    maps: bool = False
    """It has something that nobody here does: other representations of datatypes, or a location."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``<setupResponse/>``."""

    request: Request
    """What the server can do."""
    missing: tuple[Schema, ...] = ()
    agreement: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a server takes at most."""

    value_max_length: int = 64
    value_partition_capacity: int = 64
    keep: bool = True


def failure(error: ExiError) -> StreamError:
    """The stream error for octets that are no EXI of this stream (XEP-0138 section 2)."""
    if error.condition == "limit":
        return StreamError("policy-violation", error.reason)
    failed = Element(f"{{{NS_COMPRESS}}}processing-failed")
    return StreamError("undefined-condition", error.reason, Element(f"{{{NS_COMPRESS}}}failure", None, None, failed))


def feature() -> Element:
    """What a server shows among its features (XEP-0138 section 2)."""
    return Element(f"{{{NS_FEATURE}}}compression", None, None, Element(f"{{{NS_FEATURE}}}method", None, METHOD))


def offered(features: Element) -> bool:
    """Whether ``<stream:features/>`` shows EXI."""
    methods = features.find(f"{{{NS_FEATURE}}}compression")
    return methods is not None and any(method.text == METHOD for method in methods)


def refusal(condition: str) -> bytes:
    """``<failure/>`` of XEP-0138: unsupported-method or setup-failed."""
    return Element(f"{{{NS_COMPRESS}}}failure", None, None, Element(f"{{{NS_COMPRESS}}}{condition}")).tobytes()


# ---- reading and writing


def parse_request(element: Element, usual: Options = Options()) -> Request:  # noqa: B008  (frozen)
    """Read ``<setup/>`` or ``<setupResponse/>``; what it does not tell is as in `usual`.

    Raises ValueError: not as the schema has it, or options that exclude each other.
    """
    configuration = element.get("configurationId")
    if configuration is not None and not (0 < len(configuration) <= LONGEST_ID and configuration.isprintable()):
        raise ValueError("no configuration id")
    given: dict[str, object] = {}
    for name, flag in _FLAGS.items():
        given[flag] = _boolean(element, name, getattr(usual, flag))
    for name, number in _NUMBERS.items():
        if (value := element.get(name)) is not None:
            given[number] = _number(value)
    alignment = element.get("alignment", "bit-packed")
    if alignment not in _ALIGNMENTS:
        raise ValueError("no such alignment")
    _number(element.get("version", "1"))
    given["alignment"] = _ALIGNMENTS[alignment]
    schemas = [_schema(child) for child in element.findall(f"{{{NS}}}schema")]
    if len(schemas) > MAX_SCHEMAS or len({schema.namespace for schema in schemas}) < len(schemas):
        raise ValueError("too many schemas, or two of one namespace")
    return Request(
        replace(usual, **given),  # type: ignore[arg-type]  # by the tables above
        _boolean(element, "sessionWideBuffers"),
        tuple(schemas),
        configuration,
        element.find(f"{{{NS}}}datatypeRepresentationMap") is not None
        or element.get("configurationLocation") is not None,
    )


def parse_answer(element: Element) -> Answer:
    """Read ``<setupResponse/>``. Raises ValueError."""
    missing = tuple(_schema(child) for child in element.findall(f"{{{NS}}}missingSchema"))
    return Answer(parse_request(element), missing, _boolean(element, "agreement"))


def build_request(request: Request, usual: Options = Options()) -> Element:  # noqa: B008  (frozen)
    """``<setup/>``. One that names a configuration has nothing else (section 3.2.6); `usual`: options that need not be told."""
    element = Element(f"{{{NS}}}setup")
    if request.configuration is not None:
        element.set("configurationId", request.configuration)
    else:
        _write(element, request, usual)
    return element


def build_upload(data: bytes) -> bytes:
    """``<uploadSchema/>`` with the text of a schema (section 3.2.3)."""
    return Element(f"{{{NS}}}uploadSchema", {"contentType": "Text"}, b64encode(data).decode()).tobytes()


def build_answer(answer: Answer, *, quick: bool = False, usual: Options = Options()) -> Element:  # noqa: B008  (frozen)
    """``<setupResponse/>``; `quick`: to a setup that named a configuration, so options and schemas are left out.

    usual: options that need not be told.
    """
    element = Element(f"{{{NS}}}setupResponse")
    if answer.agreement or quick:
        element.set("agreement", "true" if answer.agreement else "false")
        if answer.request.configuration is not None:
            element.set("configurationId", answer.request.configuration)
    if not quick:
        _write(element, answer.request, usual)
        for schema in answer.missing:
            element.append(_written(schema, "missingSchema"))
    return element


def _write(element: Element, request: Request, usual: Options) -> None:
    options = request.options
    element.set("version", "1")
    for name, flag in _FLAGS.items():
        if getattr(options, flag) != getattr(usual, flag):
            element.set(name, "true" if getattr(options, flag) else "false")
    for name, number in _NUMBERS.items():
        if getattr(options, number) != getattr(usual, number):
            element.set(name, str(getattr(options, number)))
    if options.alignment != usual.alignment:
        element.set("alignment", next(name for name, value in _ALIGNMENTS.items() if value == options.alignment))
    if request.keep:
        element.set("sessionWideBuffers", "true")
    for schema in request.schemas:
        element.append(_written(schema, "schema"))


def _written(schema: Schema, name: str) -> Element:
    return Element(f"{{{NS}}}{name}", {"ns": schema.namespace, "bytes": str(schema.bytes), "md5Hash": schema.md5})


def _schema(element: Element) -> Schema:
    md5 = element.get("md5Hash", "")
    if re.fullmatch("[0-9a-f]{32}", md5) is None:
        raise ValueError("no MD5")
    return Schema(element.get("ns", ""), _number(element.get("bytes", "")), md5)


def _number(text: str) -> int:
    if re.fullmatch("[0-9]{1,9}", text) is None or not int(text):
        raise ValueError("no positive number")
    return int(text)


def _boolean(element: Element, name: str, usual: bool = False) -> bool:
    value = element.get(name)
    if value is None:
        return usual
    if value not in ("true", "false", "1", "0"):
        raise ValueError("no boolean")
    return value in ("true", "1")


# ---- the server's side


def answer(request: Request, bounds: Bounds, known: Callable[[Schema], bool]) -> Answer:
    """What the server can do of `request`; without the id that an agreement gets. `known`: whether it has a schema."""
    asked = request.options
    options = replace(
        asked,
        # One body after the other must be decodable by itself, before the next has come; and there is nothing to deflate in a stanza.
        alignment="bit-packed" if asked.alignment == "pre-compression" else asked.alignment,
        compression=False,
        comments=False,  # RFC 6120 section 11.1
        pis=False,
        dtd=False,
        self_contained=False,
        value_max_length=_least(asked.value_max_length, bounds.value_max_length),
        value_partition_capacity=_least(asked.value_partition_capacity, bounds.value_partition_capacity),
    )
    missing = tuple(schema for schema in request.schemas if not known(schema))
    schemas = tuple(schema for schema in request.schemas if schema not in missing)
    possible = Request(options, request.keep and bounds.keep, schemas)
    return Answer(possible, missing, possible == request)


def _least(asked: int | None, most: int) -> int:
    return most if asked is None else min(asked, most)


# ---- the client's side


def next_requests(request: Request, answer: Answer) -> Iterable[Request]:
    """What to propose after `answer`, which agrees to nothing: just that, if it is any other than `request`."""
    possible = replace(answer.request, configuration=None)
    if request.configuration is None and possible != request and possible.schemas:
        yield possible
