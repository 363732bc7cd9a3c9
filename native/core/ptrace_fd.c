// A descriptor for a tracee. It makes a pair of sockets, one of which is fetched here, the file is sent
// through that, and it receives it by the other. Nothing in it needs a right that a tracer does not have.
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "memory.h"
#include "ptrace_state.h"
#include "task.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

// What recvmsg gets, laid out in a page of the tracee.
struct page64 {
    int pair[2];
    struct {
        uint64_t name, name_length, iov, iov_length, control, control_length, flags;
    } message;
    uint64_t iov[2];
    struct {
        uint64_t length;
        int level, type, fd, padding;
    } control;
    char byte;
};

struct page32 {
    int pair[2];
    struct {
        uint32_t name, name_length, iov, iov_length, control, control_length, flags;
    } message;
    uint32_t iov[2];
    struct {
        uint32_t length;
        int level, type, fd;
    } control;
    char byte;
};

static int fetch(pid_t tid, int number, int *fd)
{
    // A thread may have a table of its own; before 6.9 only that of its process can be asked for.
    int pidfd = (int)syscall(SYS_pidfd_open, tid, PIDFD_THREAD);

    if (pidfd < 0)
        pidfd = (int)syscall(SYS_pidfd_open, tl_task_process(tid), 0);
    if (pidfd < 0)
        return errno == ESRCH ? ENOENT : errno;
    *fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
    int error = *fd < 0 ? errno : 0;
    close(pidfd);
    return error;
}

static int send_fd(int socket, int fd)
{
    struct iovec byte = {"", 1};
    union {
        char buffer[CMSG_SPACE(sizeof fd)];
        struct cmsghdr align;
    } control = {.align = {CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS}};
    struct msghdr message = {.msg_iov = &byte,
                             .msg_iovlen = 1,
                             .msg_control = control.buffer,
                             .msg_controllen = sizeof control.buffer};

    memcpy(CMSG_DATA(&control.align), &fd, sizeof fd);
    return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? errno : 0;
}

static int failure(int error, int64_t result)
{
    return error ? error : result < 0 && result >= -4095 ? (int)-result : 0;
}

// The address of the message in PAGE, which is filled in for the tracee's kind of program.
static uint64_t write_message(pid_t tid, uint64_t page, bool is_32bit, int *error)
{
    size_t done;

    if (is_32bit) {
        struct page32 p = {.control.fd = -1};
        p.message.iov = (uint32_t)page + offsetof(struct page32, iov);
        p.message.iov_length = 1;
        p.message.control = (uint32_t)page + offsetof(struct page32, control);
        p.message.control_length = sizeof p.control;
        p.iov[0] = (uint32_t)page + offsetof(struct page32, byte);
        p.iov[1] = 1;
        *error = tl_memory_write(tid, page, &p, sizeof p, &done);
        return page + offsetof(struct page32, message);
    }
    struct page64 p = {.control.fd = -1};
    p.message.iov = page + offsetof(struct page64, iov);
    p.message.iov_length = 1;
    p.message.control = page + offsetof(struct page64, control);
    p.message.control_length = sizeof p.control;
    p.iov[0] = page + offsetof(struct page64, byte);
    p.iov[1] = 1;
    *error = tl_memory_write(tid, page, &p, sizeof p, &done);
    return page + offsetof(struct page64, message);
}

static int receive(struct tl_tracer *tracer, struct injection *injection, uint64_t page, int socket,
                   bool close_on_exec, int *number)
{
    const struct tl_tracee_calls *nr = tl_tracee_calls(injection->tracee->call.arch);
    pid_t tid = injection->tracee->tid;
    int error;
    uint64_t message = write_message(tid, page, nr->is_32bit, &error);
    uint64_t at =
        page + (nr->is_32bit ? offsetof(struct page32, control.fd) : offsetof(struct page64, control.fd));
    uint64_t args[6] = {(uint64_t)socket, message,
                        MSG_DONTWAIT | (close_on_exec ? (unsigned)MSG_CMSG_CLOEXEC : 0)};
    int64_t result = 0;
    size_t done;

    if (!error)
        error = tl_inject_call(tracer, injection, nr->recvmsg, args, &result);
    error = failure(error, result);
    if (!error)
        error = tl_memory_read(tid, at, number, sizeof *number, &done);
    return error ? error : *number < 0 ? EMFILE : 0; // the message came, and there was no room
}

static int close_there(struct tl_tracer *tracer, struct injection *injection, int number)
{
    uint64_t args[6] = {(unsigned)number};
    int64_t ignored;

    return tl_inject_call(tracer, injection, tl_tracee_calls(injection->tracee->call.arch)->close, args,
                          &ignored);
}

// The kernel gives the lowest number that is free, and so does this: the sockets were in its way.
static int lower(struct tl_tracer *tracer, struct injection *injection, bool close_on_exec, int *number)
{
    uint64_t args[6] = {(unsigned)*number, close_on_exec ? F_DUPFD_CLOEXEC : F_DUPFD};
    int64_t result;
    int error = tl_inject_call(tracer, injection, tl_tracee_calls(injection->tracee->call.arch)->fcntl, args,
                               &result);

    if (error)
        return error;
    int unwanted = *number;
    if (result >= 0 && result < *number)
        *number = (int)result;
    else if (result >= 0)
        unwanted = (int)result;
    else
        return 0;
    return close_there(tracer, injection, unwanted);
}

static int pass(struct tl_tracer *tracer, struct injection *injection, uint64_t page, int fd,
                bool close_on_exec, int *number)
{
    uint64_t args[6] = {AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, page};
    struct tracee *t = injection->tracee;
    int64_t result;
    int pair[2] = {-1, -1}, ours = -1;
    size_t done;

    int error = tl_inject_call(tracer, injection, tl_tracee_calls(t->call.arch)->socketpair, args, &result);
    if (failure(error, result))
        return failure(error, result);
    error = tl_memory_read(t->tid, page, pair, sizeof pair, &done);
    if (!error)
        error = fetch(t->tid, pair[0], &ours);
    if (!error)
        error = send_fd(ours, fd);
    if (!error)
        error = receive(tracer, injection, page, pair[1], close_on_exec, number);
    if (ours >= 0)
        close(ours);
    for (int i = 0; i < 2 && error != ENOENT; i++)
        if (pair[i] >= 0 && close_there(tracer, injection, pair[i]) == ENOENT)
            error = ENOENT;
    return error ? error : lower(tracer, injection, close_on_exec, number);
}

// For a table that has no room for the sockets, but perhaps for the file.
static int pass_in_full_table(struct tl_tracer *tracer, struct injection *injection, uint64_t page, int fd,
                              bool close_on_exec, int *number)
{
    pid_t pid = tl_task_process(injection->tracee->tid);
    struct rlimit limit, more;

    if (!pid || prlimit(pid, RLIMIT_NOFILE, NULL, &limit) < 0)
        return EMFILE;
    more.rlim_cur = limit.rlim_cur + 4;
    more.rlim_max = limit.rlim_max < more.rlim_cur ? more.rlim_cur : limit.rlim_max;
    if (prlimit(pid, RLIMIT_NOFILE, &more, NULL) < 0)
        return EMFILE;
    int error = pass(tracer, injection, page, fd, close_on_exec, number);
    if (!error && (rlim_t)*number >= limit.rlim_cur)
        error = close_there(tracer, injection, *number) ? ENOENT : EMFILE;
    prlimit(pid, RLIMIT_NOFILE, &limit, NULL);
    return error;
}

int tl_inject_fd(struct tl_tracer *tracer, struct injection *injection, int fd, bool close_on_exec,
                 int *number)
{
    struct copy *copies = injection->tracee->copies, **own = &injection->tracee->copies;
    uint64_t page;

    // A list of its own for a page that is needed here only.
    *own = NULL;
    int error = tl_inject_map(tracer, injection, sizeof(struct page64), &page);
    if (!error)
        error = pass(tracer, injection, page, fd, close_on_exec, number);
    if (error == EMFILE)
        error = pass_in_full_table(tracer, injection, page, fd, close_on_exec, number);
    if (error != ENOENT && *own && tl_inject_unmap(tracer, injection, own))
        error = ENOENT;
    while (*own)
        own = &(*own)->next;
    *own = copies;
    return error;
}
