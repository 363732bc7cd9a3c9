// What only an x86-64 kernel and processor have.
#include <asm/ldt.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "probe_child.h"

enum {
    HWCAP2_FSGSBASE = 1 << 1,
    GETPID_I386 = 20,
    SET_THREAD_AREA_I386 = 243,
    THREAD_SEGMENT = 14, // the last of a thread's three places in the GDT
    X32_BIT = 0x40000000,
    SHSTK_STATUS = 0x5005, // ARCH_SHSTK_STATUS
    SHSTK_ON = 1,          // ARCH_SHSTK_SHSTK
};

#define VSYSCALL_TIME 0xffffffffff600400UL

// Tries BODY where it may fault. Its exit status, or -1 with OUT filled in.
static int attempt(int (*body)(void *), struct tl_probe_result *out, const char *what)
{
    pid_t child = tl_probe_spawn(body, NULL, 0);

    if (child < 0) {
        tl_probe_untested(out, errno, "no process to try it in");
        return -1;
    }
    int status = tl_probe_wait(child, 0);
    if (status >= 0 && WIFEXITED(status))
        return WEXITSTATUS(status);
    tl_probe_died(out, status, what);
    return -1;
}

static int use_fsgsbase(void *argument)
{
    uint64_t before, given = 0x123456789000, after;

    (void)argument;
    // GS: nothing in this process uses it, and FS is libc's.
    __asm__ volatile("rdgsbase %0" : "=r"(before));
    __asm__ volatile("wrgsbase %0" : : "r"(given));
    __asm__ volatile("rdgsbase %0" : "=r"(after));
    __asm__ volatile("wrgsbase %0" : : "r"(before));
    return after == given ? 0 : 1;
}

static void probe_fsgsbase(struct tl_probe_result *out)
{
    int announced = !!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE);
    int failed = attempt(use_fsgsbase, out, "rdgsbase");

    if (failed > 0)
        tl_probe_missing(out, 0, "wrgsbase had no effect");
    else if (!failed && !announced)
        tl_probe_missing(out, 0, "the instructions run, but AT_HWCAP2 does not announce them");
    else if (!failed)
        tl_probe_works(out, "%s", "");
}

static int read_counter(void *argument)
{
    (void)argument;
    return __builtin_ia32_rdtsc() == 0;
}

static void probe_rdtsc(struct tl_probe_result *out)
{
    if (!attempt(read_counter, out, "rdtsc"))
        tl_probe_works(out, "%s", "");
}

static int use_int80(void *argument)
{
    long result = GETPID_I386;

    (void)argument;
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
    return result == getpid() ? 0 : 1;
}

static void probe_int80(struct tl_probe_result *out)
{
    int failed = attempt(use_int80, out, "int 0x80");

    if (failed > 0)
        tl_probe_missing(out, 0, "int 0x80 returned something else than the pid");
    else if (!failed)
        tl_probe_works(out, "%s", "");
}

// A segment whose limit says which thread this is, read by lsl, which 64-bit code may do at any time.
static int use_segment(void *argument)
{
    struct user_desc description = {
        .entry_number = THREAD_SEGMENT, .limit = 0x1234, .seg_32bit = 1, .useable = 1};
    // An i386 call takes addresses of 32 bits.
    void *low = mmap(NULL, sizeof description, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    long result = SET_THREAD_AREA_I386;
    unsigned limit = 0;

    (void)argument;
    if (low == MAP_FAILED)
        return errno;
    memcpy(low, &description, sizeof description);
    __asm__ volatile("int $0x80" : "+a"(result) : "b"(low) : "memory", "r8", "r9", "r10", "r11");
    if (result)
        return (int)-result;
    __asm__ volatile("lsl %1, %0" : "+r"(limit) : "r"(THREAD_SEGMENT << 3 | 3) : "cc");
    return limit == description.limit ? 0 : ERANGE;
}

static void probe_thread_segment(struct tl_probe_result *out)
{
    int failed = attempt(use_segment, out, "set_thread_area by int 0x80");

    if (failed == ERANGE)
        tl_probe_missing(out, 0, "lsl did not find the limit of a segment that was set");
    else if (failed > 0) {
        errno = failed;
        tl_probe_refused(out, "set_thread_area by int 0x80");
    } else if (!failed) {
        tl_probe_works(out, "%s", "");
    }
}

static int use_x32(void *argument)
{
    (void)argument;
    return tl_probe_stub(X32_BIT | __NR_getpid) == getpid() ? 0 : 1;
}

static void probe_x32(struct tl_probe_result *out)
{
    int failed = attempt(use_x32, out, "an x32 call");

    if (failed > 0)
        tl_probe_missing(out, ENOSYS, "%s", "");
    else if (!failed)
        tl_probe_works(out, "%s", "");
}

static int use_vsyscall(void *argument)
{
    time_t (*function)(time_t *) = (time_t (*)(time_t *))VSYSCALL_TIME;
    time_t now = function(NULL), really = time(NULL);

    (void)argument;
    return now - really <= 2 && really - now <= 2 ? 0 : 1;
}

static void probe_vsyscall(struct tl_probe_result *out)
{
    int failed = attempt(use_vsyscall, out, "a call of the vsyscall page");

    if (failed > 0)
        tl_probe_missing(out, 0, "the vsyscall page returned another time");
    else if (!failed)
        tl_probe_works(out, "%s", "");
}

static void probe_shadow_stack(struct tl_probe_result *out)
{
    unsigned long features = 0;

    if (syscall(__NR_arch_prctl, SHSTK_STATUS, &features) || !(features & SHSTK_ON))
        tl_probe_missing(out, 0, "%s", "");
    else
        tl_probe_works(out, "%s", "");
}

const struct tl_probe tl_probes_machine[] = {
    {"fsgsbase", probe_fsgsbase},
    {"thread_segment", probe_thread_segment},
    {"int80", probe_int80},
    {"x32", probe_x32},
    {"vsyscall", probe_vsyscall},
    {"rdtsc", probe_rdtsc},
    {"shadow_stack", probe_shadow_stack},
    {NULL, NULL},
};
