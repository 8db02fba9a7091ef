// SPDX-License-Identifier: Apache-2.0
// The physical limit for logins: sockets, SCRAM-SHA-1 and, at the second port, TLS; and nothing behind them. No XML
// is parsed, no account looked up, no session kept: each read is one step of the login that the generator makes, and
// is answered by a fixed text. One thread on epoll. Usage: door PORT TLS_PORT CERTIFICATE KEY PASSWORD (on 127.0.0.1);
// ends on SIGTERM. Built with -DNO_TLS it needs no OpenSSL, and TLS_PORT closes what comes.
#define _GNU_SOURCE
#include "scram.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef NO_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
static SSL_CTX *context;
#endif

#define SALT "c2FsdCBvZiB0aGUgZG9vcg=="
#define ITERATIONS 4096
#define HEADER                                                                                                                             \
    "<?xml version='1.0'?><stream:stream id='door' from='localhost' version='1.0' xmlns='jabber:client' "                                  \
    "xmlns:stream='http://etherx.jabber.org/streams'>"
#define SASL "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"

enum step { HEADER_1, AUTH, RESPONSE, HEADER_2, BIND, PRESENCE, CLOSING };

struct guest {
    int fd;
    enum step step;
    void *ssl;
    char first[256], challenge[256]; // what the client's proof is about
};

static int epoll_fd;
static struct scram_keys keys;

static void guest_close(struct guest *g) {
#ifndef NO_TLS
    SSL_free(g->ssl);
#endif
    close(g->fd);
    free(g);
}

static void accept_all(int listener, bool tls) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        struct guest *g = calloc(1, sizeof *g);
        if (!g) abort();
        g->fd = fd;
#ifndef NO_TLS
        if (tls) {
            g->ssl = SSL_new(context);
            SSL_set_fd(g->ssl, fd);
            SSL_set_accept_state(g->ssl);
        }
#else
        if (tls) {
            guest_close(g);
            continue;
        }
#endif
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = g});
    }
}

// Bytes read, 0 at the end, -1 if there is nothing yet.
static int guest_read(struct guest *g, char *into, int room) {
#ifndef NO_TLS
    if (g->ssl) {
        const int got = SSL_read(g->ssl, into, room);
        if (got > 0) return got;
        const int why = SSL_get_error(g->ssl, got);
        ERR_clear_error();
        return why == SSL_ERROR_WANT_READ ? -1 : 0;
    }
#endif
    const ssize_t got = recv(g->fd, into, (size_t)room, 0);
    return got < 0 ? -1 : (int)got;
}

static void say(struct guest *g, const char *text) {
    const size_t n = strlen(text);
#ifndef NO_TLS
    if (g->ssl) {
        SSL_write(g->ssl, text, (int)n);
        return;
    }
#endif
    (void)!send(g->fd, text, n, MSG_NOSIGNAL);
}

// The text between the first tag and the next one, decoded; NULL if there is none.
static const char *payload(const char *read, char *into, size_t room) {
    const char *from = strchr(read, '>'), *to = from ? strchr(from, '<') : NULL;
    return to && base64_decode(from + 1, (size_t)(to - from - 1), into, room) ? into : NULL;
}

// False if the login is none.
static bool answer(struct guest *g, const char *read) {
    char message[1024], plain[512], text[512];
    uint8_t random[18];
    switch (g->step++) {
    case HEADER_1:
        say(g, HEADER "<stream:features><mechanisms " SASL "><mechanism>SCRAM-SHA-1</mechanism></mechanisms>"
                      "</stream:features>");
        return true;
    case AUTH: {
        const char *nonce;
        if (!payload(read, plain, sizeof plain) || strncmp(plain, "n,,", 3) || !(nonce = strstr(plain, ",r="))) return false;
        if (getrandom(random, sizeof random, 0) != sizeof random) abort();
        base64_encode(random, sizeof random, text, sizeof text);
        const int first = snprintf(g->first, sizeof g->first, "%s", plain + 3);
        const int n = snprintf(g->challenge, sizeof g->challenge, "r=%s%s,s=" SALT ",i=%d", nonce + 3, text, ITERATIONS);
        if (first >= (int)sizeof g->first || n >= (int)sizeof g->challenge) return false;
        base64_encode(g->challenge, (size_t)n, text, sizeof text);
        snprintf(message, sizeof message, "<challenge " SASL ">%s</challenge>", text);
        say(g, message);
        return true;
    }
    case RESPONSE: {
        size_t n;
        if (!payload(read, plain, sizeof plain) || !(n = scram_server_final(&keys, g->first, g->challenge, plain, message, sizeof message)))
            return false;
        base64_encode(message, n, text, sizeof text);
        snprintf(message, sizeof message, "<success " SASL ">%s</success>", text);
        say(g, message);
        return true;
    }
    case HEADER_2: say(g, HEADER "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>"); return true;
    case BIND:
        say(g, "<iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
               "<jid>guest@localhost/load</jid></bind></iq>");
        return true;
    case PRESENCE: say(g, "<iq type='result' id='ready' from='localhost'/>"); return true;
    default: say(g, "</stream:stream>"); return false;
    }
}

static void guest_serve(struct guest *g) {
    char read[4096];
    const int got = guest_read(g, read, sizeof read - 1);
    if (got < 0) return;
    read[got] = '\0';
    if (!got || !answer(g, read)) guest_close(g);
}

static int listen_on(const char *port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    at.sin_port = htons((uint16_t)atoi(port));
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    return bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096) ? -1 : listener;
}

int main(int argc, char **argv) {
    if (argc != 6 || !scram_keys_make(&keys, SALT, sizeof SALT - 1, ITERATIONS, argv[5])) {
        fprintf(stderr, "usage: door PORT TLS_PORT CERTIFICATE KEY PASSWORD\n");
        return 2;
    }
#ifndef NO_TLS
    context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_num_tickets(context, 1);
    if (SSL_CTX_use_certificate_chain_file(context, argv[3]) != 1 || SSL_CTX_use_PrivateKey_file(context, argv[4], SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        return 2;
    }
#endif
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int doors[2] = {listen_on(argv[1]), listen_on(argv[2])};
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < 2; i++)
        if (doors[i] < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, doors[i], &(struct epoll_event){.events = EPOLLIN, .data.ptr = &doors[i]})) {
            perror("door: cannot listen");
            return 2;
        }
    for (;;) {
        struct epoll_event events[256];
        const int n = epoll_wait(epoll_fd, events, 256, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &doors[0] || events[i].data.ptr == &doors[1])
                accept_all(*(int *)events[i].data.ptr, events[i].data.ptr == &doors[1]);
            else
                guest_serve(events[i].data.ptr);
        }
    }
}
