// SPDX-License-Identifier: Apache-2.0
// Load generator for XMPP servers (and byte relays): one thread on epoll, one case a run, one JSON object on stdout.
//
// Theory of operation. A run has phases: set-up (all connections log in, at most `concurrency` at once), warm-up,
// the timed part, drain (nothing new is sent; what is under way may still come in), good-bye. Counts and times are
// taken in the timed part only; lost, doubled and reordered messages are counted over the whole run.
//
// Chat and ping run over flows. A flow numbers its stanzas; the time each was due stands in a ring until the number
// comes in at the other end. Closed loop: `window` are kept in flight, each arrival lets the next one go. Open loop:
// stanzas fall due at a fixed rate over all flows whatever the server does, and latency counts from that time, so a
// slow server cannot slow its own load down (no coordinated omission). A presence comes in at all contacts: each
// arrival counts, and the next one goes when the last has come.
//
// Crowds. In a storm one connection pings all the time while all the others log in at once. In a return the server is
// killed and started again by whoever reads "ready" on stderr; all come back as soon as they can.
//
// To add a case: a row in `cases` and its functions. To add a protocol: a `struct protocol` beside xmpp.c's and mqtt.c's.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "mqtt.h"
#include "stats.h"
#include "xmpp.h"

#define MAX_PIDS 16
// Open loop: at most this many unanswered in a flow; what falls due beyond that is not sent but counted as shed.
#define OPEN_LOOP_RING 4096
#define BATCH_BYTES (256 * 1024)
#define RETRY_MS 200 // between tries to connect to a server that is gone, at random by half

static struct {
    const char *host;
    unsigned port;
    unsigned count;       // of what the case says
    unsigned window;      // closed loop: in flight per flow
    double rate_per_s;    // over all flows; above 0: open loop
    size_t message_bytes; // of a chat stanza as sent
    double warmup_s, seconds, drain_s, setup_s;
    unsigned concurrency; // logins at once
    const char *user;     // prefix of account names
    bool raw, mqtt;
    pid_t pids[MAX_PIDS];
    unsigned pid_count;
    struct xmpp_options xmpp;
} opt = {
    .host = "127.0.0.1",
    .count = 10,
    .window = 1,
    .message_bytes = 152,
    .warmup_s = 0.5,
    .seconds = 2,
    .drain_s = 10,
    .setup_s = 120,
    .concurrency = 16,
    .user = "load",
    .xmpp = {.domain = "localhost", .password = "load-password", .resource = "load"},
};

struct slot {
    uint64_t number;
    uint64_t due_ns;  // 0 = free
    unsigned awaited; // arrivals
};

struct flow {
    struct conn *from, *to; // borrowed; the same one for a ping
    char *stanza;           // owned; holds the digits of the number to be sent next
    size_t bytes, number_at;
    uint64_t next;      // number to be sent next
    unsigned receivers; // of each stanza
    struct slot *ring;
    uint64_t mask;
    unsigned in_flight;
};

struct load_case {
    const char *name;
    const char *counts;  // what `count` is the number of
    unsigned conns_each; // connections to each of them; 0: `concurrency` connections take turns
    char *(*stanza)(const struct flow *f, size_t *size, size_t *number_at); // malloc'ed; NULL: no flows
    enum crowd { ALONE, CONTACTS, STORM, RETURN } crowd;                    // the first two of these: behind a connection more, the first
};

static enum phase { SETUP, WARMUP, TIMED, DRAIN, GOODBYE } phase;
static const struct load_case *running;
static int epoll_fd, pace_fd = -1;
static struct conn *conns;
static unsigned conn_count;
static unsigned opened;  // connections begun in the set-up
static unsigned settled; // connections that have come through the set-up, or failed in it
static struct account *accounts;
static unsigned account_count;
static struct flow *flows;
static unsigned flow_count;
static uint64_t pace_began_ns, paced; // open loop: stanza k is due at pace_began_ns + k / rate

static struct {
    uint64_t done; // in the timed part: stanzas or logins
    uint64_t logins;
    uint64_t lost, doubled, reordered, errors, shed, disconnects, failed_logins;
    char first_error[512];
} counts;
static struct hist latency, login_latency, send_lag;

static void note_failure(uint64_t *counter, const char *why) {
    ++*counter;
    if (!counts.first_error[0]) snprintf(counts.first_error, sizeof counts.first_error, "%s", why);
}

// Flows -----------------------------------------------------------------------------------------

static void next_number(struct flow *f) {
    f->next++;
    for (char *digit = f->stanza + f->number_at + NUMBER_DIGITS - 1; ++*digit > '9'; digit--) *digit = '0';
}

static void flow_send(struct flow *f, unsigned stanzas, uint64_t due_ns) {
    static char batch[BATCH_BYTES];
    size_t used = 0;
    if (f->from->transport != OPEN) return;
    while (stanzas--) {
        struct slot *slot = &f->ring[f->next & f->mask];
        if (slot->due_ns) {
            if (opt.rate_per_s > 0) {
                counts.shed++;
                break;
            }
            counts.lost += slot->awaited; // a whole ring of later ones has come in: this one is not late but gone
            f->in_flight--;
        }
        *slot = (struct slot){f->next, due_ns, f->receivers};
        f->in_flight++;
        if (used + f->bytes + sizeof SM_ASK > sizeof batch) {
            conn_send(f->from, batch, used);
            used = 0;
        }
        memcpy(batch + used, f->stanza, f->bytes);
        used += f->bytes;
        if (f->from->managed && ++f->from->unasked == SM_EVERY) {
            memcpy(batch + used, SM_ASK, sizeof SM_ASK - 1);
            used += sizeof SM_ASK - 1;
            f->from->unasked = 0;
        }
        next_number(f);
    }
    conn_send(f->from, batch, used);
}

// Arrivals of one read from one connection are answered by one send.
static struct flow *refill_flow;
static unsigned refill;

// Returns true if `number` was under way to `c`.
static bool flow_settle(const struct conn *c, uint64_t number, uint64_t *due_ns) {
    struct flow *f = c->flow;
    struct slot *slot = &f->ring[number & f->mask];
    if (number >= f->next) {
        note_failure(&counts.errors, "a number came in that was never sent");
        return false;
    }
    if (slot->number != number || !slot->due_ns || (f->receivers > 1 && number < c->high)) {
        counts.doubled++;
        return false;
    }
    *due_ns = slot->due_ns;
    if (!--slot->awaited) {
        slot->due_ns = 0;
        f->in_flight--;
        refill_flow = f;
        refill++;
    }
    return true;
}

static void on_numbered(struct conn *c, uint64_t number, bool error, uint64_t now) {
    uint64_t due_ns;
    if (!c->flow || !flow_settle(c, number, &due_ns)) return;
    if (error) {
        note_failure(&counts.errors, "a stanza came back as an error");
    } else {
        if (number < c->high)
            counts.reordered++;
        else
            c->high = number + 1;
        if (phase == TIMED) counts.done += running->crowd != STORM;
        if (phase == TIMED || (phase == DRAIN && running->crowd == STORM)) // the longest wait may end there
            hist_add(&latency, now - due_ns);
    }
}

static void refill_now(void) {
    if (refill && opt.rate_per_s <= 0 && phase < DRAIN) flow_send(refill_flow, refill, now_ns());
    refill = 0;
}

static void flows_make(void) {
    uint64_t ring = opt.rate_per_s > 0 ? OPEN_LOOP_RING : 64;
    while (ring < 2ull * opt.window) ring *= 2;
    flow_count = running->crowd ? 1 : opt.count;
    flows = calloc(flow_count, sizeof *flows);
    for (unsigned i = 0; i < flow_count; i++) {
        struct flow *f = &flows[i];
        f->from = &conns[i * running->conns_each];
        f->to = &conns[(i + 1) * running->conns_each - (running->crowd != CONTACTS)];
        f->receivers = running->crowd == CONTACTS ? opt.count : 1;
        for (unsigned k = 0; k < f->receivers; k++) f->to[k].flow = f;
        if (running->crowd != CONTACTS) // whose sender gets a copy that nobody counts
            f->from->flow = f;
        f->stanza = running->stanza(f, &f->bytes, &f->number_at);
        f->ring = calloc(ring, sizeof *f->ring);
        f->mask = ring - 1;
    }
}

static char *chat_stanza(const struct flow *f, size_t *size, size_t *number_at) {
    if (opt.mqtt) return mqtt_publish(f->to->jid, opt.message_bytes, size, number_at);
    return xmpp_chat(opt.raw ? "load00001@localhost/load" : f->to->jid, opt.message_bytes, size, number_at);
}

static char *presence_stanza(const struct flow *f, size_t *size, size_t *number_at) {
    (void)f;
    return xmpp_presence(size, number_at);
}

static char *ping_stanza(const struct flow *f, size_t *size, size_t *number_at) {
    (void)f;
    return xmpp_ping(opt.xmpp.domain, size, number_at);
}

// Open loop --------------------------------------------------------------------------------------

static uint64_t due_ns(uint64_t k) { return pace_began_ns + (uint64_t)((double)k * 1e9 / opt.rate_per_s); }

static void pace_wait(void) {
    const uint64_t at = due_ns(paced);
    const struct itimerspec when = {.it_value = {(time_t)(at / NS_PER_S), (long)(at % NS_PER_S)}};
    timerfd_settime(pace_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void pace(void) {
    uint64_t expirations;
    if (read(pace_fd, &expirations, sizeof expirations) < 0 || phase >= DRAIN) return;
    for (uint64_t now = now_ns(), due; (due = due_ns(paced)) <= now; paced++) {
        flow_send(&flows[paced % flow_count], 1, due);
        if (phase == TIMED) hist_add(&send_lag, now_ns() - due);
    }
    pace_wait();
}

static void flows_start(void) {
    if (opt.rate_per_s > 0) {
        pace_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pace_fd, &e);
        pace_began_ns = now_ns();
        pace_wait();
        return;
    }
    for (unsigned i = 0; i < flow_count; i++) flow_send(&flows[i], opt.window, now_ns());
}

// Connections ------------------------------------------------------------------------------------

static bool take_turns(void) { return running->conns_each == 0; }

static void begin_login(struct conn *c) {
    if (!conn_open(c)) {
        note_failure(&counts.failed_logins, strerror(errno));
        settled++;
    }
}

// Connection i takes accounts i, i + connections, ... in turn: none is logged in twice at once.
static void storm_next(struct conn *c) {
    const unsigned first = (unsigned)(c - conns), next = (unsigned)(c->account - accounts) + conn_count;
    c->account = &accounts[next < account_count ? next : first];
    if (phase == SETUP && next >= account_count)
        settled++; // each of its accounts has been in once: it waits for the other connections
    else if (phase < DRAIN)
        begin_login(c);
}

static void on_online(struct conn *c) {
    c->online = true;
    counts.logins++;
    hist_add(&login_latency, now_ns() - c->began_ns);
    if (phase == TIMED && running->crowd) counts.done++;
    if (running->crowd == CONTACTS && c != conns && !c->sees) {
        char subscribe[128];
        snprintf(subscribe, sizeof subscribe, "<presence type='subscribe' to='%s@%s'/>", accounts->user, opt.xmpp.domain);
        conn_send(c, subscribe, strlen(subscribe)); // settled when the presence comes
    } else if (take_turns()) {
        if (phase == TIMED) {
            counts.done++;
            hist_add(&latency, now_ns() - c->began_ns);
        }
        conn_finish(c, XMPP_END);
    } else {
        settled++;
    }
}

// Who takes part in a presence: the first lets all others see it.
static void on_presence(struct conn *c, const char *from, size_t from_bytes, const char *type, size_t type_bytes) {
    if (running->crowd != CONTACTS) return;
    const size_t user = strlen(accounts->user);
    if (c == conns && type_bytes == 9 && !memcmp(type, "subscribe", 9)) {
        char answer[512];
        const int n = snprintf(answer, sizeof answer, "<presence type='subscribed' to='%.*s'/>", (int)from_bytes, from);
        conn_send(c, answer, (size_t)n);
    } else if (c != conns && !c->sees && !type_bytes && from_bytes > user && !memcmp(from, accounts->user, user)) {
        c->sees = true;
        settled += c->online;
    }
}

static bool returns(const struct conn *c) { return running->crowd == RETURN && phase != SETUP && !c->finished; }

static void retry_later(struct conn *c) { c->retry_ns = now_ns() + RETRY_MS * 500000ull + (unsigned)(rand() % RETRY_MS) * 1000000ull; }

static void on_failed(struct conn *c, const char *why) {
    if (returns(c)) {
        retry_later(c);
        return;
    }
    note_failure(&counts.failed_logins, why);
    if (take_turns())
        storm_next(c);
    else
        settled++;
}

static void on_lost(struct conn *c, const char *why) {
    if (!c->online)
        on_failed(c, why);
    else if (returns(c)) {
        settled--;
        retry_later(c);
    } else if (!c->finished)
        note_failure(&counts.disconnects, why);
    else if (take_turns())
        storm_next(c);
}

static void conns_make(void) {
    account_count = opt.count * (take_turns() ? 1 : running->conns_each) + (running->crowd == CONTACTS || running->crowd == STORM);
    conn_count = take_turns() && opt.concurrency < account_count ? opt.concurrency : account_count;
    accounts = calloc(account_count, sizeof *accounts);
    conns = calloc(conn_count, sizeof *conns);
    if (!accounts || !conns) abort();
    for (unsigned i = 0; i < account_count; i++) snprintf(accounts[i].user, sizeof accounts[i].user, "%s%05u", opt.user, i);
    for (unsigned i = 0; i < conn_count; i++) conns[i].account = &accounts[i];
}

// Phases -----------------------------------------------------------------------------------------

// Of a storm, between any two steps of the others: else it would wait for our own work with all of those, two seconds and more.
static void hear_pinger(void) {
    if (running->crowd == STORM && phase == TIMED) {
        conn_ready(conns, EPOLLIN);
        refill_now();
    }
}

static void turn(uint64_t until_ns) {
    struct epoll_event events[256];
    const uint64_t now = now_ns();
    int wait_ms = until_ns > now ? (int)((until_ns - now + 999999) / 1000000) : 0;
    if (running->crowd == RETURN && wait_ms > RETRY_MS / 10) wait_ms = RETRY_MS / 10; // somebody may be due to try again
    const int n = epoll_wait(epoll_fd, events, 256, wait_ms);
    for (int i = 0; i < n; i++) {
        if (!events[i].data.ptr) {
            pace();
            continue;
        }
        conn_ready(events[i].data.ptr, events[i].events);
        refill_now();
        hear_pinger();
    }
}

static bool all_settled(void) {
    const bool crowd = running->crowd == STORM && phase == TIMED;
    const unsigned wanted = running->crowd == STORM && phase < TIMED ? 1 : conn_count;
    while (opened < wanted && (crowd || opened < settled + opt.concurrency)) {
        begin_login(&conns[opened++]);
        hear_pinger();
    }
    return settled >= wanted;
}

static bool one_gone(void) { return settled < conn_count; }

static bool all_back(void) {
    const uint64_t now = now_ns();
    for (unsigned i = 0; i < conn_count; i++)
        if (conns[i].retry_ns && conns[i].retry_ns <= now && conns[i].transport == CLOSED) {
            conns[i].retry_ns = 0;
            if (!conn_open(&conns[i])) retry_later(&conns[i]);
        }
    return settled >= conn_count;
}

static bool all_arrived(void) {
    for (unsigned i = 0; i < flow_count; i++)
        if (flows[i].in_flight) return false;
    return true;
}

static bool all_closed(void) {
    for (unsigned i = 0; i < conn_count; i++)
        if (conns[i].transport != CLOSED) return false;
    return true;
}

static bool never(void) { return false; }

// Runs the loop until `done` or for `seconds`; returns the seconds that it took.
static double run_phase(enum phase next, double seconds, bool (*done)(void)) {
    const uint64_t began = now_ns(), until = began + (uint64_t)(seconds * 1e9);
    phase = next;
    while (!done() && now_ns() < until) turn(until);
    return (double)(now_ns() - began) * 1e-9;
}

static struct usage server_usage(void) {
    struct usage u = {0};
    if (running->crowd == RETURN && phase > SETUP) return u; // another process by now
    if (opt.pid_count && !usage_read(opt.pids, opt.pid_count, &u)) {
        fprintf(stderr, "loadgen: a process given by --pid is gone\n");
        exit(1);
    }
    return u;
}

struct report {
    struct usage fresh, ready, before, after; // before the set-up, after it, round the timed part
    double setup_s, timed_s;
    double own_cpu_s, busy_s; // in the timed part; busy: the whole machine
    uint64_t setup_logins;
    bool complete;
};

static struct report run(void) {
    struct report r = {.fresh = server_usage()};
    r.setup_s = run_phase(SETUP, opt.setup_s, all_settled);
    r.ready = server_usage();
    r.setup_logins = counts.logins;
    if (!all_settled() || counts.failed_logins) {
        if (!counts.failed_logins) note_failure(&counts.failed_logins, "not all logins came to an end in time");
        return r;
    }
    r.complete = true;
    if (running->stanza) {
        flows_make();
        flows_start();
    }
    for (unsigned i = 0; take_turns() && i < conn_count; i++) {
        conns[i].account = &accounts[i];
        begin_login(&conns[i]);
    }
    if (running->crowd == RETURN) fprintf(stderr, "ready\n");
    run_phase(WARMUP, running->crowd == RETURN ? opt.setup_s : opt.warmup_s, running->crowd == RETURN ? one_gone : never);
    r.before = server_usage();
    r.own_cpu_s = -own_cpu_s();
    r.busy_s = -machine_busy_s();
    r.timed_s = running->crowd == STORM    ? run_phase(TIMED, opt.setup_s, all_settled)
                : running->crowd == RETURN ? run_phase(TIMED, opt.setup_s, all_back)
                                           : run_phase(TIMED, opt.seconds, never);
    if (settled < conn_count && !take_turns()) note_failure(&counts.failed_logins, "not all came back in time");
    r.busy_s += machine_busy_s();
    r.own_cpu_s += own_cpu_s();
    r.after = server_usage();
    run_phase(DRAIN, opt.drain_s, take_turns() ? all_closed : all_arrived);
    for (unsigned i = 0; i < flow_count; i++)
        for (uint64_t k = 0; k <= flows[i].mask; k++) counts.lost += flows[i].ring[k].due_ns ? flows[i].ring[k].awaited : 0;
    return r;
}

static void say_good_bye(void) {
    for (unsigned i = 0; i < conn_count; i++) conn_finish(&conns[i], opt.raw || opt.mqtt ? "" : XMPP_END);
    run_phase(GOODBYE, 5, all_closed);
    for (unsigned i = 0; i < conn_count; i++) conn_free(&conns[i]);
    for (unsigned i = 0; i < flow_count; i++) {
        free(flows[i].stanza);
        free(flows[i].ring);
    }
    free(flows);
    free(conns);
    free(accounts);
}

// Report -----------------------------------------------------------------------------------------

static double per(double n, double of) { return of > 0 ? n / of : 0; }

static void print_text(const char *name, const char *text) {
    printf("\"%s\": \"", name);
    for (; *text; text++) putchar(*text == '"' || *text == '\\' || *text < ' ' ? '\'' : *text);
    printf("\", ");
}

static void print_report(const struct report *r) {
    static const char *const tls[] = {"none", "starttls", "direct"};
    static const char *const sasl[] = {"plain", "scram-sha-1", "anonymous"};
    const double done = (double)counts.done, logins = (double)r->setup_logins;
    const double cpu_s = r->after.cpu_s - r->before.cpu_s, setup_cpu_s = r->ready.cpu_s - r->fresh.cpu_s;
    // Work of others on the same cores: a run with much of it is a bad run.
    const double others_s = r->busy_s - r->own_cpu_s - cpu_s;

    printf("{\"case\": \"%s\", \"protocol\": \"%s\", \"tls\": \"%s\", \"sasl\": \"%s\", \"%s\": %u, ", running->name,
           opt.raw    ? "raw"
           : opt.mqtt ? "mqtt"
                      : "xmpp",
           tls[opt.xmpp.tls], sasl[opt.xmpp.sasl], running->counts, opt.count);
    if (flow_count)
        printf("\"window\": %u, \"rate_per_s\": %.0f, \"sent_bytes\": %zu, \"received_bytes\": %zu, ", opt.window, opt.rate_per_s,
               flows[0].bytes, flows[0].to->seen_bytes);
    printf("\"complete\": %s, \"seconds\": %.4f, ", r->complete ? "true" : "false", r->timed_s);
    printf("\"done\": %" PRIu64 ", \"per_s\": %.1f, \"per_server_cpu_s\": %.1f, ", counts.done, per(done, r->timed_s), per(done, cpu_s));
    printf("\"latency_us\": {\"p50\": %.1f, \"p99\": %.1f, \"p99.9\": %.1f, \"max\": %.1f}, ", hist_us(&latency, 0.5),
           hist_us(&latency, 0.99), hist_us(&latency, 0.999), (double)latency.max_ns * 1e-3);
    printf("\"login_us\": {\"p50\": %.1f, \"p99\": %.1f, \"max\": %.1f}, ", hist_us(&login_latency, 0.5), hist_us(&login_latency, 0.99),
           (double)login_latency.max_ns * 1e-3);
    printf("\"lost\": %" PRIu64 ", \"doubled\": %" PRIu64 ", \"reordered\": %" PRIu64 ", ", counts.lost, counts.doubled, counts.reordered);
    printf("\"errors\": %" PRIu64 ", \"shed\": %" PRIu64 ", ", counts.errors, counts.shed);
    printf("\"disconnects\": %" PRIu64 ", \"failed_logins\": %" PRIu64 ", ", counts.disconnects, counts.failed_logins);
    print_text("first_error", counts.first_error);
    printf("\"setup\": {\"logins\": %" PRIu64 ", \"seconds\": %.4f, \"per_s\": %.1f, ", r->setup_logins, r->setup_s,
           per(logins, r->setup_s));
    printf("\"server_cpu_s\": %.4f, \"per_server_cpu_s\": %.1f}, ", setup_cpu_s, per(logins, setup_cpu_s));
    printf("\"server\": {\"processes\": %u, \"cpu_s\": %.4f, ", r->after.processes, cpu_s);
    printf("\"user_s\": %.2f, \"system_s\": %.2f, ", r->after.user_s - r->before.user_s, r->after.system_s - r->before.system_s);
    printf("\"rss_fresh_kib\": %" PRIu64 ", \"rss_ready_kib\": %" PRIu64 ", \"rss_kib\": %" PRIu64 ", \"fds\": %u}, ", r->fresh.rss_kib,
           r->ready.rss_kib, r->after.rss_kib, r->after.fds);
    printf("\"generator\": {\"cpu_s\": %.4f, \"cpu_percent\": %.1f, \"send_lag_p99_us\": %.1f}, ", r->own_cpu_s,
           100 * per(r->own_cpu_s, r->timed_s), hist_us(&send_lag, 0.99));
    printf("\"others\": {\"cpu_percent\": %.1f}}\n", 100 * per(opt.pid_count && others_s > 0 ? others_s : 0, r->timed_s));
}

// Options ----------------------------------------------------------------------------------------

static const struct load_case cases[] = {
    {"chat", "pairs", 2, chat_stanza, ALONE},
    {"ping", "connections", 1, ping_stanza, ALONE},
    {"presence", "contacts", 1, presence_stanza, CONTACTS},
    {"idle", "connections", 1, NULL, ALONE},
    {"login", "accounts", 0, NULL, ALONE},
    {"storm", "connections", 1, ping_stanza, STORM},
    {"return", "connections", 1, NULL, RETURN},
};

static const char usage_text[] =
    "usage: loadgen CASE --port PORT [OPTION VALUE]...\n"
    "cases: chat      numbered chat messages over `count` pairs of connections\n"
    "       ping      pings to the server on `count` connections\n"
    "       presence  one connection changes its presence, which `count` contacts see\n"
    "       idle      `count` connections that do nothing\n"
    "       login     `concurrency` connections log in and out with `count` accounts in turn\n"
    "       storm     `count` log in at once, while another one pings; done: logins; latency: of the pings\n"
    "       return    `count` connections, told by \"ready\" on stderr; they come back when the server is killed\n"
    "The result is one JSON object on stdout; exit status 0 if all logins of the set-up succeeded.\n"
    "  --host ADDRESS      loopback address, default 127.0.0.1\n"
    "  --domain NAME       the server's domain, default localhost\n"
    "  --tls HOW           none (default), starttls, direct; certificates are not checked\n"
    "  --sasl HOW          plain (default), scram-sha-1, anonymous\n"
    "  --sm                with stream management (XEP-0198), acknowledgements asked for behind each tenth stanza\n"
    "  --raw               no stream, no login: for a relay that joins connections 0-1, 2-3, ...\n"
    "  --mqtt              MQTT 3.1.1 with QoS 0 in place of XMPP\n"
    "  --count N           default 10\n"
    "  --window N          stanzas in flight per pair or connection, default 1\n"
    "  --rate N            open loop: N stanzas a second over all, in place of a window\n"
    "  --bytes N           size of a chat message as sent, default 152\n"
    "  --warmup S --seconds S --drain S --setup S   lengths of the phases, defaults 0.5 2 10 120\n"
    "  --concurrency N     logins at once, default 16\n"
    "  --user PREFIX       accounts are PREFIX00000 and so on, default load\n"
    "  --password TEXT     of all accounts\n"
    "  --register          make each account by XEP-0077 before its first login\n"
    "  --pid PID[,PID]     the server: its CPU time and memory, with those of all descendants\n";

static void usage_exit(const char *why) {
    fprintf(stderr, "loadgen: %s\n%s", why, usage_text);
    exit(2);
}

static unsigned choice(const char *value, const char *const *names, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (!strcmp(value, names[i])) return i;
    usage_exit("unknown value of --tls or --sasl");
    return 0;
}

static double number(const char *text, double least, double most) {
    char *end;
    const double v = strtod(text, &end);
    if (end == text || *end || !(v >= least && v <= most)) usage_exit("a number is out of range");
    return v;
}

static void parse_pids(char *text) {
    for (char *pid = strtok(text, ","); pid; pid = strtok(NULL, ",")) {
        if (opt.pid_count == MAX_PIDS) usage_exit("too many --pid");
        opt.pids[opt.pid_count++] = (pid_t)number(pid, 1, 1e9);
    }
}

static void parse(int argc, char **argv) {
    static const char *const tls[] = {"none", "starttls", "direct"};
    static const char *const sasl[] = {"plain", "scram-sha-1", "anonymous"};
    enum {
        HOST,
        PORT,
        DOMAIN_,
        TLS,
        SASL,
        SM,
        RAW,
        MQTT,
        COUNT,
        WINDOW,
        RATE,
        BYTES,
        WARMUP_,
        SECONDS,
        DRAIN_,
        SETUP_,
        CONCURRENCY,
        USER,
        PASSWORD,
        REGISTER,
        PID
    };
    static const struct option long_options[] = {{"host", 1, 0, HOST},
                                                 {"port", 1, 0, PORT},
                                                 {"domain", 1, 0, DOMAIN_},
                                                 {"tls", 1, 0, TLS},
                                                 {"sasl", 1, 0, SASL},
                                                 {"raw", 0, 0, RAW},
                                                 {"sm", 0, 0, SM},
                                                 {"mqtt", 0, 0, MQTT},
                                                 {"count", 1, 0, COUNT},
                                                 {"window", 1, 0, WINDOW},
                                                 {"rate", 1, 0, RATE},
                                                 {"bytes", 1, 0, BYTES},
                                                 {"warmup", 1, 0, WARMUP_},
                                                 {"seconds", 1, 0, SECONDS},
                                                 {"drain", 1, 0, DRAIN_},
                                                 {"setup", 1, 0, SETUP_},
                                                 {"concurrency", 1, 0, CONCURRENCY},
                                                 {"user", 1, 0, USER},
                                                 {"password", 1, 0, PASSWORD},
                                                 {"register", 0, 0, REGISTER},
                                                 {"pid", 1, 0, PID},
                                                 {0, 0, 0, 0}};
    for (int found; (found = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        switch (found) {
        case HOST: opt.host = optarg; break;
        case PORT: opt.port = (unsigned)number(optarg, 1, 65535); break;
        case DOMAIN_: opt.xmpp.domain = optarg; break;
        case TLS: opt.xmpp.tls = (enum tls)choice(optarg, tls, 3); break;
        case SASL: opt.xmpp.sasl = (enum sasl)choice(optarg, sasl, 3); break;
        case SM: opt.xmpp.sm = true; break;
        case RAW: opt.raw = true; break;
        case MQTT: opt.mqtt = true; break;
        case COUNT: opt.count = (unsigned)number(optarg, 1, 100000); break;
        case WINDOW: opt.window = (unsigned)number(optarg, 1, 65536); break;
        case RATE: opt.rate_per_s = number(optarg, 1, 1e7); break;
        case BYTES: opt.message_bytes = (size_t)number(optarg, 1, 32768); break;
        case WARMUP_: opt.warmup_s = number(optarg, 0, 3600); break;
        case SECONDS: opt.seconds = number(optarg, 0, 3600); break;
        case DRAIN_: opt.drain_s = number(optarg, 0, 3600); break;
        case SETUP_: opt.setup_s = number(optarg, 1, 3600); break;
        case CONCURRENCY: opt.concurrency = (unsigned)number(optarg, 1, 10000); break;
        case USER: opt.user = optarg; break;
        case PASSWORD: opt.xmpp.password = optarg; break;
        case REGISTER: opt.xmpp.enrol = true; break;
        case PID: parse_pids(optarg); break;
        default: usage_exit("see above");
        }
    }
    for (size_t i = 0; optind == argc - 1 && i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(argv[optind], cases[i].name)) running = &cases[i];
    if (!running || !opt.port) usage_exit("a case and --port are needed");
    if (opt.raw && running->stanza != chat_stanza) usage_exit("--raw knows only chat");
    if (opt.mqtt && running->stanza && running->stanza != chat_stanza) usage_exit("--mqtt knows only chat and idle");
    if (strlen(opt.user) > 32 || strlen(opt.xmpp.domain) > 255 || strlen(opt.xmpp.password) > 100) usage_exit("a name is too long");
}

int main(int argc, char **argv) {
    parse(argc, argv);
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
    // The server's CPU time is read from this machine's /proc: a server elsewhere would be a mistake.
    if (inet_pton(AF_INET, opt.host, &peer.sin_addr) != 1 || ntohl(peer.sin_addr.s_addr) >> 24 != 127)
        usage_exit("--host must be a loopback address");
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN); // OpenSSL writes without MSG_NOSIGNAL

    static const struct xmpp_events events = {on_online, on_failed, on_numbered, on_presence};
    xmpp_setup(&opt.xmpp, &events);
    mqtt_setup(&events);
    epoll_fd = conn_setup(&peer, opt.xmpp.tls != TLS_NONE, opt.xmpp.tls == TLS_DIRECT, opt.xmpp.domain,
                          opt.raw    ? &raw_protocol
                          : opt.mqtt ? &mqtt_protocol
                                     : &xmpp_protocol,
                          on_lost);
    if (epoll_fd < 0) usage_exit("TLS is not built in");
    conns_make();
    const struct report r = run();
    print_report(&r);
    say_good_bye();
    return r.complete ? 0 : 1;
}
