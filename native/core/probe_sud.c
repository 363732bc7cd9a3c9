// Syscall User Dispatch: the kernel turns system calls from chosen places into SIGSYS.
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "probe_child.h"

// Newer than the headers that we may be built with.
enum {
    SET_DISPATCH = 59, // PR_SET_SYSCALL_USER_DISPATCH
    DISPATCH_OFF = 0,
    EXCLUSIVE_ON = 1, // everything but the range is dispatched
    INCLUSIVE_ON = 2, // only the range is
    FILTER_ALLOW = 0,
    FILTER_BLOCK = 1,
    USER_DISPATCH_CODE = 2, // SYS_USER_DISPATCH
};

static volatile sig_atomic_t dispatched;
static volatile char selector = FILTER_ALLOW;

static void on_sigsys(int number, siginfo_t *information, void *context)
{
    uintptr_t place = (uintptr_t)information->si_call_addr;

    (void)number;
    (void)context;
    selector = FILTER_ALLOW;
    if (information->si_code == USER_DISPATCH_CODE && place > (uintptr_t)tl_probe_stub &&
        place <= (uintptr_t)tl_probe_stub_end)
        dispatched++;
}

static void catch_sigsys(void)
{
    struct sigaction action = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO | SA_NODEFER};

    sigaction(SIGSYS, &action, NULL);
}

// Calls from the stub must be dispatched and others not, until it is switched off.
static void expect_dispatch(struct tl_probe_result *out)
{
    tl_probe_stub(__NR_getpid);
    if (dispatched != 1) {
        tl_probe_missing(out, 0, "the call was accepted, yet nothing was dispatched");
        return;
    }
    selector = FILTER_ALLOW;
    syscall(__NR_getpid);
    if (prctl(SET_DISPATCH, DISPATCH_OFF, 0, 0, 0)) {
        tl_probe_refused(out, "switching it off");
        return;
    }
    if (dispatched != 1 || tl_probe_stub(__NR_getpid) != getpid())
        tl_probe_missing(out, 0, "calls that should not be dispatched were");
    else
        tl_probe_works(out, "%s", "");
}

static void probe_exclusive(struct tl_probe_result *out)
{
    uintptr_t start = (uintptr_t)tl_probe_stub, end = (uintptr_t)tl_probe_stub_end;
    uintptr_t library = (uintptr_t)&getpid;
    // The stub is to lie just outside the allowed range, and libc (sigreturn is in it) inside.
    uintptr_t offset = library > start ? end : 0;
    uintptr_t length = library > start ? (UINTPTR_MAX >> 1) - end : start;

    catch_sigsys();
    if (prctl(SET_DISPATCH, EXCLUSIVE_ON, offset, length, NULL))
        tl_probe_refused(out, "prctl(PR_SET_SYSCALL_USER_DISPATCH)");
    else
        expect_dispatch(out);
}

static void probe_inclusive(struct tl_probe_result *out)
{
    uintptr_t start = (uintptr_t)tl_probe_stub, end = (uintptr_t)tl_probe_stub_end;

    catch_sigsys();
    if (prctl(SET_DISPATCH, INCLUSIVE_ON, start, end - start + 1, NULL))
        tl_probe_refused(out, "prctl(PR_SET_SYSCALL_USER_DISPATCH, INCLUSIVE_ON)");
    else
        expect_dispatch(out);
}

static void probe_selector(struct tl_probe_result *out)
{
    catch_sigsys();
    if (prctl(SET_DISPATCH, EXCLUSIVE_ON, 0, 0, &selector)) {
        tl_probe_refused(out, "prctl(PR_SET_SYSCALL_USER_DISPATCH) with a selector");
        return;
    }
    tl_probe_stub(__NR_getpid);
    if (dispatched) {
        tl_probe_missing(out, 0, "a call was dispatched although the selector allowed it");
        return;
    }
    selector = FILTER_BLOCK;
    expect_dispatch(out);
}

const struct tl_probe tl_probes_sud[] = {
    {"sud_exclusive", probe_exclusive},
    {"sud_inclusive", probe_inclusive},
    {"sud_selector", probe_selector},
    {NULL, NULL},
};
