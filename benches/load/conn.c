// SPDX-License-Identifier: Apache-2.0
// A client connection: non-blocking TCP with TLS on top when asked, on one epoll descriptor.
#define _GNU_SOURCE
#include "conn.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stats.h"

#ifndef NO_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
static SSL_CTX *tls_context;
#endif

// One buffer for all connections: what is left of a read is kept in the connection's own.
#define INBOX_BYTES (512 * 1024)
#define UNFINISHED_BYTES (64 * 1024)

static struct {
    int epoll;
    struct sockaddr_in peer;
    bool direct_tls;
    const char *domain;
    const struct protocol *protocol;
    conn_lost_fn *lost;
} on;

static char inbox[INBOX_BYTES];

int conn_setup(const struct sockaddr_in *peer, bool tls, bool direct_tls, const char *domain, const struct protocol *protocol,
               conn_lost_fn *lost) {
    on.epoll = epoll_create1(EPOLL_CLOEXEC);
    on.peer = *peer;
    on.direct_tls = direct_tls;
    on.domain = domain;
    on.protocol = protocol;
    on.lost = lost;
#ifndef NO_TLS
    if (tls) {
        // Nobody is authenticated: the peer is a server that the same person started on loopback.
        tls_context = SSL_CTX_new(TLS_client_method());
        if (!tls_context) return -1;
        SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_session_cache_mode(tls_context, SSL_SESS_CACHE_OFF);
    }
#else
    if (tls) return -1;
#endif
    return on.epoll;
}

static void buffer_clear(struct buffer *b) {
    free(b->data);
    *b = (struct buffer){0};
}

static void buffer_add(struct buffer *b, const char *p, size_t n) {
    if (b->start == b->end) b->start = b->end = 0;
    if (b->end + n > b->room) {
        b->room = (b->end + n) * 2;
        b->data = realloc(b->data, b->room);
        if (!b->data) abort();
    }
    memcpy(b->data + b->end, p, n);
    b->end += n;
}

static void arm(struct conn *c, uint32_t events) {
    if (c->armed == events) return;
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(on.epoll, c->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &e);
    c->armed = events;
}

static void lose(struct conn *c, const char *why) {
    conn_close(c);
    on.lost(c, why);
}

void conn_close(struct conn *c) {
#ifndef NO_TLS
    SSL_free(c->ssl);
    c->ssl = NULL;
#endif
    if (c->transport != CLOSED) close(c->fd);
    c->transport = CLOSED;
    c->armed = 0;
    buffer_clear(&c->in);
    buffer_clear(&c->out);
}

void conn_free(struct conn *c) {
    conn_close(c);
    free(c->jid);
    free(c->seen);
    c->jid = c->seen = NULL;
}

// TLS --------------------------------------------------------------------------------------------

#ifndef NO_TLS
static void handshake(struct conn *c) {
    ERR_clear_error();
    const int done = SSL_do_handshake(c->ssl);
    if (done == 1) {
        c->transport = OPEN;
        arm(c, EPOLLIN);
        on.protocol->connected(c);
        return;
    }
    switch (SSL_get_error(c->ssl, done)) {
    case SSL_ERROR_WANT_READ: arm(c, EPOLLIN); break;
    case SSL_ERROR_WANT_WRITE: arm(c, EPOLLOUT); break;
    default: lose(c, "TLS handshake failed");
    }
}

void conn_start_tls(struct conn *c) {
    c->transport = HANDSHAKE;
    c->ssl = SSL_new(tls_context);
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_tlsext_host_name(c->ssl, on.domain);
    SSL_set_connect_state(c->ssl);
    handshake(c);
}

static ssize_t tls_result(struct conn *c, int got) {
    if (got > 0) return got;
    const int error = SSL_get_error(c->ssl, got);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}
#else
static void handshake(struct conn *c) { (void)c; }
void conn_start_tls(struct conn *c) { lose(c, "built without TLS"); }
#endif

// Both: bytes moved, 0 = would block, -1 = the connection has ended.
static ssize_t take(struct conn *c, char *p, size_t room) {
#ifndef NO_TLS
    if (c->ssl) {
        ERR_clear_error();
        return tls_result(c, SSL_read(c->ssl, p, (int)room));
    }
#endif
    const ssize_t got = recv(c->fd, p, room, 0);
    if (got > 0) return got;
    return got < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

static ssize_t give(struct conn *c, const char *p, size_t n) {
#ifndef NO_TLS
    if (c->ssl) {
        ERR_clear_error();
        return tls_result(c, SSL_write(c->ssl, p, (int)n));
    }
#endif
    const ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL);
    if (sent >= 0) return sent;
    return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

// Plain and common part ---------------------------------------------------------------------------

bool conn_open(struct conn *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) return false;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    c->transport = CONNECTING;
    c->online = c->finished = c->managed = c->sees = false;
    c->retry_ns = 0;
    c->began_ns = now_ns();
    if (connect(c->fd, (const struct sockaddr *)&on.peer, sizeof on.peer) && errno != EINPROGRESS) {
        conn_close(c);
        return false;
    }
    arm(c, EPOLLOUT);
    return true;
}

static void established(struct conn *c) {
    int error = 0;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error});
    if (error) {
        lose(c, strerror(error));
    } else if (on.direct_tls) {
        conn_start_tls(c);
    } else {
        c->transport = OPEN;
        arm(c, EPOLLIN);
        on.protocol->connected(c);
    }
}

static void flush(struct conn *c) {
    while (c->out.start < c->out.end) {
        const ssize_t sent = give(c, c->out.data + c->out.start, c->out.end - c->out.start);
        if (sent < 0) {
            lose(c, "connection lost while sending");
            return;
        }
        if (sent == 0) return;
        c->out.start += (size_t)sent;
    }
    buffer_clear(&c->out);
    arm(c, EPOLLIN);
    if (c->finished) shutdown(c->fd, SHUT_WR);
}

void conn_send(struct conn *c, const char *p, size_t n) {
    if (c->transport != OPEN || c->finished) return;
    while (n && c->out.start == c->out.end) {
        const ssize_t sent = give(c, p, n);
        if (sent < 0) return; // the end is found, and told, by the next read
        if (sent == 0) break;
        p += sent;
        n -= (size_t)sent;
    }
    if (n) {
        buffer_add(&c->out, p, n);
        arm(c, EPOLLIN | EPOLLOUT);
    }
}

void conn_finish(struct conn *c, const char *last) {
    if (c->transport != OPEN) return;
    conn_send(c, last, strlen(last));
    c->finished = true;
    if (c->out.start == c->out.end) shutdown(c->fd, SHUT_WR);
}

static void pull(struct conn *c) {
    size_t have = c->in.end - c->in.start;
    if (have) memcpy(inbox, c->in.data + c->in.start, have);
    ssize_t got;
    for (;;) {
        const size_t room = INBOX_BYTES - have;
        got = take(c, inbox + have, room);
        if (got <= 0) break;
        have += (size_t)got;
        const size_t used = on.protocol->received(c, inbox, have, now_ns());
        if (c->transport != OPEN) return; // closed from within, or TLS has just begun
        have -= used;
        memmove(inbox, inbox + used, have);
        if (have > UNFINISHED_BYTES) {
            lose(c, "a stanza is too large");
            return;
        }
        if (!c->ssl && (size_t)got < room) break; // a short read has emptied the socket
    }
    if (got < 0) {
        lose(c, "connection closed by the server");
        return;
    }
    c->in.start = c->in.end = 0;
    if (have)
        buffer_add(&c->in, inbox, have);
    else if (c->in.data)
        buffer_clear(&c->in);
}

void conn_ready(struct conn *c, uint32_t events) {
    switch (c->transport) {
    case CLOSED: // an event of this batch that came too late
        return;
    case CONNECTING: established(c); return;
    case HANDSHAKE: handshake(c); return;
    case OPEN:
        if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) pull(c);
        if (c->transport == OPEN && events & EPOLLOUT) flush(c);
    }
}
