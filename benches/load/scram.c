// SPDX-License-Identifier: Apache-2.0
// SCRAM-SHA-1 (RFC 5802), and base64. Self-contained: the generator also builds without OpenSSL.
#define _GNU_SOURCE
#include "scram.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

// SHA-1 (FIPS 180-4) and HMAC (RFC 2104) --------------------------------------------------------

struct sha1 {
    uint32_t h[5];
    uint64_t bytes;
    uint8_t block[64];
};

static uint32_t rotate(uint32_t x, unsigned n) { return x << n | x >> (32 - n); }

static void sha1_block(uint32_t h[5], const uint8_t *p) {
    uint32_t w[80];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20)
            f = (b & c) | (~b & d), k = 0x5a827999;
        else if (i < 40)
            f = b ^ c ^ d, k = 0x6ed9eba1;
        else if (i < 60)
            f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
        else
            f = b ^ c ^ d, k = 0xca62c1d6;
        const uint32_t t = rotate(a, 5) + f + e + k + w[i];
        e = d, d = c, c = rotate(b, 30), b = a, a = t;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

static struct sha1 sha1_new(void) { return (struct sha1){.h = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}}; }

static void sha1_add(struct sha1 *s, const void *data, size_t n) {
    const uint8_t *p = data;
    for (; n; n--, p++) {
        s->block[s->bytes++ % 64] = *p;
        if (s->bytes % 64 == 0) sha1_block(s->h, s->block);
    }
}

static void sha1_end(struct sha1 *s, uint8_t out[SHA1_BYTES]) {
    const uint64_t bits = s->bytes * 8;
    sha1_add(s, "\x80", 1);
    while (s->bytes % 64 != 56) sha1_add(s, "", 1);
    for (int i = 56; i >= 0; i -= 8) sha1_add(s, &(uint8_t){(uint8_t)(bits >> i)}, 1);
    for (int i = 0; i < SHA1_BYTES; i++) out[i] = (uint8_t)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

// The key's two half-way states: PBKDF2 starts from them thousands of times.
struct hmac {
    struct sha1 inner, outer;
};

static struct hmac hmac_key(const void *key, size_t n) {
    uint8_t short_key[64] = {0}, pad[64];
    if (n > 64) {
        struct sha1 s = sha1_new();
        sha1_add(&s, key, n);
        sha1_end(&s, short_key);
    } else {
        memcpy(short_key, key, n);
    }
    struct hmac h = {sha1_new(), sha1_new()};
    for (int i = 0; i < 64; i++) pad[i] = short_key[i] ^ 0x36;
    sha1_add(&h.inner, pad, 64);
    for (int i = 0; i < 64; i++) pad[i] = short_key[i] ^ 0x5c;
    sha1_add(&h.outer, pad, 64);
    return h;
}

static void hmac(const struct hmac *key, const void *data, size_t n, uint8_t out[SHA1_BYTES]) {
    struct hmac h = *key;
    sha1_add(&h.inner, data, n);
    sha1_end(&h.inner, out);
    sha1_add(&h.outer, out, SHA1_BYTES);
    sha1_end(&h.outer, out);
}

// Hi() of RFC 5802 section 2.2: PBKDF2 with one block of output.
static void salted_password(const char *password, const uint8_t *salt, size_t salt_bytes, unsigned iterations, uint8_t out[SHA1_BYTES]) {
    const struct hmac key = hmac_key(password, strlen(password));
    uint8_t first[64 + 4], u[SHA1_BYTES];
    memcpy(first, salt, salt_bytes);
    memcpy(first + salt_bytes, "\0\0\0\1", 4);
    hmac(&key, first, salt_bytes + 4, u);
    memcpy(out, u, SHA1_BYTES);
    while (--iterations) {
        hmac(&key, u, SHA1_BYTES, u);
        for (int i = 0; i < SHA1_BYTES; i++) out[i] ^= u[i];
    }
}

// base64 (RFC 4648 section 4) ------------------------------------------------------------------

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_encode(const void *data, size_t n, char *out, size_t room) {
    const uint8_t *p = data;
    const size_t need = (n + 2) / 3 * 4;
    if (need + 1 > room) return 0;
    for (size_t i = 0; i < n; i += 3, out += 4) {
        const uint32_t second = i + 1 < n ? p[i + 1] : 0, third = i + 2 < n ? p[i + 2] : 0;
        const uint32_t v = (uint32_t)p[i] << 16 | second << 8 | third;
        out[0] = ALPHABET[v >> 18];
        out[1] = ALPHABET[v >> 12 & 63];
        out[2] = i + 1 < n ? ALPHABET[v >> 6 & 63] : '=';
        out[3] = i + 2 < n ? ALPHABET[v & 63] : '=';
    }
    *out = '\0';
    return need;
}

size_t base64_decode(const char *text, size_t n, void *out, size_t room) {
    uint8_t *o = out;
    uint32_t v = 0;
    unsigned bits = 0;
    size_t size = 0;
    while (n && text[n - 1] == '=') n--;
    for (size_t i = 0; i < n; i++) {
        const char *at = text[i] ? strchr(ALPHABET, text[i]) : NULL;
        if (!at) return 0;
        v = v << 6 | (uint32_t)(at - ALPHABET);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            if (size + 1 >= room) return 0;
            o[size++] = (uint8_t)(v >> bits);
        }
    }
    o[size] = '\0';
    return size;
}

// The exchange ---------------------------------------------------------------------------------

size_t scram_first(struct scram *s, const char *user, char *out, size_t room) {
    uint8_t random[18];
    if (getrandom(random, sizeof random, 0) != sizeof random) return 0;
    base64_encode(random, sizeof random, s->nonce, sizeof s->nonce);
    const int n = snprintf(out, room, "n,,n=%s,r=%s", user, s->nonce);
    return n > 0 && (size_t)n < room ? (size_t)n : 0;
}

bool scram_keys_make(struct scram_keys *keys, const char *salt, size_t salt_text, unsigned iterations, const char *password) {
    if (iterations == keys->iterations && strlen(keys->salt) == salt_text && !memcmp(keys->salt, salt, salt_text)) return true;
    uint8_t raw[64], salted[SHA1_BYTES];
    const size_t n = base64_decode(salt, salt_text, raw, sizeof raw);
    if (!n || !iterations || salt_text >= sizeof keys->salt) return false;
    salted_password(password, raw, n, iterations, salted);
    const struct hmac key = hmac_key(salted, SHA1_BYTES);
    hmac(&key, "Client Key", 10, keys->client_key);
    hmac(&key, "Server Key", 10, keys->server_key);
    struct sha1 stored = sha1_new();
    sha1_add(&stored, keys->client_key, SHA1_BYTES);
    sha1_end(&stored, keys->stored_key);
    memcpy(keys->salt, salt, salt_text);
    keys->salt[salt_text] = '\0';
    keys->iterations = iterations;
    return true;
}

size_t scram_final(struct scram *s, struct scram_keys *keys, const char *user, const char *password, const char *challenge, char *out,
                   size_t room) {
    const char *salt = strstr(challenge, ",s="), *count = strstr(challenge, ",i=");
    if (strncmp(challenge, "r=", 2) || strncmp(challenge + 2, s->nonce, strlen(s->nonce))) return 0;
    if (!salt || !count || count < salt) return 0;
    const int nonce = (int)(salt - challenge - 2);
    salt += 3;
    if (!scram_keys_make(keys, salt, (size_t)(count - salt), (unsigned)strtoul(count + 3, NULL, 10), password)) return 0;
    char message[1024];
    const int n = snprintf(message, sizeof message, "n=%s,r=%s,%s,c=biws,r=%.*s", user, s->nonce, challenge, nonce, challenge + 2);
    if (n < 0 || (size_t)n >= sizeof message) return 0;
    uint8_t proof[SHA1_BYTES];
    char proof_text[32];
    struct hmac key = hmac_key(keys->stored_key, SHA1_BYTES);
    hmac(&key, message, (size_t)n, proof);
    for (int i = 0; i < SHA1_BYTES; i++) proof[i] ^= keys->client_key[i];
    key = hmac_key(keys->server_key, SHA1_BYTES);
    hmac(&key, message, (size_t)n, s->server_signature);
    base64_encode(proof, SHA1_BYTES, proof_text, sizeof proof_text);
    const int size = snprintf(out, room, "c=biws,r=%.*s,p=%s", nonce, challenge + 2, proof_text);
    return size > 0 && (size_t)size < room ? (size_t)size : 0;
}

bool scram_server_proved(const struct scram *s, const char *server_final) {
    char expected[32];
    base64_encode(s->server_signature, SHA1_BYTES, expected, sizeof expected);
    return !strncmp(server_final, "v=", 2) && !strncmp(server_final + 2, expected, strlen(expected));
}

size_t scram_server_final(const struct scram_keys *keys, const char *client_first_bare, const char *challenge, const char *client_final,
                          char *out, size_t room) {
    const char *proof_text = strstr(client_final, ",p=");
    char message[1024], text[32];
    uint8_t proof[64], signature[SHA1_BYTES], stored[SHA1_BYTES];
    if (!proof_text || base64_decode(proof_text + 3, strlen(proof_text + 3), proof, sizeof proof) != SHA1_BYTES) return 0;
    const int n =
        snprintf(message, sizeof message, "%s,%s,%.*s", client_first_bare, challenge, (int)(proof_text - client_final), client_final);
    if (n < 0 || (size_t)n >= sizeof message) return 0;
    struct hmac key = hmac_key(keys->stored_key, SHA1_BYTES);
    hmac(&key, message, (size_t)n, signature);
    for (int i = 0; i < SHA1_BYTES; i++) proof[i] ^= signature[i];
    struct sha1 client = sha1_new();
    sha1_add(&client, proof, SHA1_BYTES);
    sha1_end(&client, stored);
    if (memcmp(stored, keys->stored_key, SHA1_BYTES)) return 0;
    key = hmac_key(keys->server_key, SHA1_BYTES);
    hmac(&key, message, (size_t)n, signature);
    base64_encode(signature, SHA1_BYTES, text, sizeof text);
    const int size = snprintf(out, room, "v=%s", text);
    return size > 0 && (size_t)size < room ? (size_t)size : 0;
}
