// Descriptors of every kind that are closed on exec: each is there once, and gone when it is closed. Then, as
// daemons and shells do, all that may be there are closed and some are opened again.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

static void closes(const char *name, int fd)
{
    int first = close(fd), error = errno;
    int second = close(fd);

    printf("%s %s %d %d %s\n", name, fd >= 0 ? "there" : strerror(error), first, second, strerror(errno));
}

static void closes_two(const char *name, const int pair[2])
{
    closes(name, pair[0]);
    closes(name, pair[1]);
}

static int passed(void)
{
    char byte = 'x', control[CMSG_SPACE(2 * sizeof(int))] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control};
    int pair[2], fds[2] = {0, 1};

    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    message.msg_controllen = sizeof control;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){CMSG_LEN(sizeof fds), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(header), fds, sizeof fds);
    sendmsg(pair[0], &message, 0);
    memset(control, 0, sizeof control);
    message.msg_controllen = sizeof control;
    recvmsg(pair[1], &message, MSG_CMSG_CLOEXEC);
    memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fds);
    closes_two("passed", fds);
    closes_two("socketpair", pair);
    return 0;
}

static void accepted(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t size = sizeof(sa_family_t);
    int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    bind(server, (struct sockaddr *)&address, size); // the kernel chooses the name
    listen(server, 1);
    size = sizeof address;
    getsockname(server, (struct sockaddr *)&address, &size);
    connect(client, (struct sockaddr *)&address, size);
    closes("accept4", accept4(server, NULL, NULL, SOCK_CLOEXEC));
    closes("socket", client);
    closes("socket", server);
}

int main(void)
{
    int pair[2], given = dup(0);

    for (int round = 0; round < 3; round++) {
        closes("open", open("/dev/null", O_RDONLY | O_CLOEXEC));
        closes("dup", fcntl(0, F_DUPFD_CLOEXEC, 20));
        closes("dup3", dup3(0, 40, O_CLOEXEC));
        closes("eventfd", eventfd(0, EFD_CLOEXEC));
        closes("timerfd", timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
        closes("epoll", epoll_create1(EPOLL_CLOEXEC));
        closes("inotify", inotify_init1(IN_CLOEXEC));
        closes("memfd", memfd_create("memory", MFD_CLOEXEC));
        if (pipe2(pair, O_CLOEXEC) == 0)
            closes_two("pipe", pair);
        accepted();
        passed();
    }
    fcntl(given, F_SETFD, FD_CLOEXEC);
    closes("set", given);
    given = dup(0);
    ioctl(given, FIOCLEX);
    closes("said", given);
    given = dup(0);
    close_range((unsigned)given, (unsigned)given + 5, CLOSE_RANGE_CLOEXEC);
    closes("range", given);
    for (int fd = 3; fd < 256; fd++)
        close(fd);
    for (int fd = 3; fd < 8; fd++)
        printf("%d ", dup2(1, fd));
    printf("%d ", close_range(3, ~0U, 0));
    printf("%d\n", open("/dev/null", O_RDONLY));
    // Left open.
    open("/dev/null", O_RDONLY | O_CLOEXEC);
    return pipe(pair) + (eventfd(0, EFD_CLOEXEC) < 0);
}
