# SPDX-License-Identifier: Apache-2.0
# What the router and codecs know of each other; c/router.h says what for.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t

from _xmppcore.cxml cimport c_bool


cdef extern from "router.h" nogil:
    enum: XC_MOVED
    ctypedef struct xc_piece:
        const uint8_t *p
        size_t n
    ctypedef struct xc_coding:
        const uint8_t *raw
        uint32_t size
        uint32_t tag
        c_bool (*move)(xc_coding *c, const xc_piece *tag, int count, const uint8_t **octets, size_t *n) noexcept
        void *owner
