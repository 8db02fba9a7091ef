/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target for the EXI codec: c/exi_*.c.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -Isrc/_xmppcore/c tests/fuzz/fuzz_exi.c src/_xmppcore/c/{exi_*,scan}.c -o fuzz_exi
 *   cc -g -O1 -DSTANDALONE -fsanitize=address,undefined -Isrc/_xmppcore/c tests/fuzz/fuzz_exi.c src/_xmppcore/c/{exi_*,scan}.c -o run_exi
 *
 * The second reads the files it is given, one input each. XIOT_FUZZ_GRAMMAR names tables that xiot.exi has compiled; without them, and in
 * half of the inputs, there is no schema. An input is two octets of options, then bits or XML; with the highest bit of the second, tables
 * in front (their length in two octets): the check of tables has to find what would lead the codec astray.
 *
 * Whatever is decoded either encodes under the same options or is refused, and what was made of it is decoded. Decoding straight to XML
 * and through a sink have to end at the same bit, and what has XML has a head. Moved behind another start tag the content stays what it is.
 */
#include "exi.h"
#include "scan.h"
#include "standalone.h"

static const uint64_t seed[2] = {1, 2};
static const xe_limits limits = {24, 24, 4096, 1 << 18, 256, 1 << 18, 64, 4096};

/* In place of DEFLATE: two octets of length, then the bytes. */
static bool pack(void *ctx, const uint8_t *p, size_t n, xe_out *out) {
    (void)ctx;
    uint8_t head[] = {(uint8_t)(n >> 8), (uint8_t)n};
    if (n > 0xFFFF) return false;
    xe_put_bytes(out, head, 2);
    xe_put_bytes(out, p, n);
    return true;
}
static bool unpack(void *ctx, const uint8_t *p, size_t n, size_t *used, xe_out *out) {
    (void)ctx;
    if (n < 2 || (size_t)(p[0] << 8 | p[1]) > n - 2) return false;
    *used = 2 + (size_t)(p[0] << 8 | p[1]);
    xe_put_bytes(out, p + 2, *used - 2);
    return true;
}

static const xe_grammar *given(void) {
    static xe_grammar grammar;
    static const xe_grammar *found;
    const char *path = getenv("XIOT_FUZZ_GRAMMAR");
    if (!found && path) {
        FILE *file = fopen(path, "rb");
        static _Alignas(8) uint8_t bytes[(1 << 20) + XE_PAD];
        CHECK(file);
        CHECK(xe_grammar_open(&grammar, bytes, fread(bytes, 1, 1 << 20, file)));
        fclose(file);
        void *index = malloc(xe_grammar_index_bytes(&grammar)); /* as long as the program runs */
        CHECK(index);
        xe_grammar_index(&grammar, index);
        found = &grammar;
    }
    return found ? found : &xe_schemaless;
}

/* XML to bits, into a buffer of its own; NULL if it cannot be encoded. */
static uint8_t *encode(const xe_grammar *g, const xe_options *o, const uint8_t *xml, size_t n, size_t *len) {
    xe_encoder e;
    const uint8_t *bytes;
    uint64_t bits;
    uint8_t *padded = calloc(1, n + XC_PAD), *copy = NULL;
    CHECK(padded && xe_encoder_init(&e, g, o, &limits, seed));
    memcpy(padded, xml, n);
    e.c.zip.deflate = pack;
    xe_encoder_begin(&e, (const uint8_t *)"", 0, false);
    if (xe_encode_xml(&e, padded, n) && xe_finish(&e, true, &bytes, &bits)) {
        *len = (size_t)(bits / 8);
        copy = malloc(*len ? *len : 1);
        CHECK(copy);
        memcpy(copy, bytes, *len);
    } else {
        CHECK(e.c.error != XE_OK);
    }
    xe_encoder_free(&e);
    free(padded);
    return copy;
}

/* Bits to XML, in a buffer of its own; NULL if they are none. */
static uint8_t *decode(const xe_grammar *g, const xe_options *o, const uint8_t *bytes, size_t n, size_t *len) {
    xe_decoder d;
    xe_writer w;
    xe_head head;
    uint64_t end = 0, first_end = 0, sink_end = 0;
    uint8_t *xml = NULL;
    CHECK(xe_decoder_init(&d, g, o, &limits, seed));
    xe_writer_init(&w, limits.output_bytes);
    d.c.zip.inflate = unpack;
    for (int round = 0; round < 2; round++) { /* again, to see that a coder starts anew; then on top of what it has learned */
        bool good = xe_decode_xml(&d, bytes, n, 0, false, &w, &end);
        CHECK(round == 0 || good == (xml != NULL));
        if (!good) {
            CHECK(d.c.error != XE_OK);
            continue;
        }
        CHECK(end <= (uint64_t)n * 8);
        if (round) {
            CHECK(*len == w.out.len && memcmp(xml, w.out.p, *len) == 0);
            continue;
        }
        first_end = end;
        *len = w.out.len;
        xml = malloc(*len ? *len : 1);
        CHECK(xml);
        if (*len) memcpy(xml, w.out.p, *len);
    }
    xe_peek(&d, bytes, n, 0, true, &head);
    if (xe_decode_xml(&d, bytes, n, 0, true, &w, &end)) CHECK(end <= (uint64_t)n * 8);
    xe_writer_begin(&w);
    xe_sink sink = xe_writer_sink(&w);
    bool told = xe_decode(&d, bytes, n, 0, false, &sink, &sink_end) && !w.out.error;
    CHECK(!told || !xml || sink_end == first_end);
    if (xml && !o->channels && !o->prefixes) {
        CHECK(xe_peek(&d, bytes, n, 0, false, &head) || o->fragment);
        if (head.to.p) CHECK(head.to.n <= limits.value_bytes * 4);
    }
    xe_writer_free(&w);
    xe_decoder_free(&d);
    return xml;
}

/* What is moved behind another start tag decodes to that tag, and to what was behind the first one. */
static void move(const xe_grammar *g, const xe_options *o, const uint8_t *bytes, size_t n) {
    static const char from[] = " from=\"a@b/c\"", zeros[XC_PAD];
    xe_decoder d;
    xe_encoder e;
    xe_writer w, head;
    uint64_t end, bits;
    const uint8_t *made;
    if (o->fragment) return;
    CHECK(xe_decoder_init(&d, g, o, &limits, seed));
    CHECK(xe_encoder_init(&e, g, o, &limits, seed));
    d.c.zip.inflate = unpack;
    xe_writer_init(&w, limits.output_bytes);
    xe_writer_init(&head, limits.output_bytes);
    if (xe_decode_xml(&d, bytes, n, 0, false, &w, &end) && d.seam.at) {
        CHECK(d.seam.at <= end && d.seam.xml <= w.out.len);
        xe_text(&head.out, w.out.p, d.seam.xml);
        xe_text(&head.out, from, sizeof from - 1);
        xe_text(&head.out, ">", 1);
        size_t tag = head.out.len, rest = d.seam.xml;
        xe_text(&head.out, zeros, XC_PAD);
        CHECK(!head.out.error);
        xe_encoder_begin(&e, NULL, 0, false);
        if (xe_encode_start(&e, head.out.p, tag) && xe_move(&e, &d, bytes, end) && xe_finish(&e, true, &made, &bits)) {
            size_t size = w.out.len - rest;
            uint8_t *content = malloc(size);
            CHECK(content);
            memcpy(content, w.out.p + rest, size);
            CHECK(xe_decode_xml(&d, made, bits / 8, 0, false, &w, &end));
            CHECK(bits - end < 8);
            CHECK(w.out.len - d.seam.xml == size && !memcmp(w.out.p + d.seam.xml, content, size));
            free(content);
        }
    }
    xe_writer_free(&w);
    xe_writer_free(&head);
    xe_encoder_free(&e);
    xe_decoder_free(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    uint8_t a = data[0], b = data[1];
    xe_options o = {
        .strict = a & 1,
        .fragment = a & 2,
        .comments = a & 4 && !(a & 1),
        .pis = a & 8 && !(a & 1),
        .prefixes = a & 16 && !(a & 1),
        .lexical = a & 32,
        .aligned = a >> 6,
        .channels = a >> 6 > 1,
        .compress = a >> 6 == 3,
        .block_size = b & 1 ? 3 : 1000000,
        .value_max = b & 2 ? 8 : XE_NONE,
        .value_capacity = b & 2 ? 3 : XE_NONE,
        .local_values = !(b & 4),
        .max_grammars = b & 8 ? 0 : XE_NONE,
        .max_productions = b & 8 ? 0 : XE_NONE,
        .plain = b & 16,
    };
    const xe_grammar *g = b & 32 ? given() : &xe_schemaless;
    xe_grammar inside;
    uint8_t *tables = NULL;
    void *index = NULL;
    data += 2;
    size -= 2;
    if (b & 128 && size >= 2) {
        size_t n = (size_t)(data[0] << 8 | data[1]);
        if (n > size - 2) return 0;
        tables = aligned_alloc(8, (n + XE_PAD + 7) & ~(size_t)7);
        CHECK(tables);
        memcpy(tables, data + 2, n);
        data += 2 + n;
        size -= 2 + n;
        if (!xe_grammar_open(&inside, tables, n)) {
            free(tables);
            return 0;
        }
        index = malloc(xe_grammar_index_bytes(&inside));
        CHECK(index);
        xe_grammar_index(&inside, index);
        g = &inside;
    }
    size_t bits_len = 0, xml_len = 0, again_len = 0;
    uint8_t *bits = NULL, *xml, *again;
    if (b & 64) {
        bits = encode(g, &o, data, size, &bits_len);
        if (!bits) {
            free(tables);
            free(index);
            return 0;
        }
        data = bits;
        size = bits_len;
    }
    xml = decode(g, &o, data, size, &xml_len);
    if (xml) {
        size_t len = 0;
        uint8_t *made = encode(g, &o, xml, xml_len, &len);
        if (made) { /* it may be more than the limits allow */
            again = decode(g, &o, made, len, &again_len);
            free(made);
            free(again);
        }
        free(xml);
        move(g, &o, data, size);
    }
    free(bits);
    free(tables);
    free(index);
    return 0;
}
