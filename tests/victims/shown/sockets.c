// Calls on sockets, waiting for descriptors, and requests to devices, with the arguments that programs
// usually give.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define CALL(name, ...) syscall(SYS_##name, ##__VA_ARGS__)

static char buffer[4096];

static void internet(void)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}}, found;
    struct sockaddr_in6 six = {.sin6_family = AF_INET6,
                               .sin6_port = htons(9),
                               .sin6_addr = IN6ADDR_LOOPBACK_INIT,
                               .sin6_scope_id = 1};
    socklen_t size = sizeof found;
    int on = 1;

    long server = CALL(socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
    CALL(setsockopt, server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    CALL(bind, server, &here, sizeof here);
    CALL(getsockname, server, &found, &size);
    CALL(listen, server, 5);
    long client = CALL(socket, AF_INET, SOCK_STREAM, IPPROTO_IP);
    CALL(connect, client, &found, sizeof found);
    size = sizeof found;
    long peer = CALL(accept4, server, &found, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    CALL(setsockopt, client, SOL_TCP, TCP_NODELAY, &on, sizeof on);
    CALL(sendto, client, "to a peer", 9, MSG_NOSIGNAL, NULL, 0);
    CALL(recvfrom, peer, buffer, 4, MSG_PEEK, NULL, NULL);
    CALL(recvfrom, peer, buffer, sizeof buffer, 0, NULL, NULL);
    CALL(recvfrom, peer, buffer, sizeof buffer, MSG_DONTWAIT, NULL, NULL);
    size = sizeof found;
    CALL(getpeername, client, &found, &size);
    CALL(getpeername, server, &found, &size);
    CALL(setsockopt, client, SOL_SOCKET, SO_LINGER, &(struct linger){1, 2}, sizeof(struct linger));
    CALL(setsockopt, client, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){3, 4}, sizeof(struct timeval));
    CALL(setsockopt, client, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    CALL(setsockopt, client, SOL_SOCKET, SO_SNDBUF, (int[]){8192}, sizeof on);
    CALL(setsockopt, client, SOL_IP, IP_TOS, (int[]){16}, sizeof on);
    size = sizeof on;
    CALL(getsockopt, client, SOL_SOCKET, SO_ERROR, &on, &size);
    CALL(getsockopt, client, SOL_SOCKET, SO_TYPE, &on, &size);
    size = 8;
    CALL(getsockopt, client, SOL_SOCKET, SO_LINGER, buffer, &size);
    size = 64;
    CALL(getsockopt, client, SOL_TCP, TCP_CONGESTION, buffer, &size);
    CALL(shutdown, client, SHUT_WR);
    CALL(shutdown, client, SHUT_RDWR);

    long datagrams = CALL(socket, AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, IPPROTO_UDP);
    CALL(setsockopt, datagrams, SOL_IPV6, IPV6_V6ONLY, &on, sizeof on);
    CALL(connect, datagrams, &six, sizeof six);
    CALL(sendto, datagrams, "datagram", 8, 0, &six, sizeof six);
    CALL(bind, datagrams, &here, 3);
    here.sin_port = htons(1);
    CALL(connect, client, &here, sizeof here);
    CALL(socket, 77, SOCK_RAW, 5);
    CALL(socket, AF_PACKET, SOCK_RAW, htons(0x0003));
}

static void local(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "socket"},
                       abstract = {.sun_family = AF_UNIX}, found;
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    socklen_t size = sizeof found;
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    struct iovec out[] = {{"first", 5}, {"second", 6}}, in[] = {{buffer, 3}, {buffer + 10, 100}};
    struct msghdr sent = {.msg_iov = out,
                          .msg_iovlen = 2,
                          .msg_control = &control,
                          .msg_controllen = sizeof control},
                  got = {.msg_iov = in, .msg_iovlen = 2, .msg_control = buffer + 1000, .msg_controllen = 100};
    struct mmsghdr many[2] = {{.msg_hdr = {.msg_iov = out, .msg_iovlen = 1}},
                              {.msg_hdr = {.msg_iov = out + 1, .msg_iovlen = 1}}},
                   taken[2] = {{.msg_hdr = {.msg_iov = in, .msg_iovlen = 1}},
                               {.msg_hdr = {.msg_iov = in + 1, .msg_iovlen = 1}}};
    int pair[2], on = 1;

    memcpy(abstract.sun_path, "\0trapline-shown", 15);
    long one = CALL(socket, AF_UNIX, SOCK_STREAM, 0),
         other = CALL(socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CALL(bind, one, &name, sizeof name);
    CALL(bind, other, &abstract, offsetof(struct sockaddr_un, sun_path) + 15);
    CALL(getsockname, one, &found, &size);
    size = sizeof found;
    CALL(getsockname, other, &found, &size);
    CALL(accept, one, NULL, NULL);
    CALL(connect, other, &name, 12);
    CALL(socketpair, AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair);
    CALL(setsockopt, pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    size = 12;
    CALL(getsockopt, pair[1], SOL_SOCKET, SO_PEERCRED, buffer, &size);
    control.head = (struct cmsghdr){CMSG_LEN(2 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.head), (int[]){0, 1}, 2 * sizeof(int));
    CALL(sendmsg, pair[0], &sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    CALL(recvmsg, pair[1], &got, MSG_CMSG_CLOEXEC);
    CALL(recvmsg, pair[0], &got, MSG_DONTWAIT);
    CALL(sendmmsg, pair[0], many, 2, 0);
    CALL(recvmmsg, pair[1], taken, 2, MSG_DONTWAIT, NULL);
    long route = CALL(socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    CALL(bind, route, &kernel, sizeof kernel);
    size = sizeof kernel;
    CALL(getsockname, route, &kernel, &size);
}

static void waiting(void)
{
    struct timespec moment = {0, 1000000};
    struct epoll_event event = {EPOLLIN | EPOLLRDHUP | EPOLLET, {.u64 = 0x100000002}}, events[4];
    uint64_t mask = 1 << (SIGINT - 1) | 1 << (SIGTERM - 1), number = 3;
    int pair[2];
    fd_set reading, writing;

    CALL(pipe, pair);
    struct pollfd set[] = {{pair[0], POLLIN | POLLPRI, 0}, {pair[1], POLLOUT, 0}, {-1, POLLIN, 0}};
    CALL(poll, set, 3, 0);
    CALL(poll, set, 1, 1);
    CALL(ppoll, set, 2, &moment, &mask, 8);
    CALL(ppoll, set, 1, &moment, NULL, 8);
    FD_ZERO(&reading);
    FD_ZERO(&writing);
    FD_SET(pair[0], &reading);
    FD_SET(pair[1], &writing);
    CALL(select, pair[1] + 1, &reading, &writing, NULL, &(struct timeval){0, 1000});
    FD_SET(pair[0], &reading);
    CALL(select, pair[1] + 1, &reading, NULL, NULL, &(struct timeval){0, 1000});
    FD_SET(pair[0], &reading);
    CALL(pselect6, pair[1] + 1, &reading, NULL, NULL, &(struct timespec){0, 1000}, (long[]){(long)&mask, 8});
    long epoll = CALL(epoll_create1, EPOLL_CLOEXEC);
    CALL(epoll_create, 5);
    CALL(epoll_ctl, epoll, EPOLL_CTL_ADD, pair[0], &event);
    CALL(epoll_ctl, epoll, EPOLL_CTL_MOD, pair[0], &event);
    CALL(write, pair[1], "x", 1);
    CALL(epoll_wait, epoll, events, 4, -1);
    CALL(epoll_pwait, epoll, events, 4, 0, &mask, 8L);
    CALL(epoll_pwait2, epoll, events, 4, &moment, NULL, 8L);
    CALL(epoll_ctl, epoll, EPOLL_CTL_DEL, pair[0], NULL);
    CALL(epoll_ctl, epoll, EPOLL_CTL_DEL, pair[0], &event);
    long counter = CALL(eventfd2, 3, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    CALL(write, counter, &number, 8);
    CALL(signalfd4, -1, &mask, 8, SFD_CLOEXEC | SFD_NONBLOCK);
    long timer = CALL(timerfd_create, CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct itimerspec setting = {{1, 2}, {3000, 4}};
    CALL(timerfd_settime, timer, 0, &setting, &setting);
    CALL(timerfd_settime, timer, TFD_TIMER_ABSTIME, &(struct itimerspec){0}, NULL);
    CALL(timerfd_gettime, timer, &setting);
}

static void requests(void)
{
    struct termios modes;
    struct winsize size;
    struct ifreq request = {.ifr_name = "lo"};
    int number = 1;

    long master = CALL(openat, AT_FDCWD, "/dev/ptmx", O_RDWR | O_NOCTTY);
    CALL(ioctl, master, TIOCSPTLCK, (int[]){0});
    CALL(ioctl, master, TIOCGPTN, &number);
    long slave = CALL(ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
    CALL(ioctl, slave, TCGETS, &modes);
    CALL(ioctl, slave, TCSETS, &modes);
    CALL(ioctl, slave, TCSETSW, &modes);
    CALL(ioctl, slave, TCSETSF, &modes);
    CALL(ioctl, slave, TIOCSWINSZ, &(struct winsize){24, 80, 0, 0});
    CALL(ioctl, slave, TIOCGWINSZ, &size);
    CALL(ioctl, slave, TIOCGPGRP, &number);
    CALL(ioctl, slave, TIOCSPGRP, &number);
    CALL(ioctl, slave, TIOCGSID, &number);
    CALL(ioctl, slave, TIOCOUTQ, &number);
    CALL(ioctl, slave, TCFLSH, TCIOFLUSH);
    CALL(ioctl, slave, TCSBRK, 1);
    CALL(ioctl, slave, TCXONC, TCOON);
    CALL(ioctl, slave, TIOCEXCL, 0);
    CALL(ioctl, slave, TIOCNXCL, 0);
    CALL(ioctl, slave, TIOCNOTTY, 0);
    CALL(ioctl, slave, TIOCMGET, &number);
    CALL(ioctl, slave, FIONREAD, &number);
    CALL(ioctl, slave, FIONBIO, (int[]){1});
    CALL(ioctl, slave, FIOASYNC, (int[]){0});
    CALL(ioctl, slave, FIOCLEX);
    CALL(ioctl, slave, FIONCLEX);
    CALL(ioctl, 77, TCGETS, &modes);
    long file = CALL(open, "/dev/null", O_RDONLY);
    CALL(ioctl, file, TCGETS, &modes);
    CALL(ioctl, file, BLKGETSIZE64, buffer);
    CALL(ioctl, file, BLKSSZGET, &number);
    CALL(ioctl, file, BLKROGET, &number);
    CALL(ioctl, file, BLKFLSBUF, 0);
    CALL(ioctl, file, FICLONE, 5);
    CALL(ioctl, file, FS_IOC_GETFLAGS, buffer);
    CALL(ioctl, file, 0x12345678, 0x55555);
    long any = CALL(socket, AF_INET, SOCK_DGRAM, 0);
    CALL(ioctl, any, SIOCGIFINDEX, &request);
    CALL(ioctl, any, SIOCGIFNAME, &request);
    CALL(ioctl, any, SIOCGIFFLAGS, &request);
    CALL(ioctl, any, SIOCGIFADDR, &request);
    CALL(ioctl, any, SIOCGIFMTU, &request);
    CALL(ioctl, any, SIOCGIFHWADDR, &request);
    CALL(ioctl, any, SIOCGIFCONF, &(struct ifconf){0});
    CALL(ioctl, any, SIOCATMARK, &number);
}

int main(void)
{
    internet();
    local();
    waiting();
    requests();
    CALL(exit_group, 0);
}
