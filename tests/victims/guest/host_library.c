// What a library of this process does on its own: calls of the kernel, with an instruction of its own and by
// libc.
#include <sys/syscall.h>
#include <unistd.h>

long own_getppid(void)
{
    long result;

    __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_getppid) : "rcx", "r11", "memory");
    return result;
}

long libc_getppid(void)
{
    return syscall(SYS_getppid);
}
