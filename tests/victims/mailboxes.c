// mailboxes PROCESSES THREADS: so many processes, one after the other, make a call that is hooked and end
// without a word; then so many threads make calls while all of them live. Hooks make getppid return 4242.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_barrier_t barrier;
static unsigned unseen;

static void call(void)
{
    if (syscall(SYS_getppid) != 4242)
        __atomic_add_fetch(&unseen, 1, __ATOMIC_RELAXED);
}

static void *body(void *argument)
{
    for (int i = 0; i < 3; i++) {
        call();
        pthread_barrier_wait(&barrier);
    }
    return argument;
}

int main(int argc, char **argv)
{
    int processes = atoi(argv[1]), threads = atoi(argv[argc - 1]);
    pthread_t *all = calloc((size_t)threads, sizeof *all);
    pthread_attr_t attributes;

    for (int i = 0; i < processes; i++) {
        pid_t child = fork();
        if (child == 0) {
            call();
            if (i % 2)
                kill(getpid(), SIGKILL);
            _exit(unseen != 0);
        }
        int status;
        waitpid(child, &status, 0);
        unseen += WIFEXITED(status) && WEXITSTATUS(status);
    }
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 * 1024);
    pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&all[i], &attributes, body, NULL))
            return 1;
    for (int i = 0; i < threads; i++)
        pthread_join(all[i], NULL);
    printf("%u calls went unseen\n", unseen);
    return 0;
}
