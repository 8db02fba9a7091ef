# SPDX-License-Identifier: Apache-2.0
"""Streams of XMPP as EXI (XEP-0322): XML of a stream to octets of the wire and back; sans-IO.

Theory of operation. A stream is a sequence of EXI documents ("bodies"), each filled up to an octet: streamStart in place of the header,
then one for each first-level element, and streamEnd in place of the closing tag. There are no lengths: a body that is not there to its
end fails to decode, and is decoded again when more of it has come. Who sends a body in many small pieces has that work done many
times; `WASTE` bounds it.

What a link or a parser gets is a stream as RFC 6120 has it: a header made of the streamStart, then the elements, without the default
namespace that the header declares. What a link or an application sends is cut into elements by a parser, and each is encoded by itself.

A header (EXI section 5) stands at most in front of a streamStart; there it says which setup is used. Some programs send the octet 0x80 in
front of each body: if the first body on a link without headers has it, so have all others, in both directions.
"""

import enum

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcpy

from _xmppcore.coding cimport XC_MOVED, xc_coding
from _xmppcore.cxml cimport (
    XC_CLOSE, XC_IN_CONTEXT, XC_NEED_DATA, XC_OPEN, XC_PAD, XC_STANZA, xc_event, xc_head, xc_kernels_default, xc_limits, xc_shared,
    xc_shared_new, xc_xml_free, xc_xml_init, xc_xml_keep, xc_xml_next, xc_xml_shift,
)
from _xmppcore.exi_codec cimport Mover
from _xmppcore.layer cimport RECORD, Layer, head
from _xmppcore.router cimport XC_HEADROOM, XC_RECEIVE, Link
from _xmppcore.xml cimport check_limits, stream_open_new

from _xmppcore.element import Element
from _xmppcore.errors import ExiError, XmlError
from _xmppcore.exi import COOKIE, Options, _header, default_schemas, read_header
from _xmppcore.exi_codec import Decoder, Encoder
from _xmppcore.xml import parse_element

NS = "http://jabber.org/protocol/compress/exi"
_NS_CLIENT = "jabber:client"
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"

DEFAULT_OPTIONS = Options(
    strict=True, value_max_length=64, value_partition_capacity=64, local_value_partitions=False, max_grammars=0, max_productions=0,
    plain_numbers=True,
)
"""Of the alternative binding, when no header says otherwise (section 3.4.3)."""

cdef enum:
    WASTE = 128             # times max_bytes: octets decoded in vain for one body
    HEADER_BYTES = 512      # of a cookie and a header
    TABLE_BYTES = 1 << 18
    SHOWN = 256             # octets of a body's XML in which its name and namespace stand

# What is sent is parsed to be cut into elements: by limits that nothing of ours comes near, and with memory that all streams share.
cdef xc_limits limits
check_limits(&limits, 1 << 26, 1024, 1024, 1024, 1 << 26)
limits.text_between = True
cdef xc_shared *shared = xc_shared_new(xc_kernels_default(), &limits)
if shared is NULL:
    raise MemoryError

cdef bytes PADDING = bytes(XC_PAD)
cdef bytes NS_BYTES = NS.encode()
cdef bytes IN_CLIENT = b" xmlns='jabber:client'"
cdef bytes IN_STREAMS = b" xmlns:stream='http://etherx.jabber.org/streams'"


class Setup:
    """How both directions of a stream are coded. Streams that share one share its coders, unless tables are kept.

    options, grammar: of the codec. keep: string tables and learned grammars last as long as the stream (sessionWideBuffers).
    id: the configuration id by which a header names it; None: the default. max_stanza_bytes, max_depth, max_attributes: of what is decoded.
    """

    def __init__(self, options=DEFAULT_OPTIONS, grammar=None, *, keep=False, id=None, max_stanza_bytes=262144, max_depth=64,
                 max_attributes=64):
        self.options = options
        self.grammar = default_schemas() if grammar is None else grammar
        self.keep = keep
        self.id = id
        common = {"max_table_bytes": TABLE_BYTES, "max_list_items": 4096, "max_block_events": 1 << 16}
        # A little more than a stanza may have: where it is too large, the parser behind finds out, and says it as with XML.
        self._in = {
            **common, "max_depth": max_depth, "max_attributes": max_attributes, "max_value_bytes": max_stanza_bytes,
            "max_output_bytes": max_stanza_bytes + 4096, "max_expansion": 256,
        }
        self._out = {
            **common, "max_depth": 1024, "max_attributes": 1024, "max_value_bytes": 1 << 26, "max_output_bytes": 1 << 26,
            "max_expansion": 0,
        }
        self._shared = self._start = None

    def coders(self):
        """An encoder, a decoder, and the `Mover` of both."""
        if self.keep:
            return self._made()
        if self._shared is None:
            self._shared = self._made()
        return self._shared

    def _made(self):
        encoder, decoder = Encoder(self.grammar, self.options, **self._out), Decoder(self.grammar, self.options, **self._in)
        return encoder, decoder, Mover(encoder, decoder, self.keep)

    def begins(self, octets, bit):
        """Whether the root that begins at this bit is a streamStart. Raises ExiError: incomplete."""
        if self._start is None:
            bits = self.grammar.globals.bit_length()  # of the code of a root: one of them, or any other
            data, _ = Encoder(self.grammar, self.options).encode(b"<streamStart xmlns='" + NS_BYTES + b"'/>")
            self._start = int.from_bytes(data[:4], "big") >> 8 * min(4, len(data)) - bits, bits
        code, bits = self._start
        if len(octets) * 8 < bit + bits:
            raise ExiError("incomplete", "the input ends too early")
        return int.from_bytes(octets, "big") >> len(octets) * 8 - bit - bits & (1 << bits) - 1 == code

    def can_carry(self, xml):
        """Whether an element, with its namespaces declared, can be encoded: by strict options only what the schemas have."""
        if not self.options.strict:
            return True
        if self._shared is None:
            self._shared = self._made()  # apart from those of streams that keep tables
        try:
            self._shared[0].encode(xml)
        except ExiError:
            return False
        return True


class Kind(enum.Enum):
    """Who begins, and how."""

    BOUND = enum.auto()
    """Within a stream of XML the peers have agreed on a setup: bodies only."""
    RECEIVING = enum.auto()
    """A port for EXI: what comes first shows what the peer speaks."""
    INITIATING = enum.auto()
    """At such a port: we begin with a cookie and a header."""


@cython.final
cdef class ExiStream:
    """One stream's two directions, at either end.

    setup: what it begins with. choose: at a port for EXI, called with the options of the peer's header, None if it has none; returns the
    Setup meant, None to refuse. max_bytes: of a body that is not complete.
    """

    def __init__(self, kind, setup=None, *, choose=None, size_t max_bytes=262144):
        self.buffer = bytearray()
        self.tail = b""
        self.front = b""
        self.max_bytes = max_bytes
        self.starting = True
        if kind is Kind.INITIATING:
            self.front, self.front_bits = _named_header(setup, True)
            self.offered = True

            def choose(options):
                named = None if options is None else options.schema_id
                return setup if named == (None if setup.id is None else f"c:{setup.id}") else None
        self.choose = choose
        if setup is not None:
            self._adopt(setup)

    def __cinit__(self, *arguments, **options):
        xc_xml_init(&self.out)

    def __dealloc__(self):
        xc_xml_free(&self.out, shared)

    @property
    def pending(self):
        """Octets received that were not decoded."""
        return len(self.buffer)

    cdef _adopt(self, setup):
        self.setup = setup
        self.encoder, self.decoder, self.mover = setup.coders()
        self.encoded = self.decoded = False
        self.proposed = None

    def propose(self, setup):
        """The peers have agreed on `setup` by this very stream: the next streamStart may use it."""
        self.proposed = setup

    def drop(self):
        """Forget what was received: nothing more of it is wanted."""
        self.buffer.clear()

    # ---- in ----

    cpdef receive(self, octets):
        """Take octets of the wire."""
        self.buffer += octets
        self.octets_in += len(octets)

    cpdef bytes next(self):
        """The next piece of the peer's stream as XML; None if more octets are needed. Raises ExiError: then the stream is over."""
        cdef bytes data
        if self.held is not None:
            data, self.held = self.held, None
            self.xml_in += len(data)
            return data
        if not self.buffer:
            return None
        try:
            if self.setup is None and not self.xml and not self._detect():
                return None
            if self.xml:
                data = bytes(self.buffer)
                self.buffer.clear()
            else:
                data = self._body()
        except ExiError as error:
            self._more(error)
            return None
        self.tried = 0
        self.xml_in += len(data)
        return data

    cdef bint _more(self, error) except -1:
        # A body could not be decoded: because more of it has to come?
        if error.condition != "incomplete":
            raise error
        self.tried += len(self.buffer)
        if <size_t>len(self.buffer) > self.max_bytes or self.tried > WASTE * self.max_bytes:
            raise ExiError("limit", "a body that does not end")
        return True

    cdef Py_ssize_t _next_into(self, uint8_t *to, size_t room) except -2:
        # Write what `next` would return, and say how large it is; its octets stay until `_done`.
        # 0: more octets are needed; -1: it is for `next`.
        if self.starting or self.xml or self.proposed is not None or self.per_body or self.held is not None or not self.buffer:
            return -1
        try:
            self.mover.read(self.buffer, 0, self.setup.keep and self.decoded)
        except ExiError as error:
            self._more(error)
            return 0
        self.decoded = True
        if self.mover.size > room or self.mover.says(b"streamEnd", SHOWN):
            self.held = self._read()
            return -1
        self.tried = 0
        self.xml_in += self.mover.size
        self.mover.put(to)
        return self.mover.size

    cdef bytes _read(self):
        # What the body was that has been read; its octets go.
        cdef bint may_end = self.mover.says(b"streamEnd", SHOWN)
        cdef bytes xml = PyBytes_FromStringAndSize(NULL, self.mover.size)
        self.mover.put(<uint8_t *>PyBytes_AS_STRING(xml))
        self._done()
        if may_end and _tree(xml).tag == f"{{{NS}}}streamEnd":
            return b"</stream:stream>"
        return xml

    cdef int _done(self) except -1:
        self.mover.coding.raw = NULL
        del self.buffer[:(self.mover.end + 7) // 8]
        return 0

    cdef bint _detect(self) except -1:
        # What the first octets are: the cookie, distinguishing bits, or else XML.
        cdef int first = self.buffer[0]
        if first == c"$" or first >> 6 == 0b10:
            self._adopt(self.choose(None))
        else:
            self.xml = True
        return True

    cdef xc_coding *_coding(self) noexcept:
        # Who has the same gives and takes bodies as they are; NULL: nobody.
        return NULL if self.xml or self.starting or self.per_body or self.mover is None or self.mover.keep else &self.mover.coding

    cdef bytes _body(self):
        cdef bytes xml
        if self.starting or self.proposed is not None:
            xml = self._start()
            if xml is not None:
                return xml
        if self.per_body and self.buffer[0] != 0x80:
            raise ExiError("header", "a body without its header")
        self.mover.read(self.buffer, 8 if self.per_body else 0, self.setup.keep and self.decoded)
        self.decoded = True
        return self._read()

    cdef bytes _start(self):
        # A streamStart as a header of XML. None: this is none, though one may still come.
        cdef bytes octets = bytes(self.buffer[:HEADER_BYTES])
        cdef bint cookie = octets.startswith(COOKIE), headed = False
        cdef uint64_t bit = 0
        setup = self.setup
        if self.choose is None:  # on a link without headers
            if not self.starting:
                return None
            if octets[0] == 0x80 and not setup.begins(octets, 0):
                self.per_body, bit = True, 8
        elif COOKIE.startswith(octets):
            raise ExiError("incomplete", "the input ends too early")
        elif cookie or (self.starting and octets[0] in (0x80, 0xA0) and not setup.begins(octets, 0)):
            headed = True
            options, bit = self._options(octets)
            setup = self.proposed if options is None and self.proposed is not None else self.choose(options)
            if setup is None:
                self.refused = True
                self.front, self.front_bits = _named_header(self.setup, cookie)
                raise ExiError("refused", "no such configuration")
        elif self.proposed is not None and octets[0] == 0x80 and self.proposed.begins(octets, 8):
            headed, setup, bit = True, self.proposed, 8
        elif self.proposed is not None and self.proposed.begins(octets, 0):
            setup = self.proposed
        elif not self.starting:
            return None
        elif self.offered and not self.decoded:
            raise ExiError("header", "no EXI header")
        if not setup.begins(octets, bit):
            raise ExiError("header", "no stream begins here")
        coders = (self.encoder, self.decoder, self.mover) if setup is self.setup else setup.coders()
        decoder = coders[1]
        xml, end = decoder.decode(self.buffer, bit, setup is self.setup and setup.keep and self.decoded)
        element = _tree(xml)
        if element.tag != f"{{{NS}}}streamStart":
            raise ExiError("header", "no stream begins here")
        if setup is not self.setup:
            self._adopt(setup)
            self.encoder, self.decoder, self.mover = coders
        if not self.starting:
            self.reopened = True
            self._reset()
        if headed and not self.offered:
            self.front, self.front_bits = _named_header(setup, cookie)
        self.decoded, self.starting = True, False
        del self.buffer[:(end + 7) // 8]
        return _stream_header(element)

    def _options(self, octets):
        try:
            return read_header(octets)
        except ExiError as error:
            if error.condition == "incomplete" and len(octets) == HEADER_BYTES:
                raise ExiError("limit", "a header that does not end") from None
            raise

    # ---- out ----

    cpdef restart(self):
        """What is sent from now on, and what comes, begins with a header again (RFC 6120 section 4.3.3)."""
        self._reset()
        self.starting, self.closed = True, False

    cdef _reset(self):
        xc_xml_free(&self.out, shared)
        xc_xml_init(&self.out)
        self.tail = b""

    cpdef bytes send(self, bytes data):
        """Octets for the wire, for a piece of our stream, whole or not: what is not complete is kept until it is. Raises ExiError."""
        cdef list octets = []
        cdef xc_head h
        cdef xc_event event
        cdef size_t at = 0, base = 0, end, n, size, keep
        cdef uint8_t *p
        cdef bytes whole, raw
        if self.xml:
            self.octets_out += len(data)
            self.xml_out += len(data)
            return data
        if self.closed:
            return b""
        self.xml_out += len(data)
        whole = self.tail + data + PADDING
        size = len(whole) - XC_PAD
        p = <uint8_t *>PyBytes_AS_STRING(whole)
        end = self._moved_at(p, base, size)
        while True:
            event = xc_xml_next(&self.out, shared, p + base, end - base, &h, &at)
            at += base
            if event == XC_STANZA:
                raw = whole[at:at + h.size]
                if h.ns_in == XC_IN_CONTEXT or h.outer_prefix:
                    raw = raw[:h.name_end] + (IN_STREAMS if h.outer_prefix else IN_CLIENT) + raw[h.name_end:]
            elif event == XC_OPEN:
                raw = _stream_start(stream_open_new(<const uint8_t *>PyBytes_AS_STRING(whole) + at, &h, &self.out))
            elif event == XC_CLOSE:
                raw = b"<streamEnd xmlns='" + NS_BYTES + b"'/>"
                self.closed = True
            elif event == XC_NEED_DATA and end == size:
                break
            elif event == XC_NEED_DATA and base + xc_xml_keep(&self.out) == end:
                xc_xml_shift(&self.out, end - base)
                base = end
                if size - base < XC_MOVED:
                    break
                n = p[base + 1] | p[base + 2] << 8 | p[base + 3] << 16 | <size_t>p[base + 4] << 24
                if size - base - XC_MOVED < n:
                    break
                base += XC_MOVED
                octets.append(whole[base:base + n])
                base += n
                end = self._moved_at(p, base, size)
                continue
            else:
                raise ExiError("xml", "not well-formed")
            if self.closed or not self.refused:
                octets.append(self._encode(raw))
            if self.closed:
                break
        keep = xc_xml_keep(&self.out)
        xc_xml_shift(&self.out, keep)
        self.tail = whole[base + keep:size]
        raw = b"".join(octets)
        self.octets_out += len(raw)
        return raw

    cdef size_t _moved_at(self, const uint8_t *p, size_t start, size_t end) noexcept:
        # Where the next octets begin that stand in a link's queue as they are (c/router.h); else the end.
        cdef const void *found = memchr(p + start, 0, end - start)
        return end if found is NULL else <size_t>(<const uint8_t *>found - p)

    cdef bytes _encode(self, bytes xml):
        cdef bytes data, front = self.front
        cdef int bits = self.front_bits
        if self.per_body:
            front, bits = b"\x80", 8
        data = self.encoder.encode(xml, front, bits, self.setup.keep and self.encoded)[0]
        self.encoded = True
        self.front, self.front_bits = b"", 0
        return data


def _tree(xml):
    """The element of a body. Raises ExiError: bits can say what XML cannot, such as two attributes of one name."""
    try:
        return parse_element(xml, max_bytes=1 << 26)
    except XmlError as error:
        raise ExiError("damaged", str(error)) from None


def _named_header(setup, cookie):
    """The header that names a setup, and how many bits of it count."""
    if setup.id is None:
        return _header(Options(cookie=cookie), True)
    return _header(Options(schema_id=f"c:{setup.id}", cookie=cookie, in_header=True), True)


def _stream_header(element):
    """The header of a stream (RFC 6120 section 4.7) for a streamStart; and what stands in it, behind that."""
    default, rest = _NS_CLIENT, []
    for child in element:
        if child.tag == f"{{{NS}}}xmlns":
            if child.get("prefix") == "":
                default = child.get("namespace", "")
        else:
            rest.append(child)
    version = element.get("version")
    if version is not None and "." not in version:  # it is a decimal: 1.0 may have become 1
        version += ".0"
    given = [("xmlns", default), ("from", element.get("from")), ("to", element.get("to")), ("id", element.get("id")),
             ("version", version), ("xml:lang", element.get(_LANG))]
    words = "".join([f" {name}='{_escaped(value)}'" for name, value in given if value is not None])
    return b"<stream:stream" + IN_STREAMS + words.encode() + b">" + b"".join([child.tobytes(default) for child in rest])


def _escaped(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("'", "&apos;")


def _stream_start(event):
    """The streamStart of a stream header (section 3.3.1)."""
    start = Element(f"{{{NS}}}streamStart")
    for name, value in (("from", event.from_), ("id", event.id), ("to", event.to), ("version", event.version), (_LANG, event.lang)):
        if value is not None:
            start.set(name, value)
    for prefix, namespace in event.prefixes.items():
        start.append(Element(f"{{{NS}}}xmlns", {"prefix": prefix, "namespace": namespace}))
    return start.tobytes()


@cython.final
cdef class Exi(Layer):
    """An `ExiStream` under a link."""

    def __cinit__(self, ExiStream stream not None):
        self.stream = stream
        self.rest = b""

    cpdef receive(self, Link link, Py_ssize_t n):
        """Take over `n` octets from the buffer of the link's router: they came from the peer."""
        if not 0 <= n <= XC_RECEIVE:
            raise ValueError("more bytes than the buffer holds")
        if not self.failed:
            self.stream.receive(PyBytes_FromStringAndSize(<char *>link.router.router.buffer + XC_HEADROOM, n))

    cpdef feed(self, Link link):
        """As `Layer.feed`; an ExiError is returned, too, and then nothing more."""
        cdef Py_ssize_t n
        cdef bytes xml
        while True:
            if self.at == PyBytes_GET_SIZE(self.rest):
                self.rest, self.at = b"", 0
                if self.failed:
                    return None
                try:
                    if self.stream.proposed is not None:
                        self._pull(link, <size_t>-1)
                    n = self.stream._next_into(link.router.router.buffer + XC_HEADROOM, XC_RECEIVE)
                    if n == 0:
                        return None
                    if n > 0:
                        event = link.feed(n)
                        self.stream._done()
                        if event is not None:
                            return event
                        continue
                    xml = self.stream.next()
                except ExiError as error:
                    self.failed = True
                    self.stream.drop()
                    return error
                if xml is None:
                    return None
                link.link.coding = self.stream._coding()
                if self.stream.reopened:
                    self.stream.reopened = False
                    link.restart(logged_in=True)  # only who is logged in negotiates
                self.rest = xml
            n = min(PyBytes_GET_SIZE(self.rest) - self.at, <Py_ssize_t>XC_RECEIVE)
            memcpy(<char *>link.router.router.buffer + XC_HEADROOM, PyBytes_AS_STRING(self.rest) + self.at, n)
            self.at += n
            event = link.feed(n)
            if event is not None:
                return event

    cdef _pull(self, Link link, size_t enough):
        # Encode what is queued, until there are so many octets.
        cdef bytes data
        try:
            while link.link.out.bytes and <size_t>PyBytes_GET_SIZE(self.unsent) < enough:
                data = head(link, RECORD)
                link.drop(PyBytes_GET_SIZE(data))
                self.unsent += self.stream.send(data)
        except ExiError as error:
            self.failure = str(error)

    cpdef bytes output(self, Link link, bint last):
        """As `Layer.output`. Raises ConnectionError if something that was queued cannot be encoded: then nothing more can be sent."""
        if not self.unsent:
            self._pull(link, 1)
            if self.failure is not None and not self.unsent:
                raise ConnectionError(f"EXI: {self.failure}")
        return self.unsent

    def restart(self, Link link not None):
        """A new stream begins in both directions; what is queued belongs to the one before."""
        self._pull(link, <size_t>-1)
        link.link.coding = NULL
        self.stream.restart()
