// SPDX-License-Identifier: Apache-2.0
// Time, latency histogram, and what the server's processes have used so far.
#define _GNU_SOURCE
#include "stats.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double seconds(const struct timespec *t) { return (double)t->tv_sec + (double)t->tv_nsec * 1e-9; }

uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

double own_cpu_s(void) {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

double machine_busy_s(void) {
    unsigned long long user = 0, nice = 0, system = 0, irq = 0, softirq = 0, stolen = 0;
    FILE *f = fopen("/proc/stat", "re");
    if (!f) return 0;
    const int got = fscanf(f, "cpu %llu %llu %llu %*u %*u %llu %llu %llu", &user, &nice, &system, &irq, &softirq, &stolen);
    fclose(f);
    return got == 6 ? (double)(user + nice + system + irq + softirq + stolen) / (double)sysconf(_SC_CLK_TCK) : 0;
}

// Bucket = exponent, then the HIST_STEP_BITS bits below the leading one.
void hist_add(struct hist *h, uint64_t ns) {
    unsigned shift = 0;
    if (ns >> HIST_STEP_BITS) shift = 63 - HIST_STEP_BITS - (unsigned)__builtin_clzll(ns);
    h->count[((uint64_t)shift << HIST_STEP_BITS) + (ns >> shift)]++;
    h->total++;
    if (ns > h->max_ns) h->max_ns = ns;
}

double hist_us(const struct hist *h, double q) {
    const uint64_t wanted = (uint64_t)(q * (double)h->total);
    uint64_t seen = 0;
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        seen += h->count[i];
        if (h->count[i] && seen >= wanted) {
            // Above the linear part a bucket holds [step, step + 1) << shift: report its middle.
            const unsigned steps = 1u << HIST_STEP_BITS;
            const unsigned shift = i < 2 * steps ? 0 : (i >> HIST_STEP_BITS) - 1;
            const double middle = ((double)(i - shift * steps) + 0.5) * (double)(1ull << shift);
            const double most = (double)h->max_ns;
            return (middle < most ? middle : most) * 1e-3;
        }
    }
    return 0;
}

struct process {
    pid_t pid, parent;
    bool wanted;
    double user_s, system_s, reaped_s; // reaped: of children that ended and were waited for
};

static bool process_read(pid_t pid, struct process *out) {
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f) return false;
    const char *got = fgets(line, sizeof line, f);
    fclose(f);
    const char *rest = got ? strrchr(line, ')') : NULL; // the command's name may hold anything
    static const char fields[] = " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld";
    unsigned long user, system;
    long reaped_user, reaped_system;
    int parent;
    if (!rest || sscanf(rest + 1, fields, &parent, &user, &system, &reaped_user, &reaped_system) != 5) return false;
    const double tick_s = 1.0 / (double)sysconf(_SC_CLK_TCK);
    *out = (struct process){.pid = pid,
                            .parent = parent,
                            .user_s = (double)user * tick_s,
                            .system_s = (double)system * tick_s,
                            .reaped_s = (double)(reaped_user + reaped_system) * tick_s};
    return true;
}

// The counter in /proc/PID/status lags by a batch of pages per core; the walk of the mappings is exact.
static uint64_t process_rss_kib(pid_t pid) {
    char path[64], line[256];
    unsigned long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    FILE *f = fopen(path, "re");
    if (f) {
        while (fgets(line, sizeof line, f) && sscanf(line, "Rss: %lu kB", &kib) != 1);
        fclose(f);
        return kib;
    }
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    f = fopen(path, "re");
    if (f) {
        unsigned long pages = 0;
        if (fscanf(f, "%*u %lu", &pages) == 1) kib = pages * (unsigned long)sysconf(_SC_PAGESIZE) / 1024;
        fclose(f);
    }
    return kib;
}

static unsigned process_fds(pid_t pid) {
    char path[64];
    unsigned n = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) n += isdigit((unsigned char)entry->d_name[0]) != 0;
    if (dir) closedir(dir);
    return n;
}

static double process_cpu_s(const struct process *p) {
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid(p->pid, &clock) == 0 && clock_gettime(clock, &t) == 0) return seconds(&t);
    return p->user_s + p->system_s;
}

// A child that ended between two readings has moved its time to its parent's reaped time, so the
// sum over the living and what they reaped never runs backwards.
bool usage_read(const pid_t *roots, unsigned count, struct usage *out) {
    *out = (struct usage){0};
    DIR *dir = opendir("/proc");
    if (!dir) return false;
    struct process *all = NULL;
    size_t n = 0, room = 0;
    unsigned found = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (!isdigit((unsigned char)entry->d_name[0])) continue;
        if (n == room) {
            room = room ? room * 2 : 256;
            all = realloc(all, room * sizeof *all);
            if (!all) abort();
        }
        if (!process_read((pid_t)atoi(entry->d_name), &all[n])) continue; // ended meanwhile
        for (unsigned i = 0; i < count; i++)
            if (all[n].pid == roots[i]) {
                all[n].wanted = true;
                found++;
            }
        n++;
    }
    closedir(dir);
    for (bool grew = true; grew;) {
        grew = false;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n && !all[i].wanted; j++)
                if (all[j].wanted && all[j].pid == all[i].parent) grew = all[i].wanted = true;
    }
    for (size_t i = 0; i < n; i++) {
        const struct process *p = &all[i];
        if (!p->wanted) continue;
        out->cpu_s += process_cpu_s(p) + p->reaped_s;
        out->user_s += p->user_s;
        out->system_s += p->system_s;
        out->processes++;
    }
    for (size_t i = 0; i < n; i++) // last: the walk takes milliseconds, in which the server goes on
        if (all[i].wanted) {
            out->rss_kib += process_rss_kib(all[i].pid);
            out->fds += process_fds(all[i].pid);
        }
    free(all);
    return found == count;
}
