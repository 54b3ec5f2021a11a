// A library that shows another time to the program that it is loaded into. OCIBUILD_TEST_CLOCK is the time in seconds since
// 1970, or `back`: then the clock goes back a day at each look.
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    static long looks;
    int result = syscall(SYS_clock_gettime, clock, now);
    const char *shown = getenv("OCIBUILD_TEST_CLOCK");
    if (clock == CLOCK_REALTIME && shown)
        now->tv_sec = strcmp(shown, "back") ? atol(shown) : now->tv_sec - 86400 * ++looks;
    return result;
}
