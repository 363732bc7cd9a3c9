// What a handler sees of the call that it interrupts: instruction pointer, rax, rcx, r11 and all arguments;
// and what comes of it, for calls that fail with EINTR, that start again, and that start again only
// sometimes.

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>

#include "exact.h"

// Calls like the kernel's own convention: (number, a, b, c, d, e) with r9 = 9.
long blocking(long number, long a, long b, long c, long d, long e);
extern unsigned char blocking_at[], blocking_behind[];
__asm__(".text\nblocking:\n push %rbx\n push %rbp\n mov $0xbbbb, %ebx\n mov $0xeeee, %ebp\n"
        "mov %rdi, %rax\n mov %rsi, %rdi\n mov %rdx, %rsi\n mov %rcx, %rdx\n mov %r8, %r10\n mov %r9, %r8\n"
        "mov $9, %r9d\n"
        "blocking_at: syscall\nblocking_behind: pop %rbp\n pop %rbx\n nop\n nop\n nop\n ret\n");

static greg_t seen[NGREG];
static int handled, fds[2];
static bool complete, at_it;

static void alarms(long microseconds)
{
    struct itimerval timer = {{0, 3000}, {0, microseconds}};

    if (!microseconds)
        timer.it_interval.tv_usec = 0;
    setitimer(ITIMER_REAL, &timer, NULL);
}

// A signal may come before the call has begun. Then there will be another; and perhaps one too many.
static void on_signal(int number, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

    (void)number, (void)info;
    if (handled ||
        (regs[REG_RIP] != (greg_t)blocking_behind && !(at_it && regs[REG_RIP] == (greg_t)blocking_at)))
        return;
    alarms(0);
    memcpy(seen, regs, sizeof seen);
    handled++;
    if (complete && write(fds[1], "x", 1) != 1)
        abort();
}

// `restarts`: the handler finds the call about to start again. In either case `result` comes out at last.
static void expect(int line, bool restarts, long result, long number, long a, long b, long c, long d, long e)
{
    for (int round = 0; round < 12; round++) {
        handled = 0;
        at_it = restarts;
        alarms(1000);
        long got = blocking(number, a, b, c, d, e);
        if (got != result)
            failed(line, "result", " of call %ld is %ld, not %ld", number, got, result);
        if (handled != 1)
            failed(line, "signals", " handled in call %ld: %d", number, handled);
        same(seen[REG_RIP] - (long)blocking_at, restarts ? 0 : blocking_behind - blocking_at);
        same(seen[REG_RAX], restarts ? number : -EINTR);
        same(seen[REG_RCX], blocking_behind);
        same(seen[REG_R11] & ~0xd5, 0x202);
        same(seen[REG_RDI], a);
        same(seen[REG_RSI], b);
        same(seen[REG_RDX], c);
        same(seen[REG_R10], d);
        same(seen[REG_R8], e);
        same(seen[REG_R9], 9);
        same(seen[REG_RBX], 0xbbbb);
        same(seen[REG_RBP], 0xeeee);
    }
}

int main(void)
{
    struct timespec second = {30, 0};
    struct pollfd poll_one = {.events = POLLIN};
    struct epoll_event event = {.events = EPOLLIN};
    char byte[8];
    int word = 0, queue = epoll_create1(0), sockets[2];
    struct iovec vector = {byte, 1};
    fd_set set;
    pid_t child;

    if (pipe(fds) || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets))
        return 1;
    poll_one.fd = fds[0];
    epoll_ctl(queue, EPOLL_CTL_ADD, fds[0], &event);
    FD_ZERO(&set);
    FD_SET(fds[0], &set);
    for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
        bool restart = flags != 0;

        handle(SIGALRM, on_signal, flags);
        // These never start again.
        expect(__LINE__, false, -EINTR, SYS_pause, 1, 2, 3, 4, 5);
        expect(__LINE__, false, -EINTR, SYS_nanosleep, (long)&second, 0, 3, 4, 5);
        expect(__LINE__, false, -EINTR, SYS_clock_nanosleep, 1, 0, (long)&second, 0, 5);
        expect(__LINE__, false, -EINTR, SYS_poll, (long)&poll_one, 1, -1, 4, 5);
        expect(__LINE__, false, -EINTR, SYS_poll, (long)&poll_one, 1, 30000, 4, 5);
        expect(__LINE__, false, -EINTR, SYS_epoll_wait, queue, (long)&event, 1, -1, 5);
        expect(__LINE__, false, -EINTR, SYS_select, fds[0] + 1, (long)&set, 0, 0, 0);
        FD_SET(fds[0], &set);
        expect(__LINE__, false, -EINTR, SYS_ppoll, (long)&poll_one, 1, 0, 0, 8);
        expect(__LINE__, false, -EINTR, SYS_futex, (long)&word, 0, 0, (long)&second, 5);
        expect(__LINE__, false, -EINTR, SYS_rt_sigtimedwait, (long)(sigset_t[]){{{0}}}, 0, 0, 8, 5);
        // These do if the handler says so.
        complete = restart;
        expect(__LINE__, restart, restart ? 1 : -EINTR, SYS_read, fds[0], (long)byte, 1, 4, 5);
        expect(__LINE__, restart, restart ? 1 : -EINTR, SYS_readv, fds[0], (long)&vector, 1, 4, 5);
        complete = false;
        if (!restart) {
            expect(__LINE__, false, -EINTR, SYS_recvfrom, sockets[0], (long)byte, 1, 0, 0);
            expect(__LINE__, false, -EINTR, SYS_futex, (long)&word, 0, 0, 0, 5);
            child = fork();
            if (child == 0)
                pause();
            expect(__LINE__, false, -EINTR, SYS_wait4, child, 0, 0, 0, 5);
            kill(child, SIGKILL);
            same(ended(child), -SIGKILL);
        }
    }
    return finish();
}
