// Forks from everywhere: from threads while others call, in handlers, on alternate stacks, with unshared
// tables; a child that returns from the handler it was forked in; orphans; CLONE_PARENT.

#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>

#include "exact.h"

static volatile bool go_on = true;
static volatile pid_t from_handler;
static volatile int handled;
static _Atomic long children, wrong;
static unsigned char stack[65536];

static void *busy(void *unused)
{
    while (go_on)
        wrong += call(SYS_getppid) != getppid();
    return unused;
}

static void *forks(void *unused)
{
    for (int i = 0; i < 25; i++) {
        pid_t self = getpid(), child = fork();
        if (child == 0) {
            for (int j = 0; j < 20; j++)
                if (call(SYS_getppid) != self)
                    _exit(1);
            pid_t grandchild = fork();
            if (grandchild == 0)
                _exit(call(SYS_getppid) == getppid() ? 12 : 1);
            _exit(ended(grandchild));
        }
        if (ended(child) == 12)
            children++;
    }
    return unused;
}

static void on_signal(int number)
{
    (void)number;
    handled++;
    from_handler = fork();
    same(call(SYS_getpid), getpid());
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack}, now;
    pthread_t ids[6];

    for (int i = 0; i < 6; i++)
        pthread_create(&ids[i], NULL, i < 2 ? busy : forks, NULL);
    for (int i = 2; i < 6; i++)
        pthread_join(ids[i], NULL);
    go_on = false;
    pthread_join(ids[0], NULL);
    pthread_join(ids[1], NULL);
    same(children, 100);
    same(wrong, 0);

    sigaltstack(&alternate, NULL);
    sigaction(SIGUSR1, &action, NULL);
    for (int round = 0; round < 20; round++) {
        pid_t parent = getpid();
        raise(SIGUSR1);
        if (from_handler == 0) { // out of the handler in the child as in the parent
            same(getppid(), parent);
            sigaltstack(NULL, &now);
            same(now.ss_sp, stack);
            same(now.ss_flags, 0);
            raise(SIGUSR1);
            if (from_handler == 0)
                _exit(failures ? 1 : 14);
            same(ended(from_handler), 14);
            _exit(failures ? 1 : 15);
        }
        same(ended(from_handler), 15);
    }
    for (int round = 0; round < 20; round++) {
        pid_t parent = getpid(), child = fork();
        if (child == 0) {
            // A brother, not a son.
            long brother = call(SYS_clone, CLONE_PARENT | SIGCHLD);
            if (brother == 0)
                call(SYS_exit_group, call(SYS_getppid) == parent ? 16 : 17);
            same(unshare(CLONE_FILES | CLONE_FS | CLONE_SYSVSEM), 0);
            close(1);
            same(call(SYS_getppid), parent);
            _exit(failures ? 1 : 18);
        }
        int status, sum = 0;
        for (int i = 0; i < 2; i++)
            if (wait(&status) > 0)
                sum += WEXITSTATUS(status);
        same(sum, 16 + 18);
        check(write(1, "", 0) == 0);
    }
    // Descriptors shared between processes that share nothing else.
    for (int round = 0; round < 20; round++) {
        int fd = dup(1);
        long child = call(SYS_clone, CLONE_FILES | SIGCHLD);
        if (child == 0) {
            for (int i = 0; i < 20; i++)
                call(SYS_getppid);
            call(SYS_close, fd);
            call(SYS_exit_group, 19);
        }
        same(ended((pid_t)child), 19);
        same(close(fd), -1);
        same(call(SYS_getppid), getppid());
    }
    // Orphans go on.
    int fds[2];
    char byte;
    check(pipe(fds) == 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t child = fork();
    if (child == 0) {
        if (fork() == 0) {
            while (getppid() == (pid_t)call(SYS_getppid) && write(fds[1], "", 0) == 0 &&
                   read(fds[0], &byte, 1) != 1)
                ;
            for (int i = 0; i < HOT; i++)
                call(SYS_getppid);
            _exit(21);
        }
        _exit(20);
    }
    same(ended(child), 20);
    same(write(fds[1], "x", 1), 1);
    int status;
    check(wait(&status) > 0);
    same(WEXITSTATUS(status), 21);
    return finish();
}
