/* Says who runs it, what hour it is in a time zone, and whether it finds certificate authorities. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **words) {
    setenv("TZ", count > 1 ? words[1] : "UTC0", 1);
    time_t then = 1720000000;
    struct tm *local = localtime(&then);
    int certificates = 0;
    char line[4096];
    FILE *bundle = fopen("/etc/ssl/certs/ca-certificates.crt", "r");
    while (bundle && fgets(line, sizeof line, bundle))
        certificates += strncmp(line, "-----BEGIN CERTIFICATE", 22) == 0;
    const char *home = getenv("HOME");
    printf("user %d, home %s, %02d:%02d, certificates: %s\n", (int)getuid(), home ? home : "none", local->tm_hour,
           local->tm_min, certificates ? "yes" : "no");
    return 0;
}
