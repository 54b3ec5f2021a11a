// Runs a program and disturbs one of its system calls.
//
//     injector LOG CLASS ACTION NUMBER PROGRAM [ARGUMENT...]
//
// The calls of CLASS are numbered from 1, over all threads and child processes together. At call NUMBER the ACTION happens:
//
//     kill          the process is killed, before the call
//     signal=N      the process gets signal N, before the call
//     error=N       the call is not made, and fails with errno N
//     errors=N      the same for this call and every later one but those that remove files, as on a full disk
//     done=N        the call is made, and fails all the same with errno N, as when the answer of a server is lost
//     hold          the process waits before the call until it is killed; LOG.held says so
//     none          nothing; to count
//
// CLASS is `change` (calls that change a file system), `sync` (syncs and renames) or `all` (reading calls too). Files of the
// system and standard output do not count, nor do other programs that the program starts. LOG gets one line for each call: its
// number, its name, and the path that it is about. The exit status is that of the program.
//
// Seccomp stops the program at these calls only, so that it runs at nearly its own speed: seccomp(2), ptrace(2).
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHANGE = 1, SYNC = 2, READ = 4, OPEN = 8 };
enum { FD, PATH, AT };

// What is traced: the classes of a call, and where its path or file descriptor is.
static const struct call { int number, classes, kind, at; const char *name; } calls[] = {
    {SYS_write, CHANGE, FD, 0, "write"},
    {SYS_pwrite64, CHANGE, FD, 0, "pwrite64"},
    {SYS_writev, CHANGE, FD, 0, "writev"},
    {SYS_pwritev2, CHANGE, FD, 0, "pwritev2"},
    {SYS_copy_file_range, CHANGE, FD, 2, "copy_file_range"},
    {SYS_sendfile, CHANGE, FD, 0, "sendfile"},
    {SYS_splice, CHANGE, FD, 2, "splice"},
    {SYS_ioctl, CHANGE, FD, 0, "ioctl"},
    {SYS_fallocate, CHANGE, FD, 0, "fallocate"},
    {SYS_ftruncate, CHANGE, FD, 0, "ftruncate"},
    {SYS_truncate, CHANGE, PATH, 0, "truncate"},
    {SYS_rename, CHANGE | SYNC, PATH, 1, "rename"},
    {SYS_renameat, CHANGE | SYNC, AT, 3, "renameat"},
    {SYS_renameat2, CHANGE | SYNC, AT, 3, "renameat2"},
    {SYS_link, CHANGE | SYNC, PATH, 1, "link"},
    {SYS_linkat, CHANGE | SYNC, AT, 3, "linkat"},
    {SYS_symlink, CHANGE, PATH, 1, "symlink"},
    {SYS_symlinkat, CHANGE, AT, 2, "symlinkat"},
    {SYS_unlink, CHANGE, PATH, 0, "unlink"},
    {SYS_unlinkat, CHANGE, AT, 1, "unlinkat"},
    {SYS_rmdir, CHANGE, PATH, 0, "rmdir"},
    {SYS_mkdir, CHANGE, PATH, 0, "mkdir"},
    {SYS_mkdirat, CHANGE, AT, 1, "mkdirat"},
    {SYS_mknodat, CHANGE, AT, 1, "mknodat"},
    {SYS_fsync, CHANGE | SYNC, FD, 0, "fsync"},
    {SYS_fdatasync, CHANGE | SYNC, FD, 0, "fdatasync"},
    {SYS_syncfs, CHANGE | SYNC, FD, 0, "syncfs"},
    {SYS_fchmod, CHANGE, FD, 0, "fchmod"},
    {SYS_fchmodat, CHANGE, AT, 1, "fchmodat"},
    {SYS_chmod, CHANGE, PATH, 0, "chmod"},
    {SYS_fchown, CHANGE, FD, 0, "fchown"},
    {SYS_fchownat, CHANGE, AT, 1, "fchownat"},
    {SYS_utimensat, CHANGE, AT, 1, "utimensat"},
    {SYS_fsetxattr, CHANGE, FD, 0, "fsetxattr"},
    {SYS_lsetxattr, CHANGE, PATH, 0, "lsetxattr"},
    {SYS_flock, READ, FD, 0, "flock"},
    {SYS_open, OPEN, PATH, 0, "open"},
    {SYS_openat, OPEN, AT, 1, "openat"},
    {SYS_openat2, OPEN, AT, 1, "openat2"},
    {SYS_creat, CHANGE, PATH, 0, "creat"},
    {SYS_read, READ, FD, 0, "read"},
    {SYS_pread64, READ, FD, 0, "pread64"},
    {SYS_getdents64, READ, FD, 0, "getdents64"},
    {SYS_statx, READ, AT, 1, "statx"},
    {SYS_newfstatat, READ, AT, 1, "newfstatat"},
    {SYS_readlinkat, READ, AT, 1, "readlinkat"},
};
enum { CALLS = sizeof calls / sizeof *calls };

#include "traced_calls.h"

// Reads text or bytes of the traced program.
static void copy_from(pid_t thread, long address, char *to, size_t size, int stops_at_zero) {
    memset(to, 0, size);
    for (size_t done = 0; done + sizeof(long) < size; done += sizeof(long)) {
        errno = 0;
        long word = ptrace(PTRACE_PEEKDATA, thread, address + done, 0);
        if (errno) return;
        memcpy(to + done, &word, sizeof word);
        if (stops_at_zero && memchr(&word, 0, sizeof word)) return;
    }
}

// The flags of a call that opens a file.
static long open_flags(pid_t thread, const struct user_regs_struct *regs, int number) {
    if (number == SYS_open) return argument(regs, 1);
    if (number == SYS_openat) return argument(regs, 2);
    char how[16];
    copy_from(thread, argument(regs, 2), how, sizeof how, 0);
    long flags;
    memcpy(&flags, how, sizeof flags);
    return flags;
}

static int classes_of(pid_t thread, const struct user_regs_struct *regs, const struct call *call) {
    if (!(call->classes & OPEN)) return call->classes;
    long flags = open_flags(thread, regs, call->number);
    int changes = (flags & O_CREAT) || (flags & O_TRUNC) || (flags & O_TMPFILE) == O_TMPFILE;
    return changes ? CHANGE | READ : READ;
}

// The path that a call is about: of its descriptor, or of its directory and the name in it.
static void describe(pid_t thread, const struct user_regs_struct *regs, const struct call *call, char *out, size_t size) {
    char link[64], base[PATH_MAX] = "", name[512] = "";
    int descriptor = call->kind == FD ? argument(regs, call->at) : call->kind == AT ? argument(regs, call->at - 1) : AT_FDCWD;
    if (descriptor != AT_FDCWD) {
        snprintf(link, sizeof link, "/proc/%d/fd/%d", thread, descriptor);
        ssize_t length = readlink(link, base, sizeof base - 1);
        base[length < 0 ? 0 : length] = 0;
    }
    if (call->kind != FD) copy_from(thread, argument(regs, call->at), name, sizeof name, 1);
    for (char *at = name; *at; at++) if (*at == '\n') *at = '?';
    snprintf(out, size, "%s%s%s", base, *base && *name ? "/" : "", name);
}

// Whether a thread belongs to the program itself, not to another program that it started.
static int is_ours(pid_t thread, pid_t child) {
    static struct known { pid_t thread; int is_ours; } known[1024];
    static size_t count;
    if (thread == child) return 1;
    for (size_t i = 0; i < count; i++) if (known[i].thread == thread) return known[i].is_ours;
    char path[64], line[256];
    int group = 0;
    snprintf(path, sizeof path, "/proc/%d/status", thread);
    FILE *status = fopen(path, "r");
    while (status && fgets(line, sizeof line, status)) if (sscanf(line, "Tgid: %d", &group) == 1) break;
    if (status) fclose(status);
    if (count < sizeof known / sizeof *known) known[count++] = (struct known){thread, group == child};
    return group == child;
}

// Whether a path is not the program's affair: pipes, terminals and files of the system.
static int is_outside(const char *path) {
    static const char *const prefixes[] = {"pipe:", "socket:", "anon_inode:", "/dev/", "/proc/", "/sys/", "/usr/", "/lib", "/etc/"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (!strncmp(path, prefixes[i], strlen(prefixes[i]))) return 1;
    return 0;
}

int main(int count, char **arguments) {
    if (count < 6) return 125;
    const char *log_path = arguments[1], *action = arguments[3];
    int wanted = !strcmp(arguments[2], "sync") ? SYNC : !strcmp(arguments[2], "all") ? CHANGE | READ : CHANGE;
    long at = atol(arguments[4]), number = 0;
    int value = strchr(action, '=') ? atoi(strchr(action, '=') + 1) : 0;
    FILE *log = fopen(log_path, "w");
    if (!log) fail(log_path);

    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        filter_calls();
        execvp(arguments[5], arguments + 5);
        fail(arguments[5]);
    }
    int status;
    waitpid(child, &status, 0);
    long options = PTRACE_O_EXITKILL | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK
        | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC;
    if (ptrace(PTRACE_SETOPTIONS, child, 0, options)) fail("ptrace");
    ptrace(PTRACE_CONT, child, 0, 0);

    int result = 125, has_begun = 0;
    pid_t answered = 0;
    for (;;) {
        pid_t thread = waitpid(-1, &status, __WALL);
        if (thread < 0) break;
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (thread == child) result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            continue;
        }
        int event = status >> 16, signal = WSTOPSIG(status);
        if (event == PTRACE_EVENT_EXEC) has_begun = 1;
        if (event == PTRACE_EVENT_SECCOMP && has_begun) {
            struct user_regs_struct regs;
            if (ptrace(PTRACE_GETREGS, thread, 0, &regs)) continue;
            const struct call *call = calls;
            while (call < calls + CALLS && call->number != (int)regs.orig_rax) call++;
            char path[PATH_MAX + 600];
            int is_output = call < calls + CALLS && call->kind == FD && (argument(&regs, call->at) == 1 || argument(&regs, call->at) == 2);
            if (call < calls + CALLS && !is_output && (classes_of(thread, &regs, call) & wanted) && is_ours(thread, child)) {
                describe(thread, &regs, call, path, sizeof path);
                if (!is_outside(path)) {
                    number++;
                    fprintf(log, "%ld %s %s\n", number, call->name, path);
                    fflush(log);
                    if (number == at && !strcmp(action, "kill")) kill(child, SIGKILL);
                    if (number == at && !strncmp(action, "signal=", 7)) kill(child, value);
                    int removes = strstr(call->name, "unlink") || call->number == SYS_rmdir;
                    int fails = number == at ? !strncmp(action, "error", 5) : number > at && !strncmp(action, "errors=", 7) && !removes;
                    if (fails) {
                        regs.orig_rax = -1;
                        regs.rax = -value;
                        ptrace(PTRACE_SETREGS, thread, 0, &regs);
                    }
                    if (number == at && !strncmp(action, "done=", 5)) {
                        answered = thread;
                        ptrace(PTRACE_SYSCALL, thread, 0, 0);
                        continue;
                    }
                    if (number == at && !strcmp(action, "hold")) {
                        snprintf(path, sizeof path, "%s.held", log_path);
                        fclose(fopen(path, "w"));
                        for (;;) pause();
                    }
                }
            }
            ptrace(PTRACE_CONT, thread, 0, 0);
        } else if (event) {
            ptrace(PTRACE_CONT, thread, 0, 0);
        } else if (thread == answered && signal == SIGTRAP) {
            struct user_regs_struct regs;
            if (ptrace(PTRACE_GETREGS, thread, 0, &regs)) continue;
            regs.rax = -value;
            ptrace(PTRACE_SETREGS, thread, 0, &regs);
            answered = 0;
            ptrace(PTRACE_CONT, thread, 0, 0);
        } else {
            // New threads begin with a stop of their own, which is not theirs to see.
            ptrace(PTRACE_CONT, thread, 0, signal == SIGSTOP || signal == SIGTRAP ? 0 : signal);
        }
    }
    fclose(log);
    return result;
}
