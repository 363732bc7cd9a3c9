// Makes system calls from chosen addresses under a filter and prints what each returned.
//
//   bpf_caller FILTER < CALLS
//
// FILTER is an array of struct sock_filter. A line of CALLS is "KIND ADDRESS NR A0 A1 A2 A3 A4 A5" in hex,
// KIND "s" for `syscall` or "i" for `int $0x80`; the instruction is put at ADDRESS, so the kernel sees
// ADDRESS + 2.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

struct call {
    char kind;
    uint64_t address;
    uint64_t nr;
    uint64_t args[6];
    long result;
};

static const unsigned char fast[] = {0x0f, 0x05, 0xc3}, old[] = {0xcd, 0x80, 0xc3};

static void fail(const char *what)
{
    perror(what);
    exit(99);
}

static void map_pages(const struct call *call)
{
    uint64_t page = call->address & ~(uint64_t)4095;
    for (; page < call->address + sizeof fast; page += 4096) {
        void *got = mmap((void *)(uintptr_t)page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (got == MAP_FAILED && errno != EEXIST)
            fail("mmap");
    }
}

static void place(const struct call *call)
{
    memcpy((void *)(uintptr_t)call->address, call->kind == 's' ? fast : old, sizeof fast);
}

#ifdef __x86_64__
static long make(const struct call *call)
{
    long result = (long)call->nr;
    if (call->kind == 's') {
        register uint64_t a3 __asm__("r10") = call->args[3];
        register uint64_t a4 __asm__("r8") = call->args[4];
        register uint64_t a5 __asm__("r9") = call->args[5];
        register uint64_t code __asm__("r12") = call->address;
        __asm__ volatile("call *%[code]"
                         : "+a"(result)
                         : [code] "r"(code), "D"(call->args[0]), "S"(call->args[1]), "d"(call->args[2]),
                           "r"(a3), "r"(a4), "r"(a5)
                         : "rcx", "r11", "memory", "cc");
    } else {
        register uint64_t code __asm__("r12") = call->address;
        register uint64_t a5 __asm__("r13") = call->args[5];
        __asm__ volatile("push %%rbp\n\tmov %[a5], %%rbp\n\tcall *%[code]\n\tpop %%rbp"
                         : "+a"(result)
                         : [code] "r"(code), [a5] "r"(a5), "b"(call->args[0]), "c"(call->args[1]),
                           "d"(call->args[2]), "S"(call->args[3]), "D"(call->args[4])
                         : "r8", "r9", "r10", "r11", "memory", "cc");
        result = (int)result;
    }
    return result;
}
#else
uint32_t now[8]; // number, six arguments, address

static long make(const struct call *call)
{
    now[0] = (uint32_t)call->nr;
    for (int i = 0; i < 6; i++)
        now[1 + i] = (uint32_t)call->args[i];
    now[7] = (uint32_t)call->address;
    long result;
    __asm__ volatile("push %%ebp\n\tpush %%ebx\n\tpush %%esi\n\tpush %%edi\n\t"
                     "mov now, %%eax\n\tmov now+4, %%ebx\n\tmov now+8, %%ecx\n\tmov now+12, %%edx\n\t"
                     "mov now+16, %%esi\n\tmov now+20, %%edi\n\tmov now+24, %%ebp\n\tcall *now+28\n\t"
                     "pop %%edi\n\tpop %%esi\n\tpop %%ebx\n\tpop %%ebp"
                     : "=&a"(result)
                     :
                     : "ecx", "edx", "memory", "cc");
    return result;
}
#endif

static void install(const char *path)
{
    static struct sock_filter filter[BPF_MAXINSNS];
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        fail("open");
    ssize_t size = read(fd, filter, sizeof filter);
    close(fd);
    struct sock_fprog program = {.len = (unsigned short)((size_t)size / sizeof filter[0]), .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        fail("PR_SET_SECCOMP");
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 98;
    size_t count = 0, room = 0;
    struct call *calls = NULL, call = {0};
    unsigned long long n[8];
    while (scanf(" %c %llx %llx %llx %llx %llx %llx %llx %llx", &call.kind, &n[0], &n[1], &n[2], &n[3], &n[4],
                 &n[5], &n[6], &n[7]) == 9) {
        call.address = n[0];
        call.nr = n[1];
        for (int i = 0; i < 6; i++)
            call.args[i] = n[2 + i];
        if (count == room) {
            room = room ? 2 * room : 64;
            calls = realloc(calls, room * sizeof *calls);
            if (!calls)
                return 97;
        }
        calls[count++] = call;
    }
    for (size_t i = 0; i < count; i++)
        map_pages(&calls[i]);
    install(argv[1]);
    for (size_t i = 0; i < count; i++) {
        place(&calls[i]);
        calls[i].result = make(&calls[i]);
    }
    for (size_t i = 0; i < count; i++)
        printf("%ld\n", calls[i].result);
    return 0;
}
