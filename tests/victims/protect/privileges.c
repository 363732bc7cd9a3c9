// build: -static
// Programs that give up what they have: another root, other namespaces, another user, daemons that detach
// from all. Calls, threads, children and execs go on there. As root more of it is possible.

#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "exact.h"

static void *thread(void *unused)
{
    static int good;

    for (int i = 0; i < HOT; i++)
        if (call(SYS_getppid) != getppid())
            return unused;
    return &good;
}

static void go_on(void)
{
    pthread_t id;
    void *result = NULL;

    for (int i = 0; i < HOT; i++)
        same(call(SYS_getppid), getppid());
    same(pthread_create(&id, NULL, thread, NULL), 0);
    pthread_join(id, &result);
    check(result != NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(call(SYS_close, -1) == -EBADF ? 9 : 1);
    same(ended(child), 9);
}

static void exec_again(int fd)
{
    char *argv[] = {"privileges", "again", NULL}, *env[] = {NULL};

    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        call(SYS_execveat, fd, "", argv, env, AT_EMPTY_PATH);
        _exit(3);
    }
    same(ended(child), 77);
}

static int child_of(int kind)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    char folder[] = "/tmp/exact-root-XXXXXX";

    check(mkdtemp(folder) != NULL);
    fflush(stdout);
    pid_t child = fork();
    if (child) {
        int status = ended(child);
        close(fd);
        rmdir(folder);
        return status;
    }
    long done = 0;
    switch (kind) {
    case 0: // another user, and back to nothing
        done = setgroups(0, NULL) | setresgid(65534, 65534, 65534) | setresuid(65534, 65534, 65534);
        break;
    case 1:
        done = chroot(folder) || chdir("/");
        break;
    case 2: // a server: another root and another user
        done = chroot(folder) || chdir("/") || setgroups(0, NULL) || setresgid(65534, 65534, 65534) ||
               setresuid(65534, 65534, 65534);
        break;
    case 3:
        done = unshare(CLONE_NEWUSER);
        break;
    case 4:
        done = unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS);
        break;
    case 5: // children are in another namespace of processes
        done = unshare(CLONE_NEWPID);
        break;
    case 6:
        done = prctl(PR_SET_DUMPABLE, 0L) | prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L);
        break;
    case 7: // no capabilities
        for (int capability = 0; capability < 41; capability++)
            done |= prctl(PR_CAPBSET_DROP, (long)capability, 0L, 0L, 0L);
        break;
    case 8: // nothing of /proc to be seen
        done = unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
               mount("none", "/proc", "tmpfs", 0, NULL);
        break;
    }
    if (done)
        _exit(50); // may not
    if (kind == 5) {
        pid_t first = fork();
        if (first == 0) {
            same(getpid(), 1);
            same(call(SYS_getppid), 0);
            go_on();
            pid_t daemon = fork();
            if (daemon == 0) {
                same(call(SYS_getppid), 1);
                exec_again(fd);
                _exit(failures ? 1 : 8);
            }
            same(ended(daemon), 8);
            _exit(failures ? 1 : 7);
        }
        same(ended(first), 7);
        _exit(failures != 0);
    } else {
        go_on();
    }
    exec_again(fd);
    _exit(failures != 0);
}

static void a_daemon(void)
{
    int fds[2];
    char byte = 0;

    check(pipe(fds) == 0);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        setsid();
        if (fork())
            _exit(0);
        umask(0);
        if (chdir("/"))
            _exit(1);
        dup2(fds[1], 0);
        dup2(0, 1);
        dup2(0, 2);
        close_range(3, ~0u, 0);
        for (int i = 0; i < 3 * HOT; i++)
            if (call(SYS_getpid) != getpid())
                _exit(1);
        if (write(1, failures ? "b" : "g", 1) != 1)
            _exit(1);
        _exit(0);
    }
    same(ended(child), 0);
    close(fds[1]);
    same(read(fds[0], &byte, 1), 1);
    same(byte, 'g');
    same(read(fds[0], &byte, 1), 0);
}

int main(int argc, char **argv __attribute__((unused)))
{
    if (argc > 1) {
        for (int i = 0; i < HOT; i++)
            same(call(SYS_getppid), getppid());
        return failures ? 1 : 77;
    }
    for (int kind = 0; kind < 9; kind++)
        printf("%d\n", child_of(kind));
    for (int round = 0; round < 5; round++)
        a_daemon();
    return finish();
}
