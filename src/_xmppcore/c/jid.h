/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JID preparation (RFC 7622) for the addresses that are plain, which is nearly all of them.
 *
 * Contract.  Every function reads only [in, in + n) and writes only [out, out + n); `in` and `out` do not overlap. Bytes may have
 * any value, NUL and broken UTF-8 included. If the answer is not XC_JID_OK, what `out` and `parts` hold is undefined. XC_JID_SLOW
 * says: nothing definite, a look at the whole is needed (an A-label, an IP literal, characters that join, that depend on context or are
 * written from right to left, or that are bad). Prepared JIDs come out as they
 * went in, and two JIDs are the same if and only if their prepared forms are equal byte for byte.
 */
#ifndef XC_JID_H
#define XC_JID_H

#include <stddef.h>
#include <stdint.h>

#define XC_JID_PART_MAX 1023u                /* octets, RFC 7622 section 3.1 */
#define XC_JID_MAX (3 * XC_JID_PART_MAX + 2) /* octets of a prepared JID, likewise */
#define XC_JID_INPUT_MAX (XC_JID_MAX + 1)    /* that and the final dot of a domain: longer input is refused unread */
#define XC_JID_LABEL_MAX 63u                 /* octets, RFC 1035 section 2.3.4 */
#define XC_JID_DOMAIN_MAX 253u               /* octets in A-label form: the 255 of RFC 1035 are those of the wire form */

enum {
    XC_JID_OK,
    XC_JID_SLOW,
    XC_JID_BAD_LOCAL,
    XC_JID_BAD_DOMAIN,
    XC_JID_BAD_RESOURCE,
    XC_JID_TOO_LONG, /* the whole */
};

/* Octets in `out`; 0 = there is no such part, since RFC 7622 allows no empty one. */
typedef struct {
    uint32_t local_len, domain_len, resource_len;
} xc_jid_parts;

/* Octets of local@domain. */
static inline uint32_t xc_jid_bare_len(const xc_jid_parts *parts) { return parts->local_len + (parts->local_len != 0) + parts->domain_len; }

/* Octets of local@domain/resource. */
static inline uint32_t xc_jid_len(const xc_jid_parts *parts) {
    return xc_jid_bare_len(parts) + (parts->resource_len != 0) + parts->resource_len;
}

/* Splits a JID and writes its prepared form; the parts are judged in the order local, domain, resource. */
int xc_jid_prepare(const uint8_t *in, size_t n, uint8_t *out, xc_jid_parts *parts);
/* The same without SIMD: the reference that tests compare with, and what runs where there is none. */
int xc_jid_prepare_scalar(const uint8_t *in, size_t n, uint8_t *out, xc_jid_parts *parts);

/* One part. *n is the length of `in`, then that of `out`. */
int xc_jid_prepare_local(const uint8_t *in, size_t *n, uint8_t *out);
int xc_jid_prepare_domain(const uint8_t *in, size_t *n, uint8_t *out);
int xc_jid_prepare_resource(const uint8_t *in, size_t *n, uint8_t *out);

#endif
