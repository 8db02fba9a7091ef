// SPDX-License-Identifier: Apache-2.0
// SCRAM-SHA-1 (RFC 5802), and base64. Self-contained: the generator also builds without OpenSSL.
#ifndef LOAD_SCRAM_H
#define LOAD_SCRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA1_BYTES 20

// What the password came to with one salt: kept per account, as real clients do, so that a login
// storm does not measure the generator's own PBKDF2.
struct scram_keys {
    char salt[64]; // as the server wrote it, base64; "" = none yet
    unsigned iterations;
    uint8_t client_key[SHA1_BYTES], stored_key[SHA1_BYTES], server_key[SHA1_BYTES];
};

struct scram {
    char nonce[25];
    uint8_t server_signature[SHA1_BYTES];
};

// The client's side. All three write a NUL-terminated message (no base64 yet) and return its length, 0 on bad input.
size_t scram_first(struct scram *s, const char *user, char *out, size_t room);
size_t scram_final(struct scram *s, struct scram_keys *keys, const char *user, const char *password, const char *challenge, char *out,
                   size_t room);
bool scram_server_proved(const struct scram *s, const char *server_final);

// The server's side. False if salt (base64) or count are none; the last message's length, 0 if the proof is wrong.
bool scram_keys_make(struct scram_keys *keys, const char *salt, size_t salt_text, unsigned iterations, const char *password);
size_t scram_server_final(const struct scram_keys *keys, const char *client_first_bare, const char *challenge, const char *client_final,
                          char *out, size_t room);

// NUL-terminated; return the length, 0 if it does not fit or is not base64.
size_t base64_encode(const void *data, size_t n, char *out, size_t room);
size_t base64_decode(const char *text, size_t n, void *out, size_t room);

#endif
