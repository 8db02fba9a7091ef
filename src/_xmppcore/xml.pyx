# SPDX-License-Identifier: Apache-2.0
"""StreamParser: bytes in; stream header, stanzas and stream close out (RFC 6120 sections 4 and 11)."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove, memset

from _xmppcore.cxml cimport (
    XC_CLOSE, XC_FROM, XC_ID, XC_IN_RAW, XC_IN_XML, XC_NEED_DATA, XC_NS, XC_OPEN, XC_PAD, XC_STANZA, XC_TO, XC_VERSION,
    xc_context, xc_context_new, xc_context_release, xc_error, xc_error_condition, xc_event, xc_head,
    xc_kernels, xc_kernels_default, xc_kernels_named, xc_limits, xc_shared_free, xc_shared_new, xc_span, xc_xml,
    xc_xml_enter, xc_xml_free, xc_xml_init, xc_xml_keep, xc_xml_next, xc_xml_shift,
)
from _xmppcore.builders cimport builder_of
from _xmppcore.stanza cimport MOST, XML_NS, Stanza, decoded, stanza_new, start_tag_attributes

from _xmppcore.errors import XmlError

cdef enum:
    SLICE = 65536  # bytes parsed at a time: a huge `data` must not be copied whole


cdef str slice_str(const uint8_t *raw, xc_span span, bint decode):
    if span.off == 0:
        return None
    if decode:
        return decoded(raw + span.off, span.len, True)
    return PyUnicode_DecodeUTF8(<const char *>raw + span.off, span.len, NULL)


cdef StreamOpen stream_open_new(const uint8_t *raw, const xc_head *head, const xc_xml *xml):
    cdef StreamOpen event = StreamOpen.__new__(StreamOpen)
    cdef xc_context *context = xml.context
    cdef const char *base = <const char *>context.bytes
    cdef size_t i
    event.name = slice_str(raw, head.name, False)
    if head.ns_in == XC_IN_RAW:
        event.ns = slice_str(raw, head.ns, head.decode & XC_NS)
    else:
        event.ns = XML_NS if head.ns_in == XC_IN_XML else ""
    event.to = slice_str(raw, head.to, head.decode & XC_TO)
    event.from_ = slice_str(raw, head.from_, head.decode & XC_FROM)
    event.id = slice_str(raw, head.id, head.decode & XC_ID)
    event.version = slice_str(raw, head.version, head.decode & XC_VERSION)
    event.lang = PyUnicode_DecodeUTF8(base + context.lang.off, context.lang.len, NULL) if context.lang.len else None
    event.prefixes = {
        PyUnicode_DecodeUTF8(base + context.binds[i].prefix.off, context.binds[i].prefix.len, NULL):
            PyUnicode_DecodeUTF8(base + context.binds[i].uri.off, context.binds[i].uri.len, NULL)
        for i in range(context.nbinds)
    }
    event.default_ns = event.prefixes.get("", "")
    event.attrib = start_tag_attributes(raw, head.size, context)
    return event


cdef object xml_error(const xc_xml *xml):
    return XmlError(xc_error_condition(<xc_error>xml.error).decode(), xml.error_at)


cdef int check_limits(xc_limits *limits, object max_stanza_bytes, object max_depth, object max_attributes,
                      object max_namespaces, object max_tag_bytes) except -1:
    for name, value, low, high in (
        ("max_stanza_bytes", max_stanza_bytes, 64, 1 << 30), ("max_tag_bytes", max_tag_bytes, 64, 1 << 30),
        ("max_depth", max_depth, 2, MOST), ("max_attributes", max_attributes, 1, MOST),
        ("max_namespaces", max_namespaces, 1, MOST),
    ):
        if not low <= value <= high:
            raise ValueError(f"{name} must be from {low} to {high}, not {value}")
    limits.max_stanza_bytes = max_stanza_bytes
    limits.max_depth = max_depth
    limits.max_attributes = max_attributes
    limits.max_namespaces = max_namespaces
    limits.max_tag_bytes = max_tag_bytes
    return 0


@cython.final
cdef class StreamOpen:
    """The root element's start tag: the stream header (RFC 6120 section 4.7).

    `name`, `ns`, `to`, `from_`, `id`, `version` and `lang` are its attributes (None if absent), `default_ns` the namespace of
    unprefixed children, `prefixes` all its declarations, `attrib` all its attributes as those of an Element.
    """

    def __init__(self):
        raise TypeError("StreamOpen comes from a StreamParser or a Link")

    def __repr__(self):
        return f"<StreamOpen {{{self.ns}}}{self.name} to={self.to!r} from={self.from_!r} id={self.id!r} version={self.version!r}>"


@cython.final
cdef class StreamClose:
    """The root element's end tag: the peer has closed its stream (RFC 6120 section 4.4)."""

    def __repr__(self):
        return "<StreamClose>"


@cython.final
cdef class StreamParser:
    """Incremental parser of one XML stream.

    Any root element and any first-level children; what they must be is the protocol's business. Limits, with their reasons:

    max_stanza_bytes: bytes of one stanza; at least 10000 for XMPP (RFC 6120 section 13.12). Also the bound of memory held.
    max_depth: open elements, the root included: deep nesting costs every consumer of trees.
    max_attributes: attributes of one element, declarations included: finding doubles is quadratic.
    max_namespaces: declarations in force inside one stanza.
    max_tag_bytes: bytes of one tag; an error inside a tag may be found only when its '>' has come.
    text_between: text between stanzas is skipped if true (it is legal XML), refused with bad-format if false.

    builder: the class of what comes for each stanza. Stanza, the default, builds its tree when somebody asks for it; Element,
    xml.etree.ElementTree.Element and lxml.etree._Element are trees at once, the last each in a document of its own.
    """

    def __cinit__(self, *, builder=Stanza, max_stanza_bytes=262144, max_depth=64, max_attributes=64, max_namespaces=256,
                  max_tag_bytes=65536, bint text_between=True, str kernel=None):
        cdef xc_limits limits
        cdef const xc_kernels *k = xc_kernels_default()
        check_limits(&limits, max_stanza_bytes, max_depth, max_attributes, max_namespaces, max_tag_bytes)
        self.builder = builder_of(builder)
        limits.text_between = text_between
        if kernel is not None:
            name = kernel.encode()
            k = xc_kernels_named(name)
            if k is NULL:
                raise ValueError(f"no such kernel on this machine: {kernel!r}")
        self.shared = xc_shared_new(k, &limits)
        if self.shared is NULL:
            raise MemoryError
        xc_xml_init(&self.xml)

    def __dealloc__(self):
        if self.shared is not NULL:
            xc_xml_free(&self.xml, self.shared)
            xc_shared_free(self.shared)
        free(self.buf)

    @property
    def pending_bytes(self):
        """Bytes fed that belong to no event yet: an unfinished stanza or tag."""
        return self.len

    def reset(self):
        """Expect a new stream header: after STARTTLS and SASL (RFC 6120 sections 5.4.3.3 and 6.4.6). Unconsumed bytes are dropped."""
        xc_xml_free(&self.xml, self.shared)
        xc_xml_init(&self.xml)
        self.len = 0

    def feed(self, data):
        """Parse `data` (bytes-like; any split of the stream) and return the events it completed, in order.

        Holds at most `max_stanza_bytes` of unfinished input; linear in the input, however it is split.
        Raises XmlError(condition, offset), a condition of RFC 6120 section 4.9.3 and the byte offset in the stream, when the next thing
        in the input is an error. If events came before it they are returned first, and the next call (also with no data)
        raises. The parser is then dead: every later call raises the same.
        """
        cdef Py_buffer view
        cdef list events = []
        if self.xml.error:
            raise xml_error(&self.xml)
        if type(data) is bytes:
            self._feed(<const uint8_t *>PyBytes_AS_STRING(data), len(<bytes>data), events)
        else:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            try:
                self._feed(<const uint8_t *>view.buf, view.len, events)
            finally:
                PyBuffer_Release(&view)
        if self.xml.error and not events:
            raise xml_error(&self.xml)
        return events

    cdef int _feed(self, const uint8_t *p, size_t left, list events) except -1:
        cdef size_t n
        while left and not self.xml.error:
            n = left if left < SLICE else SLICE
            self._append(p, n)
            p += n
            left -= n
            self._parse(events)
        return 0

    cdef int _append(self, const uint8_t *data, size_t n) except -1:
        cdef size_t cap = self.cap
        cdef uint8_t *grown
        if self.len + n > cap:
            cap = cap if cap else 4096
            while cap < self.len + n:
                cap *= 2
            grown = <uint8_t *>realloc(self.buf, cap + XC_PAD)
            if grown is NULL:
                raise MemoryError
            self.buf = grown
            self.cap = cap
        memcpy(self.buf + self.len, data, n)
        self.len += n
        memset(self.buf + self.len, 0, XC_PAD)
        return 0

    cdef int _parse(self, list events) except -1:
        cdef xc_head head
        cdef xc_event event
        cdef size_t at = 0, keep
        while True:
            event = xc_xml_next(&self.xml, self.shared, self.buf, self.len, &head, &at)
            if event == XC_STANZA:
                if self.builder is None:
                    events.append(stanza_new(self.buf + at, &head, self.xml.context))
                else:
                    events.append(self.builder.build(self.buf + at, &head, self.xml.context))
            elif event == XC_NEED_DATA:
                break
            elif event == XC_OPEN:
                events.append(stream_open_new(self.buf + at, &head, &self.xml))
                if self.builder is not None:
                    self.builder.begin(self.xml.context)
            elif event == XC_CLOSE:
                events.append(StreamClose.__new__(StreamClose))
            else:
                self.len = 0
                return 0
        keep = xc_xml_keep(&self.xml)
        if keep:
            self.len -= keep
            memmove(self.buf, self.buf + keep, self.len)
            xc_xml_shift(&self.xml, keep)
        if self.len == 0 and self.cap > SLICE:  # a large stanza is over
            free(self.buf)
            self.buf = NULL
            self.cap = 0
        return 0


def parse_element(data, str default_ns="", *, max_bytes=262144, max_depth=64, max_attributes=64):
    """The tree of one element, given as bytes or str, under the stream parser's rules (restricted XML).

    `default_ns` is the namespace in force around it. Raises XmlError; "bad-format" if there is not exactly one element.
    """
    cdef StreamParser parser = StreamParser(
        max_stanza_bytes=max_bytes, max_tag_bytes=max_bytes, max_depth=max_depth + 1, max_attributes=max_attributes,
        text_between=False)
    cdef xc_context *context
    cdef bytes ns = default_ns.encode()
    if b"\0" in ns:
        raise ValueError("a namespace holds no NUL")
    context = xc_context_new(ns)
    if context is NULL:
        raise MemoryError
    xc_xml_enter(&parser.xml, context)
    xc_context_release(context)
    events = parser.feed(data.encode() if isinstance(data, str) else data)
    if parser.xml.error:
        raise xml_error(&parser.xml)
    if len(events) != 1 or parser.len:
        raise XmlError("bad-format", parser.xml.base)
    return events[0].element
