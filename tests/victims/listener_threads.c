// The listener's core without Python: worker threads answer what a child's threads ask, delays and stops
// included.
//
//   listener_threads THREADS CALLS      prints "good" when every call was answered once and right
//
// Built with -fsanitize=thread by its test, so it shows the core's data races.

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "listener.h"
#include "notif.h"

static struct tl_listener *listener;
static _Atomic(long) answered;
static int calls;

static void *work(void *unused)
{
    struct tl_call call;

    tl_listener_enter(listener);
    while (tl_listener_next(listener, &call)) {
        // Each seventh is put off once, each eleventh is decided slowly.
        if (call.args[1] % 7 == 0 && call.stage == 0) {
            call.stage = 1;
            if (tl_listener_delay(listener, &call, 1000000) == 0)
                continue;
        }
        if (call.args[1] % 11 == 0)
            usleep(2000);
        if (tl_listener_is_waiting(listener, call.id) &&
            tl_listener_reply(listener, call.id, (long)call.args[1] + 1, 0) == 0)
            answered++;
    }
    tl_listener_leave(listener);
    return unused;
}

static bool start_worker(void *context)
{
    pthread_attr_t detached;
    pthread_t thread;

    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    bool good = pthread_create(&thread, &detached, work, context) == 0;
    pthread_attr_destroy(&detached);
    return good;
}

static void *call_all(void *argument)
{
    for (long i = 0; i < calls; i++)
        if (syscall(SYS_getpriority, argument, i) != i + 1)
            _exit(2);
    return NULL;
}

static void child(int channel, int threads)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpriority, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    pthread_t ids[64];

    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    int fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    union {
        char buffer[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {.align = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec byte = {&fd, 1};
    struct msghdr message = {.msg_iov = &byte,
                             .msg_iovlen = 1,
                             .msg_control = control.buffer,
                             .msg_controllen = sizeof control.buffer};

    *(int *)(void *)CMSG_DATA(&control.align) = fd;
    if (fd < 0 || sendmsg(channel, &message, 0) < 0)
        _exit(3);
    close(fd);
    for (long i = 0; i < threads; i++)
        pthread_create(&ids[i], NULL, call_all, (void *)i);
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    _exit(0);
}

int main(int argc, char **argv)
{
    int pair[2], status, threads = atoi(argv[1]);

    calls = argc > 2 ? atoi(argv[2]) : 100;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        return 1;
    pid_t pid = fork();
    if (pid == 0)
        child(pair[1], threads);
    close(pair[1]);
    char byte;
    union {
        char buffer[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {&byte, 1};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.buffer,
                             .msg_controllen = sizeof control.buffer};
    if (recvmsg(pair[0], &message, 0) <= 0 || !CMSG_FIRSTHDR(&message))
        return 1;
    close(pair[0]);
    struct tl_transport *transport;
    if (tl_notif_new(*(int *)(void *)CMSG_DATA(CMSG_FIRSTHDR(&message)), &transport) ||
        tl_listener_new(transport, 8, start_worker, NULL, &listener))
        return 1;
    if (tl_listener_start(listener))
        return 1;
    waitpid(pid, &status, 0);
    tl_listener_close(listener);
    if (!tl_listener_wait_idle(listener, 20000))
        return 5;
    tl_listener_free(listener);
    if (status || answered != (long)threads * calls) {
        fprintf(stderr, "status %#x, %ld answered\n", (unsigned)status, answered);
        return 4;
    }
    puts("good");
    return 0;
}
