// SPDX-License-Identifier: Apache-2.0
// Time, latency histogram, and what the server's processes have used so far.
#ifndef LOAD_STATS_H
#define LOAD_STATS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define NS_PER_S 1000000000ull

// Monotonic time, ns.
uint64_t now_ns(void);

// Log-linear histogram of times in ns: 64 steps to each power of two, so at most 1.6 % wide.
#define HIST_STEP_BITS 6
#define HIST_BUCKETS ((64 - HIST_STEP_BITS + 1) << HIST_STEP_BITS)

struct hist {
    uint64_t total;
    uint64_t max_ns;
    uint64_t count[HIST_BUCKETS];
};

void hist_add(struct hist *h, uint64_t ns);

// The time in microseconds below which the share `q` (0..1) of all entries lies; 0 when empty.
double hist_us(const struct hist *h, double q);

// What a set of processes and all their descendants have used since they started.
struct usage {
    double cpu_s;     // user + system, from the scheduler's clock (ns), not from the 10 ms ticks
    double user_s;    // from ticks
    double system_s;  // from ticks
    uint64_t rss_kib; // resident now, summed over processes (pages they share count for each)
    unsigned processes;
    unsigned fds; // open descriptors
};

// Reads the usage of `roots` and their descendants; false if one of the roots is not there.
bool usage_read(const pid_t *roots, unsigned count, struct usage *out);

// User + system seconds of this process.
double own_cpu_s(void);

// Seconds that all cores together were busy, for whomever, since the machine started (10 ms ticks).
double machine_busy_s(void);

#endif
