/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzz targets share: CHECK, and a main() with -DSTANDALONE that runs the files of its arguments, one input each. */
#ifndef STANDALONE_H
#define STANDALONE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what)                                                                                                                        \
    do {                                                                                                                                   \
        if (!(what)) {                                                                                                                     \
            fprintf(stderr, "%s: line %d: %s\n", __FILE__, __LINE__, #what);                                                               \
            abort();                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#ifdef STANDALONE
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (!file) return perror(argv[i]), 1;
        static uint8_t data[1 << 20];
        size_t n = fread(data, 1, sizeof data, file);
        fclose(file);
        uint8_t *exact = malloc(n ? n : 1); /* so that AddressSanitizer sees a step over its end */
        CHECK(exact);
        memcpy(exact, data, n);
        LLVMFuzzerTestOneInput(exact, n);
        free(exact);
    }
    printf("%d inputs passed\n", argc - 1);
    return 0;
}
#endif

#endif
