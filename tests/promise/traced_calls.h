// What the injector and the recorder have in common: they trace the calls of a table `calls`, of which there are CALLS, each with
// its `number`. Seccomp stops the program at these calls only, so that it runs at nearly its own speed: seccomp(2), ptrace(2).
static void fail(const char *what) {
    perror(what);
    exit(125);
}

// Makes the calls of the table stop, and lets every other pass. SIGTRAP of ptrace stops the program before this, at execve.
static void filter_calls(void) {
    struct sock_filter program[CALLS + 3];
    int length = 0;
    program[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < CALLS; i++)
        program[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].number, CALLS - i, 0);
    program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    struct sock_fprog filter = {length, program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) fail("seccomp");
}

static long argument(const struct user_regs_struct *regs, int at) {
    const unsigned long long all[] = {regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9};
    return (long)all[at];
}
