// Makes calls that rules are about, NR by number, and says what came of them. 7777 is what rules give.
//
// hits NR N         which of N calls returned 7777, counted from 1
// many NR T P N     T threads in each of P forked processes make N calls each; how many returned 7777
// times NR N        for each call its result and how long it took, in nanoseconds
// alarm NR          a call during which a handled signal comes: result, handlers run, calls in the handler
//                   that returned 7777, nanoseconds
// storm NR N        N calls while a signal is handled every millisecond; how many returned 7777
// restart           a read that signals interrupt and that is restarted: result, and 1 if they came
// jump NR           a call that a handler leaves by siglongjmp, and the same once more: handlers run, result
//                   and nanoseconds of the second one
// pipe              a write: result, 1 if its reader had the byte before it returned, nanoseconds
// filtered NR       a call under a filter of its own that traps what a delay is made with
// traced NR         a call of a child (of write: to a pipe) that is traced while it sleeps: 1 when the call
//                   gave what it gives natively, and how many bytes are in the pipe
// loop NR N         nanoseconds of N calls

#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { mark = 7777 };

static long number, count;
static volatile sig_atomic_t handled, marked, wanted;
static sigjmp_buf escape;
static int ends[2];
static volatile int arrived;

static long now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

static long call(void)
{
    long result = syscall(number, 0, 0, 0);

    return result == -1 ? -errno : result;
}

static void hits(void)
{
    for (long i = 1; i <= count; i++)
        if (call() == mark)
            printf("%ld ", i);
    puts("");
}

static void *make_calls(void *hit)
{
    for (long i = 0; i < count; i++)
        *(long *)hit += call() == mark;
    return NULL;
}

static long in_threads(int threads)
{
    pthread_t thread[64];
    long hit[64] = {0}, total = 0;

    for (int i = 0; i < threads; i++)
        pthread_create(&thread[i], NULL, make_calls, &hit[i]);
    for (int i = 0; i < threads; i++) {
        pthread_join(thread[i], NULL);
        total += hit[i];
    }
    return total;
}

static void many(int threads, int processes)
{
    long total = 0, one;

    if (pipe(ends))
        exit(99);
    for (int i = 0; i < processes; i++) {
        if (fork() == 0) {
            one = in_threads(threads);
            _exit(write(ends[1], &one, sizeof one) != sizeof one);
        }
    }
    for (int i = 0; i < processes; i++) {
        if (read(ends[0], &one, sizeof one) != sizeof one)
            exit(99);
        total += one;
        wait(NULL);
    }
    printf("%ld\n", total);
}

static void times(void)
{
    for (long i = 0; i < count; i++) {
        long began = now(), result = call();
        printf("%ld %ld\n", result, now() - began);
    }
}

static void on_signal(int signo)
{
    (void)signo;
    handled++;
    marked += call() == mark;
}

static void on_signal_count(int signo)
{
    (void)signo;
    if (++handled == wanted && write(ends[1], "x", 1) != 1)
        abort();
}

static void on_signal_escape(int signo)
{
    (void)signo;
    handled++;
    siglongjmp(escape, 1);
}

static void handle(void (*handler)(int), long first_us, long every_us)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct itimerval timer = {{0, every_us}, {0, first_us}};

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
}

static void during_alarm(void)
{
    long began = now();

    handle(on_signal, 100000, 0);
    long result = call(), ended = now();
    while (!handled)
        pause();
    printf("%ld %d %d %ld\n", result, (int)handled, (int)marked, ended - began);
}

static void storm(void)
{
    long hit = 0;

    handle(on_signal_count, 1000, 1000);
    for (long i = 0; i < count; i++)
        hit += call() == mark;
    handle(on_signal_count, 0, 0);
    printf("%ld\n", hit);
}

static void restart(void)
{
    char byte;

    if (pipe(ends))
        exit(99);
    wanted = 20;
    handle(on_signal_count, 1000, 1000);
    long result = syscall(SYS_read, ends[0], &byte, 1);
    handle(on_signal_count, 0, 0);
    printf("%ld %d\n", result, handled >= wanted);
}

static void jump(void)
{
    volatile long result = 0, began = 0, ended = 0;

    handle(on_signal_escape, 100000, 0);
    // The same call, from the same place on the stack: but another one.
    for (volatile int i = 0; i < 2; i++) {
        if (sigsetjmp(escape, 1) == 0) {
            began = now();
            result = syscall(number, 0, 0, 0);
            ended = now();
            while (!handled)
                pause();
        }
    }
    printf("%d %ld %ld\n", (int)handled, (long)result, (long)(ended - began));
}

static void *reader(void *unused)
{
    char byte;

    (void)unused;
    arrived = syscall(SYS_read, ends[0], &byte, 1) == 1;
    return NULL;
}

static void through_pipe(void)
{
    pthread_t thread;

    if (pipe(ends))
        exit(99);
    pthread_create(&thread, NULL, reader, NULL);
    long began = now(), result = syscall(SYS_write, ends[1], "x", 1), ended = now();
    printf("%ld %d %ld\n", result, arrived, ended - began);
    pthread_join(thread, NULL);
}

static void filtered(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_nanosleep, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_gettime, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        exit(99);
    printf("%ld\n", call());
}

// Until a process sleeps, as only a rule has it do.
static void wait_for_sleep(pid_t pid)
{
    char path[64], text[64] = "";

    snprintf(path, sizeof path, "/proc/%d/syscall", pid);
    while (atoi(text) != SYS_clock_nanosleep) {
        FILE *file = fopen(path, "r");
        if (!file || !fgets(text, sizeof text, file))
            exit(99);
        fclose(file);
    }
}

static void traced(void)
{
    int status, left = 0, gate[2];
    char byte;

    if (pipe(ends) || pipe(gate))
        exit(99);
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        close(gate[1]);
        bool is_native = number == SYS_write ? syscall(number, ends[1], "xy", 2) == 2 : call() == parent;
        _exit(read(gate[0], &byte, 1) == 0 && is_native);
    }
    wait_for_sleep(child);
    if (ptrace(PTRACE_SEIZE, child, 0, 0) || ptrace(PTRACE_INTERRUPT, child, 0, 0) ||
        waitpid(child, &status, 0) != child || ptrace(PTRACE_DETACH, child, 0, 0))
        exit(98);
    close(gate[1]);
    waitpid(child, &status, 0);
    ioctl(ends[0], FIONREAD, &left);
    printf("%d %d\n", WEXITSTATUS(status), left);
}

static void loop(void)
{
    long began = now();

    for (long i = 0; i < count; i++)
        syscall(number, 0, 0, 0);
    printf("%ld\n", now() - began);
}

int main(int argc, char **argv)
{
    const char *what = argv[1];

    number = argc > 2 ? atol(argv[2]) : 0;
    count = argc > 3 ? atol(argv[argc - 1]) : 0;
    if (strcmp(what, "hits") == 0)
        hits();
    else if (strcmp(what, "many") == 0)
        many(atoi(argv[3]), atoi(argv[4]));
    else if (strcmp(what, "times") == 0)
        times();
    else if (strcmp(what, "alarm") == 0)
        during_alarm();
    else if (strcmp(what, "storm") == 0)
        storm();
    else if (strcmp(what, "restart") == 0)
        restart();
    else if (strcmp(what, "jump") == 0)
        jump();
    else if (strcmp(what, "pipe") == 0)
        through_pipe();
    else if (strcmp(what, "filtered") == 0)
        filtered();
    else if (strcmp(what, "traced") == 0)
        traced();
    else if (strcmp(what, "loop") == 0)
        loop();
    else
        return 99;
    return 0;
}
