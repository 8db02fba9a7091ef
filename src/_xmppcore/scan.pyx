# SPDX-License-Identifier: Apache-2.0
"""The scan kernels, one by one: for tests and benches; the parser calls them in C."""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t

from _xmppcore.cxml cimport XC_PAD, c_bool, xc_kernels, xc_kernels_default, xc_kernels_named


def kernels():
    """Names of the kernels that this machine can run, the scalar reference first."""
    return [name for name in ("scalar", "sse2", "avx2", "neon") if xc_kernels_named(name.encode()) is not NULL]


def default():
    """Name of the kernel in use: the best one, or the one that XMPPCORE_KERNEL names."""
    return xc_kernels_default().name.decode()


cdef const xc_kernels *_kernel(str name) except NULL:
    cdef bytes raw = name.encode()
    cdef const xc_kernels *k = xc_kernels_named(raw)
    if k is NULL:
        raise ValueError(f"no such kernel on this machine: {name!r}")
    return k


def text(str kernel, bytes data, Py_ssize_t start=0):
    """Index of the first byte from `start` on that ends a run of text; len(data) if none does."""
    cdef const xc_kernels *k = _kernel(kernel)
    if not 0 <= start <= len(data):
        raise ValueError("start is outside of data")
    cdef bytes padded = data + bytes(XC_PAD)
    cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(padded)
    return k.text(p + start) - p


def value(str kernel, bytes data, str quote, Py_ssize_t start=0):
    """Index of the first byte from `start` on that ends a run of attribute value; len(data) if none does."""
    cdef const xc_kernels *k = _kernel(kernel)
    if not 0 <= start <= len(data):
        raise ValueError("start is outside of data")
    cdef bytes padded = data + bytes(XC_PAD)
    cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(padded)
    return k.value(p + start, <uint8_t>ord(quote)) - p


def utf8(str kernel, bytes data, Py_ssize_t start=0):
    """Length in bytes of the longest whole, valid prefix of data[start:], and whether what follows is invalid (else it is unfinished)."""
    cdef const xc_kernels *k = _kernel(kernel)
    if not 0 <= start <= len(data):
        raise ValueError("start is outside of data")
    cdef c_bool bad = False
    cdef size_t n = k.utf8(<const uint8_t *>PyBytes_AS_STRING(data) + start, len(data) - start, &bad)
    return n, bool(bad)
