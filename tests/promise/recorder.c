// Runs a program and records what it changes in file systems.
//
//     recorder LOG PROGRAM [ARGUMENT...]
//
// LOG gets a line for each change, after the call that has made it. Files are named by device and inode.
//
//     new FILE KIND MODE        a file (f), directory (d) or link (l) was created
//     name DIRECTORY FILE NAME  NAME in DIRECTORY leads to FILE from now on, or to nothing (-)
//     also DIRECTORY FILE NAME  the same, at once with the line before
//     mode FILE MODE            the file has this mode
//     content FILE LENGTH       the file holds the LENGTH bytes that follow the line
//     begin NUMBER FILE         a sync of FILE begins; `all` for everything
//     synced NUMBER             it has succeeded
//
// Owners, times and extended attributes are not recorded, nor writes through memory maps. Each file is read after each write to
// it, so this is for small files. The exit status is that of the program. See seccomp(2), ptrace(2).
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

// What a call does, and its arguments: a descriptor, or a name and (one before) the descriptor of its directory.
enum kind { WRITES, TRUNCATES, OPENS, MAKES, LINKS, MOVES, REMOVES, SETS_MODE, SETS_MODE_OF_NAME, SYNCS, SYNCS_ALL };
enum { NO_DIRECTORY = -1 };
static const struct call { int number; enum kind kind; int directory, at; } calls[] = {
    {SYS_write, WRITES, 0, 0}, {SYS_pwrite64, WRITES, 0, 0}, {SYS_writev, WRITES, 0, 0}, {SYS_pwritev, WRITES, 0, 0},
    {SYS_pwritev2, WRITES, 0, 0}, {SYS_copy_file_range, WRITES, 0, 2}, {SYS_sendfile, WRITES, 0, 0},
    {SYS_splice, WRITES, 0, 2}, {SYS_ioctl, WRITES, 0, 0}, {SYS_fallocate, WRITES, 0, 0}, {SYS_ftruncate, WRITES, 0, 0},
    {SYS_truncate, TRUNCATES, NO_DIRECTORY, 0},
    {SYS_open, OPENS, NO_DIRECTORY, 0}, {SYS_openat, OPENS, 0, 1}, {SYS_openat2, OPENS, 0, 1}, {SYS_creat, OPENS, NO_DIRECTORY, 0},
    {SYS_mkdir, MAKES, NO_DIRECTORY, 0}, {SYS_mkdirat, MAKES, 0, 1}, {SYS_mknod, MAKES, NO_DIRECTORY, 0},
    {SYS_mknodat, MAKES, 0, 1}, {SYS_symlink, MAKES, NO_DIRECTORY, 1}, {SYS_symlinkat, MAKES, 1, 2},
    {SYS_link, LINKS, NO_DIRECTORY, 1}, {SYS_linkat, LINKS, 2, 3},
    {SYS_rename, MOVES, NO_DIRECTORY, 1}, {SYS_renameat, MOVES, 2, 3}, {SYS_renameat2, MOVES, 2, 3},
    {SYS_unlink, REMOVES, NO_DIRECTORY, 0}, {SYS_unlinkat, REMOVES, 0, 1}, {SYS_rmdir, REMOVES, NO_DIRECTORY, 0},
    {SYS_fchmod, SETS_MODE, 0, 0}, {SYS_chmod, SETS_MODE_OF_NAME, NO_DIRECTORY, 0}, {SYS_fchmodat, SETS_MODE_OF_NAME, 0, 1},
    {SYS_fsync, SYNCS, 0, 0}, {SYS_fdatasync, SYNCS, 0, 0}, {SYS_syncfs, SYNCS_ALL, 0, 0}, {SYS_sync, SYNCS_ALL, 0, 0},
};
enum { CALLS = sizeof calls / sizeof *calls };

static FILE *log_file;

#include "traced_calls.h"

// Reads memory of the traced program, up to the end of its page.
static size_t copy_from(pid_t thread, unsigned long address, void *to, size_t size) {
    size_t rest_of_page = 4096 - address % 4096;
    struct iovec here = {to, size}, there = {(void *)address, size < rest_of_page ? size : rest_of_page};
    ssize_t length = process_vm_readv(thread, &here, 1, &there, 1, 0);
    return length < 0 ? 0 : length;
}

static void name_from(pid_t thread, unsigned long address, char *name, size_t size) {
    size_t length = 0;
    memset(name, 0, size);
    while (length < size - 1 && !memchr(name, 0, length)) {
        size_t more = copy_from(thread, address + length, name + length, size - 1 - length);
        if (!more) return;
        length += more;
    }
}

// The path that a call names.
static void path_of(pid_t thread, const struct user_regs_struct *regs, int directory, int at, char *path) {
    char link[64], base[PATH_MAX] = "", name[PATH_MAX];
    long descriptor = directory == NO_DIRECTORY ? AT_FDCWD : (int)argument(regs, directory);
    name_from(thread, argument(regs, at), name, sizeof name);
    if (descriptor == AT_FDCWD) snprintf(link, sizeof link, "/proc/%d/cwd", thread);
    else snprintf(link, sizeof link, "/proc/%d/fd/%ld", thread, descriptor);
    ssize_t length = readlink(link, base, sizeof base - 1);
    base[length < 0 ? 0 : length] = 0;
    if (*name == '/') snprintf(path, PATH_MAX, "%s", name);
    else if (snprintf(path, PATH_MAX, "%s/%s", base, name) >= PATH_MAX) fail("a path is too long");
}

static void print_file(const struct stat *file) {
    fprintf(log_file, " %lx:%lx", (unsigned long)file->st_dev, (unsigned long)file->st_ino);
}

static void print_new(const struct stat *file) {
    fprintf(log_file, "new");
    print_file(file);
    fprintf(log_file, " %c %o\n", S_ISDIR(file->st_mode) ? 'd' : S_ISLNK(file->st_mode) ? 'l' : 'f', file->st_mode & 07777);
}

// Writes that the name of a path leads to a file, or to nothing.
static void print_name(const char *word, const char *path, const struct stat *file) {
    char parent_copy[PATH_MAX], name_copy[PATH_MAX];
    strcpy(parent_copy, path);
    strcpy(name_copy, path);
    struct stat parent;
    if (stat(dirname(parent_copy), &parent)) return;
    fprintf(log_file, "%s", word);
    print_file(&parent);
    if (file) print_file(file);
    else fprintf(log_file, " -");
    fprintf(log_file, " %s\n", basename(name_copy));
}

static void print_content(const struct stat *file, const char *path) {
    if (S_ISLNK(file->st_mode)) {
        char target[PATH_MAX];
        ssize_t length = readlink(path, target, sizeof target);
        if (length < 0) return;
        fprintf(log_file, "content");
        print_file(file);
        fprintf(log_file, " %zd\n%.*s\n", length, (int)length, target);
    }
    if (!S_ISREG(file->st_mode)) return;
    int descriptor = open(path, O_RDONLY);
    if (descriptor < 0) return;
    char *bytes = malloc(file->st_size + 1);
    ssize_t length = 0, more;
    while (length < file->st_size && (more = read(descriptor, bytes + length, file->st_size - length)) > 0) length += more;
    close(descriptor);
    fprintf(log_file, "content");
    print_file(file);
    fprintf(log_file, " %zd\n", length);
    fwrite(bytes, 1, length, log_file);
    fputc('\n', log_file);
    free(bytes);
}

// A call that a thread has begun.
static struct pending { pid_t thread; const struct call *call; long sync; int was_there; char path[PATH_MAX], from[PATH_MAX]; } pending[256];

static struct pending *pending_of(pid_t thread) {
    for (size_t i = 0; i < sizeof pending / sizeof *pending; i++)
        if (pending[i].call && pending[i].thread == thread) return &pending[i];
    return NULL;
}

static void descriptor_path(pid_t thread, long descriptor, char *path) {
    snprintf(path, PATH_MAX, "/proc/%d/fd/%ld", thread, descriptor);
}

static void begin(pid_t thread, const struct user_regs_struct *regs, const struct call *call) {
    static long syncs;
    struct pending *begun = pending;
    while (begun->call) if (++begun == pending + sizeof pending / sizeof *pending) fail("too many threads");
    struct stat file;
    *begun = (struct pending){.thread = thread, .call = call};
    switch (call->kind) {
    case WRITES: case SETS_MODE: break;
    case SYNCS:
        descriptor_path(thread, argument(regs, call->at), begun->path);
        if (stat(begun->path, &file)) break;
        fprintf(log_file, "begin %ld", begun->sync = ++syncs);
        print_file(&file);
        fputc('\n', log_file);
        break;
    case SYNCS_ALL: fprintf(log_file, "begin %ld all\n", begun->sync = ++syncs); break;
    case MOVES:
        path_of(thread, regs, call->directory == NO_DIRECTORY ? NO_DIRECTORY : 0, call->directory == NO_DIRECTORY ? 0 : 1, begun->from);
        // fall through
    default:
        path_of(thread, regs, call->directory, call->at, begun->path);
        begun->was_there = !lstat(begun->path, &file);
    }
}

static void opened(pid_t thread, const struct user_regs_struct *regs, const struct pending *begun) {
    long flags = begun->call->number == SYS_creat ? O_CREAT | O_TRUNC : argument(regs, begun->call->number == SYS_open ? 1 : 2);
    if (begun->call->number == SYS_openat2 && copy_from(thread, argument(regs, 2), &flags, sizeof flags) != sizeof flags) fail("openat2");
    int is_unnamed = (flags & O_TMPFILE) == O_TMPFILE;
    if (!is_unnamed && !(flags & (O_CREAT | O_TRUNC))) return;
    char path[PATH_MAX];
    struct stat file;
    descriptor_path(thread, (long)regs->rax, path);
    if (stat(path, &file)) return;
    if (is_unnamed || !begun->was_there) print_new(&file);
    if (!is_unnamed && !begun->was_there) print_name("name", begun->path, &file);
    print_content(&file, path);
}

// Writes what a call that has succeeded changed.
static void end(pid_t thread, const struct user_regs_struct *regs, const struct pending *begun) {
    struct stat file, other;
    char path[PATH_MAX];
    switch (begun->call->kind) {
    case OPENS: opened(thread, regs, begun); break;
    case WRITES:
        descriptor_path(thread, argument(regs, begun->call->at), path);
        if (!stat(path, &file)) print_content(&file, path);
        break;
    case TRUNCATES: if (!stat(begun->path, &file)) print_content(&file, begun->path); break;
    case MAKES:
        if (lstat(begun->path, &file)) break;
        print_new(&file);
        print_name("name", begun->path, &file);
        print_content(&file, begun->path);
        break;
    case LINKS: if (!lstat(begun->path, &file)) print_name("name", begun->path, &file); break;
    case MOVES:
        if (lstat(begun->path, &file)) break;
        print_name("name", begun->path, &file);
        int exchanges = begun->call->number == SYS_renameat2 && argument(regs, 4) & RENAME_EXCHANGE;
        print_name("also", begun->from, exchanges && !lstat(begun->from, &other) ? &other : NULL);
        break;
    case REMOVES: print_name("name", begun->path, NULL); break;
    case SETS_MODE: case SETS_MODE_OF_NAME:
        if (begun->call->kind == SETS_MODE) descriptor_path(thread, argument(regs, 0), path);
        else strcpy(path, begun->path);
        if (stat(path, &file)) break;
        fprintf(log_file, "mode");
        print_file(&file);
        fprintf(log_file, " %o\n", file.st_mode & 07777);
        break;
    case SYNCS: case SYNCS_ALL: if (begun->sync) fprintf(log_file, "synced %ld\n", begun->sync);
    }
}

int main(int count, char **arguments) {
    if (count < 3) return 125;
    log_file = fopen(arguments[1], "w");
    if (!log_file) fail(arguments[1]);
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        filter_calls();
        execvp(arguments[2], arguments + 2);
        fail(arguments[2]);
    }
    int status;
    waitpid(child, &status, 0);
    long options = PTRACE_O_EXITKILL | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK
        | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC;
    if (ptrace(PTRACE_SETOPTIONS, child, 0, options)) fail("ptrace");
    ptrace(PTRACE_CONT, child, 0, 0);

    int result = 125;
    for (;;) {
        pid_t thread = waitpid(-1, &status, __WALL);
        if (thread < 0) break;
        struct pending *begun = pending_of(thread);
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (begun) begun->call = NULL;
            if (thread == child) result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            continue;
        }
        int event = status >> 16, signal = WSTOPSIG(status), passed_on = 0;
        struct user_regs_struct regs;
        if (event == PTRACE_EVENT_SECCOMP && !ptrace(PTRACE_GETREGS, thread, 0, &regs)) {
            const struct call *call = calls;
            while (call->number != (int)regs.orig_rax) call++;
            begin(thread, &regs, call);
        } else if (begun && signal == (SIGTRAP | 0x80)) {
            if (!ptrace(PTRACE_GETREGS, thread, 0, &regs) && (long)regs.rax >= 0) end(thread, &regs, begun);
            begun->call = NULL;
        } else if (!event && signal != SIGSTOP && signal != SIGTRAP) {
            passed_on = signal;
        }
        ptrace(pending_of(thread) ? PTRACE_SYSCALL : PTRACE_CONT, thread, 0, passed_on);
    }
    if (fclose(log_file)) fail(arguments[1]);
    return result;
}
