/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets the clock of one process, while it runs, by as many seconds as the file CLOCK_OFFSET says. Timers go on as they did.
 *
 *     cc -shared -fPIC clock.c -o clock.so
 *     CLOCK_OFFSET=offset LD_PRELOAD=./clock.so xiot serve
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long offset(void) {
    const char *path = getenv("CLOCK_OFFSET");
    FILE *f = path ? fopen(path, "r") : NULL;
    long seconds = 0;
    if (f) {
        if (fscanf(f, "%ld", &seconds) != 1) seconds = 0;
        fclose(f);
    }
    return seconds;
}

int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(id, t);
    if (id == CLOCK_REALTIME) t->tv_sec += offset();
    return done;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec now;
    (void)zone;
    int done = clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec, t->tv_usec = now.tv_nsec / 1000;
    return done;
}

time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}
