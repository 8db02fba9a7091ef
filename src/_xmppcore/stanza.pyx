# SPDX-License-Identifier: Apache-2.0
"""Stanza: a first-level child of a stream, kept as the bytes that came.

Theory of operation: the parser has checked the bytes and found the header; reading `.to` decodes one slice, `.element` walks the bytes
once more and builds the tree. Most stanzas of a server are looked at by their header only, and never become a tree.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp

from _xmppcore.cxml cimport (
    XC_FROM, XC_ID, XC_IN_CONTEXT, XC_IN_RAW, XC_IN_XML, XC_LANG, XC_NS, XC_PAYLOAD_NS, XC_T_CDATA, XC_T_EMPTY,
    XC_T_START, XC_T_TEXT, XC_TO, XC_TYPE, xc_attr, xc_context, xc_context_keep, xc_context_release,
    xc_decode_lines, xc_decode_text, xc_decode_value, xc_head, xc_span, xc_token, xc_walk, xc_walk_next,
)
from _xmppcore.element cimport Element, element_append, element_new, element_tobytes
from _xmppcore.names cimport name_str, name_tag

cdef extern from "Python.h":
    int PyGC_Disable() noexcept
    int PyGC_Enable() noexcept

cdef str XML_NS = "http://www.w3.org/XML/1998/namespace"

cdef enum:
    MOST = 1024  # depth, attributes and declarations: no parser allows more


cdef str decoded(const uint8_t *p, size_t n, bint value):
    """The slice with references resolved and white space normalised."""
    cdef uint8_t *out = <uint8_t *>malloc(n + 1)
    if out is NULL:
        raise MemoryError
    try:
        n = xc_decode_value(p, n, out) if value else xc_decode_text(p, n, out)
        return PyUnicode_DecodeUTF8(<const char *>out, n, NULL)
    finally:
        free(out)


cdef str context_default_ns(const xc_context *context):
    cdef uint32_t i
    for i in range(context.nbinds):
        if context.binds[i].prefix.len == 0:
            return name_str(<const char *>context.bytes + context.binds[i].uri.off, context.binds[i].uri.len)
    return ""


@cython.final
@cython.freelist(256)
cdef class Stanza:
    """A first-level child of a stream (RFC 6120 section 4.3); made by the parser only. All attributes are read-only.

    Costs: the object 50 ns, each attribute about 30 ns when read, `element` one walk over the bytes when first read.
    """

    def __cinit__(self):
        self.raw = b""

    def __init__(self):
        raise TypeError("stanzas come from a StreamParser or a Link; build an Element to send one")

    def __dealloc__(self):
        xc_context_release(self.context)

    cdef str _value(self, xc_span span, uint8_t bit):
        if span.off == 0:
            return None
        cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(self.raw) + span.off
        if self.head.decode & bit:
            return decoded(p, span.len, True)
        return PyUnicode_DecodeUTF8(<const char *>p, span.len, NULL)

    cdef str _namespace(self, xc_span span, uint8_t where, uint8_t bit):
        if where == XC_IN_CONTEXT:
            return name_str(<const char *>self.context.bytes + span.off, span.len)
        if where == XC_IN_XML:
            return XML_NS
        if where != XC_IN_RAW:
            return ""
        if self.head.decode & bit:
            return self._value(span, bit)
        return name_str(PyBytes_AS_STRING(self.raw) + span.off, span.len)

    @property
    def name(self):
        """Local name of the element: "message", "presence", "iq", or that of a nonza."""
        return name_str(PyBytes_AS_STRING(self.raw) + self.head.name.off, self.head.name.len)

    @property
    def ns(self):
        """Namespace of the element, "" if it has none."""
        return self._namespace(self.head.ns, self.head.ns_in, XC_NS)

    @property
    def to(self):
        """The attribute `to` as written, not prepared as a JID; None if absent."""
        return self._value(self.head.to, XC_TO)

    @property
    def from_(self):
        """The attribute `from` as written, not prepared as a JID; None if absent."""
        return self._value(self.head.from_, XC_FROM)

    @property
    def id(self):
        """The attribute `id`; None if absent."""
        return self._value(self.head.id, XC_ID)

    @property
    def type(self):
        """The attribute `type`; None if absent."""
        return self._value(self.head.type, XC_TYPE)

    @property
    def lang(self):
        """The language in force: the stanza's own xml:lang, else the stream's; None if neither is given (RFC 6120 section 8.1.5)."""
        if self.head.lang.off:
            return self._value(self.head.lang, XC_LANG)
        if self.context is not NULL and self.context.lang.len:
            return name_str(<const char *>self.context.bytes + self.context.lang.off, self.context.lang.len)
        return None

    @property
    def payload(self):
        """(namespace, local name) of the first child element; None if there is no child."""
        if self.head.children == 0:
            return None
        return (
            self._namespace(self.head.payload_ns, self.head.payload_ns_in, XC_PAYLOAD_NS),
            name_str(PyBytes_AS_STRING(self.raw) + self.head.payload.off, self.head.payload.len),
        )

    @property
    def children(self):
        """How many child elements there are."""
        return self.head.children

    @property
    def element(self):
        """The stanza as a tree, built at the first use; the same object afterwards."""
        if self.context is NULL:
            raise ValueError("an empty stanza")
        if self._element is None:
            self._element = element_build(<const uint8_t *>PyBytes_AS_STRING(self.raw), len(self.raw), self.context)
        return self._element

    def tobytes(self):
        """Bytes that mean the same in any stream with this stream's default namespace.

        They are `raw`, unless the stanza uses a prefix that only this stream's root declares: then it is written anew.
        """
        if not self.head.outer_prefix:
            return self.raw
        # Not `self.element`, which its users may have changed.
        element = element_build(<const uint8_t *>PyBytes_AS_STRING(self.raw), len(self.raw), self.context)
        return element_tobytes(element, context_default_ns(self.context))

    def __repr__(self):
        parts = [f"{key}={value!r}" for key, value in (("to", self.to), ("from", self.from_), ("id", self.id), ("type", self.type))
                 if value is not None]
        return f"<Stanza {' '.join([self.name, *parts])}, {len(self.raw)} bytes>"


cdef Stanza stanza_new(const uint8_t *raw, const xc_head *head, xc_context *context):
    cdef Stanza stanza = Stanza.__new__(Stanza)
    stanza.head = head[0]
    stanza.context = xc_context_keep(context)
    stanza.raw = PyBytes_FromStringAndSize(<const char *>raw, head.size)
    return stanza


# ---- the tree ----

cdef struct Bind:
    const uint8_t *prefix
    const uint8_t *uri
    size_t prefix_len
    size_t uri_len


# Working memory of one build. A build runs under the GIL from end to end; element_build keeps all other Python code out.
cdef Bind binds[MOST * 2]
cdef uint32_t bind_marks[MOST]
cdef xc_attr attrs[MOST]

cdef bytes XML_NS_UTF8 = XML_NS.encode()


cdef inline bint resolve(uint32_t nbinds, const uint8_t *prefix, size_t n, Bind *found) noexcept:
    cdef uint32_t i = nbinds
    while i > 0:
        i -= 1
        if binds[i].prefix_len == n and memcmp(binds[i].prefix, prefix, n) == 0:
            found[0] = binds[i]
            return True
    if n == 3 and memcmp(prefix, b"xml", 3) == 0:
        found.uri = <const uint8_t *>PyBytes_AS_STRING(XML_NS_UTF8)
        found.uri_len = len(XML_NS_UTF8)
        return True
    found.uri = NULL
    found.uri_len = 0
    return False


cdef inline bint is_declaration(const xc_attr *a) noexcept:
    return (a.name_len == 5 or a.prefix_len == 5) and memcmp(a.name, b"xmlns", 5) == 0


cdef str text_of(const xc_walk *w, bint cdata):
    cdef uint8_t *out
    cdef size_t n
    if not w.decode:
        return PyUnicode_DecodeUTF8(<const char *>w.text, w.text_len, NULL)
    if not cdata:
        return decoded(w.text, w.text_len, False)
    out = <uint8_t *>malloc(w.text_len + 1)
    if out is NULL:
        raise MemoryError
    try:
        n = xc_decode_lines(w.text, w.text_len, out)
        return PyUnicode_DecodeUTF8(<const char *>out, n, NULL)
    finally:
        free(out)


cdef Element element_build(const uint8_t *raw, size_t size, const xc_context *context):
    """The tree of one element that the parser has passed; `context` gives the declarations around it."""
    cdef int collecting = PyGC_Disable()  # a finalizer could build a tree too
    try:
        return build(raw, size, context)
    finally:
        if collecting:
            PyGC_Enable()


cdef Element build(const uint8_t *raw, size_t size, const xc_context *context):
    cdef xc_walk w
    cdef xc_token token
    cdef xc_attr *a
    cdef Bind found
    cdef uint32_t nbinds = 0, i, depth = 0, outside
    cdef list open_ = []
    cdef list kept = []  # decoded namespace names that `binds` points into
    cdef Element element = None, parent = None, last = None
    cdef str text = None, key
    cdef list pieces = None  # of the text, if there are several
    cdef bytes uri
    cdef dict attrib
    for i in range(context.nbinds):
        binds[nbinds].prefix = context.bytes + context.binds[i].prefix.off
        binds[nbinds].prefix_len = context.binds[i].prefix.len
        binds[nbinds].uri = context.bytes + context.binds[i].uri.off
        binds[nbinds].uri_len = context.binds[i].uri.len
        nbinds += 1
    w.p = raw
    w.end = raw + size
    w.attrs = attrs
    while True:
        token = xc_walk_next(&w)
        if token == XC_T_TEXT or token == XC_T_CDATA:
            if text is None:
                text = text_of(&w, token == XC_T_CDATA)
            else:
                pieces = pieces or [text]
                pieces.append(text_of(&w, token == XC_T_CDATA))
            continue
        if text is not None:
            if pieces is not None:
                text = "".join(pieces)
                pieces = None
            if not text:
                pass
            elif last is None:
                parent._text = text
            else:
                last._tail = text
            text = None
        if token == XC_T_START or token == XC_T_EMPTY:
            outside = nbinds
            for i in range(w.nattrs):
                a = &attrs[i]
                if is_declaration(a):
                    binds[nbinds].prefix = a.name + 6
                    binds[nbinds].prefix_len = 0 if a.name_len == 5 else a.name_len - 6
                    if a.decode:
                        uri = decoded(a.value, a.value_len, True).encode()
                        kept.append(uri)
                        binds[nbinds].uri = <const uint8_t *>PyBytes_AS_STRING(uri)
                        binds[nbinds].uri_len = len(uri)
                    else:
                        binds[nbinds].uri = a.value
                        binds[nbinds].uri_len = a.value_len
                    nbinds += 1
            resolve(nbinds, w.text, w.prefix_len, &found)
            if w.prefix_len:
                w.text += w.prefix_len + 1
                w.text_len -= w.prefix_len + 1
            element = element_new(name_tag(<const char *>found.uri, found.uri_len, <const char *>w.text, w.text_len))
            if w.nattrs > nbinds - outside:
                attrib = {}
                for i in range(w.nattrs):
                    a = &attrs[i]
                    if is_declaration(a):
                        continue
                    if a.prefix_len:
                        resolve(nbinds, a.name, a.prefix_len, &found)
                        key = name_tag(<const char *>found.uri, found.uri_len,
                                       <const char *>a.name + a.prefix_len + 1, a.name_len - a.prefix_len - 1)
                    else:
                        key = name_str(<const char *>a.name, a.name_len)
                    attrib[key] = (decoded(a.value, a.value_len, True) if a.decode
                                   else PyUnicode_DecodeUTF8(<const char *>a.value, a.value_len, NULL))
                element._attrib = attrib
            if parent is not None:
                element_append(parent, element)
            if token == XC_T_START:
                bind_marks[depth] = outside
                depth += 1
                open_.append(parent)
                parent = element
                last = None
                continue
            nbinds = outside
            last = element
        else:
            depth -= 1
            nbinds = bind_marks[depth]
            last = parent
            parent = open_.pop()
        if parent is None:
            return last
