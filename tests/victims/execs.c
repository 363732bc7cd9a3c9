// execs MODE: leaves this program by execve in some way. The next one ("after") says what it finds: whether
// calls are hooked (somebody makes getppid return 4242), and what must survive an execve.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char self[4096];

static void *spin(void *unused)
{
    for (;;)
        syscall(SYS_getuid);
    return unused;
}

static void *sleeper(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static void start(void *(*body)(void *), int count, void *argument)
{
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, body, argument))
            _exit(90);
    }
}

static void leave(const char *what, const char *path)
{
    char *argv[] = {(char *)what, "after", NULL};

    execve(path, argv, environ);
    printf("execve: %s\n", strerror(errno));
    fflush(stdout);
    _exit(91);
}

static void *exec_from_here(void *unused)
{
    leave("thread", self);
    return unused;
}

// While one thread executes, the kernel refuses (EAGAIN) to make others: all are there before the first does.
static void *race(void *barrier)
{
    pthread_barrier_wait(barrier);
    return exec_from_here(NULL);
}

static void on_signal(int number)
{
    (void)number;
}

static int after(const char *name)
{
    sigset_t blocked, pending;
    char comm[64] = "";
    long ppid = syscall(SYS_getppid);
    FILE *file = fopen("/proc/self/comm", "r");

    if (file && fgets(comm, sizeof comm, file))
        comm[strcspn(comm, "\n")] = 0;
    if (file)
        fclose(file);
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    sigpending(&pending);
    printf("%s: %s, %s, usr1 %d %d %d, leader %d\n", name, ppid == 4242 ? "hooked" : "not hooked", comm,
           sigismember(&blocked, SIGUSR1), sigismember(&pending, SIGUSR1),
           signal(SIGUSR1, SIG_DFL) == SIG_IGN, getpid() == (int)syscall(SYS_gettid));
    return 0;
}

static void pending(void)
{
    sigset_t set;

    signal(SIGUSR1, on_signal);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    leave("pending", self);
}

// A sibling process shoots at us all the time while we try; the new program ignores what comes.
static void storm(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    int parent = getpid();

    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
    int child = fork();
    if (child == 0) {
        for (;;)
            if (kill(parent, SIGUSR2) || getppid() == 1)
                _exit(0);
    }
    for (int i = 0; i < 200; i++) {
        char *argv[] = {self, "nothing", NULL};
        if (execve(i & 1 ? "/nonexistent/file" : "/etc/passwd", argv, environ) == 0 ||
            errno != (i & 1 ? ENOENT : EACCES)) {
            printf("execve: %s\n", strerror(errno));
            _exit(92);
        }
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    signal(SIGUSR1, SIG_IGN);
    leave("storm", self);
}

static void failures(void)
{
    static const char *const paths[] = {"/nonexistent",  "/etc/passwd",   "/", "",
                                        "/etc/passwd/x", "/proc/self/mem"};
    char *argv[] = {self, NULL};
    char name[] = "/tmp/execs-XXXXXX";
    char *huge = malloc(4 << 20);

    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        execve(paths[i], argv, environ);
        printf("%s: %s\n", paths[i], strerror(errno));
    }
    int fd = mkstemp(name);
    if (write(fd, "not a program", 13) != 13 || fchmod(fd, 0755))
        exit(93);
    execve(name, argv, environ);
    printf("busy: %s\n", strerror(errno));
    close(fd);
    execve(name, argv, environ);
    printf("format: %s\n", strerror(errno));
    fd = open(name, O_WRONLY | O_TRUNC);
    if (write(fd, "#!/nonexistent/interpreter\n", 27) != 27)
        exit(93);
    close(fd);
    execve(name, argv, environ);
    printf("interpreter: %s\n", strerror(errno));
    unlink(name);
    memset(huge, 'x', (4 << 20) - 1);
    huge[(4 << 20) - 1] = 0;
    argv[0] = huge;
    execve(self, argv, environ);
    printf("long: %s\n", strerror(errno));
    syscall(SYS_execve, self, 8, environ);
    printf("argv: %s\n", strerror(errno));
    syscall(SYS_execve, 8, argv, environ);
    printf("path: %s\n", strerror(errno));
    syscall(SYS_execveat, AT_FDCWD, self, argv, environ, 0x40000);
    printf("flags: %s\n", strerror(errno));
    syscall(SYS_execveat, 77, "x", argv, environ, 0);
    printf("directory: %s\n", strerror(errno));
}

static void *fail_forever(void *unused)
{
    char *argv[] = {"x", NULL};

    for (;;)
        execve("/etc", argv, environ);
    return unused;
}

static int copy_to_memory(void)
{
    int from = open(self, O_RDONLY), to = memfd_create("copy", 0);
    char buffer[65536];
    ssize_t got;

    while ((got = read(from, buffer, sizeof buffer)) > 0)
        if (write(to, buffer, (size_t)got) != got)
            exit(94);
    close(from);
    return to;
}

static void script(void)
{
    char name[] = "/tmp/execs-XXXXXX", text[8192];
    int fd = mkstemp(name);
    int size = snprintf(text, sizeof text, "#!%s after\n", self);

    if (write(fd, text, (size_t)size) != size || fchmod(fd, 0755))
        exit(95);
    close(fd);
    int child = fork();
    if (child == 0) {
        char *argv[] = {"script", NULL};
        execve(name, argv, environ);
        _exit(96);
    }
    waitpid(child, NULL, 0);
    unlink(name);
}

static void spawn(void)
{
    char *argv[] = {"spawned", "after", NULL};
    int status;
    pid_t pid;

    for (int i = 0; i < 3; i++) {
        if (posix_spawn(&pid, self, NULL, NULL, argv, environ))
            exit(97);
        waitpid(pid, &status, 0);
        printf("status %x\n", status);
    }
    printf("failed %s\n", strerror(posix_spawn(&pid, "/nonexistent", NULL, NULL, argv, environ)));
}

static void *spawner(void *unused)
{
    char *argv[] = {"true", "nothing", NULL};

    for (int i = 0; i < 25; i++) {
        pid_t pid;
        int status = 1;
        if (posix_spawn(&pid, self, NULL, NULL, argv, environ) || waitpid(pid, &status, 0) != pid ||
            status != 0) {
            printf("spawning: %x\n", status);
            exit(98);
        }
    }
    return unused;
}

// The crowd's survivors, if any, would print or crash.
int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    char *then[] = {"execs", "after", NULL};
    pthread_t threads[8];

    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        return 99;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(mode, "after")) {
        return after(argv[0]);
    } else if (!strcmp(mode, "nothing")) {
        return 0;
    } else if (!strcmp(mode, "thread")) {
        start(exec_from_here, 1, NULL);
        pause();
    } else if (!strcmp(mode, "crowd")) {
        start(spin, 4, NULL);
        start(sleeper, 4, NULL);
        leave("crowd", self);
    } else if (!strcmp(mode, "thread-crowd")) {
        start(spin, 4, NULL);
        start(sleeper, 4, NULL);
        start(exec_from_here, 1, NULL);
        spin(NULL);
    } else if (!strcmp(mode, "race")) {
        pthread_barrier_t barrier;
        pthread_barrier_init(&barrier, NULL, 5);
        start(race, 4, &barrier);
        race(&barrier);
    } else if (!strcmp(mode, "failing-crowd")) {
        start(fail_forever, 3, NULL);
        usleep(3000);
        leave("failing-crowd", self);
    } else if (!strcmp(mode, "pending")) {
        pending();
    } else if (!strcmp(mode, "storm")) {
        storm();
    } else if (!strcmp(mode, "failures")) {
        failures();
    } else if (!strcmp(mode, "script")) {
        script();
    } else if (!strcmp(mode, "fexecve")) {
        fexecve(open(self, O_RDONLY | O_CLOEXEC), then, environ);
    } else if (!strcmp(mode, "memfd")) {
        fexecve(copy_to_memory(), then, environ);
    } else if (!strcmp(mode, "execveat")) {
        char *slash = strrchr(self, '/');
        *slash = 0;
        syscall(SYS_execveat, open(self, O_PATH), slash + 1, then, environ, AT_SYMLINK_NOFOLLOW);
    } else if (!strcmp(mode, "spawn")) {
        spawn();
    } else if (!strcmp(mode, "spawners")) {
        for (int i = 0; i < 8; i++)
            pthread_create(&threads[i], NULL, spawner, NULL);
        for (int i = 0; i < 8; i++)
            pthread_join(threads[i], NULL);
        puts("spawners: done");
    } else if (!strcmp(mode, "files")) {
        // Fewer descriptors than what trapline's own are numbered.
        struct rlimit limit = {atoi(argv[2]), atoi(argv[2])};
        if (setrlimit(RLIMIT_NOFILE, &limit))
            return 99;
        leave("files", self);
    } else if (!strcmp(mode, "memory")) {
        struct rlimit limit = {strtoul(argv[2], NULL, 0) << 20, strtoul(argv[2], NULL, 0) << 20};
        if (setrlimit(RLIMIT_AS, &limit))
            return 99;
        leave("memory", self);
    } else if (!strcmp(mode, "closed")) {
        // What daemons do first of all.
        for (int fd = 3; fd < 65536; fd++)
            close(fd);
        close_range(3, ~0U, 0);
        leave("closed", self);
    } else if (!strcmp(mode, "chain")) {
        int left = atoi(argv[2]);
        char number[16];
        if (!left)
            leave("chain", self);
        snprintf(number, sizeof number, "%d", left - 1);
        execl(self, "execs", "chain", number, NULL);
    } else {
        return 99;
    }
    return 0;
}
