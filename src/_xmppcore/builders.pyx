# SPDX-License-Identifier: Apache-2.0
"""Stanzas as elements of other libraries, for programs that want these and not `Stanza`.

Theory of operation

An element of `xml.etree` is made of an xiot Element, which hands over its strings and attributes: that builds it without running
any other Python code, and to make twice as many objects takes less than what a builder with callbacks does.

An lxml element cannot be made faster than libxml2 reads it. So lxml gets the bytes of each stanza, in which nothing is left that could be
refused, as a document of its own. What the stream's root declares and the stanza needs is put behind the stanza's name; the rest
is not, since each declaration costs more than an element. One document for the whole stream would be faster by a quarter, but would have
no bound, and a stanza that is taken out of it gets other prefixes.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t

from _xmppcore.cxml cimport xc_context, xc_head
from _xmppcore.element cimport Element
from _xmppcore.stanza cimport Stanza, element_build, start_tag_prefixes

cdef dict NO_ATTRIBUTES = {}
cdef dict IN_QUOTES = str.maketrans({"&": "&amp;", "<": "&lt;", "'": "&apos;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"})


cdef Builder builder_of(kind):
    if kind is Stanza:
        return None
    if kind is Element:
        return Builder()
    if isinstance(kind, type):
        if (kind.__module__, kind.__qualname__) == ("xml.etree.ElementTree", "Element"):
            return EtreeBuilder(kind)
        if (kind.__module__, kind.__qualname__) == ("lxml.etree", "_Element"):
            return LxmlBuilder()
    raise TypeError(f"builder must be Stanza, Element, xml.etree.ElementTree.Element or lxml.etree._Element, not {kind!r}")


cdef class Builder:
    cdef int begin(self, const xc_context *context) except -1:
        return 0

    cdef object build(self, const uint8_t *raw, const xc_head *head, const xc_context *context):
        return element_build(raw, head.size, context)


@cython.final
cdef class EtreeBuilder(Builder):
    cdef object make    # makeelement of some Element, which does less than the class
    cdef object append  # Element.append

    def __cinit__(self, kind):
        self.make = kind("").makeelement
        self.append = kind.append

    cdef object build(self, const uint8_t *raw, const xc_head *head, const xc_context *context):
        return self.convert(element_build(raw, head.size, context))

    cdef object convert(self, Element element):
        """The same tree, with the attributes of `element` itself. Recursive: no parser lets trees be deep."""
        cdef Element child
        node = self.make(element._tag, NO_ATTRIBUTES)
        if element._attrib is not None:
            node.attrib = element._attrib
        if element._text is not None:
            node.text = element._text
        if element._tail is not None:
            node.tail = element._tail
        if element._children is not None:
            for child in element._children:
                self.append(node, self.convert(child))
        return node


@cython.final
cdef class LxmlBuilder(Builder):
    cdef object feed, close  # of an XMLParser
    cdef dict declarations   # prefix -> b" xmlns:prefix='...'", as the stream's root has them; b"" is the default namespace
    cdef bytes default_ns    # that of b"", or nothing

    def __cinit__(self):
        from lxml.etree import XMLParser

        # It could refuse only what libxml2 wants beyond XML, that namespaces are URIs and each xml:id a name: hence `recover`.
        parser = XMLParser(resolve_entities=False, huge_tree=True, collect_ids=False, recover=True)
        self.feed = parser.feed
        self.close = parser.close

    cdef int begin(self, const xc_context *context) except -1:
        cdef uint32_t i
        cdef bytes prefix
        self.declarations = {}
        for i in range(context.nbinds):
            prefix = (<const char *>context.bytes + context.binds[i].prefix.off)[:context.binds[i].prefix.len]
            uri = (<const char *>context.bytes + context.binds[i].uri.off)[:context.binds[i].uri.len].decode()
            self.declarations[prefix] = (b" xmlns:" + prefix if prefix else b" xmlns") + f"='{uri.translate(IN_QUOTES)}'".encode()
        self.default_ns = self.declarations.get(b"", b"")
        return 0

    cdef object build(self, const uint8_t *raw, const xc_head *head, const xc_context *context):
        cdef const char *text = <const char *>raw
        cdef bytes needed = b""
        cdef set own
        if head.outer_prefix:
            own = start_tag_prefixes(raw, head.size)
            needed = b"".join([declaration for prefix, declaration in self.declarations.items() if prefix not in own])
        elif not head.inner_ns:
            needed = self.default_ns
        self.feed(text[:head.name_end] + needed + text[head.name_end:head.size])
        return self.close()
