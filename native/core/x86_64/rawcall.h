// A system call without libc: no errno, so it is safe in a task that shares this thread's TLS.
#ifndef TL_RAWCALL_H
#define TL_RAWCALL_H

static inline long tl_rawcall(long nr, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static inline void tl_cpu_relax(void)
{
    __asm__ volatile("pause" ::: "memory");
}

#endif
