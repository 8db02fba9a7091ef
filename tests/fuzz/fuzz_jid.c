/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target for c/jid.c.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -Isrc/_xmppcore/c tests/fuzz/fuzz_jid.c src/_xmppcore/c/jid.c -o fuzz_jid
 *   cc -g -O1 -DSTANDALONE -fsanitize=address,undefined -Isrc/_xmppcore/c tests/fuzz/fuzz_jid.c src/_xmppcore/c/jid.c -o run_jid
 *
 * The second reads the files it is given, one input each.
 */
#include "jid.h"

#include <stdbool.h>

#include "standalone.h"

static bool is_utf8(const uint8_t *p, uint32_t n) {
    for (uint32_t i = 0, more; i < n; i += more + 1) {
        more = p[i] < 0x80 ? 0 : p[i] < 0xC2 ? 9 : p[i] < 0xE0 ? 1 : p[i] < 0xF0 ? 2 : p[i] < 0xF4 ? 3 : 9;
        if (more >= n - i) return false;
        for (uint32_t k = 1; k <= more; k++) {
            if ((p[i + k] & 0xC0) != 0x80) return false;
        }
        if ((p[i] == 0xE0 && p[i + 1] < 0xA0) || (p[i] == 0xED && p[i + 1] >= 0xA0) || (p[i] == 0xF0 && p[i + 1] < 0x90)) return false;
    }
    return true;
}

static void check_plain(const uint8_t *out, const xc_jid_parts *parts) {
    const uint8_t *domain = out + (parts->local_len ? parts->local_len + 1 : 0);
    CHECK(parts->local_len <= XC_JID_PART_MAX && parts->resource_len <= XC_JID_PART_MAX);
    CHECK(parts->domain_len > 0 && parts->domain_len <= XC_JID_PART_MAX);
    CHECK(is_utf8(out, xc_jid_len(parts)));
    for (uint32_t i = 0; i < parts->local_len; i++) {
        CHECK(out[i] > 0x20 && out[i] != 0x7F && !strchr("\"&'/:<>@", out[i]) && !(out[i] >= 'A' && out[i] <= 'Z'));
    }
    for (uint32_t i = 0; i < parts->domain_len; i++) {
        CHECK(domain[i] >= 0x80 || (strchr("abcdefghijklmnopqrstuvwxyz0123456789-.", domain[i]) && domain[i]));
    }
    CHECK(domain[0] != '.' && domain[parts->domain_len - 1] != '.');
    for (uint32_t i = xc_jid_bare_len(parts) + 1; i < xc_jid_len(parts); i++) CHECK(out[i] >= 0x20 && out[i] != 0x7F);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* Exact sizes, so that AddressSanitizer sees a step over either end. */
    uint8_t *out = malloc(size ? size : 1), *again = malloc(size ? size : 1);
    xc_jid_parts parts = {0}, same = {0};
    int code = xc_jid_prepare(data, size, out, &parts);
    CHECK(code == xc_jid_prepare_scalar(data, size, again, &same));
    if (code == XC_JID_OK) {
        size_t length = xc_jid_len(&parts);
        CHECK(length <= size && memcmp(&parts, &same, sizeof parts) == 0 && memcmp(out, again, length) == 0);
        check_plain(out, &parts);
        CHECK(xc_jid_prepare(out, length, again, &same) == XC_JID_OK);
        CHECK(memcmp(&parts, &same, sizeof parts) == 0 && memcmp(out, again, length) == 0);
    }
    free(out);
    free(again);
    return 0;
}
