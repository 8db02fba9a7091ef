# SPDX-License-Identifier: Apache-2.0
"""Untyped XML tree node and its serialiser.

Theory of operation

An `Element` that is a leaf owns no dict and no list; both are made when first needed. All walks over a tree are loops with a stack
of their own, so that a tree of any depth can be compared, copied, pickled and written without overflowing the C stack. (Freeing is
recursive through `list`, whose deallocator bounds its own nesting.)

The serialiser writes into a buffer on the C stack, which moves to the heap when it is full. It runs no Python code and
makes no object that the garbage collector tracks before it has finished, so nothing can change the tree under it and all its
pointers are borrowed. Text is copied 8 characters at a time until one of them needs care. A name is checked once and then
remembered in a table with one place for each hash value, so a flood of new names costs time but no memory.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_Next
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport sprintf
from libc.string cimport memcmp, memcpy, strlen

from .names cimport is_ncname

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    str PyUnicode_FromObject(object text)
    int PyUnicode_KIND(object text)
    void *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)


@cython.final
@cython.freelist(256)
cdef class Element:
    """A node of an XML tree: name, attributes, text, child elements.

    `tag` is ``"{namespace}local"``, or ``"local"`` without a namespace, and so are the keys of `attrib`. `text` stands behind the
    start tag, `tail` behind the end tag. Names and characters are checked when the tree is written. Elements compare by
    structure (no text equals empty text), are not hashable, and are always true, with children or without.
    """

    def __init__(self, tag, attrib=None, text=None, *children):
        """Make an element; `attrib` is copied. Raises TypeError."""
        self._tag = exact_str(tag)
        self._attrib = dict(attrib) if attrib else None
        self._text = None if text is None else exact_str(text)
        self._tail = None
        self._children = None
        for child in children:
            self.append(child)

    @property
    def tag(self):
        """The name, ``"{namespace}local"`` or ``"local"``."""
        return self._tag

    @tag.setter
    def tag(self, value):
        self._tag = exact_str(value)

    @property
    def ns(self):
        """The namespace, "" if there is none."""
        return self._tag[1:self._tag.rfind("}")] if in_namespace(self._tag) else ""

    @property
    def name(self):
        """The local name."""
        return self._tag[self._tag.rfind("}") + 1:] if in_namespace(self._tag) else self._tag

    @property
    def attrib(self):
        """The attributes; the dict itself, to read and to change."""
        if self._attrib is None:
            self._attrib = {}
        return self._attrib

    @property
    def text(self):
        """The text in front of the first child, or None."""
        return self._text

    @text.setter
    def text(self, value):
        self._text = None if value is None else exact_str(value)

    @property
    def tail(self):
        """The text between this element and its next sibling, or None."""
        return self._tail

    @tail.setter
    def tail(self, value):
        self._tail = None if value is None else exact_str(value)

    def get(self, key, default=None):
        """The attribute `key`, `default` if it is not there."""
        return default if self._attrib is None else self._attrib.get(key, default)

    def set(self, key, value):
        """Set the attribute `key` to `value`. Raises TypeError."""
        self.attrib[exact_str(key)] = exact_str(value)

    # Children

    def __len__(self):
        return 0 if self._children is None else len(self._children)

    def __bool__(self):
        return True

    def __iter__(self):
        return iter(() if self._children is None else self._children)

    def __getitem__(self, index):
        return ([] if self._children is None else self._children)[index]

    def append(self, Element element not None):
        """Add `element` behind the last child."""
        element_append(self, element)

    def extend(self, elements):
        """Add `elements`, any iterable, behind the last child. Raises TypeError."""
        for element in elements:
            self.append(element)

    def insert(self, Py_ssize_t index, Element element not None):
        """Add `element` in front of the child at `index`, which counts as for `list.insert`."""
        if self._children is None:
            self._children = []
        self._children.insert(index, element)

    def remove(self, Element element not None):
        """Take out the child that is `element` itself, not one that equals it. Raises ValueError if there is none."""
        cdef Py_ssize_t i
        for i in range(len(self)):
            if self._children[i] is element:
                del self._children[i]
                return
        raise ValueError("not a child of this element")

    def find(self, str tag not None):
        """The first child called `tag`, or None."""
        cdef Element child
        if self._children is not None:
            for child in self._children:
                if child._tag == tag:
                    return child
        return None

    def findall(self, str tag not None):
        """All children called `tag`, in order."""
        cdef Element child
        return [] if self._children is None else [child for child in self._children if child._tag == tag]

    def findtext(self, tag, default=None):
        """The text of the first child called `tag` ("" if it has none), `default` if there is no such child."""
        cdef Element child = self.find(tag)
        return default if child is None else child._text or ""

    def iter(self):
        """This element and all below it, in document order."""
        cdef list todo = [self]
        cdef Element element
        while todo:
            element = todo.pop()
            yield element
            if element._children is not None:
                todo.extend(reversed(element._children))

    def itertext(self):
        """The pieces of text inside this element, in document order; its own tail is outside."""
        cdef list todo = [self]
        cdef Element element
        while todo:
            node = todo.pop()
            if type(node) is str:
                yield node
                continue
            element = node
            if element._text:
                yield element._text
            for element in reversed(element._children or ()):
                if element._tail:
                    todo.append(element._tail)
                todo.append(element)

    # Whole trees

    def tobytes(self, str default_ns not None=""):
        """This element and all below it as XML in UTF-8, without its tail.

        `default_ns` is the default namespace in force where the bytes will stand (``"jabber:client"`` inside a client's stream). Elements
        are written without prefixes. Reading the bytes gives an equal tree.

        Raises ValueError for what XML 1.0 (fifth edition) and Namespaces in XML 1.0 do not allow: names, characters, the reserved
        namespace; TypeError for an attribute that is not a str.
        """
        return element_tobytes(self, default_ns)

    @staticmethod
    def fromstring(data, default_ns="", max_depth=64):
        """The one element that `data`, bytes in UTF-8 or a str, holds, under the rules of RFC 6120 section 11 (restricted XML).

        `default_ns` is the default namespace in force, `max_depth` the most elements that may be open at a time. Raises XmlError.
        """
        from .xml import parse_element  # here, since the parser is built on this module

        return parse_element(data, default_ns, max_depth=max_depth)

    def __eq__(self, other):
        return same_tree(self, other) if isinstance(other, Element) else NotImplemented

    def __copy__(self):
        cdef Element twin = copy_node(self)
        twin._children = None if self._children is None else self._children[:]
        return twin

    def __deepcopy__(self, dict memo not None):
        cdef Element root = copy_node(self)
        cdef Element element, twin, child, child_twin
        cdef list todo = [(self, root)]
        memo[id(self)] = root
        while todo:
            element, twin = todo.pop()
            for child in element._children or []:
                child_twin = memo.get(id(child))
                if child_twin is None:
                    memo[id(child)] = child_twin = copy_node(child)
                    if child._children:
                        todo.append((child, child_twin))
                element_append(twin, child_twin)
        return root

    def __reduce__(self):
        # A flat list, since pickle recurses into nested objects.
        cdef Element element
        cdef list nodes = []
        for element in self.iter():
            nodes.append((element._tag, element._attrib, element._text, element._tail, len(element)))
        return _unpickle, (nodes,)

    def __repr__(self):
        # No attributes and no text: they may be secret.
        return f"<Element {self._tag!r}>"


def _unpickle(list nodes not None):
    """The tree that `Element.__reduce__` flattened: (tag, attributes, text, tail, number of children) in document order."""
    cdef Element element, root = None
    cdef list open_elements = []  # [element, number of children still to come]
    for tag, attrib, text, tail, children in nodes:
        element = Element(tag, attrib, text)
        element.tail = tail
        if root is None:
            root = element
        else:
            while open_elements[-1][1] == 0:
                open_elements.pop()
            open_elements[-1][1] -= 1
            element_append(open_elements[-1][0], element)
        open_elements.append([element, children])
    return root


cdef Element element_new(str tag):
    cdef Element element = Element.__new__(Element)
    element._tag = tag
    return element


cdef int element_append(Element parent, Element child) except -1:
    if parent._children is None:
        parent._children = [child]
    else:
        parent._children.append(child)
    return 0


cdef inline str exact_str(value):
    """`value` as a plain str, so that members of a StrEnum can be given. Raises TypeError."""
    return <str>value if type(value) is str else convert_str(value)


cdef str convert_str(value):
    if not isinstance(value, str):
        raise TypeError(f"expected str, not {type(value).__name__}")
    return PyUnicode_FromObject(value)


cdef inline bint in_namespace(str tag) except -1:
    return tag.startswith("{") and "}" in tag


cdef Element copy_node(Element element):
    """A copy without the children."""
    cdef Element twin = element_new(element._tag)
    twin._text = element._text
    twin._tail = element._tail
    twin._attrib = element._attrib.copy() if element._attrib else None
    return twin


cdef bint same_tree(Element a, Element b) except -1:
    cdef list todo = [(a, b)]
    while todo:
        a, b = todo.pop()
        if a is b:
            continue
        if a._tag != b._tag or len(a) != len(b) or (a._text or "") != (b._text or "") or (a._tail or "") != (b._tail or ""):
            return False
        if (a._attrib or b._attrib) and a.attrib != b.attrib:
            return False
        if a._children:
            todo.extend(zip(a._children, b._children))
    return True


# Serialiser: names

cdef str XML_NS = "http://www.w3.org/XML/1998/namespace"
cdef str XMLNS_NS = "http://www.w3.org/2000/xmlns/"

cdef enum:
    KNOWN_NAMES = 4096  # places in the table of names already checked; power of two
    MAX_KNOWN_CHARACTERS = 128  # of a name in that table; so the names kept take 5 MiB at the very worst

cdef struct Known:
    PyObject *name  # owned str; NULL: free place
    Py_ssize_t local_at  # bytes of UTF-8 in front of the local name; 0: no namespace
    bint xml  # in the XML namespace: written with the prefix "xml"
    bint declares  # "xmlns": fine for an element, but as an attribute it would declare a namespace

cdef struct Slice:
    const char *at  # UTF-8, borrowed from a str
    Py_ssize_t n  # bytes

cdef struct Name:
    Slice ns  # n == 0: none
    Slice local
    bint xml, declares  # as in Known

cdef Known known_names[KNOWN_NAMES]


cdef int split_name(str text, Name *name) except -1:
    """Check `text`, "{ns}local" or "local", and find its halves. Raises ValueError."""
    cdef Known *place = &known_names[hash(text) & (KNOWN_NAMES - 1)]
    cdef Known known = place[0]
    cdef Py_ssize_t n
    if known.name != <PyObject *>text and (known.name == NULL or <str>known.name != text):
        known = check_name(text)
        if len(text) <= MAX_KNOWN_CHARACTERS:
            Py_INCREF(text)
            Py_XDECREF(place.name)
            place[0] = known
    name.local.at = PyUnicode_AsUTF8AndSize(text, &n) + known.local_at
    name.local.n = n - known.local_at
    name.ns.at = name.local.at - known.local_at + 1
    name.ns.n = known.local_at - 2 if known.local_at else 0
    name.xml = known.xml
    name.declares = known.declares
    return 0


cdef Known check_name(str text) except *:
    if text is None:
        raise ValueError("element without a name")
    cdef str ns = None
    cdef str local = text
    cdef Py_UCS4 c
    cdef Known known
    if in_namespace(text):
        ns = text[1:text.rfind("}")]
        local = text[len(ns) + 2:]
        if not ns or ns == XMLNS_NS:
            raise ValueError(f"not a namespace of elements or attributes: {ns!r}")
        for c in ns:
            if is_forbidden(c):
                raise forbidden(c)
    if not is_ncname(local):
        raise ValueError(f"not an XML name: {local!r}")
    known.name = <PyObject *>text
    known.local_at = 0 if ns is None else len(ns.encode()) + 2
    known.xml = ns == XML_NS
    known.declares = ns is None and local == "xmlns"
    return known


# Serialiser: bytes

cdef enum:
    STACK_BYTES = 4096  # of the buffer on the C stack: more than nearly all stanzas have
    STACK_DEPTH = 24  # open elements before their stack moves to the heap
    MAX_DEPTH = 1 << 20  # a tree this deep is one that contains itself
    MAX_CHARACTER_BYTES = 6  # "&apos;" is longer than any UTF-8 character

cdef struct Buffer:
    char *start  # `first`, or owned heap memory
    char *at  # next byte to write
    char *end
    char first[STACK_BYTES]


cdef int grow(Buffer *out, Py_ssize_t n) except -1:
    """Make room for n more bytes, at least doubling the size."""
    cdef Py_ssize_t used = out.at - out.start
    cdef Py_ssize_t size = max(2 * (out.end - out.start), used + n)
    cdef char *heap = <char *>PyMem_Realloc(NULL if out.start == out.first else out.start, size)
    if heap == NULL:
        raise MemoryError
    if out.start == out.first:
        memcpy(heap, out.first, used)
    out.start = heap
    out.at = heap + used
    out.end = heap + size
    return 0


cdef inline int reserve(Buffer *out, Py_ssize_t n) except -1:
    return grow(out, n) if out.end - out.at < n else 0


cdef inline void put(Buffer *out, const char *s, Py_ssize_t n) noexcept:
    """Write n bytes; the caller has reserved them."""
    memcpy(out.at, s, n)
    out.at += n


# The characters that cannot stand as they are, bit c for character c (all are below 0x40): controls and & < > and, in a value, the quote.
# Readers make a space of tab and LF in a value (XML 1.0 section 3.3.3), and LF of CR everywhere (section 2.11).
cdef uint64_t TEXT_CARE = <uint64_t>0x50000040FFFFF9FF
cdef uint64_t VALUE_CARE = <uint64_t>0x500000C0FFFFFFFF


cdef inline bint is_plain(uint64_t word, bint in_value) noexcept nogil:
    """True if all 8 bytes are ASCII that needs no care; False for text with tab or LF too, which the slower loop then lets pass.

    `x - 0x01..` has a high bit if a byte of x is 0, `x - 0x20..` if one is below 0x20, as long as no byte of x has its own high bit.
    """
    cdef uint64_t ones = <uint64_t>0x0101010101010101
    cdef uint64_t angles = (word | 0x02 * ones) ^ ord(">") * ones  # 0 where < or > is
    cdef uint64_t others = (word | ones) ^ ord("'") * ones if in_value else word ^ ord("&") * ones  # 0 where & (or ') is
    return (word | word - 0x20 * ones | angles - ones | others - ones) & 0x80 * ones == 0


ctypedef fused Character:
    char  # a byte of UTF-8, already checked
    uint8_t  # these three: what a Python str holds
    uint16_t
    uint32_t


cdef int put_characters(Buffer *out, const Character *s, Py_ssize_t n, bint in_value) except -1:
    """Write n characters as UTF-8, escaped for text or for a value in single quotes. Raises ValueError."""
    cdef uint64_t care = VALUE_CARE if in_value else TEXT_CARE
    cdef uint32_t halves[2]
    cdef uint32_t c
    cdef Py_ssize_t block
    cdef const Character *end = s + n
    cdef const Character *block_end
    cdef char *at = out.at  # a local variable, since a store through `at` makes the compiler read `out.at` again
    while s < end:
        if out.end - at < 8 * MAX_CHARACTER_BYTES:
            out.at = at
            grow(out, 8 * MAX_CHARACTER_BYTES)
            at = out.at
        block = min(8, end - s)
        if (Character is char or Character is uint8_t) and block >= 4:
            # Two halves that overlap if fewer than 8 are left.
            memcpy(&halves[0], s, 4)
            memcpy(&halves[1], s + block - 4, 4)
            if is_plain(halves[0] | <uint64_t>halves[1] << 32, in_value):
                memcpy(at, &halves[0], 4)
                memcpy(at + block - 4, &halves[1], 4)
                at += block
                s += block
                continue
        block_end = s + block
        while s < block_end:
            c = <uint8_t>s[0] if Character is char else s[0]
            s += 1
            if c < 0x40 and care >> c & 1:
                at = put_reference(at, c)
            elif c < 0x80 or Character is char:
                at[0] = <char>c
                at += 1
            elif c < 0x800:
                at[0] = <char>(0xC0 | c >> 6)
                at[1] = <char>(0x80 | c & 0x3F)
                at += 2
            elif c < 0x10000:
                if is_forbidden(c):
                    raise forbidden(c)
                at[0] = <char>(0xE0 | c >> 12)
                at[1] = <char>(0x80 | c >> 6 & 0x3F)
                at[2] = <char>(0x80 | c & 0x3F)
                at += 3
            else:
                at[0] = <char>(0xF0 | c >> 18)
                at[1] = <char>(0x80 | c >> 12 & 0x3F)
                at[2] = <char>(0x80 | c >> 6 & 0x3F)
                at[3] = <char>(0x80 | c & 0x3F)
                at += 4
    out.at = at
    return 0


cdef bint is_forbidden(uint32_t c) noexcept:
    """True if XML 1.0 section 2.2 has no such character."""
    if c < 0x20:
        return c != 0x09 and c != 0x0A and c != 0x0D
    return 0xD800 <= c <= 0xDFFF or 0xFFFE <= c <= 0xFFFF


cdef object forbidden(uint32_t c):
    return ValueError(f"not a character that XML allows: U+{c:04X}")


cdef char *put_reference(char *at, uint32_t c) except NULL:
    """Write a reference to character c, at most MAX_CHARACTER_BYTES; return where it ends. Raises ValueError."""
    cdef const char *reference
    if c == u"&":
        reference = "&amp;"
    elif c == u"<":
        reference = "&lt;"
    elif c == u">":
        reference = "&gt;"
    elif c == u"'":
        reference = "&apos;"
    elif c == 0x09:
        reference = "&#9;"
    elif c == 0x0A:
        reference = "&#10;"
    elif c == 0x0D:
        reference = "&#13;"
    else:
        raise forbidden(c)
    cdef size_t n = strlen(reference)
    memcpy(at, reference, n)
    return at + n


cdef inline int put_str(Buffer *out, text, bint in_value) except -1:
    """Write a str (of a subclass too, by its characters)."""
    cdef int kind = PyUnicode_KIND(text)
    cdef Py_ssize_t n = PyUnicode_GET_LENGTH(text)
    if kind == 1:
        return put_characters(out, <const uint8_t *>PyUnicode_DATA(text), n, in_value)
    if kind == 2:
        return put_characters(out, <const uint16_t *>PyUnicode_DATA(text), n, in_value)
    return put_characters(out, <const uint32_t *>PyUnicode_DATA(text), n, in_value)


# Serialiser: elements

cdef struct Frame:  # an element whose end tag is to come
    PyObject *element  # borrowed
    Py_ssize_t next_child  # index
    Name name
    Slice ns  # default namespace in force inside
    bint closed  # it was written as an empty-element tag


cdef bytes element_tobytes(Element element, str default_ns):
    cdef Buffer out
    cdef Slice ns
    out.start = out.at = out.first
    out.end = out.first + STACK_BYTES
    ns.at = PyUnicode_AsUTF8AndSize(default_ns, &ns.n)
    try:
        put_tree(&out, element, ns)
        return PyBytes_FromStringAndSize(out.start, out.at - out.start)
    finally:
        if out.start != out.first:
            PyMem_Free(out.start)


cdef int put_tree(Buffer *out, Element element, Slice ns) except -1:
    cdef Frame first[STACK_DEPTH]
    cdef Frame *frames = first
    cdef Frame *top
    cdef Py_ssize_t depth = 0
    cdef Py_ssize_t room = STACK_DEPTH
    try:
        while True:
            if depth == room:
                frames = more_frames(frames, room, frames != first)
                room *= 2
            top = &frames[depth]
            depth += 1
            top.element = <PyObject *>element
            top.next_child = 0
            top.ns = ns
            put_start(out, element, top)
            while element._children is None or top.next_child == len(element._children):
                put_end(out, top)
                depth -= 1
                if depth == 0:
                    return 0
                if element._tail:
                    put_str(out, element._tail, in_value=False)
                top = &frames[depth - 1]
                element = <Element>top.element
            ns = top.ns
            top.next_child += 1
            element = <Element>element._children[top.next_child - 1]
    finally:
        if frames != first:
            PyMem_Free(frames)


cdef Frame *more_frames(Frame *frames, Py_ssize_t room, bint on_heap) except NULL:
    """Twice as many frames, with the old ones in front."""
    if room >= MAX_DEPTH:
        raise ValueError("elements are nested too deep; does one contain itself?")
    cdef Frame *heap = <Frame *>PyMem_Realloc(frames if on_heap else NULL, 2 * room * sizeof(Frame))
    if heap == NULL:
        raise MemoryError
    if not on_heap:
        memcpy(heap, frames, room * sizeof(Frame))
    return heap


cdef int put_start(Buffer *out, Element element, Frame *frame) except -1:
    """Write the start tag and the text behind it, or an empty-element tag."""
    cdef Name *name = &frame.name
    split_name(element._tag, name)
    reserve(out, name.local.n + 32)
    put(out, "<", 1)
    put_name(out, name)
    if not name.xml and not is_same(name.ns, frame.ns):
        put(out, " xmlns='", 8)
        put_characters(out, name.ns.at, name.ns.n, in_value=True)
        reserve(out, 8)
        put(out, "'", 1)
        frame.ns = name.ns
    if element._attrib:
        put_attributes(out, element._attrib)
    frame.closed = not element._text and not element._children
    reserve(out, 2)
    if frame.closed:
        put(out, "/>", 2)
        return 0
    put(out, ">", 1)
    return put_str(out, element._text, in_value=False) if element._text else 0


cdef int put_end(Buffer *out, Frame *frame) except -1:
    if not frame.closed:
        reserve(out, frame.name.local.n + 8)
        put(out, "</", 2)
        put_name(out, &frame.name)
        put(out, ">", 1)
    return 0


cdef inline void put_name(Buffer *out, const Name *name) noexcept:
    """Write the name of an element or an attribute without prefix, or with "xml:"."""
    if name.xml:
        put(out, "xml:", 4)
    put(out, name.local.at, name.local.n)


cdef int put_attributes(Buffer *out, dict attrib) except -1:
    """Write the attributes; a namespace gets a prefix, which only this element uses, where it differs from the one before."""
    cdef PyObject *key
    cdef PyObject *value
    cdef Py_ssize_t position = 0
    cdef Name name
    cdef str text
    cdef str _ns_owner = None  # keeps ns.at alive
    cdef Slice ns = Slice(NULL, 0)
    cdef int prefixes = 0
    while PyDict_Next(attrib, &position, &key, &value):
        text = exact_str(<object>key)
        split_name(text, &name)
        if name.declares:
            raise ValueError("not an XML name for an attribute: 'xmlns'")
        if not isinstance(<object>value, str):
            raise TypeError(f"attribute {text!r} must be str, not {type(<object>value).__name__}")
        reserve(out, name.local.n + 64)
        if name.ns.n and not name.xml:
            if not is_same(name.ns, ns):
                ns = name.ns
                _ns_owner = text
                out.at += sprintf(out.at, " xmlns:ns%d='", prefixes)
                put_characters(out, ns.at, ns.n, in_value=True)
                reserve(out, name.local.n + 64)
                put(out, "'", 1)
                prefixes += 1
            out.at += sprintf(out.at, " ns%d:", prefixes - 1)
        else:
            put(out, " ", 1)
        put_name(out, &name)
        put(out, "='", 2)
        put_str(out, <object>value, in_value=True)
        reserve(out, 8)
        put(out, "'", 1)
    return 0


cdef inline bint is_same(Slice a, Slice b) noexcept:
    return a.n == b.n and memcmp(a.at, b.at, a.n) == 0
