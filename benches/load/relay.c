// SPDX-License-Identifier: Apache-2.0
// The physical limit for a server: moves bytes between the connections it accepts (first with second, third with
// fourth, ...) and looks at none of them. One thread on epoll. Usage: relay PORT (on 127.0.0.1); ends on SIGTERM.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK_BYTES (64 * 1024)

struct end {
    int fd;
    struct end *peer; // NULL until the other one has come, and after it has gone
    char *pending;    // owned: read from the peer, not yet taken by this socket; the peer is not read meanwhile
    size_t start, size;
};

static int epoll_fd;
static char chunk[CHUNK_BYTES];

static void arm(struct end *e, uint32_t events, int how) {
    epoll_ctl(epoll_fd, how, e->fd, &(struct epoll_event){.events = events, .data.ptr = e});
}

// Closes both ends. A freed end might still stand in the batch of events in hand, so `ended` keeps it until then.
static struct end *ended;

static void end_close(struct end *e) {
    if (e->peer) {
        e->peer->peer = NULL;
        end_close(e->peer);
    }
    close(e->fd);
    free(e->pending);
    *e = (struct end){.fd = -1, .peer = ended};
    ended = e;
}

static void accept_all(int listener) {
    static struct end *waiting;
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        struct end *e = calloc(1, sizeof *e);
        if (!e) abort();
        e->fd = fd;
        if (!waiting) {
            waiting = e;
            continue;
        }
        e->peer = waiting;
        waiting->peer = e;
        arm(e, EPOLLIN, EPOLL_CTL_ADD); // only now: before, there is nowhere to send what comes in
        arm(waiting, EPOLLIN, EPOLL_CTL_ADD);
        waiting = NULL;
    }
}

static void end_read(struct end *e) {
    const ssize_t got = recv(e->fd, chunk, sizeof chunk, 0);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR)) end_close(e);
        return;
    }
    ssize_t sent = send(e->peer->fd, chunk, (size_t)got, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        end_close(e);
        return;
    }
    if (sent < 0) sent = 0;
    if (sent < got) {
        struct end *to = e->peer;
        to->size = (size_t)(got - sent);
        to->start = 0;
        to->pending = malloc(to->size);
        if (!to->pending) abort();
        memcpy(to->pending, chunk + sent, to->size);
        arm(e, e->pending ? EPOLLOUT : 0, EPOLL_CTL_MOD);
        arm(to, EPOLLOUT | (e->pending ? 0 : EPOLLIN), EPOLL_CTL_MOD);
    }
}

static void end_write(struct end *e) {
    const ssize_t sent = send(e->fd, e->pending + e->start, e->size - e->start, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN) end_close(e);
        return;
    }
    e->start += (size_t)sent;
    if (e->start < e->size) return;
    free(e->pending);
    e->pending = NULL;
    arm(e, e->peer->pending ? 0 : EPOLLIN, EPOLL_CTL_MOD);
    arm(e->peer, EPOLLIN | (e->peer->pending ? EPOLLOUT : 0), EPOLL_CTL_MOD);
}

int main(int argc, char **argv) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    at.sin_port = htons((uint16_t)(argc == 2 ? atoi(argv[1]) : 0));
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (argc != 2 || !at.sin_port || bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) {
        fprintf(stderr, "usage: relay PORT; cannot listen: %s\n", strerror(errno));
        return 2;
    }
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct end door = {.fd = listener};
    arm(&door, EPOLLIN, EPOLL_CTL_ADD);
    for (;;) {
        struct epoll_event events[256];
        const int n = epoll_wait(epoll_fd, events, 256, -1);
        for (int i = 0; i < n; i++) {
            struct end *e = events[i].data.ptr;
            if (e == &door) {
                accept_all(listener);
                continue;
            }
            if (e->fd >= 0 && events[i].events & EPOLLOUT) end_write(e);
            // While the other end has bytes waiting, even a hang-up here waits for them.
            if (e->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !e->peer->pending) end_read(e);
        }
        for (struct end *next; ended; ended = next) {
            next = ended->peer;
            free(ended);
        }
    }
}
