// What the victims of exactness share: calls without the C library, and checks that say what they saw.
//
// Such a victim exits with 0 natively. It prints what may differ from machine to machine, so that a run under
// trapline can be compared with a native one, and says on standard error what it did not expect. A line
// "// build: FLAGS" in one is for whoever compiles it.

#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

// After so many rounds whatever patches a `syscall` has patched it.
enum { HOT = 100, PAGE = 4096 };

static volatile int failures;

__attribute__((format(printf, 3, 4), unused)) static void failed(int line, const char *what,
                                                                 const char *format, ...)
{
    char text[400];
    va_list list;
    int length = snprintf(text, sizeof text, "line %d: %s", line, what);

    if (failures++ > 20)
        return;
    va_start(list, format);
    length += vsnprintf(text + length, sizeof text - (size_t)length - 1, format, list);
    va_end(list);
    text[length++] = '\n';
    if (write(2, text, (size_t)length) < 0)
        abort();
}

#define check(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            failed(__LINE__, #condition, " does not hold");                                                  \
    } while (0)

#define same(seen, expected)                                                                                 \
    do {                                                                                                     \
        long seen_ = (long)(seen), expected_ = (long)(expected);                                             \
        if (seen_ != expected_)                                                                              \
            failed(__LINE__, #seen, " is %ld (%#lx), not %ld (%#lx)", seen_, seen_, expected_, expected_);   \
    } while (0)

// A `syscall` of its own wherever this is written; minus the errno.
#define call(...) call_(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define call_(nr, a, b, c, d, e, f, ...)                                                                     \
    raw_call((long)(nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

__attribute__((always_inline)) static inline long raw_call(long nr, long a, long b, long c, long d, long e,
                                                           long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

// The C library says that raise() calls back into nobody, which is not true of handlers.
__attribute__((unused)) static int raise_and_handle(int number)
{
    int result = raise(number);

    __asm__ volatile("" ::: "memory");
    return result;
}
#define raise raise_and_handle

// How a child ended: its status, or minus the signal.
__attribute__((unused)) static int ended(pid_t child)
{
    int status;

    while (waitpid(child, &status, __WALL) < 0)
        if (errno != EINTR)
            return -1000;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

__attribute__((unused)) static void handle(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};

    sigaction(number, &action, NULL);
}

__attribute__((unused)) static int finish(void)
{
    puts(failures ? "FAILED" : "ok");
    fflush(stdout);
    return failures ? 1 : 0;
}
