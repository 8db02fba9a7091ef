# SPDX-License-Identifier: Apache-2.0
"""Names of elements and attributes: a bounded table of shared strings, and the rule for what a name is.

Theory of operation

A parser meets the same few hundred names all the time. The table maps (namespace, local name), two UTF-8 slices, to one `str`, whose
hash is computed once and which later comparisons find equal by identity. It is a cache of 1024 sets with 4 places each: a name
belongs to the set that its hash names, and pushes another out when it is new there. So memory has a bound, a peer that sends ever new
names cannot spoil the table for good, and a lookup is at most 4 comparisons. The hash is seeded with a secret.

The strings are not interned in Python's own table: some releases of Python 3.12 never free what is interned there, and the names come
from peers.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

import os

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    str PyUnicode_DecodeUTF8(const char *s, Py_ssize_t n, const char *errors)

cdef enum:
    SETS = 1024  # power of two
    WAYS = 4  # power of two; 4096 names are several times what all published XEPs use together
    MAX_CACHED_BYTES = 256  # of one name; so the names kept take 6 MiB at the very worst

cdef struct Entry:
    uint64_t hash
    PyObject *name  # owned str; NULL: free place
    const char *utf8  # of `name`, which owns it
    uint32_t ns_len  # bytes; 0: no namespace, and no braces in `utf8`
    uint32_t local_len  # bytes

cdef Entry table[SETS * WAYS]
cdef uint64_t seed = int.from_bytes(os.urandom(8), "little")
cdef unsigned int turn = 0  # which place of its set the next new name takes


cdef inline uint64_t mix(uint64_t h, uint64_t word) noexcept nogil:
    h = (h ^ word) * <uint64_t>0x9FB21C651E98DF25
    return h ^ (h >> 32)


cdef inline uint64_t hash_bytes(uint64_t h, const char *s, Py_ssize_t n) noexcept nogil:
    """Add n bytes to hash h, 8 at a time; the last word overlaps the one before."""
    cdef uint64_t word = 0
    cdef uint32_t low, high
    h = mix(h, <uint64_t>n)
    if n >= 8:
        while n > 8:
            memcpy(&word, s, 8)
            h = mix(h, word)
            s += 8
            n -= 8
        memcpy(&word, s + n - 8, 8)
    elif n >= 4:
        memcpy(&low, s, 4)
        memcpy(&high, s + n - 4, 4)
        word = low | <uint64_t>high << 32
    elif n > 0:
        word = <uint8_t>s[0] | <uint64_t><uint8_t>s[n >> 1] << 8 | <uint64_t><uint8_t>s[n - 1] << 16
    return mix(h, word)


cdef inline bint is_name(
    const Entry *entry, const char *ns, Py_ssize_t ns_len, const char *local, Py_ssize_t local_len
) noexcept nogil:
    if entry.name == NULL or entry.ns_len != ns_len or entry.local_len != local_len:
        return False
    if ns_len == 0:
        return memcmp(entry.utf8, local, local_len) == 0
    return memcmp(entry.utf8 + ns_len + 2, local, local_len) == 0 and memcmp(entry.utf8 + 1, ns, ns_len) == 0


cdef str name_tag(const char *ns, Py_ssize_t ns_len, const char *local, Py_ssize_t local_len):
    global turn
    cdef uint64_t h = hash_bytes(seed, local, local_len)
    if ns_len:
        h = hash_bytes(h, ns, ns_len)
    cdef Entry *entry = &table[(h & (SETS - 1)) * WAYS]
    cdef int i
    for i in range(WAYS):
        if entry[i].hash == h and is_name(&entry[i], ns, ns_len, local, local_len):
            return <str>entry[i].name
    cdef str name = PyUnicode_DecodeUTF8(local, local_len, NULL)
    if ns_len:
        name = "{" + PyUnicode_DecodeUTF8(ns, ns_len, NULL) + "}" + name
    if ns_len + local_len <= MAX_CACHED_BYTES:
        entry += turn & (WAYS - 1)
        turn += 1
        entry.utf8 = PyUnicode_AsUTF8AndSize(name, NULL)
        entry.hash = h
        entry.ns_len = <uint32_t>ns_len
        entry.local_len = <uint32_t>local_len
        Py_XDECREF(entry.name)
        Py_INCREF(name)
        entry.name = <PyObject *>name
    return name


cdef str name_str(const char *s, Py_ssize_t n):
    return name_tag(NULL, 0, s, n)


def tag(bytes ns not None, bytes local not None):
    """The shared string for an element or attribute name: ``"{ns}local"``, or ``"local"`` if `ns` is empty; both are UTF-8.

    Raises UnicodeDecodeError.
    """
    return name_tag(ns, len(ns), local, len(local))


cpdef bint is_ncname(str name):
    """True if `name` is a name without colon: NCName of Namespaces in XML 1.0, with the characters of XML 1.0 fifth edition [4], [4a]."""
    cdef Py_UCS4 c
    cdef bint first = True
    for c in name:
        if not (is_name_start(c) or (not first and is_name_rest(c))):
            return False
        first = False
    return not first


cdef bint is_name_start(Py_UCS4 c) noexcept:
    if c < 0x80:
        return u"a" <= c <= u"z" or u"A" <= c <= u"Z" or c == u"_"
    return (
        (0xC0 <= c <= 0x2FF and c != 0xD7 and c != 0xF7)
        or (0x370 <= c <= 0x1FFF and c != 0x37E)
        or 0x200C <= c <= 0x200D
        or 0x2070 <= c <= 0x218F
        or 0x2C00 <= c <= 0x2FEF
        or 0x3001 <= c <= 0xD7FF
        or 0xF900 <= c <= 0xFDCF
        or 0xFDF0 <= c <= 0xFFFD
        or 0x10000 <= c <= 0xEFFFF
    )


cdef bint is_name_rest(Py_UCS4 c) noexcept:
    """What may stand in a name, but not at its start."""
    return u"0" <= c <= u"9" or c == u"-" or c == u"." or c == 0xB7 or 0x300 <= c <= 0x36F or 0x203F <= c <= 0x2040
