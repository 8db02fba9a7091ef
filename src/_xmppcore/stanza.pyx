# SPDX-License-Identifier: Apache-2.0
"""Stanza: a first-level child of a stream, kept as the bytes that came.

Theory of operation: the parser has checked the bytes and found the header; reading `.to` decodes one slice, `.element` walks the bytes
once more and builds the tree. Most stanzas of a server are looked at by their header only, and never become a tree.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy

from _xmppcore.cxml cimport (
    XC_FROM, XC_ID, XC_IN_CONTEXT, XC_IN_RAW, XC_IN_XML, XC_LANG, XC_NS, XC_PAYLOAD_NS, XC_T_CDATA,
    XC_T_END, XC_T_START, XC_T_TEXT, XC_TO, XC_TYPE, xc_attr, xc_context, xc_context_keep, xc_context_release,
    xc_characters, xc_decode_lines, xc_decode_text, xc_decode_value, xc_head, xc_span, xc_token, xc_walk, xc_walk_next, xc_widen,
)
from _xmppcore.element cimport Element, element_tobytes
from _xmppcore.names cimport name_str, name_tag

cdef extern from "Python.h":
    int PyGC_Disable() noexcept
    int PyGC_Enable() noexcept
    list PyList_New(Py_ssize_t n)
    void PyList_SET_ITEM(list items, Py_ssize_t i, PyObject *stolen) noexcept
    str PyUnicode_New(Py_ssize_t n, Py_UCS4 highest)
    void *PyUnicode_DATA(str text) noexcept

cdef str XML_NS = "http://www.w3.org/XML/1998/namespace"


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


cdef struct Open:  # an element whose end tag is to come
    PyObject *element   # borrowed from `made`
    size_t first        # its children begin here in `made`
    uint32_t nbinds     # declarations in force outside of it
    int default_ns      # and which of them is the default namespace; -1: none


# Working memory of one build. A build runs under the GIL from end to end; element_build keeps all other Python code out.
cdef Bind binds[MOST * 2]
cdef Open opened[MOST]
cdef xc_attr attrs[MOST]
cdef PyObject **made = NULL  # owned elements that no list of children owns yet: siblings follow their parent
cdef size_t room = 0

cdef enum:
    ROOM_KEPT = 4096  # elements for which memory is kept between builds

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


# Short strings that come again and again: names of attributes, and values such as "chat" and "true". One place for each hash value. They
# are compared as numbers, so that looking one up takes less than making it. Names have a table of their own, since values come and go.
# Both together hold 120 KB at most.
cdef enum:
    SHORT = 8      # bytes, at most
    PLACES = 1024  # power of two

cdef struct Short:
    uint64_t word   # all bytes, see short_word
    size_t n        # bytes; 0: free
    PyObject *text  # owned

cdef Short short_names[PLACES]
cdef Short short_values[PLACES]


cdef inline uint64_t short_word(const uint8_t *p, size_t n) noexcept:
    """The n bytes at p, from 1 to SHORT: strings of one length are the same if this is."""
    cdef uint32_t front, back
    if n < 4:
        return p[0] | <uint64_t>p[n >> 1] << 8 | <uint64_t>p[n - 1] << 16
    memcpy(&front, p, 4)
    memcpy(&back, p + n - 4, 4)
    return front | <uint64_t>back << 32


cdef inline Short *short_place(Short *table, uint64_t word) noexcept:
    return &table[(word * <uint64_t>0x9FB21C651E98DF25) >> 54]


cdef inline void keep_short(Short *place, uint64_t word, size_t n, str text) noexcept:
    Py_INCREF(text)
    Py_XDECREF(place.text)
    place.text = <PyObject *>text
    place.word = word
    place.n = n


cdef inline str plain_str(const uint8_t *p, size_t n, bint ascii):
    """The n bytes at p as they are."""
    cdef str text
    cdef uint32_t highest = 0x7F
    if n < 3:  # of one character there is a shared str
        return PyUnicode_DecodeUTF8(<const char *>p, n, NULL)
    text = PyUnicode_New(n if ascii else xc_characters(p, n, &highest), highest)
    if ascii:
        memcpy(PyUnicode_DATA(text), p, n)
    else:
        xc_widen(p, n, highest, PyUnicode_DATA(text))
    return text


cdef str attribute_name(const xc_attr *a):
    cdef Short *place
    cdef uint64_t word
    cdef str text
    if a.name_len > SHORT:
        return name_str(<const char *>a.name, a.name_len)
    word = short_word(a.name, a.name_len)
    place = short_place(short_names, word)
    if place.word == word and place.n == a.name_len:
        return <str>place.text
    text = name_str(<const char *>a.name, a.name_len)
    keep_short(place, word, a.name_len, text)
    return text


cdef str attribute_value(const xc_attr *a):
    cdef Short *place
    cdef uint64_t word
    cdef str text
    if a.decode:
        return decoded(a.value, a.value_len, True)
    if not a.ascii or a.value_len > SHORT or a.value_len < 2:
        return plain_str(a.value, a.value_len, a.ascii)
    word = short_word(a.value, a.value_len)
    place = short_place(short_values, word)
    if place.word == word and place.n == a.value_len:
        return <str>place.text
    text = plain_str(a.value, a.value_len, True)
    keep_short(place, word, a.value_len, text)
    return text


cdef str text_of(const xc_walk *w, bint cdata):
    cdef uint8_t *out
    cdef size_t n
    if not w.decode:
        return plain_str(w.text, w.text_len, w.ascii)
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
    global made, room
    cdef int collecting = PyGC_Disable()  # a finalizer could build a tree too
    cdef size_t count = 0
    try:
        build(raw, size, context, &count)
        count = 0
        return <Element><object>take(made[0])
    finally:
        while count > 0:  # after an error
            count -= 1
            Py_XDECREF(made[count])
        if room > ROOM_KEPT:
            free(made)
            made = NULL
            room = 0
        if collecting:
            PyGC_Enable()


cdef inline object take(PyObject *owned):
    """The object, of which the caller had a reference that now is the result's."""
    cdef object result = <object>owned
    Py_XDECREF(owned)
    return result


cdef inline int put(Element element, size_t *count) except -1:
    global made, room
    cdef PyObject **grown
    if count[0] == room:
        grown = <PyObject **>realloc(made, 2 * (room + 32) * sizeof(PyObject *))
        if grown is NULL:
            raise MemoryError
        made = grown
        room = 2 * (room + 32)
    Py_INCREF(element)
    made[count[0]] = <PyObject *>element
    count[0] += 1
    return 0


cdef inline list children(size_t first, size_t *count):
    """The elements made from `first` on, moved to a list."""
    cdef list result = PyList_New(<Py_ssize_t>(count[0] - first))
    cdef size_t i
    for i in range(first, count[0]):
        PyList_SET_ITEM(result, i - first, made[i])
    count[0] = first
    return result


cdef dict attributes(const xc_walk *w, uint32_t nbinds):
    """The attributes of the tag in hand that are no declarations."""
    cdef dict attrib = {}
    cdef const xc_attr *a
    cdef Bind found
    cdef uint32_t i
    for i in range(w.nattrs):
        a = &attrs[i]
        if is_declaration(a):
            continue
        if a.prefix_len:
            resolve(nbinds, a.name, a.prefix_len, &found)
            attrib[name_tag(<const char *>found.uri, found.uri_len, <const char *>a.name + a.prefix_len + 1,
                            a.name_len - a.prefix_len - 1)] = attribute_value(a)
        else:
            attrib[attribute_name(a)] = attribute_value(a)
    return attrib


cdef uint32_t bind_context(const xc_context *context, int *default_ns) noexcept:
    """Put the context's declarations into `binds`; returns how many there are. *default_ns is which of them is the default; -1: none."""
    cdef uint32_t i
    default_ns[0] = -1
    for i in range(context.nbinds):
        binds[i].prefix = context.bytes + context.binds[i].prefix.off
        binds[i].prefix_len = context.binds[i].prefix.len
        binds[i].uri = context.bytes + context.binds[i].uri.off
        binds[i].uri_len = context.binds[i].uri.len
        if binds[i].prefix_len == 0:
            default_ns[0] = i
    return context.nbinds


cdef xc_walk walk_of(const uint8_t *raw, size_t size) noexcept:
    """A walk over these bytes, the first token in hand."""
    cdef xc_walk w
    w.p = raw
    w.end = raw + size
    w.attrs = attrs
    xc_walk_next(&w)
    return w


cdef dict start_tag_attributes(const uint8_t *raw, size_t size, const xc_context *context):
    """The attributes of the start tag at `raw`, where the declarations of `context` are in force, its own among them."""
    cdef int default_ns
    cdef int collecting = PyGC_Disable()  # a finalizer could build a tree
    cdef xc_walk w = walk_of(raw, size)
    try:
        return attributes(&w, bind_context(context, &default_ns))
    finally:
        if collecting:
            PyGC_Enable()


cdef set start_tag_prefixes(const uint8_t *raw, size_t size):
    """Which prefixes the start tag at `raw` declares, in UTF-8; b"" is the default namespace."""
    cdef set prefixes = set()
    cdef xc_walk w = walk_of(raw, size)
    cdef const xc_attr *a
    for a in attrs[:w.nattrs]:
        if is_declaration(a):
            prefixes.add((<const char *>a.name)[6:a.name_len] if a.prefix_len else b"")
    return prefixes


cdef int build(const uint8_t *raw, size_t size, const xc_context *context, size_t *count) except -1:
    """Make the element made[0] of the bytes; `count` elements are in `made`, also after an error."""
    cdef xc_walk w
    cdef xc_token token
    cdef xc_attr *a
    cdef Open *top
    cdef Bind found
    cdef uint32_t nbinds, i, depth = 0, outside
    cdef int default_ns, default_outside
    cdef list kept = None  # decoded namespace names that `binds` points into
    cdef Element element
    cdef PyObject *last = NULL  # the element that ended just now; NULL: a start tag stands in front
    cdef str text = None
    cdef list pieces = None  # of the text, if there are several
    cdef bytes uri
    nbinds = bind_context(context, &default_ns)
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
            elif last is NULL:
                (<Element>opened[depth - 1].element)._text = text
            else:
                (<Element>last)._tail = text
            text = None
        if token == XC_T_END:
            depth -= 1
            top = &opened[depth]
            last = top.element
            if top.first < count[0]:
                (<Element>last)._children = children(top.first, count)
            nbinds = top.nbinds
            default_ns = top.default_ns
            if depth == 0:
                return 0
            continue
        outside = nbinds
        default_outside = default_ns
        for i in range(w.nattrs):
            a = &attrs[i]
            if not is_declaration(a):
                continue
            if a.name_len == 5:
                binds[nbinds].prefix_len = 0
                default_ns = nbinds
            else:
                binds[nbinds].prefix = a.name + 6
                binds[nbinds].prefix_len = a.name_len - 6
            if a.decode:
                uri = decoded(a.value, a.value_len, True).encode()
                kept = kept or []
                kept.append(uri)
                binds[nbinds].uri = <const uint8_t *>PyBytes_AS_STRING(uri)
                binds[nbinds].uri_len = len(uri)
            else:
                binds[nbinds].uri = a.value
                binds[nbinds].uri_len = a.value_len
            nbinds += 1
        element = Element.__new__(Element)
        put(element, count)
        if w.prefix_len:
            resolve(nbinds, w.text, w.prefix_len, &found)
            element._tag = name_tag(<const char *>found.uri, found.uri_len, <const char *>w.text + w.prefix_len + 1,
                                    w.text_len - w.prefix_len - 1)
        elif default_ns < 0:
            element._tag = name_str(<const char *>w.text, w.text_len)
        else:
            element._tag = name_tag(<const char *>binds[default_ns].uri, binds[default_ns].uri_len, <const char *>w.text, w.text_len)
        if w.nattrs > nbinds - outside:
            element._attrib = attributes(&w, nbinds)
        if token == XC_T_START:
            top = &opened[depth]
            depth += 1
            top.element = <PyObject *>element
            top.first = count[0]
            top.nbinds = outside
            top.default_ns = default_outside
            last = NULL
        else:
            nbinds = outside
            default_ns = default_outside
            last = <PyObject *>element
            if depth == 0:
                return 0
