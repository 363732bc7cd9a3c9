// Futexes, robust and inheriting locks, clone at its edges, and what a thread has of its own. At the end
// threads wait in every way, and the process ends by exit_group, by a signal, or by returning.
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static void say(const char *name, long result)
{
    printf("%s: %ld %s\n", name, result, result == -1 ? strerror(errno) : "ok");
}

#define FUTEX(op, value, time, other, more) syscall(SYS_futex, &fut, op, value, time, other, more)
static int fut, fut2;
static volatile int woken;
static void *waits(void *a)
{
    long r = syscall(SYS_futex, &fut, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0);
    __sync_fetch_and_add(&woken, 1);
    return (void *)r;
}

static void *waits_for_bits(void *a)
{
    long r = syscall(SYS_futex, &fut, FUTEX_WAIT_BITSET_PRIVATE, 0, 0, 0, (long)a);
    __sync_fetch_and_add(&woken, 1);
    return (void *)r;
}

// Returns when so many wait at `fut`: by having them wait elsewhere, and there again.
static void until_waiting(int count)
{
    static int elsewhere;

    for (int found = 0; found < count; sched_yield())
        found += (int)FUTEX(FUTEX_REQUEUE_PRIVATE, 0, (void *)(long)count, &elsewhere, 0);
    syscall(SYS_futex, &elsewhere, FUTEX_REQUEUE_PRIVATE, 0, (long)count, &fut, 0);
}

static void until_woken(int count)
{
    while (woken < count)
        sched_yield();
}

static pthread_mutex_t robust;
static void *dies(void *a)
{
    pthread_mutex_lock(&robust);
    return 0;
}

struct clone_arguments {
    unsigned long flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        set_tid_size, cgroup;
};
static char child_stack[65536] __attribute__((aligned(16)));
static int ctid = 1;
static int child(void *a)
{
    (*(int *)a)++;
    syscall(SYS_exit, 0);
    return 0;
}

static void *blocked(void *a)
{
    int p[2];
    pipe(p);
    char c;
    read(p[0], &c, 1);
    return 0;
}

static void *blocked_at_futex(void *a)
{
    int x = 0;
    syscall(SYS_futex, &x, 0, 0, 0, 0, 0);
    return 0;
}

static void *blocked_in_pause(void *a)
{
    pause();
    return 0;
}

static void *spin(void *a)
{
    for (;;)
        ;
    return a;
}

static void *exits(void *a)
{
    syscall(SYS_exit, 3);
    return 0;
}

static void *pi(void *a)
{
    long r = syscall(SYS_futex, &fut2, FUTEX_LOCK_PI_PRIVATE, 0, 0, 0, 0);
    printf("pi got %ld owner %d\n", r, (fut2 & FUTEX_TID_MASK) == syscall(SYS_gettid));
    syscall(SYS_futex, &fut2, FUTEX_UNLOCK_PI_PRIVATE, 0, 0, 0, 0);
    return 0;
}

static int gone;
static sem_t ready;
static void cleanup(void *a)
{
    gone++;
}

static void *is_cancelled(void *a)
{
    pthread_cleanup_push(cleanup, 0);
    sem_post(&ready);
    for (;;)
        pause();
    pthread_cleanup_pop(0);
    return 0;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, 0, _IOLBF, 0);
    struct timespec ms = {0, 10000000}, bad = {0, -1};
    pthread_t t[8];
    say("wait again", FUTEX(FUTEX_WAIT, 1, 0, 0, 0));
    say("wait timeout", FUTEX(FUTEX_WAIT, 0, &ms, 0, 0));
    say("wait bad ts", FUTEX(FUTEX_WAIT, 0, &bad, 0, 0));
    say("wake none", FUTEX(FUTEX_WAKE, 9, 0, 0, 0));
    say("misaligned", syscall(SYS_futex, (char *)&fut + 1, FUTEX_WAIT, 0, &ms, 0, 0));
    say("efault", syscall(SYS_futex, 8, FUTEX_WAIT, 0, &ms, 0, 0));
    say("bad op", FUTEX(99, 0, 0, 0, 0));
    say("bitset 0", FUTEX(FUTEX_WAIT_BITSET, 0, &ms, 0, 0));
    say("wait ts efault", FUTEX(FUTEX_WAIT, 0, (void *)8, 0, 0));
    for (int i = 0; i < 3; i++)
        pthread_create(t + i, 0, waits, 0);
    until_waiting(3);
    say("wake 1", FUTEX(FUTEX_WAKE_PRIVATE, 1, 0, 0, 0));
    until_woken(1);
    printf("woken %d\n", woken);
    say("requeue", FUTEX(FUTEX_REQUEUE_PRIVATE, 1, (void *)5L, &fut2, 0));
    say("cmp_requeue wrong", FUTEX(FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)5L, &fut2, 7));
    say("wake requeued", syscall(SYS_futex, &fut2, FUTEX_WAKE_PRIVATE, 9, 0, 0, 0));
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], 0);
    printf("woken %d\n", woken);
    woken = 0;
    for (long i = 0; i < 3; i++)
        pthread_create(t + i, 0, waits_for_bits, (void *)(1L << i));
    until_waiting(3);
    say("wake bit 2", FUTEX(FUTEX_WAKE_BITSET_PRIVATE, 9, 0, 0, 2));
    say("wake bit 5", FUTEX(FUTEX_WAKE_BITSET_PRIVATE, 9, 0, 0, 5));
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], 0);
    struct timespec abs;
    clock_gettime(CLOCK_MONOTONIC, &abs);
    abs.tv_nsec += 10000000;
    if (abs.tv_nsec >= 1000000000) {
        abs.tv_sec++;
        abs.tv_nsec -= 1000000000;
    }
    say("abs wait", FUTEX(FUTEX_WAIT_BITSET, 0, &abs, 0, -1));
    clock_gettime(CLOCK_REALTIME, &abs);
    say("abs realtime past", FUTEX(FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &abs, 0, -1));
    say("wake_op", FUTEX(FUTEX_WAKE_OP, 1, (void *)1L, &fut2, FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 0)));
    printf("fut2 %d\n", fut2);
    fut2 = 0;
    say("lock_pi", syscall(SYS_futex, &fut2, FUTEX_LOCK_PI_PRIVATE, 0, 0, 0, 0));
    printf("owner %d\n", fut2 == syscall(SYS_gettid));
    pthread_create(t, 0, pi, 0);
    while (!(__atomic_load_n(&fut2, __ATOMIC_SEQ_CST) & FUTEX_WAITERS))
        sched_yield();
    long unlocked = syscall(SYS_futex, &fut2, FUTEX_UNLOCK_PI_PRIVATE, 0, 0, 0, 0);
    pthread_join(t[0], 0);
    say("unlock_pi", unlocked);
    say("unlock not owner", syscall(SYS_futex, &fut2, FUTEX_UNLOCK_PI_PRIVATE, 0, 0, 0, 0));
    struct {
        unsigned long val;
        unsigned long u;
        unsigned f, r;
    } fv[2] = {{0, (long)&fut, 2 | 128, 0}, {1, (long)&fut, 2 | 128, 0}};
    say("futex_waitv", syscall(449, fv, 2, 0, 0, 0));
    pthread_mutexattr_t at;
    pthread_mutexattr_init(&at);
    pthread_mutexattr_setrobust(&at, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &at);
    pthread_create(t, 0, dies, 0);
    pthread_join(t[0], 0);
    int r = pthread_mutex_lock(&robust);
    printf("robust %s\n", strerror(r));
    pthread_mutex_consistent(&robust);
    pthread_mutex_unlock(&robust);
    pthread_mutexattr_setpshared(&at, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setprotocol(&at, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&robust, &at);
    pthread_create(t, 0, dies, 0);
    pthread_join(t[0], 0);
    r = pthread_mutex_lock(&robust);
    printf("robust pi %s\n", strerror(r));
    void *head;
    size_t len;
    say("get_robust_list", syscall(SYS_get_robust_list, 0, &head, &len));
    printf("len %zu\n", len);
    say("set_robust bad", syscall(SYS_set_robust_list, head, 5));
    // clone
    say("clone SIGHAND without VM", syscall(SYS_clone, CLONE_SIGHAND, 0, 0, 0, 0));
    say("clone THREAD without SIGHAND",
        syscall(SYS_clone, CLONE_VM | CLONE_THREAD, child_stack + 65536, 0, 0, 0));
    static int arg;
    ctid = 1;
    int rc = clone(child, child_stack + 65536,
                   CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_FS | CLONE_FILES | CLONE_CHILD_CLEARTID |
                       CLONE_PARENT_SETTID,
                   &arg, &fut, 0, &ctid);
    printf("clone %d settid %d\n", rc > 0, fut == rc);
    while (__atomic_load_n(&ctid, __ATOMIC_SEQ_CST))
        syscall(SYS_futex, &ctid, FUTEX_WAIT, 1, 0, 0, 0);
    printf("cleared %d arg %d\n", ctid, arg);
    fut = 0;
    struct clone_arguments ca = {0};
    say("clone3 small", syscall(435, &ca, 8));
    ca.flags = 1UL << 40;
    say("clone3 flags", syscall(435, &ca, sizeof ca));
    ca.flags = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD;
    ca.exit_signal = 17;
    ca.stack = (long)child_stack;
    ca.stack_size = 65536;
    say("clone3 exit_signal", syscall(435, &ca, sizeof ca));
    ca.exit_signal = 0;
    ca.stack_size = 0;
    say("clone3 stack no size", syscall(435, &ca, sizeof ca));
    say("clone3 efault", syscall(435, 8, 88));
    say("clone3 big", syscall(435, &ca, 100000));
    printf("set_tid_address %d\n", syscall(SYS_set_tid_address, &ctid) == syscall(SYS_gettid));
    // arch_prctl
    unsigned long fs, gs;
    say("get_fs", syscall(SYS_arch_prctl, ARCH_GET_FS, &fs));
    printf("fs self %d\n", *(unsigned long *)fs == fs);
    say("set_gs", syscall(SYS_arch_prctl, ARCH_SET_GS, &fut));
    syscall(SYS_arch_prctl, ARCH_GET_GS, &gs);
    printf("gs %d\n", gs == (unsigned long)&fut);
    say("set_fs high", syscall(SYS_arch_prctl, ARCH_SET_FS, -1UL));
    say("set_gs high", syscall(SYS_arch_prctl, ARCH_SET_GS, -1UL));
    say("arch bad", syscall(SYS_arch_prctl, 0x9999, 0));
    say("arch efault", syscall(SYS_arch_prctl, ARCH_GET_FS, 8));
    say("cpuid get", syscall(SYS_arch_prctl, 0x1011, 0));
    // prctl
    char nm[20];
    say("set_name", prctl(PR_SET_NAME, "a-long-name-that-is-cut"));
    prctl(PR_GET_NAME, nm);
    puts(nm);
    say("name efault", prctl(PR_SET_NAME, 8));
    say("prctl bad", prctl(9999, 0, 0, 0, 0));
    say("nnp get", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    say("dumpable", prctl(PR_GET_DUMPABLE));
    say("pdeathsig get", ({
            int s = 5;
            prctl(PR_GET_PDEATHSIG, &s) ? -1 : s;
        }));
    say("keepcaps", prctl(PR_GET_KEEPCAPS));
    say("timerslack", prctl(PR_GET_TIMERSLACK) > 0);
    say("thp", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    say("subreaper", ({
            int s = 5;
            prctl(PR_GET_CHILD_SUBREAPER, &s) ? -1 : s;
        }));
    say("set dumpable", prctl(PR_SET_DUMPABLE, 1));
    say("set timerslack", prctl(PR_SET_TIMERSLACK, 60000));
    say("set_vma", prctl(0x53564d41, 0, child_stack, 4096, "x"));
    say("set pdeathsig", prctl(PR_SET_PDEATHSIG, SIGTERM));
    say("set_keepcaps", prctl(PR_SET_KEEPCAPS, 0));
    say("seccomp get", prctl(PR_GET_SECCOMP));
    char b[40];
    say("getrandom", getrandom(b, 40, 0));
    say("getrandom flags", getrandom(b, 4, 99));
    say("getrandom efault", syscall(SYS_getrandom, 8, 4, 0));
    struct rlimit rl;
    say("getrlimit", getrlimit(RLIMIT_NOFILE, &rl));
    say("prlimit bad", syscall(SYS_prlimit64, 0, 99, 0, &rl));
    say("sched_getaffinity", sched_getaffinity(0, 128, (void *)(char[128]){0}));
    say("sched_yield", sched_yield());
    unsigned cpu;
    say("getcpu", syscall(SYS_getcpu, &cpu, 0, 0));
    say("getpriority", getpriority(PRIO_PROCESS, 0));
    struct rusage ru;
    say("getrusage", getrusage(RUSAGE_THREAD, &ru));
    say("times", syscall(SYS_times, 0) != 0);
    struct timespec ts;
    say("cputime", clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts));
    say("clock bad", clock_gettime(99, &ts));
    say("setpriority", setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0)));
    say("enosys", syscall(9999));
    say("enosys -1", syscall(-1));
    say("x32", syscall(0x40000000 | 39));
    say("restart_syscall", syscall(219));
    pthread_create(t, 0, is_cancelled, 0);
    sem_wait(&ready);
    pthread_cancel(t[0]);
    void *ret;
    pthread_join(t[0], &ret);
    printf("cancelled %d %d\n", ret == PTHREAD_CANCELED, gone);
    pthread_create(t, 0, exits, 0);
    pthread_join(t[0], 0);
    puts("exit thread");
    pthread_create(t, 0, blocked, 0);
    pthread_create(t + 1, 0, blocked_at_futex, 0);
    pthread_create(t + 2, 0, blocked_in_pause, 0);
    pthread_create(t + 3, 0, spin, 0);
    if (argc > 1 && !strcmp(argv[1], "exit")) {
        syscall(SYS_exit_group, 0x1234);
    }
    if (argc > 1 && !strcmp(argv[1], "kill")) {
        raise(SIGKILL);
    }
    if (argc > 1 && !strcmp(argv[1], "abort")) {
        abort();
    }
    return 9;
}
