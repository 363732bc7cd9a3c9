// Address space: the arena, code that changes under running threads, sealed files.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "probe_child.h"

// Newer than the headers that we may be built with.
enum {
    EXPEDITED_SYNC_CORE = 1 << 5,          // MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE
    REGISTER_EXPEDITED_SYNC_CORE = 1 << 6, // MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE
};

#define GIB        (1UL << 30)
#define EXECUTABLE 0x0010U // MFD_EXEC

static void probe_arena(struct tl_probe_result *out)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    unsigned long size = 1024 * GIB;
    int code = 0;

    getrlimit(RLIMIT_AS, &limit);
    for (; size >= GIB; size /= 2) {
        void *memory = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory != MAP_FAILED)
            break;
        code = errno;
    }
    if (size == 1024 * GIB)
        tl_probe_works(out, "1024 GiB");
    else if (limit.rlim_cur != RLIM_INFINITY)
        tl_probe_missing(out, code, "at most %lu GiB in one piece; RLIMIT_AS is %llu MiB", size / GIB,
                         (unsigned long long)limit.rlim_cur >> 20);
    else
        tl_probe_missing(out, code, "at most %lu GiB in one piece", size / GIB);
}

static void probe_sync_core(struct tl_probe_result *out)
{
    if (syscall(__NR_membarrier, REGISTER_EXPEDITED_SYNC_CORE, 0, 0))
        tl_probe_refused(out, "membarrier(REGISTER_PRIVATE_EXPEDITED_SYNC_CORE)");
    else if (syscall(__NR_membarrier, EXPEDITED_SYNC_CORE, 0, 0))
        tl_probe_refused(out, "membarrier(PRIVATE_EXPEDITED_SYNC_CORE)");
    else
        tl_probe_works(out, "%s", "");
}

static void probe_memfd(struct tl_probe_result *out)
{
    int fd = (int)syscall(__NR_memfd_create, "trapline", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        tl_probe_refused(out, "memfd_create");
    else if (write(fd, "x", 1) != 1)
        tl_probe_refused(out, "write to a memfd");
    else if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
        tl_probe_refused(out, "fcntl(F_ADD_SEALS)");
    else if (write(fd, "x", 1) != -1 || errno != EPERM)
        tl_probe_missing(out, 0, "a sealed file could be written");
    else
        tl_probe_works(out, "%s", "");
}

// Code in a file without a name, mapped and run: vm.memfd_noexec and security modules refuse it.
static void probe_memfd_exec(struct tl_probe_result *out)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE),
           size = (size_t)((uintptr_t)tl_probe_stub_end - (uintptr_t)tl_probe_stub);
    int fd = (int)syscall(__NR_memfd_create, "trapline", MFD_CLOEXEC | EXECUTABLE);

    if (fd < 0 && errno == EINVAL) // before that flag all are
        fd = (int)syscall(__NR_memfd_create, "trapline", MFD_CLOEXEC);
    if (fd < 0) {
        tl_probe_refused(out, "memfd_create");
        return;
    }
    if (write(fd, (const void *)(uintptr_t)tl_probe_stub, size) != (ssize_t)size) {
        tl_probe_refused(out, "write to a memfd");
        return;
    }
    void *memory = mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    if (memory == MAP_FAILED) {
        tl_probe_refused(out, "mmap of a memfd as code");
        return;
    }
    long (*stub)(long) = (long (*)(long))(uintptr_t)memory;
    if (stub(__NR_getpid) != getpid())
        tl_probe_missing(out, 0, "code in a memfd did not run");
    else
        tl_probe_works(out, "%s", "");
}

// Code of a mapped file is made writable, changed, and made executable again: SELinux's execmod, PaX and the
// like.
static void probe_patching(struct tl_probe_result *out)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *start = (char *)((uintptr_t)tl_probe_stub & ~(page - 1));
    size_t size = (size_t)(tl_probe_stub_end - start);
    volatile char *code = (volatile char *)(uintptr_t)tl_probe_stub;

    // Executable all the while: this very function may lie in the same page.
    if (mprotect(start, size, PROT_READ | PROT_WRITE | PROT_EXEC)) {
        tl_probe_refused(out, "mprotect of code to writable and executable");
        return;
    }
    *code = *code;
    if (mprotect(start, size, PROT_READ | PROT_EXEC))
        tl_probe_refused(out, "mprotect of changed code to executable");
    else if (tl_probe_stub(__NR_getpid) != getpid())
        tl_probe_missing(out, 0, "changed code did not run");
    else
        tl_probe_works(out, "%s", "");
}

static void probe_page_zero(struct tl_probe_result *out)
{
    char minimum[32] = "unknown";
    void *memory =
        mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    int code = errno;

    if (tl_probe_read_file("/proc/sys/vm/mmap_min_addr", minimum, sizeof minimum) > 0)
        minimum[strcspn(minimum, "\n")] = '\0';
    if (memory != MAP_FAILED)
        tl_probe_works(out, "vm.mmap_min_addr is %s", minimum);
    else
        tl_probe_missing(out, code, "vm.mmap_min_addr is %s", minimum);
}

const struct tl_probe tl_probes_memory[] = {
    {"arena", probe_arena},
    {"membarrier_sync_core", probe_sync_core},
    {"code_patching", probe_patching},
    {"memfd_exec", probe_memfd_exec},
    {"memfd_sealing", probe_memfd},
    {"map_page_zero", probe_page_zero},
    {NULL, NULL},
};
