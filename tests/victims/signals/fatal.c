// How processes end: by each signal's default action, by faults with a handler that cannot run, on exhausted
// stacks, by limits, by their own exit. Prints all statuses.

#include <fcntl.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "exact.h"

static stack_t alternate;
static int fds[2];

static int status_of(void (*function)(int), int argument)
{
    int status;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        for (int i = 0; i < HOT; i++)
            call(SYS_getppid);
        function(argument);
        _exit(99);
    }
    if (waitpid(child, &status, WUNTRACED) < 0)
        return -1;
    if (WIFSTOPPED(status)) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    return status & ~0x80; // a core or none is the machine's business
}

static void by_kill(int number)
{
    kill(getpid(), number);
}

static void by_tgkill(int number)
{
    call(SYS_tgkill, getpid(), call(SYS_gettid), number);
}

static void *in_thread(void *number)
{
    call(SYS_tgkill, getpid(), call(SYS_gettid), number);
    return NULL;
}

static void from_thread(int number)
{
    pthread_t id;

    pthread_create(&id, NULL, in_thread, (void *)(long)number);
    for (;;)
        pause();
}

static void while_blocked(int number)
{
    sigset_t set;

    signal(number, by_kill);
    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (number == SIGILL)
        __asm__ volatile("ud2");
    else if (number == SIGTRAP)
        __asm__ volatile("int3");
    else if (number == SIGFPE)
        __asm__ volatile("xor %%ecx, %%ecx\n xor %%edx, %%edx\n div %%ecx" ::: "rax", "rcx", "rdx");
    else
        *(volatile int *)8 = 1;
}

static void ignored(int number)
{
    signal(number, SIG_IGN);
    if (number == SIGSEGV)
        *(volatile int *)8 = 1;
    raise(number);
    _exit(17);
}

__attribute__((noinline)) static int deep(int depth)
{
    volatile char room[1024];

    room[0] = (char)depth;
    if (depth % 16 == 0)
        call(SYS_getppid);
    return deep(depth + 1) + room[0];
}

static void says(int number)
{
    _exit(number == SIGSEGV ? 23 : 24);
}

static void stack_overflow(int with)
{
    struct sigaction action = {.sa_handler = says, .sa_flags = with == 2 ? SA_ONSTACK : 0};

    setrlimit(RLIMIT_STACK, &(struct rlimit){1 << 20, 1 << 20});
    if (with)
        sigaction(SIGSEGV, &action, NULL);
    if (with == 2)
        sigaltstack(&alternate, NULL);
    deep(1);
}

static void too_much_time(int unused)
{
    (void)unused;
    setrlimit(RLIMIT_CPU, &(struct rlimit){1, 2});
    for (;;)
        call(SYS_getppid);
}

static void too_big(int unused)
{
    (void)unused;
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){10, 10});
    int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    if (pwrite(fd, "x", 1, 100) < 0)
        _exit(5);
}

static void closed_pipe(int unused)
{
    (void)unused;
    close(fds[0]);
    if (write(fds[1], "x", 1) < 0)
        _exit(6);
}

static void bad_return(int unused)
{
    (void)unused;
    // A handler whose stack is gone.
    struct sigaction action = {.sa_handler = says};
    sigaction(SIGUSR1, &action, NULL);
    __asm__ volatile(
        "mov $8, %%rsp\n mov $39, %%eax\n syscall\n mov %%eax, %%edi\n mov $10, %%esi\n mov $62, %%eax\n"
        "syscall\n ud2" ::
            : "memory");
}

static void exits(int kind)
{
    if (kind == 0)
        exit(300);
    if (kind == 1)
        call(SYS_exit, 0x1234);
    if (kind == 2)
        call(SYS_exit_group, -1);
    if (kind == 3)
        abort();
    __builtin_trap();
}

int main(void)
{
    alternate.ss_sp = malloc(alternate.ss_size = 65536);
    if (pipe(fds))
        return 1;
    for (int number = 1; number <= 64; number++)
        printf("%d: %x %x\n", number, status_of(by_kill, number), status_of(by_tgkill, number));
    for (int i = 0; i < 6; i++) {
        int number = (int[]){SIGQUIT, SIGKILL, SIGSEGV, SIGTERM, SIGSYS, 40}[i];
        printf("thread %d: %x\n", number, status_of(from_thread, number));
    }
    for (int i = 0; i < 4; i++)
        printf("blocked: %x\n", status_of(while_blocked, (int[]){SIGSEGV, SIGILL, SIGTRAP, SIGFPE}[i]));
    for (int i = 0; i < 4; i++)
        printf("ignored: %x\n", status_of(ignored, (int[]){SIGSEGV, SIGSYS, SIGTERM, SIGCHLD}[i]));
    for (int with = 0; with < 3; with++)
        printf("stack: %x\n", status_of(stack_overflow, with));
    printf("time: %x\nfile: %x\npipe: %x\n", status_of(too_much_time, 0), status_of(too_big, 0),
           status_of(closed_pipe, 0));
    printf("no stack: %x\n", status_of(bad_return, 0));
    for (int kind = 0; kind < 5; kind++)
        printf("exit: %x\n", status_of(exits, kind));
    return finish();
}
