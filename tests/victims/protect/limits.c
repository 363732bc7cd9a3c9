// Lowered limits: address space, stack, data, locked memory, processes, pending signals, open files, core
// files; all memory locked. A child for each, with calls, threads and children in it.

#include <pthread.h>
#include <sys/resource.h>

#include "exact.h"

static volatile int handled;

static void on_signal(int number)
{
    (void)number;
    handled++;
}

static void *thread(void *unused)
{
    static int good;

    for (int i = 0; i < HOT; i++)
        if (call(SYS_getppid) != getppid())
            return unused;
    return &good;
}

static rlim_t used(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (fscanf(file, "%lu", &pages) != 1)
        pages = 0;
    fclose(file);
    return pages * PAGE;
}

static void try(const char *name, int resource, rlim_t soft, bool threads)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        setrlimit(resource, &(struct rlimit){soft, soft});
        for (int i = 0; i < HOT; i++)
            same(call(SYS_getppid), getppid());
        raise(SIGUSR1);
        same(handled, 1);
        pid_t grandchild = fork();
        if (grandchild == 0)
            _exit(call(SYS_getppid) == getppid() ? 51 : 1);
        same(grandchild < 0 ? 51 : ended(grandchild), 51);
        for (int i = 0; threads && i < 20; i++) {
            pthread_t id;
            void *result = NULL;
            pthread_attr_t small;
            pthread_attr_init(&small);
            pthread_attr_setstacksize(&small, 65536);
            if (pthread_create(&id, &small, thread, NULL) == 0 && pthread_join(id, &result) == 0)
                check(result != NULL);
            else
                check(!threads);
        }
        struct rlimit now;
        getrlimit(resource, &now);
        same(now.rlim_cur, soft);
        execl("/proc/self/exe", "limits", "after", NULL);
        _exit(60);
    }
    printf("%s: %d\n", name, ended(child));
}

int main(int argc, char **argv __attribute__((unused)))
{
    signal(SIGUSR1, on_signal);
    if (argc > 1) {
        for (int i = 0; i < HOT; i++)
            same(call(SYS_getppid), getppid());
        return failures != 0;
    }
    // Room for what threads and the C library itself need, and for 20 MB of what else is in the process.
    try("address space", RLIMIT_AS, used() + (96u << 20), true);
    try("data", RLIMIT_DATA, 48 << 20, true);
    try("stack", RLIMIT_STACK, 256 << 10, true);
    try("locked", RLIMIT_MEMLOCK, 0, true);
    try("pending", RLIMIT_SIGPENDING, 0, false);
    try("core", RLIMIT_CORE, 0, true);
    try("file size", RLIMIT_FSIZE, 0, true);
    try("priority", RLIMIT_RTPRIO, 0, true);
    try("no files", RLIMIT_NOFILE, 4, true);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int result = mlockall(MCL_CURRENT | MCL_FUTURE);
        printf("mlockall: %d\n", result);
        fflush(stdout);
        for (int i = 0; i < HOT; i++)
            same(call(SYS_getppid), getppid());
        pthread_t id;
        void *result_of = NULL;
        same(pthread_create(&id, NULL, thread, NULL), 0);
        pthread_join(id, &result_of);
        check(result_of != NULL);
        munlockall();
        _exit(failures != 0);
    }
    same(ended(child), 0);
    return finish();
}
