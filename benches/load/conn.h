// SPDX-License-Identifier: Apache-2.0
// A client connection: non-blocking TCP with TLS on top when asked, on one epoll descriptor.
#ifndef LOAD_CONN_H
#define LOAD_CONN_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scram.h"

struct flow;
struct ssl_st;

enum transport { CLOSED, CONNECTING, HANDSHAKE, OPEN };

struct buffer {
    char *data;
    size_t start, end, room; // data[start..end) is in use
};

struct account {
    char user[48];
    bool registered;
    struct scram_keys keys;
};

struct conn {
    int fd;
    enum transport transport;
    uint32_t armed;     // epoll events asked for
    bool online;        // set by the load above, false again from conn_open on
    bool finished;      // we have said good-bye and read only for the peer's end
    struct ssl_st *ssl; // owned; NULL while plain
    struct buffer in;   // an unfinished stanza, between two reads
    struct buffer out;  // what the socket would not take yet

    struct account *account; // borrowed
    unsigned state;          // the protocol's, see xmpp.c
    struct scram scram;
    char *jid;         // owned; full JID once bound
    uint64_t began_ns; // when this login began

    bool managed;     // XEP-0198 is on
    uint32_t handled; // stanzas received since then
    uint32_t unasked; // sent since we last asked for an acknowledgement

    struct flow *flow; // borrowed; the numbered messages that end or begin here
    uint64_t high;     // one above the highest number that came in here
    bool sees;         // has got the presence that it waits for
    uint64_t retry_ns; // when to connect again; 0: not waiting
    // Received messages of a flow differ in their number alone: one comparison with the last tells.
    char *seen; // owned
    size_t seen_bytes, seen_number_at;
};

// What stands above a connection. `received` returns the bytes it has used up.
struct protocol {
    void (*connected)(struct conn *c);
    size_t (*received)(struct conn *c, const char *p, size_t n, uint64_t now);
};

// Reasons to stop, told upwards by the transport: the peer has gone, or TLS failed.
typedef void conn_lost_fn(struct conn *c, const char *why);

// Returns the epoll descriptor. `direct_tls`: the handshake comes before the first byte.
int conn_setup(const struct sockaddr_in *peer, bool tls, bool direct_tls, const char *domain, const struct protocol *protocol,
               conn_lost_fn *lost);
bool conn_open(struct conn *c);
void conn_start_tls(struct conn *c);
void conn_ready(struct conn *c, uint32_t events);
void conn_send(struct conn *c, const char *p, size_t n);
// Sends `last` and then our end of the stream; `lost` is called when the peer has ended too.
void conn_finish(struct conn *c, const char *last);
void conn_close(struct conn *c);
void conn_free(struct conn *c);

#endif
