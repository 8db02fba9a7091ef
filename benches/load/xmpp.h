// SPDX-License-Identifier: Apache-2.0
// The client's side of an XMPP stream, as far as a load generator needs it.
#ifndef LOAD_XMPP_H
#define LOAD_XMPP_H

#include "conn.h"

enum tls { TLS_NONE, TLS_STARTTLS, TLS_DIRECT };
enum sasl { SASL_PLAIN, SASL_SCRAM_SHA_1, SASL_ANONYMOUS };

struct xmpp_options {
    const char *domain;
    const char *password;
    const char *resource;
    enum tls tls;
    enum sasl sasl;
    bool sm;    // XEP-0198: enabled, its requests answered, and our own made by xmpp_ask()
    bool enrol; // XEP-0077 before the first login of an account; one that exists already is fine
};

// What the stream tells the load above it.
struct xmpp_events {
    void (*online)(struct conn *c);                                              // bound, presence processed
    void (*failed)(struct conn *c, const char *why);                             // the login was refused
    void (*numbered)(struct conn *c, uint64_t number, bool error, uint64_t now); // one of our ids came (back)
    void (*presence)(struct conn *c, const char *from, size_t from_bytes, const char *type, size_t type_bytes);
};

// With stream management: an acknowledgement is asked for behind each so many stanzas.
#define SM_EVERY 10
#define SM_ASK "<r xmlns='urn:xmpp:sm:3'/>"

// Ids of measured stanzas: NUMBER_PREFIX and then exactly NUMBER_DIGITS digits.
#define NUMBER_PREFIX 'n'
#define NUMBER_DIGITS 10

void xmpp_setup(const struct xmpp_options *options, const struct xmpp_events *events);

extern const struct protocol xmpp_protocol;
// Stanzas without a stream and a login round them: for a relay that does not look at the bytes.
extern const struct protocol raw_protocol;

// The numbered stanzas, number 0, malloc'ed; `*number_at` is where the digits start.
char *xmpp_chat(const char *to, size_t bytes, size_t *size, size_t *number_at);
// A presence with a status, which the server broadcasts.
char *xmpp_presence(size_t *size, size_t *number_at);
char *xmpp_ping(const char *to, size_t *size, size_t *number_at);

#define XMPP_END "</stream:stream>"

#endif
