// The program's own filter judges by the instruction pointer, by numbers and by arguments: hot calls are what
// they were, wherever trapline makes them.

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>

#include "exact.h"

long one(long number);
long two(long number);
extern unsigned char one_behind[], two_behind[];
__asm__(".text\n.balign 4096\none:\n mov %rdi, %rax\n syscall\none_behind: nop\n nop\n nop\n ret\n"
        "two:\n mov %rdi, %rax\n syscall\ntwo_behind: nop\n nop\n nop\n ret\n");

#define ONLY(condition, number, action)                                                                      \
    {                                                                                                        \
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, condition),                                                       \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 1, 0),                                                   \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),                                                        \
        BPF_STMT(BPF_RET | BPF_K, action),                                                                   \
    }

static void install(struct sock_filter *code, unsigned short length)
{
    struct sock_fprog program = {length, code};

    same(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    same(call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program), 0);
}

static void *thread(void *unused)
{
    for (int i = 0; i < HOT; i++) {
        same(one(SYS_getpgrp), -77);
        same(two(SYS_getpgrp), -88);
        same(one(SYS_getppid), getppid());
    }
    return unused;
}

static void by_pointer(void)
{
    unsigned long at = (unsigned long)one_behind;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgrp, 0, 6),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)at, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(at >> 32), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 88),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    pthread_t id;

    for (int i = 0; i < HOT; i++)
        same(one(SYS_getpgrp), two(SYS_getpgrp));
    install(code, sizeof code / sizeof *code);
    thread(NULL);
    pthread_create(&id, NULL, thread, NULL);
    pthread_join(id, NULL);
    pid_t child = fork();
    if (child == 0) {
        thread(NULL);
        _exit(failures != 0);
    }
    same(ended(child), 0);
}

static void by_number(void)
{
    struct sock_filter error[] = ONLY(offsetof(struct seccomp_data, nr), SYS_getuid, SECCOMP_RET_ERRNO | 13);
    struct sock_filter arg[] =
        ONLY(offsetof(struct seccomp_data, args[0]), 0x7fff7777, SECCOMP_RET_ERRNO | 14);
    struct sock_filter kill_it[] =
        ONLY(offsetof(struct seccomp_data, nr), SYS_getgid, SECCOMP_RET_KILL_PROCESS);
    struct sock_filter thread_only[] =
        ONLY(offsetof(struct seccomp_data, nr), SYS_getegid, SECCOMP_RET_KILL_THREAD);

    install(error, 4);
    install(arg, 4);
    for (int i = 0; i < HOT; i++) {
        same(two(SYS_getuid), -13);
        same(call(SYS_getppid, 0x7fff7777), -14);
        same(call(SYS_close, 0x7fff7777), -14);
        same(call(SYS_close, 0x7fff7778), -EBADF);
        // A number that no table has is judged, too.
        same(call(900, 0x7fff7777), -14);
        same(call(900, 0), -ENOSYS);
    }
    install(kill_it, 4);
    install(thread_only, 4);
    for (int kind = 0; kind < 2; kind++) {
        pid_t child = fork();
        if (child == 0) {
            for (int i = 0; i < 2 * HOT; i++)
                two(i == HOT ? kind ? SYS_getgid : SYS_getegid : SYS_getppid);
            _exit(1);
        }
        same(ended(child), -SIGSYS);
    }
}

int main(void)
{
    for (int i = 0; i < HOT; i++)
        same(two(SYS_getppid), getppid());
    same(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
    by_pointer();
    by_number();
    same(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
    return finish();
}
