// SPDX-License-Identifier: Apache-2.0
// The client's side of an XMPP stream, as far as a load generator needs it.
//
// Theory of operation. A stream is cut into items: the opening tag, elements of depth 1, the closing tag
// (item_next). While the login runs each item moves a small state machine one step (RFC 6120: features,
// STARTTLS, SASL, bind; XEP-0077 in between when asked). Once online only the `id` of a stanza is looked at:
// measured stanzas carry a number there. Most items then are equal to the one before but for that number, so
// the item is first compared with the last one, which costs a few ns, and only scanned if it differs.
#define _GNU_SOURCE
#include "xmpp.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum state {
    FEATURES,      // the stream is opened, its features are awaited
    PROCEED,       // STARTTLS was asked for
    ENROLMENT,     // XEP-0077 was asked for
    AUTH,          // SASL runs
    AUTH_FEATURES, // the stream after SASL is opened
    BIND,
    ENABLE,   // XEP-0198 was asked for
    PRESENCE, // presence and a ping were sent: the ping's answer proves that the presence was processed
    ONLINE,
};

static struct xmpp_options with;
static struct xmpp_events tell;

void xmpp_setup(const struct xmpp_options *options, const struct xmpp_events *events) {
    with = *options;
    tell = *events;
}

// Items ------------------------------------------------------------------------------------------

struct span {
    const char *p;
    size_t n;
};

struct item {
    enum { ITEM_NOISE, ITEM_OPENING, ITEM_CLOSING, ITEM_ELEMENT } kind;
    struct span all;
    struct span tag;  // the first tag with its brackets
    struct span name; // local name
};

static bool is(struct span s, const char *text) { return s.n == strlen(text) && !memcmp(s.p, text, s.n); }

static bool has(struct span s, const char *text) { return memmem(s.p, s.n, text, strlen(text)) != NULL; }

static const char *tag_end(const char *p, const char *end) {
    char quote = 0;
    for (; p < end; p++) {
        if (quote) {
            if (*p == quote) quote = 0;
        } else if (*p == '>') {
            return p + 1;
        } else if (*p == '"' || *p == '\'') {
            quote = *p;
        }
    }
    return NULL;
}

static struct span local_name(struct span tag) {
    const char *p = tag.p + 1 + (tag.p[1] == '/'), *end = p;
    while (!strchr(" \t\r\n/>", *end))
        if (*end++ == ':') p = end;
    return (struct span){p, (size_t)(end - p)};
}

// The item that starts at p[0]; false while it is incomplete. No comments, CDATA or PIs: no server sends any.
static bool item_next(const char *p, size_t n, struct item *out) {
    const char *const end = p + n;
    const char *at = p;
    while (at < end && *at != '<') at++; // white space between stanzas
    if (at > p) {
        *out = (struct item){ITEM_NOISE, {p, (size_t)(at - p)}, {0}, {0}};
        return true;
    }
    const char *close = tag_end(at, end);
    if (!close) return false;
    out->tag = (struct span){at, (size_t)(close - at)};
    out->name = local_name(out->tag);
    if (at[1] == '?')
        out->kind = ITEM_NOISE;
    else if (at[1] == '/')
        out->kind = ITEM_CLOSING;
    else if (is(out->name, "stream"))
        out->kind = ITEM_OPENING;
    else
        out->kind = ITEM_ELEMENT;
    if (out->kind == ITEM_ELEMENT) {
        unsigned depth = close[-2] != '/';
        while (depth) {
            at = memchr(close, '<', (size_t)(end - close));
            if (!at || end - at < 2 || !(close = tag_end(at, end))) return false;
            if (at[1] == '/')
                depth--;
            else if (close[-2] != '/')
                depth++;
        }
    }
    out->all = (struct span){p, (size_t)(close - p)};
    return true;
}

static struct span attribute(struct span tag, const char *name) {
    const size_t length = strlen(name);
    for (const char *p = tag.p, *end = tag.p + tag.n; p < end; p++) {
        const char *equals = memchr(p, '=', (size_t)(end - p));
        if (!equals) break;
        const char quote = equals[1];
        const char *value = equals + 2, *close = value < end ? memchr(value, quote, (size_t)(end - value)) : NULL;
        if (!close) break;
        if (equals - p > (ptrdiff_t)length && equals[-(ptrdiff_t)length - 1] == ' ' && !memcmp(equals - length, name, length))
            return (struct span){value, (size_t)(close - value)};
        p = close;
    }
    return (struct span){0};
}

// The text of the first element called `name` in the item (no nesting of its own).
static struct span text_of(struct span all, const char *name) {
    const char *const end = all.p + all.n;
    for (const char *p = all.p; (p = memchr(p, '<', (size_t)(end - p))); p++) {
        const char *close = tag_end(p, end);
        if (!close) break;
        if (p[1] != '/' && is(local_name((struct span){p, (size_t)(close - p)}), name)) {
            const char *stop = memchr(close, '<', (size_t)(end - close));
            return (struct span){close, stop ? (size_t)(stop - close) : 0};
        }
    }
    return (struct span){0};
}

// Login ------------------------------------------------------------------------------------------

__attribute__((format(printf, 2, 3))) static void say(struct conn *c, const char *format, ...) {
    char out[2048];
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(out, sizeof out, format, args);
    va_end(args);
    if (n > 0 && (size_t)n < sizeof out) conn_send(c, out, (size_t)n);
}

static void refuse(struct conn *c, const char *what, struct span why) {
    char text[512];
    snprintf(text, sizeof text, "%s: %.*s", what, (int)(why.n < 300 ? why.n : 300), why.p);
    conn_close(c);
    tell.failed(c, text);
}

static void open_stream(struct conn *c, enum state next) {
    say(c,
        "%s<stream:stream to='%s' version='1.0' xmlns='jabber:client' "
        "xmlns:stream='http://etherx.jabber.org/streams'>",
        next == FEATURES && !c->ssl ? "<?xml version='1.0'?>" : "", with.domain); // pyjabber wants none in a restart
    c->state = next;
}

static void connected(struct conn *c) { open_stream(c, FEATURES); }

static void authenticate(struct conn *c) {
    static const char *const names[] = {"PLAIN", "SCRAM-SHA-1", "ANONYMOUS"};
    char message[256], text[512];
    size_t n = 0;
    if (with.sasl == SASL_PLAIN)
        n = (size_t)snprintf(message, sizeof message, "%c%s%c%s", 0, c->account->user, 0, with.password);
    else if (with.sasl == SASL_SCRAM_SHA_1)
        n = scram_first(&c->scram, c->account->user, message, sizeof message);
    base64_encode(message, n < sizeof message ? n : 0, text, sizeof text);
    say(c, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='%s'>%s</auth>", names[with.sasl], text);
    c->state = AUTH;
}

static void enrol_or_authenticate(struct conn *c) {
    if (!with.enrol || with.sasl == SASL_ANONYMOUS || c->account->registered) {
        authenticate(c);
        return;
    }
    say(c,
        "<iq type='set' id='enrol'><query xmlns='jabber:iq:register'><username>%s</username>"
        "<password>%s</password></query></iq>",
        c->account->user, with.password);
    c->state = ENROLMENT;
}

static void on_enrolment(struct conn *c, const struct item *it) {
    if (!is(attribute(it->tag, "id"), "enrol")) return;
    if (is(attribute(it->tag, "type"), "error") && !has(it->all, "<conflict")) {
        refuse(c, "registration refused", it->all);
        return;
    }
    c->account->registered = true;
    authenticate(c);
}

static void on_auth(struct conn *c, const struct item *it) {
    char message[1024], answer[1024], text[1400];
    const struct span payload = text_of(it->all, (is(it->name, "success") ? "success" : "challenge"));
    if (is(it->name, "challenge") && with.sasl == SASL_SCRAM_SHA_1) {
        size_t n = base64_decode(payload.p, payload.n, message, sizeof message);
        if (n) n = scram_final(&c->scram, &c->account->keys, c->account->user, with.password, message, answer, sizeof answer);
        if (!n) {
            refuse(c, "challenge not understood", it->all);
            return;
        }
        base64_encode(answer, n, text, sizeof text);
        say(c, "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>%s</response>", text);
    } else if (is(it->name, "success")) {
        if (with.sasl == SASL_SCRAM_SHA_1 &&
            (!base64_decode(payload.p, payload.n, message, sizeof message) || !scram_server_proved(&c->scram, message))) {
            refuse(c, "the server did not prove that it knows the password", it->all);
            return;
        }
        open_stream(c, AUTH_FEATURES);
    } else {
        refuse(c, "authentication refused", it->all);
    }
}

static void appear(struct conn *c) {
    say(c, "<presence/><iq type='get' id='ready' to='%s'><ping xmlns='urn:xmpp:ping'/></iq>", with.domain);
    c->state = PRESENCE;
}

static void on_bind(struct conn *c, const struct item *it) {
    const struct span jid = text_of(it->all, "jid");
    if (!is(attribute(it->tag, "type"), "result") || !jid.n) {
        refuse(c, "bind refused", it->all);
        return;
    }
    free(c->jid);
    c->jid = strndup(jid.p, jid.n);
    if (with.sm) {
        say(c, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        c->state = ENABLE;
    } else {
        appear(c);
    }
}

static void on_enable(struct conn *c, const struct item *it) {
    if (is(it->name, "enabled")) {
        c->managed = true;
        c->handled = c->unasked = 0;
        appear(c);
    } else if (is(it->name, "failed")) {
        refuse(c, "stream management refused", it->all);
    }
}

static void on_login_item(struct conn *c, const struct item *it) {
    if (is(it->name, "error") && has(it->tag, "stream")) {
        refuse(c, "stream error", it->all);
        return;
    }
    switch ((enum state)c->state) {
    case FEATURES:
        if (with.tls == TLS_STARTTLS && !c->ssl) {
            say(c, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
            c->state = PROCEED;
        } else {
            enrol_or_authenticate(c);
        }
        break;
    case PROCEED:
        if (is(it->name, "proceed"))
            conn_start_tls(c);
        else
            refuse(c, "STARTTLS refused", it->all);
        break;
    case ENROLMENT: on_enrolment(c, it); break;
    case AUTH: on_auth(c, it); break;
    case AUTH_FEATURES:
        if (with.sasl == SASL_ANONYMOUS)
            say(c, "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
        else
            say(c,
                "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
                "<resource>%s</resource></bind></iq>",
                with.resource);
        c->state = BIND;
        break;
    case BIND: on_bind(c, it); break;
    case ENABLE: on_enable(c, it); break;
    case PRESENCE:
        if (is(attribute(it->tag, "id"), "ready")) { // a result, or an error if it knows no ping: both are answers
            c->state = ONLINE;
            tell.online(c);
        }
        break;
    case ONLINE: break;
    }
}

// Online -----------------------------------------------------------------------------------------

static uint64_t digits(const char *p) {
    uint64_t v = 0;
    for (int i = 0; i < NUMBER_DIGITS; i++) v = v * 10 + (uint64_t)(p[i] - '0');
    return v;
}

// True if p starts with the item seen last, other than for the number.
static bool seen_again(const struct conn *c, const char *p, size_t n) {
    const size_t rest = c->seen_number_at + NUMBER_DIGITS;
    return c->seen && n >= c->seen_bytes && !memcmp(p, c->seen, c->seen_number_at) &&
           !memcmp(p + rest, c->seen + rest, c->seen_bytes - rest);
}

static void on_stanza(struct conn *c, const struct item *it, uint64_t now) {
    const struct span id = attribute(it->tag, "id");
    if (id.n != NUMBER_DIGITS + 1 || *id.p != NUMBER_PREFIX || strspn(id.p + 1, "0123456789") != NUMBER_DIGITS)
        return; // presence, a server's own question
    const bool error = is(attribute(it->tag, "type"), "error");
    if (!error) {
        free(c->seen);
        c->seen = malloc(it->all.n);
        if (!c->seen) abort();
        memcpy(c->seen, it->all.p, it->all.n);
        c->seen_bytes = it->all.n;
        c->seen_number_at = (size_t)(id.p + 1 - it->all.p);
    }
    tell.numbered(c, digits(id.p + 1), error, now);
}

// XEP-0198: counts stanzas, answers requests. Returns false if the item was of stream management.
static bool on_managed(struct conn *c, const struct item *it) {
    if (is(it->name, "r"))
        say(c, "<a xmlns='urn:xmpp:sm:3' h='%u'/>", (unsigned)c->handled);
    else if (!is(it->name, "a")) {
        c->handled++;
        return true;
    }
    return false;
}

static size_t received(struct conn *c, const char *p, size_t n, uint64_t now) {
    size_t used = 0;
    while (used < n && c->transport == OPEN) {
        if (seen_again(c, p + used, n - used)) {
            c->handled++;
            tell.numbered(c, digits(p + used + c->seen_number_at), false, now);
            used += c->seen_bytes;
            continue;
        }
        struct item it;
        if (!item_next(p + used, n - used, &it)) break;
        used += it.all.n;
        if (it.kind == ITEM_ELEMENT && is(it.name, "presence")) {
            const struct span from = attribute(it.tag, "from"), type = attribute(it.tag, "type");
            tell.presence(c, from.p, from.n, type.p, type.n);
        }
        if (it.kind == ITEM_ELEMENT && c->managed && !on_managed(c, &it)) continue;
        if (it.kind == ITEM_ELEMENT && c->state == ONLINE)
            on_stanza(c, &it, now);
        else if (it.kind == ITEM_ELEMENT)
            on_login_item(c, &it);
        else if (it.kind == ITEM_CLOSING)
            conn_finish(c, XMPP_END);
    }
    return used;
}

static void raw_connected(struct conn *c) {
    c->state = ONLINE;
    tell.online(c);
}

const struct protocol xmpp_protocol = {connected, received};
const struct protocol raw_protocol = {raw_connected, received};

// Stanzas ----------------------------------------------------------------------------------------

static char *finished(char *stanza, size_t *size, size_t *number_at) {
    *size = strlen(stanza);
    *number_at = (size_t)(strstr(stanza, "id='n") + 5 - stanza);
    return stanza;
}

char *xmpp_chat(const char *to, size_t bytes, size_t *size, size_t *number_at) {
    static const char around[] = "<message to='%s' id='n0000000000' type='chat'><body>%.*s</body></message>";
    static const char text[] = "The boiler in the cellar says that it is warm enough and would like to sleep. ";
    char *stanza;
    const int bare = snprintf(NULL, 0, around, to, 0, "");
    const size_t fill = bytes > (size_t)bare ? bytes - (size_t)bare : 0;
    char *body = malloc(fill + 1);
    if (!body) abort();
    for (size_t i = 0; i < fill; i++) body[i] = text[i % (sizeof text - 1)];
    if (asprintf(&stanza, around, to, (int)fill, body) < 0) abort();
    free(body);
    return finished(stanza, size, number_at);
}

char *xmpp_presence(size_t *size, size_t *number_at) {
    char *stanza;
    if (asprintf(&stanza, "<presence id='n0000000000'><show>chat</show><status>warm enough</status></presence>") < 0) abort();
    return finished(stanza, size, number_at);
}

char *xmpp_ping(const char *to, size_t *size, size_t *number_at) {
    char *stanza;
    if (asprintf(&stanza, "<iq type='get' id='n0000000000' to='%s'><ping xmlns='urn:xmpp:ping'/></iq>", to) < 0) abort();
    return finished(stanza, size, number_at);
}
