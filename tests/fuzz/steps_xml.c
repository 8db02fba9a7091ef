/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts the branches that the XML parser takes for a file fed in pieces: its cost without a clock.
 *
 *     cc -O1 -fsanitize-coverage=trace-pc -c xml*.c scan.c     (every basic block calls the counter)
 *     cc steps_xml.c xml*.o scan.o -o steps_xml
 *     steps_xml FILE PIECE_BYTES                               prints the count
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "xml.h"

static unsigned long long steps;
void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void) { steps++; }

int main(int argc, char **argv) {
    static uint8_t data[1 << 23], buf[(1 << 23) + XC_PAD];
    const xc_limits limits = {1 << 24, 1 << 24, 64, 64, 256, true};
    FILE *f = argc == 3 ? fopen(argv[1], "rb") : NULL;
    if (!f) return 2;
    size_t n = fread(data, 1, sizeof data, f), piece = strtoul(argv[2], NULL, 10), len = 0, at = 0;
    fclose(f);
    xc_shared *shared = xc_shared_new(xc_kernels_named("scalar"), &limits);
    xc_xml x;
    xc_xml_init(&x);
    xc_head head;
    for (xc_event e = XC_NEED_DATA; at < n && e != XC_ERROR;) {
        size_t m = piece < n - at ? piece : n - at, start;
        memcpy(buf + len, data + at, m);
        at += m, len += m;
        memset(buf + len, 0, XC_PAD);
        do {
            e = xc_xml_next(&x, shared, buf, len, &head, &start);
        } while (e != XC_NEED_DATA && e != XC_ERROR);
        size_t keep = e == XC_ERROR ? len : xc_xml_keep(&x);
        if (e != XC_ERROR) xc_xml_shift(&x, keep);
        memmove(buf, buf + keep, len - keep);
        len -= keep;
    }
    xc_xml_free(&x, shared);
    xc_shared_free(shared);
    printf("%llu\n", steps);
    return 0;
}
