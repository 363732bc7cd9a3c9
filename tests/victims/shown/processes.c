// Calls about processes, signals, credentials and limits, with the arguments that programs usually give them.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CALL(name, ...) syscall(SYS_##name, ##__VA_ARGS__)

static char buffer[4096];

static void credentials(void)
{
    int ids[3], groups[64], header[] = {0x20080522, 0}, data[6];

    CALL(getpid), CALL(getppid), CALL(gettid), CALL(getuid), CALL(geteuid), CALL(getgid), CALL(getegid);
    CALL(getpgrp), CALL(getpgid, 0), CALL(getsid, 0);
    CALL(getresuid, ids, ids + 1, ids + 2);
    CALL(setresuid, -1, -1, -1);
    CALL(getresgid, ids, ids + 1, ids + 2);
    CALL(setresgid, -1, -1, -1);
    CALL(setreuid, -1, -1);
    CALL(setregid, -1, -1);
    CALL(setuid, getuid());
    CALL(setgid, getgid());
    CALL(setfsuid, -1);
    CALL(setfsgid, -1);
    CALL(getgroups, 0, NULL);
    CALL(getgroups, 64, groups);
    CALL(setgroups, 1, (int[]){0});
    CALL(capget, header, data);
    CALL(capset, header, data);
    CALL(setpgid, 0, 0);
    CALL(setsid);
}

static void limits(void)
{
    struct rlimit limit;
    struct rusage usage;
    struct utsname names;
    struct sysinfo info;
    struct tms times;

    CALL(getrlimit, RLIMIT_STACK, &limit);
    CALL(prlimit64, 0, RLIMIT_NOFILE, NULL, &limit);
    CALL(setrlimit, RLIMIT_CORE, &(struct rlimit){0, 0});
    CALL(prlimit64, 0, RLIMIT_AS, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY}, NULL);
    CALL(getrusage, RUSAGE_SELF, &usage);
    CALL(getrusage, RUSAGE_CHILDREN, &usage);
    CALL(uname, &names);
    CALL(sysinfo, &info);
    CALL(times, &times);
    CALL(getpriority, PRIO_PROCESS, 0);
    CALL(setpriority, PRIO_PROCESS, 0, 1);
    CALL(personality, 0xffffffff);
    CALL(ioprio_get, 1, 0);
    CALL(getrandom, buffer, 8, 0);
    CALL(getrandom, buffer, 8, 1);
    CALL(getcpu, NULL, NULL, NULL);
    CALL(membarrier, 16, 0, 0);
    CALL(seccomp, 2, 0, (int[]){0x7fff0000});
    CALL(syslog, 10, NULL, 0);
    CALL(arch_prctl, 0x1003, buffer);
}

static void scheduling(void)
{
    struct sched_param param = {0};
    struct timespec interval;
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attr = {.size = sizeof attr, .policy = SCHED_BATCH, .nice = 1};
    unsigned long cpus[16];

    CALL(sched_yield);
    CALL(sched_getaffinity, 0, sizeof cpus, cpus);
    CALL(sched_setaffinity, 0, sizeof cpus, cpus);
    CALL(sched_getscheduler, 0);
    CALL(sched_setscheduler, 0, SCHED_OTHER, &param);
    CALL(sched_getparam, 0, &param);
    CALL(sched_setparam, 0, &param);
    CALL(sched_get_priority_max, SCHED_FIFO);
    CALL(sched_get_priority_min, SCHED_RR);
    CALL(sched_rr_get_interval, 0, &interval);
    CALL(sched_setattr, 0, &attr, 0);
    CALL(sched_getattr, 0, &attr, sizeof attr, 0);
}

static void controls(void)
{
    CALL(prctl, PR_SET_NAME, "shown", 0, 0, 0);
    CALL(prctl, PR_GET_NAME, buffer);
    CALL(prctl, PR_SET_PDEATHSIG, SIGTERM);
    CALL(prctl, PR_GET_PDEATHSIG, buffer);
    CALL(prctl, PR_SET_DUMPABLE, 1);
    CALL(prctl, PR_GET_DUMPABLE);
    CALL(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    CALL(prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    CALL(prctl, PR_SET_KEEPCAPS, 0);
    CALL(prctl, PR_GET_KEEPCAPS);
    CALL(prctl, PR_CAPBSET_READ, 21);
    CALL(prctl, PR_SET_CHILD_SUBREAPER, 0);
    CALL(prctl, PR_GET_CHILD_SUBREAPER, buffer);
    CALL(prctl, PR_GET_SECCOMP);
    CALL(prctl, PR_SET_TIMERSLACK, 50000);
    CALL(prctl, PR_GET_TIMERSLACK);
    CALL(prctl, PR_GET_SECUREBITS);
    CALL(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 0, 0, 0);
    CALL(prctl, PR_SET_VMA, 0L, 0L, 0L, 0L);
    CALL(prctl, PR_SET_THP_DISABLE, 0, 0, 0, 0);
}

static void handler(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info, (void)context;
}

static void signals(void)
{
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK | SA_RESETHAND};
    struct timespec moment = {0, 1000};
    sigset_t set;
    siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
    stack_t stack = {.ss_sp = buffer, .ss_size = sizeof buffer};
    uint64_t mask = 1 << (SIGUSR1 - 1) | 1ULL << (SIGRTMIN);

    action.sa_sigaction = handler;
    sigfillset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR1, NULL, &action);
    sigaction(SIGRTMIN + 3, &(struct sigaction){.sa_handler = SIG_IGN}, &action);
    CALL(rt_sigaction, SIGCHLD, NULL, buffer, 8);
    CALL(rt_sigaction, SIGKILL, buffer, NULL, 8);
    CALL(rt_sigprocmask, SIG_BLOCK, &mask, NULL, 8);
    CALL(rt_sigprocmask, SIG_SETMASK, NULL, &set, 8);
    CALL(kill, getpid(), SIGUSR1);
    CALL(kill, 0x7ffffffe, 0);
    CALL(rt_sigpending, &set, 8);
    CALL(rt_sigtimedwait, &mask, &info, &moment, 8);
    CALL(rt_sigtimedwait, &mask, &info, &moment, 8);
    CALL(tgkill, getpid(), gettid(), SIGUSR1);
    CALL(rt_sigtimedwait, &mask, NULL, NULL, 8);
    CALL(rt_sigprocmask, SIG_UNBLOCK, &mask, &set, 8);
    CALL(tkill, gettid(), 0);
    info = (siginfo_t){.si_signo = SIGUSR1, .si_code = SI_QUEUE};
    info.si_pid = 5, info.si_uid = 6, info.si_value.sival_int = 7;
    CALL(rt_sigqueueinfo, getpid(), SIGUSR1, &info);
    CALL(sigaltstack, &stack, NULL);
    CALL(sigaltstack, NULL, &stack);
    CALL(alarm, 0);
}

static void futexes(void)
{
    static uint32_t word = 1, other;
    struct timespec moment = {0, 1000};

    CALL(futex, &word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
    CALL(futex, &word, FUTEX_WAIT, 2, NULL);
    CALL(futex, &word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, &moment);
    CALL(futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME, 1, &moment, NULL,
         FUTEX_BITSET_MATCH_ANY);
    CALL(futex, &word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0xff);
    CALL(futex, &word, FUTEX_REQUEUE | FUTEX_PRIVATE_FLAG, 1, 2L, &other);
    CALL(futex, &word, FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG, 1, 2L, &other, 1);
    CALL(futex, &word, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 1, 1L, &other,
         FUTEX_OP(FUTEX_OP_SET, 0, FUTEX_OP_CMP_GT, 1));
    CALL(futex, &other, FUTEX_TRYLOCK_PI | FUTEX_PRIVATE_FLAG);
    CALL(futex, &other, FUTEX_UNLOCK_PI | FUTEX_PRIVATE_FLAG);
    CALL(futex, &other, FUTEX_LOCK_PI | FUTEX_PRIVATE_FLAG, 0, NULL);
    CALL(futex, &other, FUTEX_UNLOCK_PI | FUTEX_PRIVATE_FLAG);
    CALL(set_robust_list, buffer, 24);
    CALL(get_robust_list, 0, buffer, buffer + 8);
    CALL(set_tid_address, &other);
}

static int child(int status)
{
    CALL(exit_group, status);
    return 0;
}

static void children(void)
{
    struct rusage usage;
    siginfo_t info;
    int status, pidfd = -1, tid;
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, its size, tls.
    uint64_t args[] = {CLONE_PIDFD | CLONE_CHILD_SETTID | CLONE_PARENT_SETTID,
                       (uintptr_t)&pidfd,
                       (uintptr_t)&tid,
                       (uintptr_t)&tid,
                       SIGCHLD,
                       0,
                       0,
                       0};
    long pid = CALL(fork);

    if (!pid)
        child(3);
    CALL(wait4, pid, &status, 0, &usage);
    pid = CALL(clone, SIGCHLD, NULL, NULL, NULL, 0L);
    if (!pid)
        child(0);
    CALL(waitid, P_PID, pid, &info, WEXITED | WNOWAIT, NULL);
    CALL(wait4, -1, &status, 0, NULL);
    pid = vfork();
    if (!pid)
        _exit(5);
    CALL(wait4, pid, NULL, WUNTRACED | WCONTINUED, NULL);
    pid = CALL(clone3, args, sizeof args);
    if (!pid)
        child(0);
    CALL(pidfd_send_signal, pidfd, 0, NULL, 0);
    CALL(waitid, 3, pidfd, &info, WEXITED, &usage);
    CALL(pidfd_open, getpid(), 0);
    pid = CALL(fork);
    if (!pid)
        CALL(execve, "/nowhere/at/all", (char *[]){"all", "of", "it", NULL}, (char *[]){"A=1", "B=2", NULL}),
            CALL(execveat, AT_FDCWD, "/bin/true", (char *[]){"true", NULL}, (char *[]){NULL},
                 AT_SYMLINK_NOFOLLOW),
            CALL(execveat, AT_FDCWD, "/bin/true", (char *[]){"true", NULL}, (char *[]){NULL}, 0), child(9);
    CALL(wait4, pid, &status, 0, NULL);
    CALL(wait4, -1, &status, WNOHANG, NULL);
    CALL(unshare, CLONE_FS | CLONE_FILES);
    CALL(setns, 77, CLONE_NEWNET);
    CALL(kcmp, getpid(), getpid(), 0, 0, 0);
}

int main(void)
{
    limits();
    scheduling();
    signals();
    futexes();
    children();
    credentials();
    controls();
    CALL(exit, 0);
}
