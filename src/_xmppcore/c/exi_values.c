/* SPDX-License-Identifier: Apache-2.0 */
#include "exi_values.h"

enum { MOST_DIGITS = 1024 }; /* of an integer: converting them takes quadratic time */

/* -- reading text */

static bool space(uint8_t c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
static bool digit(uint8_t c) { return (uint8_t)(c - '0') < 10; }

static xe_span trim(xe_span s) {
    while (s.n && space(s.p[0])) s.p++, s.n--;
    while (s.n && space(s.p[s.n - 1])) s.n--;
    return s;
}

static bool is(xe_span s, const char *text) { return s.n == strlen(text) && !memcmp(s.p, text, s.n); }

static xe_span take_digits(xe_span *s) {
    xe_span d = {s->p, 0};
    while (d.n < s->n && digit(s->p[d.n])) d.n++;
    s->p += d.n;
    s->n -= d.n;
    return d;
}

static bool take_char(xe_span *s, char c) {
    if (!s->n || *s->p != (uint8_t)c) return false;
    s->p++;
    s->n--;
    return true;
}

/* Exactly n digits, as a number. */
static bool take_number(xe_span *s, unsigned n, uint32_t *out) {
    *out = 0;
    if (s->n < n) return false;
    for (unsigned i = 0; i < n; i++) {
        if (!digit(s->p[i])) return false;
        *out = *out * 10 + (s->p[i] - '0');
    }
    s->p += n;
    s->n -= n;
    return true;
}

static bool set_number(xe_val *v, xe_span d) {
    while (d.n > 1 && d.p[0] == '0') d.p++, d.n--;
    if (d.n > MOST_DIGITS) return false;
    v->u = 0;
    v->digits = (xe_span){NULL, 0};
    if (d.n > 19)
        v->digits = d;
    else
        for (size_t i = 0; i < d.n; i++) v->u = v->u * 10 + (d.p[i] - '0');
    return true;
}

static bool sign(xe_span *s, xe_val *v) {
    v->negative = take_char(s, '-');
    if (!v->negative) take_char(s, '+');
    return s->n > 0;
}

static bool parse_integer(xe_span s, xe_val *v) {
    if (!sign(&s, v)) return false;
    xe_span d = take_digits(&s);
    if (!d.n || s.n || !set_number(v, d)) return false;
    if (!v->digits.n && v->u == 0) v->negative = false;
    return true;
}

static bool fraction(xe_span *s, xe_val *v) {
    xe_span f = take_digits(s);
    while (f.n && f.p[f.n - 1] == '0') f.n--;
    v->fraction = f;
    return f.n <= MOST_DIGITS;
}

static bool parse_decimal(xe_span s, xe_val *v) {
    if (!sign(&s, v)) return false;
    xe_span d = take_digits(&s);
    bool point = take_char(&s, '.'), some = d.n > 0;
    v->fraction = (xe_span){NULL, 0};
    if (point) {
        some = some || (s.n && digit(*s.p));
        if (!fraction(&s, v)) return false;
    }
    if (!some || s.n || !set_number(v, d)) return false;
    if (!v->digits.n && v->u == 0 && !v->fraction.n) v->negative = false;
    return true;
}

enum { SPECIAL = -16384 }; /* the exponent of infinities and NaN */

static bool parse_float(xe_span s, xe_val *v) {
    v->exponent = SPECIAL;
    v->negative = false;
    v->u = 0;
    if (is(s, "NaN")) return true;
    if (is(s, "INF") || is(s, "-INF")) {
        v->negative = s.n == 4;
        v->u = 1;
        return true;
    }
    if (!sign(&s, v)) return false;
    int64_t exponent = 0, zeros = 0;
    bool some = false, point = false;
    for (; s.n && (digit(*s.p) || (*s.p == '.' && !point)); s.p++, s.n--) {
        if (*s.p == '.') {
            point = true;
            continue;
        }
        some = true;
        if (point) exponent--;
        if (*s.p == '0') { /* zeros count once another digit follows */
            zeros++;
            continue;
        }
        for (; zeros && v->u; zeros--) {
            if (v->u > INT64_MAX / 10) return false;
            v->u *= 10;
        }
        zeros = 0;
        unsigned d = *s.p - '0';
        if (v->u > ((uint64_t)INT64_MAX - d) / 10) return false;
        v->u = v->u * 10 + d;
    }
    exponent += zeros;
    if (!some) return false;
    if (take_char(&s, 'E') || take_char(&s, 'e')) {
        bool minus = take_char(&s, '-');
        if (!minus) take_char(&s, '+');
        xe_span d = take_digits(&s);
        if (!d.n || d.n > 9) return false;
        int64_t e = 0;
        for (size_t i = 0; i < d.n; i++) e = e * 10 + (d.p[i] - '0');
        exponent += minus ? -e : e;
    }
    if (s.n) return false;
    if (v->u == 0) {
        v->negative = false;
        exponent = 0;
    }
    v->exponent = (int32_t)exponent;
    return exponent > SPECIAL && exponent < -SPECIAL;
}

static bool take_year(xe_span *s, xe_val *v) {
    bool minus = take_char(s, '-');
    xe_span d = take_digits(s);
    if (d.n < 4 || d.n > 9 || (d.n > 4 && d.p[0] == '0')) return false;
    int64_t y = 0;
    for (size_t i = 0; i < d.n; i++) y = y * 10 + (d.p[i] - '0');
    v->year = minus ? -y : y;
    return y != 0;
}
static bool take_month(xe_span *s, xe_val *v) {
    uint32_t m;
    if (!take_number(s, 2, &m) || m < 1 || m > 12) return false;
    v->month_day = m * 32;
    return true;
}
static bool take_day(xe_span *s, xe_val *v) {
    static const uint8_t days[] = {31, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}; /* 0: any month */
    uint32_t d;
    if (!take_number(s, 2, &d) || d < 1 || d > days[v->month_day / 32]) return false;
    v->month_day += d;
    return true;
}
static bool take_time(xe_span *s, xe_val *v) {
    uint32_t h, m, sec;
    if (!take_number(s, 2, &h) || !take_char(s, ':') || !take_number(s, 2, &m) || !take_char(s, ':') || !take_number(s, 2, &sec))
        return false;
    if (h > 24 || m > 59 || sec > 60) return false;
    v->time = (h * 64 + m) * 64 + sec;
    v->fraction = (xe_span){NULL, 0};
    if (take_char(s, '.')) {
        if (!s->n || !digit(*s->p) || !fraction(s, v)) return false;
    }
    return h < 24 || (m == 0 && sec == 0 && !v->fraction.n);
}
static bool take_zone(xe_span *s, xe_val *v) {
    v->has_zone = s->n > 0;
    v->zone = 0;
    if (!s->n || (s->n == 1 && *s->p == 'Z')) return true;
    bool minus = take_char(s, '-');
    uint32_t h, m;
    if (!minus && !take_char(s, '+')) return false;
    if (!take_number(s, 2, &h) || !take_char(s, ':') || !take_number(s, 2, &m) || s->n) return false;
    v->zone = (int32_t)(h * 64 + m);
    if (minus) v->zone = -v->zone;
    return m < 60 && (h < 14 || (h == 14 && m == 0));
}

static bool parse_date(unsigned kind, xe_span s, xe_val *v) {
    bool good = true;
    v->month_day = 0;
    switch (kind) {
    case XE_DATETIME:
    case XE_DATE: good = take_year(&s, v) && take_char(&s, '-') && take_month(&s, v) && take_char(&s, '-') && take_day(&s, v); break;
    case XE_GYEAR: good = take_year(&s, v); break;
    case XE_GYEARMONTH: good = take_year(&s, v) && take_char(&s, '-') && take_month(&s, v); break;
    case XE_GMONTHDAY: good = take_char(&s, '-') && take_char(&s, '-') && take_month(&s, v) && take_char(&s, '-') && take_day(&s, v); break;
    case XE_GMONTH: good = take_char(&s, '-') && take_char(&s, '-') && take_month(&s, v); break;
    case XE_GDAY: good = take_char(&s, '-') && take_char(&s, '-') && take_char(&s, '-') && take_day(&s, v); break;
    }
    if (!good) return false;
    if (kind == XE_DATETIME && !take_char(&s, 'T')) return false;
    if ((kind == XE_DATETIME || kind == XE_TIME) && !take_time(&s, v)) return false;
    return take_zone(&s, v);
}

static int hex_digit(uint8_t c) {
    if (digit(c)) return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
static int base64_digit(uint8_t c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (digit(c)) return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The number of bytes that base64 text stands for, SIZE_MAX if it is none. */
static size_t base64_bytes(xe_span s) {
    size_t digits = 0, pad = 0;
    int last = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (space(s.p[i])) continue;
        if (s.p[i] == '=') {
            pad++;
            continue;
        }
        if (pad || (last = base64_digit(s.p[i])) < 0) return SIZE_MAX;
        digits++;
    }
    if (pad > 2 || (digits + pad) % 4 || (pad == 1 && last & 3) || (pad == 2 && last & 15)) return SIZE_MAX;
    return digits / 4 * 3 + (pad ? 3 - pad : 0);
}

static bool next_item(xe_span *s, xe_span *item) {
    while (s->n && space(s->p[0])) s->p++, s->n--;
    item->p = s->p;
    item->n = 0;
    while (item->n < s->n && !space(s->p[item->n])) item->n++;
    s->p += item->n;
    s->n -= item->n;
    return item->n > 0;
}

static bool same_number(const xe_val *a, const xe_val *b) {
    return a->negative == b->negative && a->u == b->u && xe_same(a->digits, b->digits) && xe_same(a->fraction, b->fraction) &&
           a->exponent == b->exponent && a->year == b->year && a->month_day == b->month_day && a->time == b->time && a->zone == b->zone &&
           a->has_zone == b->has_zone;
}

static bool parse_enum(const xe_grammar *g, const xe_options *o, const xe_datatype *d, xe_span text, xe_val *v) {
    for (uint32_t i = 0; i < d->count; i++) {
        const xe_enum *e = g->enums + d->first + i;
        const uint8_t *listed = g->strings + e->text;
        if (e->len == text.n && (!text.n || (*listed == *text.p && !memcmp(listed, text.p, text.n)))) {
            v->u = i;
            return true;
        }
    }
    if (d->base == XE_STRING || d->base == XE_BASE64 || d->base == XE_HEX) return false;
    xe_rep base = {d->base == XE_NBIT ? XE_INTEGER : d->base, XE_NO16, d};
    xe_val given = {0};
    if (!xe_parse(g, o, &base, text, &given)) return false;
    for (uint32_t i = 0; i < d->count; i++) { /* other texts of the same value */
        const xe_enum *e = g->enums + d->first + i;
        xe_val listed = {0};
        if (xe_parse(g, o, &base, (xe_span){g->strings + e->text, e->len}, &listed) && same_number(&given, &listed)) {
            v->u = i;
            return true;
        }
    }
    return false;
}

bool xe_parse(const xe_grammar *g, const xe_options *o, const xe_rep *r, xe_span text, xe_val *v) {
    xe_span s = text, item;
    if (r->kind == XE_STRING) return true;
    if (s.n && (s.p[0] <= ' ' || s.p[s.n - 1] <= ' ') && (r->kind != XE_ENUM || r->d->collapse)) s = trim(text);
    switch (r->kind) {
    case XE_BOOLEAN:
        v->bits = 1;
        if (s.n == 1) {
            v->u = *s.p == '1';
            return v->u || *s.p == '0';
        }
        v->u = s.n == 4 && !memcmp(s.p, "true", 4);
        return v->u || is(s, "false");
    case XE_BOOLEAN_PATTERN:
        v->bits = 2;
        v->u = is(s, "true") ? 2 : is(s, "0") ? 1 : is(s, "1") ? 3 : 0;
        return v->u || is(s, "false");
    case XE_NBIT: {
        v->bits = r->d->bits;
        if (!parse_integer(s, v) || v->digits.n || v->u > (uint64_t)INT64_MAX) return false;
        int64_t x = v->negative ? -(int64_t)v->u : (int64_t)v->u;
        if (x < r->d->low || (uint64_t)(x - r->d->low) > 4095) return false;
        v->u = (uint64_t)(x - r->d->low);
        return v->u >> r->d->bits == 0;
    }
    case XE_UNSIGNED: return parse_integer(s, v) && !v->negative;
    case XE_INTEGER: return parse_integer(s, v);
    case XE_DECIMAL: return parse_decimal(s, v);
    case XE_FLOAT: return parse_float(s, v);
    case XE_BASE64: return base64_bytes(s) != SIZE_MAX;
    case XE_HEX:
        for (size_t i = 0; i < s.n; i++)
            if (hex_digit(s.p[i]) < 0) return false;
        return s.n % 2 == 0;
    case XE_ENUM: v->bits = r->d->bits; return parse_enum(g, o, r->d, s, v);
    case XE_LIST: {
        xe_rep of = xe_rep_of(g, o, r->d->first);
        while (next_item(&s, &item)) {
            xe_val ignored = {0};
            if (!xe_parse(g, o, &of, item, &ignored)) return false;
        }
        return true;
    }
    default: return r->kind >= XE_DATETIME && r->kind <= XE_GDAY && parse_date(r->kind, s, v);
    }
}

/* -- writing bits */

/* The unsigned integer of decimal digits, however many; `less`: by how much it is diminished, 0 or 1. */
static void put_digits(xe_out *out, xe_span d, unsigned less) {
    uint32_t limbs[MOST_DIGITS / 8 + 2], n = 0; /* of 28 bits, four groups of 7: more than 8 digits each */
    for (size_t i = 0; i < d.n; i++) {
        uint64_t carry = d.p[i] - '0';
        for (uint32_t k = 0; k < n; k++) {
            carry += (uint64_t)limbs[k] * 10;
            limbs[k] = carry & 0xFFFFFFF;
            carry >>= 28;
        }
        if (carry) limbs[n++] = (uint32_t)carry;
    }
    for (uint32_t k = 0; less && k < n; k++) {
        less = limbs[k] == 0;
        limbs[k] = (limbs[k] - 1) & 0xFFFFFFF;
    }
    while (n && !limbs[n - 1]) n--;
    if (!n) {
        xe_put_byte(out, 0);
        return;
    }
    for (uint32_t k = 0; k < n; k++) {
        uint32_t v = limbs[k];
        for (unsigned i = 0; i < 4; i++, v >>= 7) {
            bool more = k + 1 < n || v >> 7;
            xe_put_byte(out, (uint8_t)((v & 0x7F) | (more ? 0x80 : 0)));
            if (!more) return;
        }
    }
}

static void put_number(xe_out *out, const xe_val *v, unsigned less) {
    if (v->digits.n)
        put_digits(out, v->digits, less);
    else
        xe_put_unsigned(out, v->u - less);
}

/* Digits of a fraction, the last first. */
static void put_fraction(xe_out *out, xe_span f) {
    uint8_t reversed[MOST_DIGITS];
    xe_val v = {0};
    for (size_t i = 0; i < f.n; i++) reversed[i] = f.p[f.n - 1 - i];
    set_number(&v, (xe_span){reversed, f.n});
    put_number(out, &v, 0);
}

static void put_signed(xe_out *out, bool negative, uint64_t u) {
    xe_put(out, negative, 1);
    xe_put_unsigned(out, negative ? u - 1 : u);
}

static void put_binary(xe_out *out, unsigned kind, xe_span s) {
    if (kind == XE_HEX) {
        xe_put_unsigned(out, s.n / 2);
        for (size_t i = 0; i < s.n; i += 2) xe_put_byte(out, (uint8_t)(hex_digit(s.p[i]) << 4 | hex_digit(s.p[i + 1])));
        return;
    }
    uint32_t acc = 0;
    unsigned bits = 0;
    xe_put_unsigned(out, base64_bytes(s));
    for (size_t i = 0; i < s.n; i++) {
        int d = base64_digit(s.p[i]);
        if (d < 0) continue;
        acc = acc << 6 | (uint32_t)d;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            xe_put_byte(out, (uint8_t)(acc >> bits));
        }
    }
}

size_t xe_characters(xe_span s) {
    size_t i = 0, n;
    uint64_t w, high = 0;
    for (; i + 8 <= s.n; i += 8) {
        memcpy(&w, s.p + i, 8);
        high |= w;
    }
    high |= xc_load(s.p + i, s.n - i);
    if (!(high & 0x8080808080808080u)) return s.n;
    for (i = n = 0; i < s.n; i++) n += (s.p[i] & 0xC0) != 0x80;
    return n;
}

/* One character of valid UTF-8. */
static inline uint32_t take_character(xe_span *s) {
    uint32_t c = *s->p;
    unsigned n = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (n > 1) {
        c &= 0x7Fu >> n;
        for (unsigned i = 1; i < n && i < s->n; i++) c = c << 6 | (s->p[i] & 0x3F);
    }
    if (n > s->n) n = (unsigned)s->n;
    s->p += n;
    s->n -= n;
    return c;
}

static void put_characters(xe_out *out, xe_span s) {
    while (s.n) {
        uint32_t c = take_character(&s);
        if (XE_RARE(out->aligned) || c >= 1u << 21)
            xe_put_unsigned(out, c);
        else if (c < 0x80)
            xe_put(out, c, 8);
        else if (c < 1u << 14)
            xe_put(out, ((c & 0x7F) | 0x80) << 8 | c >> 7, 16);
        else
            xe_put(out, ((c & 0x7F) | 0x80) << 16 | ((c >> 7 & 0x7F) | 0x80) << 8 | c >> 14, 24);
    }
}

void xe_put_string(xe_out *out, xe_span s, size_t characters, unsigned more) {
    xe_put_unsigned(out, characters + more);
    if (characters == s.n) /* ASCII */
        xe_put_padded(out, s.p, s.n);
    else
        put_characters(out, s);
}

static void put_restricted(xe_out *out, const xe_grammar *g, const xe_set *set, xe_span s) {
    const uint16_t *points = g->points + set->first;
    unsigned width = xe_width(set->count + 1u);
    while (s.n) {
        uint32_t c = take_character(&s);
        unsigned low = 0, high = set->count;
        while (low < high) {
            unsigned middle = (low + high) / 2;
            if (points[middle] < c)
                low = middle + 1;
            else
                high = middle;
        }
        if (low < set->count && points[low] == c) {
            xe_put(out, low, width);
        } else {
            xe_put(out, set->count, width);
            xe_put_unsigned(out, c);
        }
    }
}

XE_COLD void put_hit(xe_tables *t, xe_out *out, uint32_t name, uint32_t i) {
    const xe_value *v = t->values + i;
    if (v->name == name && t->local_values) {
        uint32_t m = xe_partition_size(t, name);
        xe_put_unsigned(out, 0);
        xe_put(out, v->local, xe_width(m));
    } else {
        xe_put_unsigned(out, 1);
        xe_put(out, i, xe_width(t->n_values));
    }
}

void xe_put_string_value(xe_tables *t, xe_out *out, uint32_t name, xe_span s, const xe_rep *r) {
    if (!s.n) {
        xe_put_unsigned(out, 2);
        return;
    }
    bool ascii;
    uint32_t hash = xe_hash_value(t, s, &ascii), i = xe_lookup_value(t, s, hash);
    if (i != XE_NONE) {
        put_hit(t, out, name, i);
        return;
    }
    size_t characters = ascii ? s.n : xe_characters(s);
    xe_put_unsigned(out, characters + 2);
    if (XE_RARE(r->set != XE_NO16))
        put_restricted(out, t->g, t->g->sets + r->set, s);
    else if (ascii)
        xe_put_padded(out, s.p, s.n);
    else
        put_characters(out, s);
    xe_add_value(t, name, s, characters, hash);
}

void xe_put_value(xe_tables *t, const xe_options *o, xe_out *out, const xe_rep *r, uint32_t name, xe_span text, const xe_val *v) {
    switch (r->kind) {
    case XE_STRING: xe_put_string_value(t, out, name, text, r); return;
    case XE_BOOLEAN: xe_put(out, (uint32_t)v->u, 1); return;
    case XE_BOOLEAN_PATTERN: xe_put(out, (uint32_t)v->u, 2); return;
    case XE_NBIT:
    case XE_ENUM: xe_put(out, (uint32_t)v->u, r->d->bits); return;
    case XE_UNSIGNED: put_number(out, v, 0); return;
    case XE_INTEGER:
        xe_put(out, v->negative, 1);
        put_number(out, v, v->negative);
        return;
    case XE_DECIMAL:
        xe_put(out, v->negative, 1);
        put_number(out, v, 0);
        put_fraction(out, v->fraction);
        return;
    case XE_FLOAT:
        put_signed(out, v->negative, v->u);
        put_signed(out, v->exponent < 0, (uint64_t)llabs(v->exponent));
        return;
    case XE_BASE64:
    case XE_HEX: put_binary(out, r->kind, trim(text)); return;
    case XE_LIST: {
        xe_rep of = xe_rep_of(t->g, o, r->d->first);
        xe_span s = text, item;
        uint64_t n = 0;
        while (next_item(&s, &item)) n++;
        xe_put_unsigned(out, n);
        for (s = text; next_item(&s, &item);) {
            xe_val one = {0};
            xe_parse(t->g, o, &of, item, &one);
            xe_put_value(t, o, out, &of, name, item, &one);
        }
        return;
    }
    default: break;
    }
    if (r->kind == XE_DATETIME || r->kind == XE_DATE || r->kind == XE_GYEAR || r->kind == XE_GYEARMONTH) {
        int64_t y = v->year - 2000;
        put_signed(out, y < 0, (uint64_t)llabs(y));
    }
    if (r->kind != XE_TIME && r->kind != XE_GYEAR) xe_put(out, v->month_day, 9);
    if (r->kind == XE_DATETIME || r->kind == XE_TIME) {
        xe_put(out, v->time, 17);
        xe_put(out, v->fraction.n > 0, 1);
        if (v->fraction.n) put_fraction(out, v->fraction);
    }
    xe_put(out, v->has_zone, 1);
    if (v->has_zone) xe_put(out, (uint32_t)(v->zone + 896), 11);
}

/* -- reading bits */

static void bad(xe_in *in) {
    if (!in->error) in->error = XE_E_BITS;
}

static void text_number(xe_out *text, uint64_t v, unsigned width) {
    uint8_t b[20];
    unsigned n = 0;
    do b[19 - n++] = (uint8_t)('0' + v % 10), v /= 10;
    while (v);
    while (n < width) b[19 - n++] = '0';
    xe_text(text, b + 20 - n, n);
}

/* An unsigned integer of any size as digits, at most `cap` of them; returns how many. `more` is added. */
static unsigned get_digits(xe_in *in, uint8_t *to, unsigned cap, unsigned more) {
    uint32_t limbs[MOST_DIGITS / 9 + 8]; /* base 10^9, the lowest first */
    uint8_t groups[MOST_DIGITS / 2];     /* 7 bits each, the lowest first */
    unsigned n = 0, g = 0;
    for (;;) {
        uint32_t b = xe_get_bits(in, 8);
        if (in->error) return 0;
        if (g >= sizeof groups - 16) {
            bad(in);
            return 0;
        }
        groups[g++] = b & 0x7F;
        if (!(b & 0x80)) break;
    }
    while (g--) {
        uint64_t carry = groups[g];
        for (unsigned k = 0; k < n; k++) {
            carry += (uint64_t)limbs[k] << 7;
            limbs[k] = (uint32_t)(carry % 1000000000);
            carry /= 1000000000;
        }
        if (carry) {
            if (n >= sizeof limbs / sizeof *limbs - 2) {
                bad(in);
                return 0;
            }
            limbs[n++] = (uint32_t)carry;
        }
    }
    for (unsigned k = 0; more; k++) {
        if (k == n) limbs[n++] = 0;
        more = ++limbs[k] == 1000000000;
        if (more) limbs[k] = 0;
    }
    unsigned len = 0;
    for (unsigned k = n; k--;) {
        for (uint32_t unit = 100000000; unit; unit /= 10) {
            uint8_t c = (uint8_t)('0' + limbs[k] / unit % 10);
            if (!len && c == '0') continue;
            if (len >= cap) {
                bad(in);
                return 0;
            }
            to[len++] = c;
        }
    }
    if (!len) to[len++] = '0';
    return len;
}

static void get_integer(xe_in *in, xe_out *text, bool negative) {
    uint8_t digits[MOST_DIGITS];
    unsigned n = get_digits(in, digits, sizeof digits, negative);
    if (negative) xe_text(text, "-", 1);
    xe_text(text, digits, n);
}

static void get_fraction(xe_in *in, xe_out *text) {
    uint8_t digits[MOST_DIGITS];
    unsigned n = get_digits(in, digits, sizeof digits, 0);
    for (unsigned i = 0; i < n / 2; i++) {
        uint8_t c = digits[i];
        digits[i] = digits[n - 1 - i];
        digits[n - 1 - i] = c;
    }
    xe_text(text, digits, n);
}

static void get_decimal(xe_in *in, xe_out *text, bool plain) {
    if (xe_get(in, 1)) xe_text(text, "-", 1);
    get_integer(in, text, false);
    size_t whole = text->len;
    xe_text(text, ".", 1);
    get_fraction(in, text);
    if (plain && !in->error && !text->error && text->len == whole + 2 && text->p[whole + 1] == '0') text->len = whole;
}

/* A signed integer of at most 63 bits. */
static int64_t get_signed(xe_in *in) {
    bool negative = xe_get(in, 1);
    uint64_t u = xe_get_unsigned(in);
    if (u > (uint64_t)INT64_MAX) {
        bad(in);
        return 0;
    }
    return negative ? -(int64_t)u - 1 : (int64_t)u;
}

static void get_float(xe_in *in, xe_out *text, bool plain) {
    int64_t mantissa = get_signed(in), exponent = get_signed(in);
    if (in->error) return;
    if (exponent == SPECIAL) {
        if (mantissa == 1)
            xe_text(text, "INF", 3);
        else if (mantissa == -1)
            xe_text(text, "-INF", 4);
        else
            xe_text(text, "NaN", 3);
        return;
    }
    if (exponent < SPECIAL || exponent > -SPECIAL) {
        bad(in);
        return;
    }
    uint64_t u = mantissa < 0 ? (uint64_t)(-(mantissa + 1)) + 1 : (uint64_t)mantissa;
    if (mantissa < 0) xe_text(text, "-", 1);
    if (plain && exponent <= 0 && exponent >= -18) {
        uint64_t unit = 1;
        for (int64_t i = exponent; i < 0; i++) unit *= 10;
        text_number(text, u / unit, 1);
        if (exponent < 0) {
            xe_text(text, ".", 1);
            text_number(text, u % unit, (unsigned)-exponent);
        }
        return;
    }
    if (plain && exponent > 0 && exponent <= 6) {
        text_number(text, u, 1);
        xe_text(text, "000000", (size_t)exponent);
        return;
    }
    text_number(text, u, 1);
    xe_text(text, exponent < 0 ? "E-" : "E", exponent < 0 ? 2 : 1);
    text_number(text, (uint64_t)llabs(exponent), 1);
}

static void get_date(xe_in *in, xe_out *text, unsigned kind) {
    uint32_t month = 0, day = 0;
    if (kind == XE_DATETIME || kind == XE_DATE || kind == XE_GYEAR || kind == XE_GYEARMONTH) {
        int64_t y = get_signed(in);
        if (y > 1000000000 || y < -1000000000) bad(in);
        if (in->error) return;
        y += 2000;
        if (y < 0) xe_text(text, "-", 1);
        text_number(text, (uint64_t)llabs(y), 4);
    }
    if (kind != XE_TIME && kind != XE_GYEAR) {
        uint32_t v = xe_get(in, 9);
        month = v / 32;
        day = v % 32;
        bool has_month = kind != XE_GDAY, has_day = kind != XE_GYEARMONTH && kind != XE_GMONTH;
        if ((has_month && (month < 1 || month > 12)) || (has_day && day < 1)) bad(in);
        if (in->error) return;
        if (kind == XE_GMONTHDAY || kind == XE_GMONTH) xe_text(text, "-", 1);
        if (kind == XE_GDAY) xe_text(text, "--", 2);
        if (has_month) {
            xe_text(text, "-", 1);
            text_number(text, month, 2);
        }
        if (has_day) {
            xe_text(text, "-", 1);
            text_number(text, day, 2);
        }
    }
    if (kind == XE_DATETIME || kind == XE_TIME) {
        uint32_t v = xe_get(in, 17), h = v >> 12, m = v >> 6 & 63, s = v & 63;
        if (h > 24 || m > 59 || s > 60) bad(in);
        if (in->error) return;
        if (kind == XE_DATETIME) xe_text(text, "T", 1);
        text_number(text, h, 2);
        xe_text(text, ":", 1);
        text_number(text, m, 2);
        xe_text(text, ":", 1);
        text_number(text, s, 2);
        if (xe_get(in, 1)) {
            xe_text(text, ".", 1);
            get_fraction(in, text);
        }
    }
    if (xe_get(in, 1)) {
        int32_t zone = (int32_t)xe_get(in, 11) - 896;
        uint32_t u = (uint32_t)abs(zone);
        if (zone > 896 || (u & 63) > 59) bad(in);
        if (in->error) return;
        if (!zone) {
            xe_text(text, "Z", 1);
            return;
        }
        xe_text(text, zone < 0 ? "-" : "+", 1);
        text_number(text, u >> 6, 2);
        xe_text(text, ":", 1);
        text_number(text, u & 63, 2);
    }
}

static void get_binary(xe_in *in, xe_out *text, unsigned kind, size_t most) {
    static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char hex[] = "0123456789ABCDEF";
    uint64_t n = xe_get_unsigned(in);
    if (in->error) return;
    if (n > most / 2) {
        in->error = XE_E_LIMIT;
        return;
    }
    if (n > xe_in_left(in) / 8) {
        in->error = XE_E_MORE;
        return;
    }
    if (!xe_out_room(text, (size_t)n * 2 + 8)) return;
    uint8_t *to = text->p + text->len;
    if (kind == XE_HEX) {
        for (uint64_t i = 0; i < n; i++) {
            uint32_t b = xe_get_bits(in, 8);
            *to++ = (uint8_t)hex[b >> 4];
            *to++ = (uint8_t)hex[b & 15];
        }
    } else {
        while (n) {
            unsigned k = n < 3 ? (unsigned)n : 3;
            uint32_t v = xe_get_bits(in, 8 * k) << (24 - 8 * k);
            *to++ = (uint8_t)base64[v >> 18];
            *to++ = (uint8_t)base64[v >> 12 & 63];
            *to++ = k > 1 ? (uint8_t)base64[v >> 6 & 63] : '=';
            *to++ = k > 2 ? (uint8_t)base64[v & 63] : '=';
            n -= k;
        }
    }
    text->len = (size_t)(to - text->p);
}

static void put_character(xe_in *in, xe_out *text, uint64_t c) {
    uint8_t b[4];
    if (c >= 0x80 && c < 0x10000 && text->cap - text->len >= 3) {
        uint8_t *to = text->p + text->len;
        if (c < 0x800) {
            to[0] = (uint8_t)(0xC0 | c >> 6);
            to[1] = (uint8_t)(0x80 | (c & 63));
            text->len += 2;
        } else if ((c >= 0xD800 && c < 0xE000) || c >= 0xFFFE) {
            bad(in);
        } else {
            to[0] = (uint8_t)(0xE0 | c >> 12);
            to[1] = (uint8_t)(0x80 | (c >> 6 & 63));
            to[2] = (uint8_t)(0x80 | (c & 63));
            text->len += 3;
        }
    } else if (c < 0x80) {
        if (c < 0x20 && c != '\t' && c != '\n' && c != '\r') {
            bad(in); /* no character of XML */
            return;
        }
        b[0] = (uint8_t)c;
        xe_text(text, b, 1);
    } else if (c < 0x800) {
        b[0] = (uint8_t)(0xC0 | c >> 6);
        b[1] = (uint8_t)(0x80 | (c & 63));
        xe_text(text, b, 2);
    } else if (c < 0x10000) {
        if ((c >= 0xD800 && c < 0xE000) || c >= 0xFFFE) {
            bad(in);
            return;
        }
        b[0] = (uint8_t)(0xE0 | c >> 12);
        b[1] = (uint8_t)(0x80 | (c >> 6 & 63));
        b[2] = (uint8_t)(0x80 | (c & 63));
        xe_text(text, b, 3);
    } else {
        if (c > 0x10FFFF) {
            bad(in);
            return;
        }
        b[0] = (uint8_t)(0xF0 | c >> 18);
        b[1] = (uint8_t)(0x80 | (c >> 12 & 63));
        b[2] = (uint8_t)(0x80 | (c >> 6 & 63));
        b[3] = (uint8_t)(0x80 | (c & 63));
        xe_text(text, b, 4);
    }
}

void xe_get_string(xe_in *in, xe_out *text, uint64_t n, const xe_grammar *g, uint16_t set, size_t most) {
    if (in->error || text->error) return;
    if (n > most) {
        in->error = XE_E_LIMIT;
        return;
    }
    if (set != XE_NO16) {
        const xe_set *s = g->sets + set;
        const uint16_t *points = g->points + s->first;
        unsigned width = xe_width(s->count + 1u);
        if (n * (in->aligned ? 8 : width) > xe_in_left(in)) {
            in->error = XE_E_MORE;
            return;
        }
        while (n-- && !in->error && !text->error) {
            uint32_t v = xe_get(in, width);
            if (v > s->count)
                bad(in);
            else
                put_character(in, text, v < s->count ? points[v] : xe_get_unsigned(in));
        }
        return;
    }
    if (n * 8 > xe_in_left(in)) {
        in->error = XE_E_MORE;
        return;
    }
    if (!xe_out_room(text, (size_t)n + 16)) return;
    while (n && !in->error && !text->error) {
        size_t i = (size_t)(in->at >> 3);
        unsigned skip = (unsigned)in->at & 7;
        uint8_t *to = text->p + text->len, *most = text->p + text->cap - 8;
        while (n && to <= most) { /* ASCII: up to eight characters a step */
            uint64_t w;
            size_t left = in->len - i;
            if (left >= 9)
                w = xe_load_be64(in->p + i) << skip | (uint64_t)in->p[i + 8] >> (8 - skip);
            else if (in->len >= 8 && n * 8 + skip <= left * 8) /* the last of the body */
                w = xe_load_be64(in->p + in->len - 8) << 8 * (8 - left) << skip;
            else
                break;
            if (n < 8) w = w >> (64 - 8 * n) << (64 - 8 * n) | 0x2020202020202020u >> 8 * n;
            if ((w | ((w - 0x2020202020202020u) & ~w)) & 0x8080808080808080u) break;
            xe_store_be64(to, w);
            unsigned k = n < 8 ? (unsigned)n : 8;
            to += k;
            i += k;
            n -= k;
        }
        in->at = (uint64_t)i << 3 | skip;
        text->len = (size_t)(to - text->p);
        for (bool ascii = false; n && !ascii && !in->error && !text->error; n--) { /* others, up to the next of ASCII */
            uint64_t c = xe_get_unsigned(in);
            ascii = c < 0x80;
            put_character(in, text, c);
        }
    }
}

static void get_string_value(xe_tables *t, const xe_limits *l, xe_in *in, const xe_rep *r, uint32_t name, xe_out *text) {
    uint64_t n = xe_get_unsigned(in);
    if (in->error) return;
    if (n < 2) {
        uint32_t m = n == 0 ? xe_partition_size(t, name) : t->n_values;
        uint32_t id = xe_get(in, xe_width(m));
        uint32_t i = m == 0 || id >= m ? XE_NONE : n == 0 ? xe_local_value_at(t, name, id) : id;
        if (i == XE_NONE) {
            bad(in);
            return;
        }
        xe_span s = xe_value_text(t, i);
        xe_text(text, s.p, s.n);
        if (n == 0)
            t->hits |= XE_PARTITION_BIT(name);
        else
            t->global_hit = true;
        return;
    }
    size_t start = text->len;
    if (n == 2) return;
    xe_get_string(in, text, n - 2, t->g, r->set, l->value_bytes);
    if (in->error || text->error) return;
    if (!xe_out_room(text, XE_PAD)) return;
    xe_span s = {text->p + start, text->len - start};
    xe_add_value(t, name, s, (size_t)(n - 2), 0);
}

void xe_get_value(xe_tables *t, const xe_options *o, const xe_limits *l, xe_in *in, const xe_rep *r, uint32_t name, xe_out *text) {
    switch (r->kind) {
    case XE_STRING: get_string_value(t, l, in, r, name, text); return;
    case XE_BOOLEAN:
        if (xe_get(in, 1))
            xe_text(text, "true", 4);
        else
            xe_text(text, "false", 5);
        return;
    case XE_BOOLEAN_PATTERN: {
        static const char *const words[] = {"false", "0", "true", "1"};
        const char *word = words[xe_get(in, 2)];
        xe_text(text, word, strlen(word));
        return;
    }
    case XE_NBIT: {
        int64_t v = r->d->low + (int64_t)xe_get(in, r->d->bits);
        if (v < 0) xe_text(text, "-", 1);
        text_number(text, v < 0 ? (uint64_t)(-(v + 1)) + 1 : (uint64_t)v, 1);
        return;
    }
    case XE_ENUM: {
        uint32_t v = xe_get(in, r->d->bits);
        if (v >= r->d->count) {
            bad(in);
            return;
        }
        const xe_enum *e = t->g->enums + r->d->first + v;
        xe_text(text, t->g->strings + e->text, e->len);
        return;
    }
    case XE_UNSIGNED: get_integer(in, text, false); return;
    case XE_INTEGER: get_integer(in, text, xe_get(in, 1)); return;
    case XE_DECIMAL: get_decimal(in, text, o->plain); return;
    case XE_FLOAT: get_float(in, text, o->plain); return;
    case XE_BASE64:
    case XE_HEX: get_binary(in, text, r->kind, l->value_bytes); return;
    case XE_LIST: {
        xe_rep of = xe_rep_of(t->g, o, r->d->first);
        uint64_t n = xe_get_unsigned(in);
        if (n > l->list_items) in->error = in->error ? in->error : XE_E_LIMIT;
        size_t start = text->len;
        for (uint64_t i = 0; i < n && !in->error && !text->error; i++) {
            if (i) xe_text(text, " ", 1);
            xe_get_value(t, o, l, in, &of, name, text);
            if (text->len - start > l->value_bytes) in->error = XE_E_LIMIT;
        }
        return;
    }
    default: get_date(in, text, r->kind); return;
    }
}
