// A shared library is loaded, its calls are used until they are hot, it is unloaded, and other code takes its
// addresses: a second C library, in a namespace of its own.

#include <dlfcn.h>
#include <link.h>

#include "exact.h"

int main(void)
{
    for (int round = 0; round < 40; round++) {
        void *handle = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW);
        if (!handle) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
        pid_t (*parent)(void) = (pid_t (*)(void))dlsym(handle, "getppid");
        int (*closes)(int) = (int (*)(int))dlsym(handle, "close");
        long (*any)(long, ...) = (long (*)(long, ...))dlsym(handle, "syscall");
        for (int i = 0; i < HOT; i++) {
            same(parent(), getppid());
            same(closes(-1), -1);
            same(any(SYS_getpid), getpid());
            same(any(SYS_getppid), getppid());
        }
        Dl_info info;
        dladdr((void *)parent, &info);
        void *base = info.dli_fbase;
        dlclose(handle);
        // Where it was there is other code now.
        unsigned char *other = mmap(base, 64 * PAGE, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (round % 2 && other == base) {
            for (int at = 0; at < 64 * PAGE; at += 16)
                memcpy(other + at, "\xb8\x6e\0\0\0\x90\x0f\x05\xc3", 9);
            mprotect(other, 64 * PAGE, PROT_READ | PROT_EXEC);
            for (int at = 0; at < 64 * PAGE; at += 112)
                for (int i = 0; i < 3; i++)
                    same(((long (*)(void))(void *)(other + at))(), getppid());
        }
        if (other != MAP_FAILED)
            munmap(other, 64 * PAGE);
    }
    return finish();
}
