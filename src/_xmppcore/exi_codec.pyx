# SPDX-License-Identifier: Apache-2.0
"""EXI documents to bits and back: the compiled part of `_xmppcore.exi`, which is what to use."""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DATA, PyUnicode_DecodeUTF8, PyUnicode_New
from libc.stdint cimport UINT32_MAX, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp, memcpy, memset

import os
import zlib

from _xmppcore.errors import ExiError

from _xmppcore.cxml cimport XC_PAD, c_bool, xc_kernels_default

cdef extern from "<string.h>" nogil:
    void *memmem(const void *p, size_t n, const void *part, size_t size)

cdef uint64_t[2] seed
_random = os.urandom(16)
memcpy(seed, PyBytes_AS_STRING(_random), 16)

_CONDITIONS = {
    XE_E_MEMORY: "no-memory", XE_E_LIMIT: "limit", XE_E_MORE: "incomplete", XE_E_BITS: "damaged", XE_E_HEADER: "header", XE_E_XML: "xml",
    XE_E_STRICT: "strict", XE_E_UNSUPPORTED: "unsupported", XE_E_STOPPED: "stopped",
}

# Representations that datatypeRepresentationMap may name (EXI table 7-1), by their names in the EXI namespace.
_REPRESENTATIONS = {
    "base64Binary": XE_BASE64, "hexBinary": XE_HEX, "boolean": XE_BOOLEAN, "decimal": XE_DECIMAL, "double": XE_FLOAT, "integer": XE_INTEGER,
    "string": XE_STRING, "dateTime": XE_DATETIME, "date": XE_DATE, "time": XE_TIME, "gYearMonth": XE_GYEARMONTH, "gMonthDay": XE_GMONTHDAY,
    "gYear": XE_GYEAR, "gMonth": XE_GMONTH, "gDay": XE_GDAY,
}

# Built-in types that have a representation of their own: what is chosen for a type that they are derived from does not reach them.
_OWN = (*_REPRESENTATIONS, "float")
_XSD = "http://www.w3.org/2001/XMLSchema"


# Buffers that no coder uses at the moment, so that a session has none between bodies; one that has failed keeps its own until it goes on.
cdef struct Spare:
    uint8_t *p
    size_t cap

cdef Spare[5] spares

cdef enum:
    XML_READ, BITS_WRITTEN, TEXT, NAMES, XML_WRITTEN
    SPARE_BYTES = 1 << 16  # larger ones are not kept


cdef inline void lend(int which, xe_out *to) noexcept:
    if to.p is NULL:
        to.p, to.cap = spares[which].p, spares[which].cap
        spares[which].p, spares[which].cap = NULL, 0


cdef inline void give_back(int which, xe_out *of) noexcept:
    if of.p is not NULL and spares[which].p is NULL and of.cap <= SPARE_BYTES:
        spares[which].p, spares[which].cap = of.p, of.cap
    else:
        xe_out_free(of)
    of.p = NULL
    of.len = of.cap = 0


cdef object error_of(const xe_coder *c):
    if c.error == XE_E_MEMORY:
        return MemoryError()
    return ExiError(_CONDITIONS.get(c.error, "damaged"), c.why.decode() if c.why is not NULL else "")


cdef xe_span span(bytes text):
    cdef xe_span s
    s.p = <const uint8_t *>PyBytes_AS_STRING(text)
    s.n = len(text)
    return s


cdef str string(xe_span s):
    cdef str made
    if not s.n:
        return ""
    if xe_characters(s) != s.n:
        return PyUnicode_DecodeUTF8(<const char *>s.p, s.n, NULL)
    made = PyUnicode_New(s.n, 127)
    memcpy(PyUnicode_DATA(made), s.p, s.n)
    return made


cdef str string_or_none(xe_span s):
    return string(s) if s.p is not NULL else None


@cython.final
cdef class Grammar:
    """The tables of a set of schemas, as the compiler of ``xiot.exi`` makes them; shared by any number of coders, read-only."""

    def __cinit__(self, bytes tables not None):
        self.size = len(tables)
        self.bytes = <uint8_t *>calloc(1, self.size + XE_PAD)
        if self.bytes is NULL:
            raise MemoryError
        memcpy(self.bytes, PyBytes_AS_STRING(tables), self.size)
        if not xe_grammar_open(&self.g, self.bytes, self.size):
            raise ValueError("no EXI grammar tables, or damaged ones")
        self.index = malloc(xe_grammar_index_bytes(&self.g))
        if self.index is NULL:
            raise MemoryError
        xe_grammar_index(&self.g, self.index)
        self.roots = [None] * self.g.n[XE_S_NAMES]

    def __dealloc__(self):
        free(self.bytes)
        free(self.index)

    @property
    def size_bytes(self):
        """Size of the tables."""
        return self.size

    @property
    def globals(self):
        """How many global elements the schemas declare."""
        return self.g.n_globals

    def tables(self):
        """The tables as bytes."""
        return PyBytes_FromStringAndSize(<char *>self.bytes, self.size)


cdef class _Coder:
    cdef object grammar  # Grammar or None: keeps the tables alive
    cdef const xe_grammar *g
    cdef xe_options o
    cdef xe_limits l
    cdef bytes remap
    cdef object failure  # an exception out of a callback

    def __cinit__(self, grammar, options, *, max_depth=256, max_attributes=1024, max_value_bytes=1 << 24, max_output_bytes=1 << 28,
                  max_expansion=0, max_table_bytes=1 << 26, max_list_items=1 << 20, max_block_events=1 << 22):
        if options.self_contained:
            raise ExiError("unsupported", "self-contained elements")
        if options.dtd:
            raise ExiError("unsupported", "document types")
        self.grammar = grammar
        self.g = &(<Grammar?>grammar).g if grammar is not None else &xe_schemaless
        memset(&self.o, 0, sizeof(self.o))
        self.o.strict = options.strict
        self.o.fragment = options.fragment
        self.o.comments = options.comments
        self.o.pis = options.pis
        self.o.dtd = options.dtd
        self.o.prefixes = options.prefixes
        self.o.lexical = options.lexical
        self.o.compress = options.compression
        self.o.channels = options.compression or options.alignment == "pre-compression"
        self.o.aligned = self.o.channels or options.alignment == "byte-aligned"
        self.o.sorted = options.sorted_attributes
        self.o.plain = options.plain_numbers
        self.o.block_size = min(options.block_size, UINT32_MAX - 1)
        self.o.value_max = XE_NONE if options.value_max_length is None else min(options.value_max_length, UINT32_MAX - 1)
        self.o.value_capacity = (
            XE_NONE if options.value_partition_capacity is None else min(options.value_partition_capacity, UINT32_MAX - 1)
        )
        self.o.local_values = options.local_value_partitions
        self.o.max_grammars = XE_NONE if options.max_grammars is None else options.max_grammars
        self.o.max_productions = XE_NONE if options.max_productions is None else options.max_productions
        self.l.depth = max_depth
        self.l.attributes = max_attributes
        self.l.value_bytes = max_value_bytes
        self.l.output_bytes = max_output_bytes
        self.l.expansion = max_expansion
        self.l.table_bytes = max_table_bytes
        self.l.list_items = max_list_items
        self.l.block_events = max_block_events
        self.map_datatypes(options.datatype_representations)

    cdef object name_id(self, str uri_text, str local):
        cdef bytes raw_uri = uri_text.encode(), raw_local = local.encode()
        cdef uint32_t uri = xe_find_uri(self.g, span(raw_uri))
        cdef uint32_t name = XE_NONE if uri == XE_NONE else xe_find_name(self.g, uri, span(raw_local))
        return None if name == XE_NONE else name

    cdef int map_datatypes(self, object pairs) except -1:
        """Which datatypes have another representation: the nearest named ancestor decides (EXI section 7.4)."""
        cdef uint32_t i, count = self.g.n[XE_S_DATATYPES]
        cdef const xe_datatype *d
        if not pairs or not self.g.informed:
            return 0
        chosen = {}
        for (uri_text, local), (namespace, representation) in pairs:
            if namespace != "http://www.w3.org/2009/exi" or representation not in _REPRESENTATIONS:
                raise ExiError("unsupported", f"datatype representation {{{namespace}}}{representation}")
            chosen[self.name_id(uri_text, local)] = _REPRESENTATIONS[representation]
        chosen.pop(None, None)
        own = {self.name_id(_XSD, local) for local in _OWN}
        made = bytearray(b"\xff" * count)
        for i in range(count):  # ancestors come first
            d = self.g.datatypes + i
            kind = chosen.get(d.name)
            if kind is None and d.parent < count and made[d.parent] != 0xFF:
                kind = made[d.parent]
                if d.name in own or (d.kind == XE_ENUM and self.g.datatypes[d.parent].kind != XE_ENUM):
                    kind = None
            if kind == XE_INTEGER and d.base in (XE_NBIT, XE_UNSIGNED):
                kind = d.base
            if kind is not None:
                made[i] = kind
        self.remap = bytes(made)
        self.o.remap = <const uint8_t *>PyBytes_AS_STRING(self.remap)
        return 0


cdef c_bool deflate(void *ctx, const uint8_t *p, size_t n, xe_out *out) noexcept:
    try:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        data = packer.compress(p[:n]) + packer.flush()
    except Exception:
        return False
    xe_put_bytes(out, <const uint8_t *>PyBytes_AS_STRING(data), len(data))
    return True


cdef c_bool inflate(void *ctx, const uint8_t *p, size_t n, size_t *used, xe_out *out) noexcept:
    try:
        unpacker = zlib.decompressobj(-15)
        data = unpacker.decompress(p[:n], out.most)
        if not unpacker.eof:
            if unpacker.unconsumed_tail:
                out.error = XE_E_LIMIT
            return False
        used[0] = n - len(unpacker.unused_data)
    except Exception:
        return False
    xe_put_bytes(out, <const uint8_t *>PyBytes_AS_STRING(data), len(data))
    return True


@cython.final
cdef class Encoder(_Coder):
    """XML or events to one EXI body after the other. See `_xmppcore.exi.Session`."""
    cdef xe_encoder e
    cdef bint ready
    cdef xe_out read

    def __init__(self, grammar, options, **limits):
        self.ready = xe_encoder_init(&self.e, self.g, &self.o, &self.l, seed)
        if not self.ready:
            raise MemoryError
        self.e.c.zip.deflate = deflate
        self.read.most = <size_t>-1
        self.e.kernels = xc_kernels_default()

    def __dealloc__(self):
        if self.ready:
            xe_encoder_free(&self.e)
        xe_out_free(&self.read)

    @property
    def table_bytes(self):
        """Memory of string tables and learned grammars."""
        return self.e.c.t.used

    cdef object result(self, bint pad):
        cdef const uint8_t *bytes
        cdef uint64_t bits
        if not xe_finish(&self.e, pad, &bytes, &bits):
            raise error_of(&self.e.c)
        made = PyBytes_FromStringAndSize(<const char *>bytes, (bits + 7) // 8)
        self.rest()
        return made, bits

    cdef void rest(self) noexcept:
        give_back(XML_READ, &self.read)
        give_back(BITS_WRITTEN, &self.e.out)

    cdef uint8_t *room(self, size_t n) noexcept:
        """Where XML to be encoded stands, with zeros behind n bytes; NULL if memory is out."""
        lend(XML_READ, &self.read)
        lend(BITS_WRITTEN, &self.e.out)
        self.read.error = 0
        if not xe_out_room(&self.read, n + XC_PAD):
            return NULL
        memset(self.read.p + n, 0, XC_PAD)
        return self.read.p

    cdef int begin(self, const uint8_t *p, size_t n, const uint8_t *header, size_t bits, bint keep) except -1:
        if self.room(n) is NULL:
            raise MemoryError
        memcpy(self.read.p, p, n)
        xe_encoder_begin(&self.e, header, bits, keep)
        if not xe_encode_xml(&self.e, self.read.p, n):
            raise error_of(&self.e.c)
        return 0

    cdef int xml(self, object data, const uint8_t *header, size_t bits, bint keep) except -1:
        cdef Py_buffer view
        if type(data) is bytes:
            return self.begin(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), header, bits, keep)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            return self.begin(<const uint8_t *>view.buf, view.len, header, bits, keep)
        finally:
            PyBuffer_Release(&view)

    cdef bytes body(self, object data, const uint8_t *header, size_t bits, bint keep):
        # A body that is filled up to a whole octet.
        cdef const uint8_t *made
        cdef uint64_t made_bits
        self.xml(data, header, bits, keep)
        if not xe_finish(&self.e, True, &made, &made_bits):
            raise error_of(&self.e.c)
        body = PyBytes_FromStringAndSize(<const char *>made, <Py_ssize_t>(made_bits // 8))
        self.rest()
        return body

    def encode(self, data, bytes header=b"", size_t bits=0, bint keep=False, bint pad=True):
        """Encode an XML document (bytes) behind `bits` bits of `header`. Returns the bytes, and how many bits of them count."""
        self.xml(data, <const uint8_t *>PyBytes_AS_STRING(header), bits, keep)
        return self.result(pad)

    def encode_events(self, events, header=b"", bits=0, keep=False, pad=True):
        """Encode events: what `Decoder.events` returns."""
        cdef bytes raw = header
        lend(BITS_WRITTEN, &self.e.out)
        xe_encoder_begin(&self.e, <const uint8_t *>PyBytes_AS_STRING(raw), bits, keep)
        scopes = []
        pending = None
        for event in events:
            kind = event[0]
            if kind in ("ns", "attribute", "type"):
                if pending is None:
                    raise ValueError(f"{kind} outside of a start tag")
                pending.append(event)
                continue
            if pending is not None:
                self.start(pending, scopes)
                pending = None
            if kind == "start":
                pending = [event]
            else:
                self.other(event, scopes)
        if pending is not None:
            raise ValueError("events end in a start tag")
        return self.result(pad)

    cdef int start(self, list events, list scopes) except -1:
        cdef uint32_t n_bindings = 0, n = 0
        cdef xe_binding *bindings = <xe_binding *>calloc(len(events), sizeof(xe_binding))
        cdef xe_attribute *attributes = <xe_attribute *>calloc(len(events), sizeof(xe_attribute))
        cdef xe_qname q
        held = []  # keeps the bytes alive
        declared = {}
        memset(&q, 0, sizeof(q))
        try:
            if bindings is NULL or attributes is NULL:
                raise MemoryError
            for event in events:
                if event[0] == "start":
                    self.name(&q, event[1], event[2], event[3], held)
                elif event[0] == "ns":
                    declared[event[1]] = event[2]
                    self.put(&bindings[n_bindings].prefix, event[1], held)
                    self.put(&bindings[n_bindings].uri, event[2], held)
                    if event[3]:
                        q.prefix = bindings[n_bindings].prefix
                    n_bindings += 1
                else:
                    self.name(&attributes[n].name, event[1], event[2], event[3], held)
                    attributes[n].type.uri_id = attributes[n].type.name_id = XE_NONE
                    if event[0] == "type":
                        self.name(&attributes[n].type, event[4], event[5], event[6], held)
                        text = event[5] if not event[6] else f"{event[6]}:{event[5]}"
                        self.put(&attributes[n].value, text, held)
                    else:
                        self.put(&attributes[n].value, event[4], held)
                    n += 1
            scopes.append(declared)
            if not xe_start(&self.e, &q, bindings, n_bindings, attributes, n):
                raise error_of(&self.e.c)
        finally:
            free(bindings)
            free(attributes)
        return 0

    cdef int put(self, xe_span *to, str text, list held) except -1:
        cdef bytes raw = text.encode() + bytes(XE_PAD)
        held.append(raw)
        to.p = <const uint8_t *>PyBytes_AS_STRING(raw)
        to.n = len(raw) - XE_PAD
        return 0

    cdef int name(self, xe_qname *to, str uri, str local, object prefix, list held) except -1:
        to.uri_id = to.name_id = XE_NONE
        self.put(&to.uri, uri, held)
        self.put(&to.local, local, held)
        if prefix is not None:
            self.put(&to.prefix, prefix, held)
        return 0

    cdef int other(self, tuple event, list scopes) except -1:
        cdef xe_span first, second
        held = []
        kind = event[0]
        good = False
        if kind == "end":
            good = xe_end(&self.e)
        elif kind == "text":
            self.put(&first, event[1], held)
            good = xe_characters_event(&self.e, first)
        elif kind == "comment":
            self.put(&first, event[1], held)
            good = xe_comment(&self.e, first)
        elif kind == "instruction":
            self.put(&first, event[1], held)
            self.put(&second, event[2], held)
            good = xe_instruction(&self.e, first, second)
        else:
            raise ValueError(f"no such event: {kind!r}")
        if not good:
            raise error_of(&self.e.c)
        return 0


# The sink that makes Python events: ctx is the list.

cdef object prefix_of(const xe_qname *q):
    return string(q.prefix) if q.prefix.p is not NULL else None

cdef c_bool on_start(void *ctx, const xe_qname *q) noexcept:
    (<list>ctx).append(("start", string(q.uri), string(q.local), prefix_of(q)))
    return True

cdef c_bool on_binding(void *ctx, xe_span prefix, xe_span uri, c_bool own) noexcept:
    (<list>ctx).append(("ns", string(prefix), string(uri), bool(own)))
    return True

cdef c_bool on_attribute(void *ctx, const xe_qname *q, xe_span value) noexcept:
    (<list>ctx).append(("attribute", string(q.uri), string(q.local), prefix_of(q), string(value)))
    return True

cdef c_bool on_type(void *ctx, const xe_qname *q, const xe_qname *v) noexcept:
    (<list>ctx).append(("type", string(q.uri), string(q.local), prefix_of(q), string(v.uri), string(v.local), prefix_of(v)))
    return True

cdef c_bool on_text(void *ctx, xe_span text) noexcept:
    (<list>ctx).append(("text", string(text)))
    return True

cdef c_bool on_end(void *ctx) noexcept:
    (<list>ctx).append(("end",))
    return True

cdef c_bool on_comment(void *ctx, xe_span text) noexcept:
    (<list>ctx).append(("comment", string(text)))
    return True

cdef c_bool on_instruction(void *ctx, xe_span target, xe_span data) noexcept:
    (<list>ctx).append(("instruction", string(target), string(data)))
    return True

cdef c_bool on_attributes_end_stop(void *ctx) noexcept:
    return False


@cython.final
cdef class Decoder(_Coder):
    """EXI bodies to XML or events, one after the other. See `_xmppcore.exi.Session`."""
    cdef xe_decoder d
    cdef xe_writer w
    cdef bint ready

    def __init__(self, grammar, options, **limits):
        self.ready = xe_decoder_init(&self.d, self.g, &self.o, &self.l, seed)
        if not self.ready:
            raise MemoryError
        xe_writer_init(&self.w, self.l.output_bytes)
        self.d.c.zip.inflate = inflate

    def __dealloc__(self):
        if self.ready:
            xe_decoder_free(&self.d)
            xe_writer_free(&self.w)

    @property
    def table_bytes(self):
        """Memory of string tables and learned grammars."""
        return self.d.c.t.used

    cdef uint64_t read(self, const uint8_t *p, size_t n, uint64_t at, bint keep, const xe_sink *sink, xe_head *head) except? 0:
        # Into a sink; without one, the head only; without that, XML into the writer. Returns the bit behind the body.
        cdef uint64_t end = 0
        cdef bint good
        if at > n * 8:
            raise ValueError("the start is behind the end")
        lend(TEXT, &self.d.text)
        lend(NAMES, &self.w.names)
        lend(XML_WRITTEN, &self.w.out)
        if sink is not NULL:
            good = xe_decode(&self.d, p, n, at, keep, sink, &end)
        elif head is not NULL:
            good = xe_peek(&self.d, p, n, at, keep, head)
        else:
            good = xe_decode_xml(&self.d, p, n, at, keep, &self.w, &end)
        if not good:
            raise error_of(&self.d.c)
        return end

    cdef uint64_t run(self, object data, uint64_t at, bint keep, const xe_sink *sink, xe_head *head) except? 0:
        cdef Py_buffer view
        if type(data) is bytes:
            return self.read(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), at, keep, sink, head)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            return self.read(<const uint8_t *>view.buf, view.len, at, keep, sink, head)
        finally:
            PyBuffer_Release(&view)

    cdef void rest(self) noexcept:
        give_back(TEXT, &self.d.text)
        give_back(NAMES, &self.w.names)
        give_back(XML_WRITTEN, &self.w.out)

    cdef bytes xml(self):
        made = PyBytes_FromStringAndSize(<const char *>self.w.out.p, <Py_ssize_t>self.w.out.len)
        self.rest()
        return made

    cdef bytes body(self, object data, uint64_t at, bint keep):
        self.run(data, at, keep, NULL, NULL)
        return self.xml()

    def decode(self, data, uint64_t at=0, bint keep=False):
        """Decode one body that begins at bit `at`. Returns its XML as bytes, and the bit behind it."""
        cdef uint64_t end = self.run(data, at, keep, NULL, NULL)
        return self.xml(), end

    def head(self, data, uint64_t at=0, bint keep=False):
        """What routing asks of the body that begins at bit `at`, without decoding the rest: namespace and name of its root, and the
        attributes to, from, id, type, None for each that it does not have. With `keep` nothing is learned from it."""
        cdef xe_head h
        cdef object root
        self.run(data, at, keep, NULL, &h)
        if h.name < self.g.n[XE_S_NAMES] and self.grammar is not None:
            root = (<Grammar>self.grammar).roots[h.name]
            if root is None:
                root = (<Grammar>self.grammar).roots[h.name] = self.root(h.name)
        else:
            root = self.root(h.name)
        uri, name = <tuple>root
        found = uri, name, string_or_none(h.to), string_or_none(h.from_), string_or_none(h.id), string_or_none(h.type)
        self.rest()
        return found

    cdef tuple root(self, uint32_t name):
        return string(xe_uri_of(&self.d.c.t, xe_uri_of_name(&self.d.c.t, name))), string(xe_name_of(&self.d.c.t, name))

    cdef xe_sink events_sink(self, list events):
        cdef xe_sink sink
        sink.start, sink.binding, sink.attribute, sink.type = on_start, on_binding, on_attribute, on_type
        sink.text, sink.end, sink.comment, sink.instruction = on_text, on_end, on_comment, on_instruction
        sink.attributes_end = NULL
        sink.ctx = <void *>events
        return sink

    def events(self, data, at=0, keep=False):
        """Decode one body that begins at bit `at`. Returns a list of events, and the bit behind it.

        Events: ("start", uri, local, prefix), ("ns", prefix, uri, own), ("attribute", uri, local, prefix, value),
        ("type", uri, local, prefix, its uri, its local name, its prefix) for xsi:type, ("text", text), ("end",), ("comment", text),
        ("instruction", target, data). A prefix is None if prefixes are not preserved; `own` says that it is the element's.
        """
        events = []
        cdef xe_sink sink = self.events_sink(events)
        end = self.run(data, at, keep, &sink, NULL)
        self.rest()
        return events, end

    def peek(self, data, at=0, keep=False):
        """Decode up to the last attribute of the root: its events. With `keep` nothing is learned from it."""
        events = []
        cdef xe_sink sink = self.events_sink(events)
        sink.attributes_end = on_attributes_end_stop
        try:
            self.run(data, at, keep, &sink, NULL)
        except ExiError as error:
            if error.condition != "stopped":
                raise
        self.rest()
        return events


cdef enum:
    DECLARED = 22  # bytes of ' xmlns="jabber:client"', as the decoder writes it

cdef c_bool move(xc_coding *coding, const xc_piece *tag, int count, const uint8_t **octets, size_t *n) noexcept:
    return (<Mover>coding.owner).move(tag, count, octets, n)


@cython.final
cdef class Mover:
    """Bodies to stanzas in a buffer, and on to other links as they came, where `keep` does not hinder it."""

    def __cinit__(self, Encoder encoder not None, Decoder decoder not None, bint keep):
        self.encoder = encoder
        self.decoder = decoder
        self.keep = keep
        self.coding.move = move
        self.coding.owner = <void *>self

    cdef int read(self, bytearray octets, uint64_t at, bint keep) except -1:
        """Decode the body that begins at bit `at`. Until `octets` change, it can be moved once it was `put`."""
        cdef Decoder d = <Decoder>self.decoder
        self.coding.raw = NULL
        self.body = <const uint8_t *>PyByteArray_AS_STRING(octets)
        self.end = d.read(self.body, PyByteArray_GET_SIZE(octets), at, keep, NULL, NULL)
        self.xml, self.size = d.w.out.p, d.w.out.len
        self.name, self.cut = 1, 0
        while self.name < self.size and self.xml[self.name] not in b" />":
            self.name += 1
        if self.size > self.name + DECLARED and not memcmp(self.xml + self.name, b' xmlns="jabber:client"', DECLARED):
            self.cut = DECLARED
            self.size -= DECLARED
        return 0

    cdef void put(self, uint8_t *to) noexcept:
        """Write the XML of the body, without jabber:client as the default namespace; once only."""
        memcpy(to, self.xml, self.name)
        memcpy(to + self.name, self.xml + self.name + self.cut, self.size - self.name)
        if self.cut and not self.keep and (<Decoder>self.decoder).d.seam.at:
            self.coding.raw = to
            self.coding.size = <uint32_t>self.size
            self.coding.tag = <uint32_t>((<Decoder>self.decoder).d.seam.xml - self.cut)
        (<Decoder>self.decoder).rest()
        self.xml = NULL

    cdef bint says(self, bytes text, size_t within) noexcept:
        """Whether the first bytes of the XML have this text."""
        return memmem(self.xml, min(within, self.size + self.cut), PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)) is not NULL

    cdef bint move(self, const xc_piece *tag, int count, const uint8_t **octets, size_t *n) noexcept:
        """The body behind a start tag in pieces, of which the second is the attribute from."""
        cdef Encoder e = <Encoder>self.encoder
        cdef const uint8_t *jid = tag[1].p + 7
        cdef size_t jid_size = tag[1].n - 8, size = DECLARED + 1
        cdef uint8_t *to
        cdef uint64_t bits
        cdef int i
        # Another encoder would write an address that stands in the content, too, by its number.
        if memchr(jid, c"&", jid_size) is not NULL:
            return False
        if memmem(self.coding.raw + self.coding.tag, self.coding.size - self.coding.tag, jid, jid_size) is not NULL:
            return False
        for i in range(count):
            size += tag[i].n
        to = e.room(size)
        if to is NULL:
            return False
        for i in range(count):
            memcpy(to, tag[i].p, tag[i].n)
            to += tag[i].n
            if i == 0:
                memcpy(to, b' xmlns="jabber:client"', DECLARED)
                to += DECLARED
        to[0] = c">"
        xe_encoder_begin(&e.e, NULL, 0, False)
        if not xe_encode_start(&e.e, e.read.p, size) or not xe_move(&e.e, &(<Decoder>self.decoder).d, self.body, self.end):
            return False
        if not xe_finish(&e.e, True, octets, &bits):
            return False
        n[0] = <size_t>(bits // 8)
        return True


_BOUNDS = {
    "max_depth": 64, "max_attributes": 64, "max_value_bytes": 1 << 16, "max_output_bytes": 1 << 20, "max_expansion": 256,
    "max_table_bytes": 1 << 18, "max_list_items": 4096, "max_block_events": 1 << 16,
}


@cython.final
cdef class Session:
    """One document after the other between two ends that agree on the options (XEP-0322).

    `keep`: string tables and learned grammars are kept from one body to the next. `header_per_body`: each body has the header octet
    0x80 in front. Both directions are independent. `limits` are those of `Encoder` and `Decoder`; the defaults suit stanzas.
    """
    cdef readonly object options
    cdef Encoder encoder
    cdef Decoder decoder
    cdef bint keep, encoded, decoded
    cdef size_t bits  # of the header in front of each body

    def __init__(self, options=None, grammar=None, *, keep=False, header_per_body=False, **limits):
        if options is None:
            from _xmppcore.exi import Options

            options = Options()
        bounds = {**_BOUNDS, **limits}
        self.options = options
        self.keep = keep
        self.bits = 8 if header_per_body else 0
        self.encoder = Encoder(grammar, options, **bounds)
        self.decoder = Decoder(grammar, options, **bounds)

    @property
    def table_bytes(self):
        """Memory of string tables and learned grammars, both directions."""
        return self.encoder.e.c.t.used + self.decoder.d.c.t.used

    def encode(self, xml):
        """The next body of ours. After an `ExiError` a session that keeps its tables is at its end."""
        cdef uint8_t header = 0x80
        cdef bytes data = self.encoder.body(xml, &header, self.bits, self.keep and self.encoded)
        self.encoded = True
        return data

    def decode(self, data):
        """The next body of theirs, as XML."""
        cdef bytes xml = self.decoder.body(data, self.start(data), self.keep and self.decoded)
        self.decoded = True
        return xml

    def decode_events(self, data):
        """The next body of theirs, as events."""
        events, _ = self.decoder.events(data, self.start(data), self.keep and self.decoded)
        self.decoded = True
        return events

    def peek(self, data):
        """The events of the next body of theirs up to the last attribute of its root; it is still the next one then."""
        return self.decoder.peek(data, self.start(data), self.keep and self.decoded)

    def head(self, data):
        """Namespace and name of the root of the next body of theirs, and its attributes to, from, id, type, None for each that it does
        not have; it is still the next one then."""
        return self.decoder.head(data, self.start(data), self.keep and self.decoded)

    cdef uint64_t start(self, object data) except? 0:
        if self.bits and (not len(data) or data[0] != 0x80):
            raise ExiError("header", "no EXI header")
        return self.bits
