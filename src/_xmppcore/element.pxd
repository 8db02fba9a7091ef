# SPDX-License-Identifier: Apache-2.0
# Untyped XML tree node. Whoever builds trees in the core uses element_new and element_append and sets the other fields itself.
cimport cython


@cython.final
cdef class Element:
    cdef str _tag  # "{ns}local" or "local"; None only before __init__
    cdef str _text  # behind the start tag; None or "" if there is none
    cdef str _tail  # behind the end tag; None or "" if there is none
    cdef dict _attrib  # "name" or "{ns}name" -> value; None if there never was one
    cdef list _children  # of Element; None if there never was one


cdef Element element_new(str tag)  # no attributes, text or children
cdef int element_append(Element parent, Element child) except -1
cdef bytes element_tobytes(Element element, str default_ns)  # Element.tobytes
