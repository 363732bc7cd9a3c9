// Every way to execute: by path, relative, by descriptor, by /proc, a script, a script of a script, from a
// thread, from a child of vfork, after failures of every kind; with no arguments, huge ones, and a hundred
// times in a row.

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/stat.h>

#include "exact.h"

extern char **environ;
static char self[4096], folder[] = "/tmp/exact-forms-XXXXXX";

// What runs in the end: says what it was given.
static int last(int argc, char **argv)
{
    for (int i = 0; i < HOT; i++)
        if (call(SYS_getppid) != getppid())
            return 1;
    printf("%s %d:", argc > 1 ? argv[1] : "nothing", argc);
    for (int i = 2; i < argc && i < 6; i++)
        printf(" %s", strrchr(argv[i], '/') ? strrchr(argv[i], '/') : argv[i]);
    int variables = 0, open = 0;
    for (char **at = environ; *at; at++)
        variables++;
    for (int fd = 0; fd < 40; fd++)
        open += fcntl(fd, F_GETFD) >= 0;
    char name[32], target[4096];
    ssize_t length = readlink("/proc/self/exe", target, sizeof target - 1);
    target[length < 0 ? 0 : length] = 0;
    FILE *comm = fopen("/proc/self/comm", "r");
    if (!comm || !fgets(name, sizeof name, comm))
        return 1;
    printf(" env %d, fds %d, %s, execfn %s, comm %s", variables, open,
           strstr(target, "exec-forms") || strstr(target, "forms") ? "itself" : target,
           strrchr((char *)getauxval(AT_EXECFN), '/') ? "path" : (char *)getauxval(AT_EXECFN), name);
    return 0;
}

static pid_t begin(void)
{
    fflush(stdout);
    return fork();
}

static void in_folder(const char *name, const char *text, mode_t mode)
{
    char path[4200];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0700);
    check(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    chmod(path, mode);
}

static void *in_thread(void *argv)
{
    for (int i = 0; i < HOT; i++)
        call(SYS_getppid);
    execv(self, argv);
    return NULL;
}

static void *calls(void *unused)
{
    for (;;)
        call(SYS_getppid);
    return unused;
}

#define FORM(name, ...)                                                                                      \
    do {                                                                                                     \
        char *argv[] = {"forms", name, "one", "two", NULL}, *env[] = {"A=1", "B=2", NULL};                   \
        (void)argv, (void)env;                                                                               \
        pid_t child_ = begin();                                                                              \
        if (child_ == 0) {                                                                                   \
            __VA_ARGS__;                                                                                     \
            _exit(120);                                                                                      \
        }                                                                                                    \
        int status_ = ended(child_);                                                                         \
        if (status_)                                                                                         \
            failed(__LINE__, name, " ended with %d", status_);                                               \
    } while (0)

static void failing(char **argv, char **env)
{
    static char none[] = "nothing";
    char *large[3] = {"forms", malloc(200000), NULL}, path[5000];

    memset(large[1], 'x', 199999);
    large[1][199999] = 0;
    for (int i = 0; i < 20; i++) {
        snprintf(path, sizeof path, "%s/%s-%d", folder, none, i);
        same(call(SYS_execve, path, argv, env), -ENOENT);
    }
    same(call(SYS_execve, folder, argv, env), -EACCES);
    snprintf(path, sizeof path, "%s/plain", folder);
    same(call(SYS_execve, path, argv, env), -EACCES);
    snprintf(path, sizeof path, "%s/noexec", folder);
    same(call(SYS_execve, path, argv, env), -ENOEXEC);
    snprintf(path, sizeof path, "%s/nobody", folder);
    same(call(SYS_execve, path, argv, env), -ENOENT);
    snprintf(path, sizeof path, "%s/loop", folder);
    same(call(SYS_execve, path, argv, env), -ELOOP);
    same(call(SYS_execve, 8, argv, env), -EFAULT);
    same(call(SYS_execve, self, 8, env), -EFAULT);
    same(call(SYS_execve, self, large, env), -E2BIG);
    same(call(SYS_execve, "", argv, env), -ENOENT);
    same(call(SYS_execve, "/etc/hosts/x", argv, env), -ENOTDIR);
    same(call(SYS_execveat, -5, "x", argv, env, 0), -EBADF);
    same(call(SYS_execveat, AT_FDCWD, self, argv, env, 0x7777), -EINVAL);
    same(call(SYS_execveat, AT_FDCWD, "", argv, env, AT_EMPTY_PATH), -EACCES);
}

int main(int argc, char **argv)
{
    char script[5000], text[5000], link[5000];
    pthread_t id;

    if (argc > 3 && strcmp(argv[1], "chain") == 0 && atoi(argv[2]) > 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", atoi(argv[2]) - 1);
        execl("/proc/self/exe", "forms", "chain", number, "end", NULL);
        return 1;
    }
    if (argc > 1 || argc == 0 || !argv[0][0])
        return last(argc, argv);
    environ = (char *[]){"ONLY=this", NULL};
    check(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    check(mkdtemp(folder) != NULL);
    in_folder("plain", "text", 0600);
    in_folder("noexec", "text", 0700);
    in_folder("nobody", "#!/no/such/interpreter\n", 0700);
    snprintf(link, sizeof link, "%s/loop", folder);
    check(symlink(link, link) == 0);
    snprintf(text, sizeof text, "#!%s script\n", self);
    in_folder("script", text, 0700);
    snprintf(script, sizeof script, "%s/script", folder);
    snprintf(text, sizeof text, "#!%s/script\n", folder);
    in_folder("second", text, 0700);

    for (int round = 0; round < 3; round++) {
        FORM("path", execve(self, argv, env));
        FORM("environment", execv(self, argv));
        FORM("proc", execve("/proc/self/exe", argv, env));
        FORM("relative", if (chdir("/")) _exit(1); execve(self + 1, argv, env));
        FORM("execveat", call(SYS_execveat, AT_FDCWD, self, argv, env, 0));
        FORM("directory", int fd = open("/", O_PATH | O_CLOEXEC);
             call(SYS_execveat, fd, self + 1, argv, env, 0));
        FORM("descriptor", int fd = open(self, O_RDONLY | O_CLOEXEC);
             call(SYS_execveat, fd, "", argv, env, AT_EMPTY_PATH));
        FORM("fexecve", int fd = open(self, O_PATH); fexecve(fd, argv, env));
        FORM("script", execve(script, argv, env));
        FORM("second", strcpy(script + strlen(script) - 6, "second"); execve(script, argv, env));
        FORM("thread", pthread_create(&id, NULL, in_thread, argv); for (;;) pause());
        FORM("busy", for (int i = 0; i < 4; i++) pthread_create(&id, NULL, calls, NULL);
             execve(self, argv, env));
        FORM("busy thread", for (int i = 0; i < 4; i++) pthread_create(&id, NULL, calls, NULL);
             pthread_create(&id, NULL, in_thread, argv); for (;;) pause());
        FORM("vfork", pid_t child = vfork(); if (child == 0) execve(self, argv, env); _exit(ended(child)));
        FORM("failing", failing(argv, env); if (failures) _exit(1); execve(self, argv, env));
        FORM(
            "failing in vfork", pid_t child = vfork(); if (child == 0) {
                call(SYS_execve, "/none", argv, env);
                execve(self, argv, env);
            } _exit(ended(child)));
        FORM("large", char *many[2002];
             for (int i = 0; i < 2000; i++) many[i] = i == 1 ? "large" : "some argument"; many[2000] = NULL;
             execve(self, many, env));
        FORM("nothing", call(SYS_execve, self, NULL, NULL));
        FORM("chain", execl(self, "forms", "chain", "60", "end", NULL));
    }
    for (int i = 0; i < 6; i++) {
        snprintf(link, sizeof link, "%s/%s", folder,
                 (const char *[]){"plain", "noexec", "nobody", "loop", "script", "second"}[i]);
        unlink(link);
    }
    rmdir(folder);
    return finish();
}
