// SPDX-License-Identifier: Apache-2.0
// The client's side of MQTT 3.1.1, QoS 0, as far as a load generator needs it: each client subscribes its own topic.
#define _GNU_SOURCE
#include "mqtt.h"

#include <stdlib.h>
#include <string.h>

enum { CONNECT = 0x10, CONNACK = 0x20, PUBLISH = 0x30, SUBSCRIBE = 0x82, SUBACK = 0x90 }; // section 2.2, flags included

static struct xmpp_events tell;

void mqtt_setup(const struct xmpp_events *events) { tell = *events; }

static size_t put_text(char *out, const char *text) {
    const size_t n = strlen(text);
    out[0] = (char)(n >> 8);
    out[1] = (char)n;
    memcpy(out + 2, text, n);
    return n + 2;
}

// Section 2.2.3: seven bits an octet, lowest first.
static size_t put_length(char *out, size_t n) {
    size_t at = 0;
    do out[at++] = (char)((n & 127) | (n > 127 ? 128 : 0));
    while (n >>= 7);
    return at;
}

static void connected(struct conn *c) {
    char out[128] = {CONNECT}; // section 3.1: clean session, no keep-alive
    memcpy(out + 2, "\0\4MQTT\4\2\0\0", 10);
    const size_t n = 10 + put_text(out + 12, c->account->user);
    out[1] = (char)n;
    conn_send(c, out, n + 2);
}

static void subscribe(struct conn *c) {
    char out[128] = {(char)SUBSCRIBE, 0, 0, 1};
    const size_t n = 2 + put_text(out + 4, c->account->user) + 1; // and QoS 0
    out[1] = (char)n;
    conn_send(c, out, n + 2);
}

static void on_packet(struct conn *c, uint8_t type, const uint8_t *p, size_t n, uint64_t now) {
    if (type == PUBLISH && n > 2) {
        const size_t topic = (size_t)p[0] << 8 | p[1];
        uint64_t number = 0;
        if (n < 2 + topic + 1 + NUMBER_DIGITS) return;
        for (const uint8_t *digit = p + 2 + topic + 1, *end = digit + NUMBER_DIGITS; digit < end; digit++)
            number = number * 10 + (uint64_t)(*digit - '0');
        c->seen_bytes = n + 2 + (n > 127);
        tell.numbered(c, number, false, now);
    } else if (type == CONNACK && n == 2 && !p[1]) {
        subscribe(c);
    } else if (type == SUBACK && n == 3 && p[2] < 3) {
        free(c->jid);
        c->jid = strdup(c->account->user);
        tell.online(c);
    } else {
        conn_close(c);
        tell.failed(c, "refused, or an unexpected packet");
    }
}

static size_t received(struct conn *c, const char *bytes, size_t size, uint64_t now) {
    const uint8_t *p = (const uint8_t *)bytes, *const end = p + size;
    while (c->transport == OPEN) {
        size_t n = 0, at = 1;
        unsigned shift = 0;
        do {
            if (p + at >= end) return (size_t)(p - (const uint8_t *)bytes);
            n |= (size_t)(p[at] & 127) << shift;
            shift += 7;
        } while (p[at++] & 128 && at < 5);
        if ((size_t)(end - p) < at + n) break;
        on_packet(c, p[0], p + at, n, now);
        p += at + n;
    }
    return (size_t)(p - (const uint8_t *)bytes);
}

const struct protocol mqtt_protocol = {connected, received};

char *mqtt_publish(const char *to, size_t bytes, size_t *size, size_t *number_at) {
    const size_t around = 2 + 2 + strlen(to); // and a length of two octets at most
    const size_t least = around + 1 + 1 + NUMBER_DIGITS;
    const size_t rest = (bytes > least ? bytes : least) - (bytes > 130 ? 3 : 2);
    char *out = malloc(rest + 5);
    if (!out) abort();
    out[0] = PUBLISH;
    size_t at = 1 + put_length(out + 1, rest);
    const size_t end = at + rest;
    at += put_text(out + at, to);
    out[at++] = NUMBER_PREFIX;
    *number_at = at;
    memset(out + at, '0', NUMBER_DIGITS);
    memset(out + at + NUMBER_DIGITS, '.', end - at - NUMBER_DIGITS);
    *size = end;
    return out;
}
