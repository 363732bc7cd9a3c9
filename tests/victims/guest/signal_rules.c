// What calls about signals say at their edges, which signals arrive when and in what order, and what they
// interrupt.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static void say(const char *name, long result)
{
    printf("%s: %ld %s\n", name, result, result == -1 ? strerror(errno) : "ok");
}

struct kernel_action {
    void *handler;
    unsigned long flags;
    void *rest;
    unsigned long mask;
};
static volatile int got[65], order[300], no;
static volatile int lastcode, lastpid, lastval;
static volatile unsigned long inmask;
static void on_signal(int s, siginfo_t *i, void *c)
{
    got[s]++;
    if (no < 300)
        order[no++] = s;
    lastcode = i->si_code;
    lastpid = i->si_pid == getpid();
    lastval = i->si_value.sival_int;
    sigset_t m;
    sigprocmask(0, 0, &m);
    inmask = *(unsigned long *)&m;
}

static void install(int s, int fl)
{
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = fl | SA_SIGINFO};
    sigaction(s, &sa, 0);
}

static sigset_t set(int a, int b)
{
    sigset_t s;
    sigemptyset(&s);
    if (a)
        sigaddset(&s, a);
    if (b)
        sigaddset(&s, b);
    return s;
}

static sem_t ready;
static volatile pid_t thread_id;
static volatile int stop;
static void *worker(void *a)
{
    thread_id = syscall(SYS_gettid);
    sem_post(&ready);
    struct timespec ts = {0, 1000000};
    while (!stop)
        nanosleep(&ts, 0);
    return 0;
}

static void *waiter(void *a)
{
    sigset_t s = set(SIGRTMIN + 3, 0);
    siginfo_t i;
    thread_id = syscall(SYS_gettid);
    sem_post(&ready);
    int r = sigwaitinfo(&s, &i);
    printf("waiter %d %d val %d\n", r == SIGRTMIN + 3, i.si_code, i.si_value.sival_int);
    return 0;
}

static volatile int sent, over, enough, answers = -1;

// Sends a signal to the main thread again and again, until what it is to interrupt is over.
static void *sender(void *unused)
{
    while (!over) {
        syscall(SYS_tgkill, getpid(), getpid(), sent);
        if (answers >= 0 && got[sent] >= enough) {
            write(answers, "x", 1);
            answers = -1;
        }
        usleep(2000);
    }
    return unused;
}

#define INTERRUPTED(name, number, call)                                                                      \
    do {                                                                                                     \
        sent = number;                                                                                       \
        over = 0;                                                                                            \
        pthread_t thread;                                                                                    \
        pthread_create(&thread, NULL, sender, NULL);                                                         \
        long result = (call);                                                                                \
        int error = errno;                                                                                   \
        over = 1;                                                                                            \
        pthread_join(thread, NULL);                                                                          \
        sigset_t left = set(number, 0);                                                                      \
        const struct timespec now = {0, 0};                                                                  \
        while (sigtimedwait(&left, NULL, &now) > 0)                                                          \
            ;                                                                                                \
        errno = error;                                                                                       \
        say(name, result);                                                                                   \
    } while (0)

int main(void)
{
    setvbuf(stdout, 0, _IOLBF, 0);
    struct kernel_action k = {0}, o;
    say("sigaction 0", syscall(SYS_rt_sigaction, 0, &k, 0, 8));
    say("sigaction 65", syscall(SYS_rt_sigaction, 65, &k, 0, 8));
    say("sigaction KILL", syscall(SYS_rt_sigaction, 9, &k, 0, 8));
    say("sigaction KILL get", syscall(SYS_rt_sigaction, 9, 0, &o, 8));
    say("sigaction STOP", syscall(SYS_rt_sigaction, 19, &k, 0, 8));
    say("sigaction size", syscall(SYS_rt_sigaction, 10, &k, 0, 4));
    say("sigaction efault", syscall(SYS_rt_sigaction, 10, (void *)8, 0, 8));
    say("sigaction efault old", syscall(SYS_rt_sigaction, 10, 0, (void *)8, 8));
    say("sigaction 64", syscall(SYS_rt_sigaction, 64, 0, &o, 8));
    k.handler = on_signal;
    k.flags = 0xffffffff;
    k.mask = ~0UL;
    say("sigaction flags", syscall(SYS_rt_sigaction, 12, &k, 0, 8));
    syscall(SYS_rt_sigaction, 12, 0, &o, 8);
    printf("flags %lx mask %lx\n", o.flags, o.mask);
    memset(&k, 0, sizeof k);
    syscall(SYS_rt_sigaction, 12, &k, 0, 8);
    unsigned long m = 0, om;
    say("procmask how", syscall(SYS_rt_sigprocmask, 77, &m, 0, 8));
    say("procmask how null", syscall(SYS_rt_sigprocmask, 77, 0, &om, 8));
    say("procmask size", syscall(SYS_rt_sigprocmask, 0, &m, 0, 16));
    say("procmask efault", syscall(SYS_rt_sigprocmask, 0, (void *)8, 0, 8));
    m = ~0UL;
    syscall(SYS_rt_sigprocmask, 2, &m, 0, 8);
    syscall(SYS_rt_sigprocmask, 0, 0, &om, 8);
    printf("all %lx\n", om);
    m = 0;
    syscall(SYS_rt_sigprocmask, 2, &m, 0, 8);
    say("procmask old efault", syscall(SYS_rt_sigprocmask, 2, &m, (void *)8, 8));
    say("sigpending size", syscall(SYS_rt_sigpending, &m, 16));
    say("sigpending efault", syscall(SYS_rt_sigpending, (void *)8, 8));
    say("sigpending 4", syscall(SYS_rt_sigpending, &m, 4));
    // altstack
    char st[16384];
    stack_t ss = {.ss_sp = st, .ss_size = 100}, os;
    say("altstack small", sigaltstack(&ss, 0));
    ss.ss_size = sizeof st;
    ss.ss_flags = 77;
    say("altstack flags", sigaltstack(&ss, 0));
    ss.ss_flags = 1;
    say("altstack onstack flag", sigaltstack(&ss, &os));
    sigaltstack(0, &os);
    printf("alt %d %lu\n", os.ss_flags, os.ss_size);
    ss.ss_flags = 1U << 31;
    say("autodisarm", sigaltstack(&ss, 0));
    sigaltstack(0, &os);
    printf("alt %x %lu\n", os.ss_flags, os.ss_size);
    ss.ss_flags = SS_DISABLE;
    say("disable", sigaltstack(&ss, 0));
    sigaltstack(0, &os);
    printf("alt %d %lu %d\n", os.ss_flags, os.ss_size, os.ss_sp == 0);
    say("alt efault", sigaltstack((void *)8, 0));
    // kill
    say("kill 0", kill(getpid(), 0));
    say("kill 65", kill(getpid(), 65));
    say("kill -1 sig", kill(getpid(), -1));
    say("tgkill bad", syscall(SYS_tgkill, getpid(), 999999, 0));
    say("tgkill neg", syscall(SYS_tgkill, -1, 1, 0));
    say("tgkill 0 tid", syscall(SYS_tgkill, getpid(), 0, 0));
    say("tgkill otherpid", syscall(SYS_tgkill, 1, getpid(), 0));
    say("tkill neg", syscall(SYS_tkill, -1, 0));
    say("tkill self 0", syscall(SYS_tkill, (int)syscall(SYS_gettid), 0));
    say("tgkill sig 65", syscall(SYS_tgkill, getpid(), getpid(), 65));
    say("kill none", kill(999999, 0));
    say("kill group none", kill(-999999, 0));
    install(SIGUSR1, 0);
    install(SIGUSR2, 0);
    for (int i = 0; i < 5; i++)
        install(SIGRTMIN + i, 0);
    kill(getpid(), SIGUSR1);
    printf("usr1 %d code %d pid %d self-blocked %d\n", got[SIGUSR1], lastcode, lastpid,
           !!(inmask >> (SIGUSR1 - 1) & 1));
    raise(SIGUSR2);
    printf("raise code %d\n", lastcode);
    union sigval v = {.sival_int = 42};
    say("sigqueue", sigqueue(getpid(), SIGRTMIN + 1, v));
    printf("queue code %d val %d\n", lastcode, lastval);
    siginfo_t fake = {0};
    fake.si_code = 5;
    say("sigqueueinfo kernel code self", syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &fake));
    fake.si_code = -10;
    say("sigqueueinfo", syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &fake));
    printf("code %d\n", lastcode);
    say("tgsigqueueinfo", syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), SIGUSR1, &fake));
    say("sigqueueinfo bad sig", syscall(SYS_rt_sigqueueinfo, getpid(), 65, &fake));
    say("sigqueueinfo efault", syscall(SYS_rt_sigqueueinfo, getpid(), 10, (void *)8));
    say("tgsigqueue bad tid", syscall(SYS_rt_tgsigqueueinfo, getpid(), 999999, 10, &fake));
    // pending order
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, 0);
    no = 0;
    for (int r = 0; r < 3; r++) {
        kill(getpid(), SIGRTMIN + 2);
        kill(getpid(), SIGRTMIN + 1);
        kill(getpid(), SIGUSR2);
        kill(getpid(), SIGUSR1);
    }
    sigset_t pend;
    sigpending(&pend);
    printf("pending %d %d %d\n", sigismember(&pend, SIGUSR1), sigismember(&pend, SIGRTMIN + 1),
           sigismember(&pend, SIGTERM));
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, 0);
    printf("order");
    for (int i = 0; i < no; i++)
        printf(" %d", order[i]);
    puts("");
    // ignore discards pending
    sigset_t u1 = set(SIGUSR1, 0);
    sigprocmask(SIG_BLOCK, &u1, 0);
    kill(getpid(), SIGUSR1);
    signal(SIGUSR1, SIG_IGN);
    sigpending(&pend);
    printf("ign pending %d\n", sigismember(&pend, SIGUSR1));
    install(SIGUSR1, 0);
    int g = got[SIGUSR1];
    sigprocmask(SIG_UNBLOCK, &u1, 0);
    printf("delivered %d\n", got[SIGUSR1] - g);
    // sigtimedwait
    struct timespec z = {0, 0}, ms = {0, 10000000}, bad = {0, 2000000000};
    sigset_t w = set(SIGUSR1, SIGUSR2);
    siginfo_t si;
    say("timedwait 0", sigtimedwait(&w, &si, &z));
    say("timedwait ms", sigtimedwait(&w, &si, &ms));
    say("timedwait bad", sigtimedwait(&w, &si, &bad));
    sigprocmask(SIG_BLOCK, &w, 0);
    kill(getpid(), SIGUSR2);
    kill(getpid(), SIGUSR1);
    say("timedwait got", sigtimedwait(&w, &si, &z));
    printf("signo %d code %d\n", si.si_signo, si.si_code);
    say("timedwait got2", sigtimedwait(&w, 0, 0));
    INTERRUPTED("sigwaitinfo", SIGUSR1, sigwaitinfo(&w, &si));
    say("timedwait size", syscall(SYS_rt_sigtimedwait, &w, &si, &z, 4));
    say("timedwait efault", syscall(SYS_rt_sigtimedwait, 8, &si, &z, 8));
    install(SIGRTMIN, 0);
    struct timespec sec = {2, 0};
    INTERRUPTED("timedwait other signal", SIGRTMIN, sigtimedwait(&w, &si, &sec));
    sigprocmask(SIG_UNBLOCK, &w, 0);
    // sigsuspend
    sigset_t susp;
    sigfillset(&susp);
    sigdelset(&susp, SIGUSR2);
    sigprocmask(SIG_BLOCK, &w, 0);
    kill(getpid(), SIGUSR2);
    g = got[SIGUSR2];
    say("sigsuspend", sigsuspend(&susp));
    printf("got %d\n", got[SIGUSR2] - g);
    sigprocmask(0, 0, &pend);
    printf("mask back %d\n", sigismember(&pend, SIGUSR2));
    INTERRUPTED("sigsuspend wait", SIGUSR2, sigsuspend(&susp));
    say("sigsuspend size", syscall(SYS_rt_sigsuspend, &susp, 4));
    // ppoll etc with masks
    sigemptyset(&none);
    INTERRUPTED("ppoll", SIGUSR1, ppoll(0, 0, &sec, &none));
    INTERRUPTED("pselect", SIGUSR1, pselect(0, 0, 0, 0, &sec, &none));
    int ep = epoll_create1(0);
    struct epoll_event ev;
    INTERRUPTED("epoll_pwait", SIGUSR1, epoll_pwait(ep, &ev, 1, 2000, &none));
    sigprocmask(0, 0, &pend);
    printf("still blocked %d\n", sigismember(&pend, SIGUSR1));
    say("ppoll size", syscall(SYS_ppoll, 0, 0, &z, &none, 4));
    say("epoll size", syscall(SYS_epoll_pwait, ep, &ev, 1, 0, &none, 4));
    sigprocmask(SIG_UNBLOCK, &w, 0);
    // interrupted calls
    INTERRUPTED("pause", SIGUSR1, pause());
    struct timespec rem = {9, 9};
    INTERRUPTED("nanosleep", SIGUSR1, nanosleep(&sec, &rem));
    printf("rem %d\n", rem.tv_sec <= 2);
    int pp[2];
    pipe(pp);
    char c;
    INTERRUPTED("read", SIGUSR1, read(pp[0], &c, 1));
    install(SIGUSR1, SA_RESTART);
    enough = got[SIGUSR1] + 3;
    answers = pp[1];
    INTERRUPTED("read restart", SIGUSR1, read(pp[0], &c, 1));
    INTERRUPTED("poll restart", SIGUSR1, poll(0, 0, 2000));
    INTERRUPTED("clock_nanosleep", SIGUSR1,
                clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){2, 0}, &rem));
    install(SIGUSR1, 0);
    INTERRUPTED("wait", SIGUSR1, syscall(SYS_wait4, -1, 0, 0, 0));
    int fut = 0;
    INTERRUPTED("futex", SIGUSR1, syscall(SYS_futex, &fut, 0, 0, &sec, 0, 0));
    sem_init(&ready, 0, 0);
    // threads
    pthread_t t;
    pthread_create(&t, 0, worker, 0);
    sem_wait(&ready);
    g = got[SIGUSR2];
    say("tgkill thread", syscall(SYS_tgkill, getpid(), thread_id, SIGUSR2));
    stop = 1;
    pthread_join(t, 0);
    printf("thread got %d\n", got[SIGUSR2] - g);
    sigset_t rt = set(SIGRTMIN + 3, 0);
    pthread_sigmask(SIG_BLOCK, &rt, 0);
    pthread_create(&t, 0, waiter, 0);
    sem_wait(&ready);
    v.sival_int = 7;
    sigqueue(getpid(), SIGRTMIN + 3, v);
    pthread_join(t, 0);
    // NODEFER RESETHAND nested
    install(SIGUSR1, SA_RESETHAND);
    raise(SIGUSR1);
    struct sigaction q;
    sigaction(SIGUSR1, 0, &q);
    printf("reset %d\n", q.sa_handler == SIG_DFL);
    install(SIGUSR1, SA_NODEFER);
    raise(SIGUSR1);
    printf("nodefer blocked %d\n", !!(inmask >> (SIGUSR1 - 1) & 1));
    struct sigaction ma = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigaddset(&ma.sa_mask, SIGTERM);
    sigaction(SIGUSR1, &ma, 0);
    raise(SIGUSR1);
    printf("masked term %d\n", !!(inmask >> (SIGTERM - 1) & 1));
    struct itimerval iv = {{0, 0}, {0, 2000000}};
    say("setitimer bad", setitimer(ITIMER_REAL, &iv, 0));
    say("setitimer which", setitimer(9, &iv, 0));
    say("alarm", alarm(100));
    say("alarm again", alarm(0));
    // default actions
    kill(getpid(), SIGCHLD);
    kill(getpid(), SIGURG);
    kill(getpid(), SIGWINCH);
    kill(getpid(), SIGCONT);
    puts("alive");
    signal(SIGTERM, SIG_DFL);
    kill(getpid(), SIGTERM);
    puts("not reached");
    return 0;
}
