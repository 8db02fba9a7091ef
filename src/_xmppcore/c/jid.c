/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  The scalar code is the definition: split, then three loops that map every byte and look it up in a set of
 * 128 bits. A part with other bytes than ASCII is mapped anew, character by character, with tables of those that mean the same
 * wherever they stand; what depends on neighbours, and all that is bad, is left to the caller: slow. The SSE2 code is a filter in front of it, for JIDs of 16 to 63 bytes. It makes one 64-bit word each of the places of '@',
 * '/', '.' and '-', so that split and label rules are a few shifts and ands, without a loop whose end is mispredicted; a second pass
 * knows which part a byte is in, and maps and judges 16 at a time. It has only one verdict, "all of it plain": whatever else it
 * sees, the scalar code decides.
 */
#include "jid.h"
#include "jid_tables.h"

#include <stdbool.h>
#include <string.h>

#define BIT(c) (UINT64_C(1) << ((c) & 63))
#define BELOW(c) (BIT(c) - 1) /* of one half: c itself is not in it */

/* Bytes 0 to 127 that a part must not have. */
typedef struct {
    uint64_t half[2];
} byte_set;

/* IdentifierClass has 0x21 to 0x7E (RFC 8264 section 9.11), less RFC 7622 section 3.3.1. */
static const byte_set not_local = {
    {BELOW('!') | BIT('"') | BIT('&') | BIT('\'') | BIT('/') | BIT(':') | BIT('<') | BIT('>'), BIT('@') | BIT(0x7F)}};
/* Letters, digits and hyphens (RFC 5890 section 2.3.1), and the dots between labels. */
static const byte_set not_domain = {
    {~(BIT('-') | BIT('.') | (BELOW(':') & ~BELOW('0'))), ~((BELOW('[') & ~BELOW('A')) | (BELOW('{') & ~BELOW('a')))}};
/* FreeformClass has 0x20 to 0x7E (RFC 8264 section 4.3). */
static const byte_set not_resource = {{BELOW(' '), BIT(0x7F)}};

static int map(const uint8_t *in, size_t n, uint8_t *out, const byte_set *forbidden, bool lower, int bad) {
    uint64_t found = 0;
    uint8_t high = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = in[i];
        high |= c;
        found |= forbidden->half[c >> 6 & 1] >> (c & 63);
        out[i] = lower && (uint8_t)(c - 'A') < 26 ? c | 0x20 : c;
    }
    return high & 0x80 ? XC_JID_SLOW : found & 1 ? bad : XC_JID_OK;
}

/* ---- beyond ASCII ---- */

/* The character at `in`, which is not `end`, and how many octets it has; TABLE_END if it is no UTF-8 or not in the tables. */
static uint32_t decode(const uint8_t *in, const uint8_t *end, unsigned *octets) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t c = *in;
    unsigned n = c < 0x80 ? 1 : c < 0xC0 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF8 ? 4 : 0;
    if (n == 0 || n > (size_t)(end - in)) return TABLE_END;
    if (n > 1) c &= 0x7Fu >> n;
    for (unsigned i = 1; i < n; i++) {
        if ((in[i] & 0xC0) != 0x80) return TABLE_END;
        c = c << 6 | (in[i] & 0x3F);
    }
    *octets = n;
    return c < least[n] ? TABLE_END : c; /* surrogates have no flags in the tables */
}

static uint8_t *encode(uint32_t c, uint8_t *out) {
    if (c < 0x80) {
        *out++ = (uint8_t)c;
        return out;
    }
    if (c < 0x800) {
        *out++ = (uint8_t)(0xC0 | c >> 6);
    } else {
        if (c < 0x10000) {
            *out++ = (uint8_t)(0xE0 | c >> 12);
        } else {
            *out++ = (uint8_t)(0xF0 | c >> 18);
            *out++ = (uint8_t)(0x80 | (c >> 12 & 0x3F));
        }
        *out++ = (uint8_t)(0x80 | (c >> 6 & 0x3F));
    }
    *out++ = (uint8_t)(0x80 | (c & 0x3F));
    return out;
}

static const char_kind *kind_of(uint32_t c) {
    return &char_kinds[c < TABLE_END ? table_blocks[table_places[c / TABLE_BLOCK] * TABLE_BLOCK + c % TABLE_BLOCK] : 0];
}

/* Marks out of order would be sorted by NFC: slow. */
static bool is_usable(const char_kind *kind, unsigned flag, unsigned last_class) {
    return kind->flags & flag && (kind->combining_class == 0 || kind->combining_class >= last_class);
}

/* A localpart or resourcepart. The tables have no mapping to more octets, so `out` does not run ahead of `in`. */
static int map_chars(const uint8_t *in, size_t *n, uint8_t *out, unsigned flag) {
    const uint8_t *end = in + *n, *start = out;
    unsigned octets = 0, last_class = 0;
    for (; in < end; in += octets) {
        uint32_t c = decode(in, end, &octets);
        const char_kind *kind = kind_of(c);
        if (!is_usable(kind, flag, last_class)) return XC_JID_SLOW;
        last_class = kind->combining_class;
        out = encode(flag == RESOURCE_CHAR ? c : c + (uint32_t)kind->add, out);
    }
    *n = (size_t)(out - start);
    return *n <= XC_JID_PART_MAX ? XC_JID_OK : XC_JID_SLOW;
}

/* Octets of a label in Punycode (RFC 3492 section 6.3). */
static unsigned punycode_octets(const uint32_t *label, unsigned n) {
    uint32_t delta = 0, least = 0x80;
    unsigned basic = 0, bias = 72;
    for (unsigned i = 0; i < n; i++) basic += label[i] < 0x80;
    unsigned octets = basic + (basic != 0);
    for (unsigned done = basic; done < n; delta++, least++) {
        uint32_t next = UINT32_MAX;
        for (unsigned i = 0; i < n; i++) {
            if (label[i] >= least && label[i] < next) next = label[i];
        }
        delta += (next - least) * (done + 1);
        least = next;
        for (unsigned i = 0; i < n; i++) {
            delta += label[i] < least;
            if (label[i] != least) continue;
            uint32_t rest = delta;
            for (unsigned k = 36;; k += 36) {
                unsigned digit = k <= bias ? 1 : k >= bias + 26 ? 26 : k - bias;
                octets++;
                if (rest < digit) break;
                rest = (rest - digit) / (36 - digit);
            }
            delta /= done == basic ? 700 : 2;
            delta += delta / ++done;
            for (bias = 0; delta > 455; bias += 36) delta /= 35;
            bias += 36 * delta / (delta + 38);
            delta = 0;
        }
    }
    return octets;
}

/* Octets of a label in A-label form, 0 if there is something with it. */
static unsigned label_octets(const uint32_t *label, unsigned n) {
    if (n == 0 || label[0] == '-' || label[n - 1] == '-' || (n >= 4 && label[2] == '-' && label[3] == '-')) return 0;
    unsigned i = 0;
    while (i < n && label[i] < 0x80) i++;
    unsigned octets = i == n ? n : 4 + punycode_octets(label, n); /* "xn--" */
    return octets <= XC_JID_LABEL_MAX ? octets : 0;
}

static int map_u_labels(const uint8_t *in, size_t *n, uint8_t *out) {
    const uint8_t *end = in + *n, *start = out;
    uint32_t label[XC_JID_LABEL_MAX]; /* no A-label is shorter than its U-label */
    unsigned chars = 0, octets = 1, last_class = 0, a_octets = 0;
    for (;; in += octets) {
        if (in == end || *in == '.') {
            unsigned length = label_octets(label, chars);
            if (length == 0) return XC_JID_SLOW;
            a_octets += length + 1;
            if (in == end) break;
            *out++ = '.';
            chars = last_class = 0;
            octets = 1;
            continue;
        }
        uint32_t c = decode(in, end, &octets);
        const char_kind *kind = kind_of(c);
        if (!is_usable(kind, DOMAIN_CHAR, last_class) || chars == XC_JID_LABEL_MAX) return XC_JID_SLOW;
        if (chars == 0 && kind->flags & MARK_CHAR) return XC_JID_SLOW; /* RFC 5891 section 4.2.3.2 */
        last_class = kind->combining_class;
        label[chars] = c + (uint32_t)kind->add;
        out = encode(label[chars++], out);
    }
    *n = (size_t)(out - start);
    return a_octets - 1 <= XC_JID_DOMAIN_MAX ? XC_JID_OK : XC_JID_SLOW;
}

/* ---- the parts ---- */

int xc_jid_prepare_local(const uint8_t *in, size_t *n, uint8_t *out) {
    int code = map(in, *n, out, &not_local, true, XC_JID_BAD_LOCAL);
    if (code == XC_JID_SLOW) return map_chars(in, n, out, LOCAL_CHAR);
    return code == XC_JID_OK && (*n == 0 || *n > XC_JID_PART_MAX) ? XC_JID_BAD_LOCAL : code;
}

int xc_jid_prepare_resource(const uint8_t *in, size_t *n, uint8_t *out) {
    int code = map(in, *n, out, &not_resource, false, XC_JID_BAD_RESOURCE);
    if (code == XC_JID_SLOW) return map_chars(in, n, out, RESOURCE_CHAR);
    return code == XC_JID_OK && (*n == 0 || *n > XC_JID_PART_MAX) ? XC_JID_BAD_RESOURCE : code;
}

/* NR-LDH labels only (RFC 5890 section 2.3.1): "--" in the third place is kept for A-labels, and no other use of it is defined. */
static int check_label(const uint8_t *label, size_t n) {
    if (n == 0 || label[0] == '-' || label[n - 1] == '-') return XC_JID_BAD_DOMAIN;
    if (n >= 4 && label[2] == '-' && label[3] == '-') return memcmp(label, "xn", 2) == 0 ? XC_JID_SLOW : XC_JID_BAD_DOMAIN;
    return n > XC_JID_LABEL_MAX ? XC_JID_BAD_DOMAIN : XC_JID_OK;
}

int xc_jid_prepare_domain(const uint8_t *in, size_t *n, uint8_t *out) {
    if (*n && in[*n - 1] == '.') --*n; /* RFC 7622 section 3.2: before anything else */
    if (*n && in[0] == '[') return XC_JID_SLOW;
    int code = map(in, *n, out, &not_domain, true, XC_JID_BAD_DOMAIN);
    if (code == XC_JID_SLOW) return map_u_labels(in, n, out);
    const uint8_t *label = out, *end = out + *n;
    while (code == XC_JID_OK) {
        const uint8_t *dot = memchr(label, '.', (size_t)(end - label));
        code = check_label(label, (size_t)((dot ? dot : end) - label));
        if (!dot) break;
        label = dot + 1;
    }
    return code == XC_JID_OK && *n > XC_JID_DOMAIN_MAX ? XC_JID_BAD_DOMAIN : code;
}

int xc_jid_prepare_scalar(const uint8_t *in, size_t n, uint8_t *out, xc_jid_parts *parts) {
    if (n > XC_JID_INPUT_MAX) return XC_JID_TOO_LONG;
    if (n == 0) return XC_JID_BAD_DOMAIN;
    /* RFC 7622 section 3.2: the first '/' ends the bare part, then the first '@' ends the localpart. */
    const uint8_t *stop = in + n, *slash = memchr(in, '/', n), *end = slash ? slash : stop;
    const uint8_t *at = memchr(in, '@', (size_t)(end - in));
    size_t local_len = 0, domain_len, resource_len = 0;
    int code;
    if (at) {
        local_len = (size_t)(at - in);
        if ((code = xc_jid_prepare_local(in, &local_len, out)) != XC_JID_OK) return code;
        out += local_len;
        *out++ = '@';
        in = at + 1;
    }
    domain_len = (size_t)(end - in);
    if ((code = xc_jid_prepare_domain(in, &domain_len, out)) != XC_JID_OK) return code;
    if (slash) {
        resource_len = (size_t)(stop - slash - 1);
        out += domain_len;
        *out++ = '/';
        if ((code = xc_jid_prepare_resource(slash + 1, &resource_len, out)) != XC_JID_OK) return code;
    }
    *parts = (xc_jid_parts){(uint32_t)local_len, (uint32_t)domain_len, (uint32_t)resource_len};
    return XC_JID_OK;
}

#ifdef __SSE2__
#include <emmintrin.h>

typedef struct {
    uint64_t at, slash, dot, hyphen;
} marks;

static inline __m128i is(__m128i v, int c) { return _mm_cmpeq_epi8(v, _mm_set1_epi8((char)c)); }

/* Bytes below c; those above 0x7F count as negative, so below too. */
static inline __m128i below(__m128i v, int c) { return _mm_cmplt_epi8(v, _mm_set1_epi8((char)c)); }

/* Bytes from `low` to `high`. */
static inline __m128i within(__m128i v, int low, int high) {
    __m128i offset = _mm_sub_epi8(v, _mm_set1_epi8((char)low));
    return _mm_cmpeq_epi8(_mm_min_epu8(offset, _mm_set1_epi8((char)(high - low))), offset);
}

static inline uint64_t bits(__m128i v, unsigned i) { return (uint64_t)(uint32_t)_mm_movemask_epi8(v) << i; }

static inline void find_marks(const uint8_t *in, unsigned i, marks *m) {
    __m128i v = _mm_loadu_si128((const __m128i *)(in + i));
    m->at |= bits(is(v, '@'), i);
    m->slash |= bits(is(v, '/'), i);
    m->dot |= bits(is(v, '.'), i);
    m->hyphen |= bits(is(v, '-'), i);
}

/* Writes 16 bytes, the bare part in lower case; returns those that are not plain where they are. */
static inline __m128i lower_and_judge(const uint8_t *in, unsigned i, unsigned domain_from, unsigned bare_len, uint8_t *out) {
    const __m128i first = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m128i v = _mm_loadu_si128((const __m128i *)(in + i)), place = _mm_add_epi8(first, _mm_set1_epi8((char)i));
    __m128i in_local = below(place, (int)domain_from), in_bare = below(place, (int)bare_len);
    __m128i letter = within(_mm_or_si128(v, _mm_set1_epi8(0x20)), 'a', 'z');
    _mm_storeu_si128((__m128i *)(out + i), _mm_or_si128(v, _mm_and_si128(_mm_and_si128(letter, in_bare), _mm_set1_epi8(0x20))));
    /* The split leaves no '/' in the bare part; '&' and '\'' differ in bit 0, '<' and '>' in bit 1, ' ' and '"' too. */
    __m128i bit1 = _mm_or_si128(v, _mm_set1_epi8(2));
    __m128i local_bad =
        _mm_or_si128(_mm_or_si128(is(bit1, '"'), is(bit1, '>')), _mm_or_si128(is(_mm_or_si128(v, _mm_set1_epi8(1)), '\''), is(v, ':')));
    __m128i domain_bad = _mm_andnot_si128(_mm_or_si128(letter, within(v, '-', '9')), in_bare);
    __m128i any_bad = below(_mm_add_epi8(v, _mm_set1_epi8(1)), ' ' + 1); /* one more, so that 0x7F is negative as well */
    return _mm_or_si128(any_bad, _mm_or_si128(_mm_and_si128(in_local, local_bad), _mm_andnot_si128(in_local, domain_bad)));
}

/* True if the JID is plain, and then `out` and `parts` are done. 16 <= n <= 63: the last 16 bytes are loaded as such, so that
 * nothing outside is touched, and what is seen twice is found twice. */
static bool prepare_plain(const uint8_t *in, unsigned n, uint8_t *out, xc_jid_parts *parts) {
    marks m = {0};
    for (unsigned i = 0; i < n - 16; i += 16) find_marks(in, i, &m);
    find_marks(in, n - 16, &m);

    unsigned bare_len = (unsigned)__builtin_ctzll(m.slash | BIT(n));
    uint64_t bare = BELOW(bare_len), at = m.at & bare;
    unsigned local_len = at ? (unsigned)__builtin_ctzll(at) : 0, domain_from = local_len + (at != 0);
    uint64_t domain = bare & ~BELOW(domain_from), dot = m.dot & domain;
    uint64_t first = (dot << 1 | BIT(domain_from)) & domain, last = (dot | BIT(bare_len)) >> 1 & domain;
    uint64_t odd = (first | last) & (dot | m.hyphen); /* an empty label, a final dot, a hyphen at either end of a label */
    odd |= first << 2 & m.hyphen & m.hyphen >> 1;     /* "??--" */
    if (odd || domain == 0 || (at & 1) || bare_len + 1 == n) return false;

    __m128i bad = _mm_setzero_si128();
    for (unsigned i = 0; i < n - 16; i += 16) bad = _mm_or_si128(bad, lower_and_judge(in, i, domain_from, bare_len, out));
    bad = _mm_or_si128(bad, lower_and_judge(in, n - 16, domain_from, bare_len, out));
    *parts = (xc_jid_parts){local_len, bare_len - domain_from, bare_len < n ? n - bare_len - 1 : 0};
    return _mm_movemask_epi8(bad) == 0;
}
#endif

int xc_jid_prepare(const uint8_t *in, size_t n, uint8_t *out, xc_jid_parts *parts) {
#ifdef __SSE2__
    if (n >= 16 && n <= 63 && prepare_plain(in, (unsigned)n, out, parts)) return XC_JID_OK;
#endif
    return xc_jid_prepare_scalar(in, n, out, parts);
}
