#include "probe_child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void answer(struct tl_probe_result *out, enum tl_probe_state state, int code, const char *format,
                   va_list arguments)
{
    out->state = state;
    out->code = code;
    vsnprintf(out->detail, sizeof out->detail, format, arguments);
}

void tl_probe_works(struct tl_probe_result *out, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    answer(out, TL_PROBE_WORKS, 0, format, arguments);
    va_end(arguments);
}

void tl_probe_missing(struct tl_probe_result *out, int code, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    answer(out, TL_PROBE_MISSING, code, format, arguments);
    va_end(arguments);
}

void tl_probe_untested(struct tl_probe_result *out, int code, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    answer(out, TL_PROBE_UNTESTED, code, format, arguments);
    va_end(arguments);
}

void tl_probe_refused(struct tl_probe_result *out, const char *what)
{
    int code = errno;
    const char *name = strerrorname_np(code);

    tl_probe_missing(out, code, "%s failed with %s", what, name ? name : "an unknown error");
}

void tl_probe_died(struct tl_probe_result *out, int status, const char *what)
{
    if (status >= 0 && WIFSIGNALED(status))
        tl_probe_missing(out, 0, "%s ended with SIG%s", what, sigabbrev_np(WTERMSIG(status)));
    else
        tl_probe_missing(out, 0, "%s did not do what it should", what);
}

pid_t tl_probe_spawn(int (*body)(void *), void *argument, int shared_files)
{
    // No fork(): its handlers take locks that a thread of the original process may have held.
    pid_t parent = getpid();
    pid_t child = syscall(__NR_clone, SIGCHLD | (shared_files ? CLONE_FILES : 0), 0, 0, 0, 0);

    if (child)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(125);
    _exit(body(argument));
}

int tl_probe_pause(void *argument)
{
    (void)argument;
    for (;;)
        pause();
}

int tl_probe_wait(pid_t pid, int options)
{
    int status;
    pid_t got;

    do
        got = waitpid(pid, &status, options | __WALL);
    while (got < 0 && errno == EINTR);
    return got == pid ? status : -1;
}

void tl_probe_end(pid_t pid)
{
    if (pid <= 0)
        return;
    kill(pid, SIGKILL);
    int status;
    do
        status = tl_probe_wait(pid, 0);
    while (status >= 0 && WIFSTOPPED(status));
}

void *tl_probe_shared(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

ssize_t tl_probe_read_file(const char *path, char *buffer, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -1;
    size_t length = 0;
    ssize_t got;
    while (length + 1 < size && (got = read(fd, buffer + length, size - 1 - length)) != 0) {
        if (got < 0) {
            int code = errno;
            close(fd);
            errno = code;
            return -1;
        }
        length += (size_t)got;
    }
    close(fd);
    buffer[length] = '\0';
    return (ssize_t)length;
}

int tl_probe_filter(uint32_t action, unsigned long flags)
{
    // The probe makes only native calls while this is installed, so there is no architecture to look at.
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TL_PROBE_CALL, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return -1;
    return (int)syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}
