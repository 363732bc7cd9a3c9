// A program to attach to, with a thread for each way to wait and all that a process can have of handlers,
// stacks and masks. It says what it has when it is asked by a line of input; each thread checks, once its
// wait is over, that nobody has come in between.
//
//   visited        prints "ready", then its state for each line; at the end of its input lets all go on

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <time.h>

#include "exact.h"

enum { NAP_MS = 1500, STACK = 65536 };

static volatile int over, word, handled, on_stack;
static int pipes[2], ends[2], others[2], semaphores;
static char stacks[2][STACK];

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    (void)context;
    handled++;
}

static void block(int number)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, number);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static bool is_only_blocked(int number)
{
    sigset_t set;

    pthread_sigmask(SIG_BLOCK, NULL, &set);
    for (int i = 1; i <= 64; i++)
        if (sigismember(&set, i) == 1 && i != number)
            return false;
    return !number || sigismember(&set, number);
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void reads(void)
{
    char byte = 0;

    block(SIGSYS);
    same(read(pipes[0], &byte, 1), 1);
    same(byte, 'x');
    check(is_only_blocked(SIGSYS));
}

static void waits_on_a_futex(void)
{
    block(SIGTRAP);
    while (!word)
        same(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL), 0);
    check(is_only_blocked(SIGTRAP));
}

static void waits_on_a_futex_for_a_while(void)
{
    static int nothing;
    struct timespec time = {NAP_MS / 1000, NAP_MS % 1000 * 1000000};
    double until = now() + NAP_MS / 1e3;

    same(syscall(SYS_futex, &nothing, FUTEX_WAIT_PRIVATE, 0, &time), -1);
    same(errno, ETIMEDOUT);
    check(now() >= until);
}

static void sleeps(void)
{
    struct timespec time = {NAP_MS / 1000, NAP_MS % 1000 * 1000000};
    double until = now() + NAP_MS / 1e3;

    same(nanosleep(&time, NULL), 0);
    check(now() >= until);
}

static void sleeps_until(void)
{
    struct timespec time;
    double until = now() + NAP_MS / 1e3;

    time.tv_sec = (time_t)until;
    time.tv_nsec = (long)((until - (double)time.tv_sec) * 1e9);
    same(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL), 0);
    check(now() + 1e-3 >= until);
}

static void polls(void)
{
    struct pollfd end = {ends[0], POLLIN, 0};
    double until = now() + NAP_MS / 1e3;

    same(poll(&end, 1, NAP_MS), 0);
    check(now() + 1e-3 >= until);
}

static void polls_with_a_mask(void)
{
    struct pollfd end = {ends[1], POLLIN, 0};
    sigset_t all;

    sigfillset(&all);
    same(ppoll(&end, 1, NULL, &all), 1);
    check(is_only_blocked(0));
}

static void waits_for_events(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(0);

    epoll_ctl(epoll, EPOLL_CTL_ADD, ends[1], &event);
    same(epoll_wait(epoll, &event, 1, -1), 1);
    close(epoll);
}

static void waits_for_a_semaphore(void)
{
    struct sembuf take = {0, -1, 0};

    same(semop(semaphores, &take, 1), 0);
}

static void waits_for_a_signal(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    block(SIGRTMIN + 1);
    same(sigwaitinfo(&set, NULL), SIGRTMIN + 1);
}

static void suspends(void)
{
    sigset_t set;

    block(SIGRTMIN + 2);
    sigfillset(&set);
    sigdelset(&set, SIGRTMIN + 2);
    same(sigsuspend(&set), -1);
    same(errno, EINTR);
    check(is_only_blocked(SIGRTMIN + 2));
    block(SIGRTMIN + 2);
}

static void receives_for_a_while(void)
{
    struct timeval time = {60, 0};
    char byte;

    setsockopt(others[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    same(recv(others[0], &byte, 1, 0), 1);
}

// Its registers are all in use, and nothing is called.
static void computes(void)
{
    double sum = 0;
    long rounds = 0, bits = 0x5a5a5a5a;

    while (!over) {
        for (int i = 0; i < 1000; i++) {
            sum += 0.5;
            bits = (bits << 1 | (bits >> 62 & 1)) & 0x7fffffffffffffff;
        }
        rounds++;
    }
    check(sum == (double)rounds * 500);
    same(__builtin_popcountl((unsigned long)bits), 16);
}

static void calls(void)
{
    pid_t parent = getppid();

    for (long i = 0; !over; i++) {
        same(syscall(SYS_getppid), parent);
        same(syscall(-1L), -1);
        same(errno, ENOSYS);
    }
}

static void on_its_stack(int number, siginfo_t *info, void *context)
{
    const ucontext_t *interrupted = context;

    (void)number;
    (void)info;
    on_stack = 1;
    while (!over)
        getppid();
    check(interrupted->uc_stack.ss_sp == stacks[1] && interrupted->uc_stack.ss_size == STACK);
    check(interrupted->uc_mcontext.gregs[REG_RIP] != 0);
}

static void handles(void)
{
    stack_t stack = {.ss_sp = stacks[1], .ss_size = STACK}, seen;

    sigaltstack(&stack, NULL);
    handle(SIGUSR2, on_its_stack, SA_ONSTACK);
    pthread_kill(pthread_self(), SIGUSR2);
    sigaltstack(NULL, &seen);
    check(seen.ss_sp == stacks[1] && seen.ss_size == STACK && seen.ss_flags == 0);
    check(is_only_blocked(0));
}

static void (*const ways[])(void) = {
    reads,
    waits_on_a_futex,
    waits_on_a_futex_for_a_while,
    sleeps,
    sleeps_until,
    polls,
    polls_with_a_mask,
    waits_for_events,
    waits_for_a_semaphore,
    waits_for_a_signal,
    suspends,
    computes,
    calls,
    handles,
    receives_for_a_while,
};
enum { WAYS = sizeof ways / sizeof *ways };

static void *follow(void *way)
{
    ways[(long)way]();
    return NULL;
}

static void tell(void)
{
    struct {
        uint64_t handler, flags, restorer, mask;
    } action;
    stack_t stack;
    uint64_t mask = 0;

    for (int number = 1; number <= 64; number++) {
        same(syscall(SYS_rt_sigaction, number, NULL, &action, 8), 0);
        printf("%d:%lx:%lx:%lx:%lx ", number, (long)action.handler, (long)action.flags, (long)action.restorer,
               (long)action.mask);
    }
    sigaltstack(NULL, &stack);
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
    printf("%p %zu %d %lx", stack.ss_sp, stack.ss_size, stack.ss_flags, (long)mask);
    for (int fd = 0; fd < 1100; fd++)
        if (syscall(SYS_fcntl, fd, 1 /* F_GETFD */, 0) >= 0)
            printf(" %d", fd);
    puts("");
    fflush(stdout);
}

int main(void)
{
    stack_t stack = {.ss_sp = stacks[0], .ss_size = STACK};
    struct sembuf give = {0, 1, 0};
    pthread_t threads[WAYS];
    char line[16];

    signal(SIGTRAP, SIG_IGN);
    signal(SIGSYS, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    handle(SIGSEGV, on_signal, SA_ONSTACK | SA_RESETHAND);
    handle(SIGILL, on_signal, SA_NODEFER);
    handle(SIGUSR1, on_signal, SA_RESTART);
    handle(SIGRTMIN + 2, on_signal, 0);
    handle(SIGALRM, on_signal, 0);
    sigaltstack(&stack, NULL);
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    if (semaphores < 0 || pipe(pipes) || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) ||
        socketpair(AF_UNIX, SOCK_STREAM, 0, others))
        return 2;
    for (long i = 0; i < WAYS; i++)
        pthread_create(&threads[i], NULL, follow, (void *)i);
    while (!on_stack)
        usleep(100);
    puts("ready");
    fflush(stdout);
    for (ssize_t got; (got = read(0, line, 1)) != 0;) {
        same(got, 1); // nothing interrupts this
        if (got == 1)
            tell();
    }
    over = word = 1;
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1);
    check(write(pipes[1], "x", 1) == 1);
    check(write(ends[0], "x", 1) == 1);
    check(write(others[1], "x", 1) == 1);
    semop(semaphores, &give, 1);
    pthread_kill(threads[9], SIGRTMIN + 1);
    pthread_kill(threads[10], SIGRTMIN + 2);
    for (int i = 0; i < WAYS; i++)
        pthread_join(threads[i], NULL);
    semctl(semaphores, 0, IPC_RMID);
    same(handled, 1);
    raise(SIGTRAP);
    raise(SIGSYS);
    raise(SIGUSR1);
    raise(SIGSEGV);
    same(handled, 3);
    return finish();
}
