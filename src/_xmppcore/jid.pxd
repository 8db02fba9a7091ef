# SPDX-License-Identifier: Apache-2.0
# JIDs: the C preparation of c/jid.h, and the object that Python sees.

from libc.stdint cimport uint8_t, uint32_t


cdef extern from "jid.h" nogil:
    enum:
        XC_JID_OK
        XC_JID_SLOW
        XC_JID_BAD_LOCAL
        XC_JID_BAD_DOMAIN
        XC_JID_BAD_RESOURCE
        XC_JID_TOO_LONG
        XC_JID_PART_MAX
        XC_JID_INPUT_MAX
        XC_JID_LABEL_MAX
        XC_JID_DOMAIN_MAX

    ctypedef struct xc_jid_parts:
        uint32_t local_len
        uint32_t domain_len
        uint32_t resource_len

    uint32_t xc_jid_bare_len(const xc_jid_parts *parts)
    uint32_t xc_jid_len(const xc_jid_parts *parts)
    int xc_jid_prepare(const uint8_t *octets, size_t n, uint8_t *out, xc_jid_parts *parts)
    int xc_jid_prepare_scalar(const uint8_t *octets, size_t n, uint8_t *out, xc_jid_parts *parts)
    int xc_jid_prepare_local(const uint8_t *octets, size_t *n, uint8_t *out)
    int xc_jid_prepare_domain(const uint8_t *octets, size_t *n, uint8_t *out)
    int xc_jid_prepare_resource(const uint8_t *octets, size_t *n, uint8_t *out)


cdef class JID:
    cdef str full                # owned: local@domain/resource, prepared; its UTF-8 form is the routing key
    cdef Py_ssize_t local_len    # code points, 0 = no localpart
    cdef Py_ssize_t bare_len     # code points of local@domain
    cdef JID kept_bare           # owned: the bare JID, made when first asked for; None before, and if this one is bare

# The JID that `n` octets of UTF-8 stand for (borrowed). Raises JidError, also if they are no UTF-8. Meant for what xc_jid_prepare
# calls slow, and for making the object where one is needed.
cdef JID jid_from_utf8(const uint8_t *octets, Py_ssize_t n)
