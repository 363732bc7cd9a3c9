// Makes many kinds of calls, one after the other, in the main thread, in four others and in forked children.
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void h(int s)
{
    (void)s;
}
static void *t(void *x)
{
    for (int i = 0; i < 20; i++)
        getppid();
    struct timespec ts = {0, 1000 * 1000 * (long)(x ? 1 : 2)};
    nanosleep(&ts, 0);
    return 0;
}
int main(void)
{
    pthread_t a[4];
    for (long i = 0; i < 4; i++) {
        pthread_create(&a[i], 0, t, (void *)i);
        pthread_join(a[i], 0);
    }
    int p[2];
    pipe(p);
    write(p[1], "hello\n\x01\xff", 8);
    struct pollfd f[2] = {{p[0], POLLIN, 0}, {p[1], POLLOUT | POLLERR, 0}};
    poll(f, 2, 100);
    poll(f, 1, 0);
    fd_set s;
    FD_ZERO(&s);
    FD_SET(p[0], &s);
    struct timeval tv = {1, 5};
    select(p[0] + 1, &s, 0, 0, &tv);
    int e = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ev = {EPOLLIN | EPOLLET, {.u64 = 77}};
    epoll_ctl(e, EPOLL_CTL_ADD, p[0], &ev);
    struct epoll_event got[4];
    epoll_wait(e, got, 4, 10);
    char buf[20];
    read(p[0], buf, 20);
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    read(p[0], buf, 20);
    fcntl(p[0], F_GETFL);
    fcntl(p[0], F_SETFD, FD_CLOEXEC);
    fcntl(p[0], F_GETFD);
    dup2(p[0], 9);
    poll(f, 1, 1);
    struct sigaction sa = {.sa_handler = h, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &sa, 0);
    kill(getpid(), SIGUSR1);
    sigset_t ss;
    sigemptyset(&ss);
    sigaddset(&ss, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ss, 0);
    sigprocmask(SIG_UNBLOCK, &ss, 0);
    struct utsname u;
    uname(&u);
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    struct rlimit rl;
    getrlimit(RLIMIT_NOFILE, &rl);
    prctl(PR_SET_NAME, "abc");
    prctl(PR_GET_NAME, buf);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    int n;
    ioctl(p[0], FIONREAD, &n);
    struct winsize w;
    ioctl(0, TIOCGWINSZ, &w);
    ioctl(p[0], FIONBIO, &n);
    eventfd(3, EFD_CLOEXEC);
    int t = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec its = {{0, 0}, {1, 2}};
    timerfd_settime(t, 0, &its, 0);
    struct statfs sf;
    statfs("/proc", &sf);
    cpu_set_t c;
    sched_getaffinity(0, sizeof c, &c);
    sched_yield();
    int sp[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, sp);
    struct iovec v[2] = {{"ab", 2}, {"cdef", 4}};
    writev(sp[0], v, 2);
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
    sendmsg(sp[0], &m, MSG_NOSIGNAL);
    char b1[3], b2[30];
    struct iovec rv[2] = {{b1, 3}, {b2, 30}};
    struct msghdr rm = {.msg_iov = rv, .msg_iovlen = 2};
    recvmsg(sp[1], &rm, 0);
    shutdown(sp[0], SHUT_RDWR);
    int one = 1;
    setsockopt(sp[0], SOL_SOCKET, SO_PASSCRED, &one, 4);
    socklen_t l = 4;
    getsockopt(sp[0], SOL_SOCKET, SO_TYPE, &n, &l);
    struct sockaddr_un un;
    l = sizeof un;
    getsockname(sp[0], (void *)&un, &l);
    lseek(open("/etc/passwd", O_RDONLY), 100, SEEK_SET);
    umask(022);
    umask(0);
    access("/x", F_OK);
    mkdir("./trapline-qq", 0755);
    rmdir("./trapline-qq");
    symlink("a", "./trapline-qql");
    readlink("./trapline-qql", buf, 20);
    unlink("./trapline-qql");
    int o = open("./trapline-qqf", O_CREAT | O_RDWR | O_TRUNC, 0644);
    ftruncate(o, 10);
    fchmod(o, 0600);
    fsync(o);
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    fcntl(o, F_SETLK, &fl);
    rename("./trapline-qqf", "./trapline-qqg");
    unlink("./trapline-qqg");
    setpriority(PRIO_PROCESS, 0, 1);
    getpriority(PRIO_PROCESS, 0);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){0, 1000}, 0);
    alarm(0);
    struct itimerval itv = {{0, 0}, {100, 0}};
    setitimer(ITIMER_REAL, &itv, 0);
    getitimer(ITIMER_REAL, &itv);
    utimensat(AT_FDCWD, "/nox", 0, 0);
    setsid();
    getpgid(0);
    getsid(0);
    getgroups(0, 0);
    sync_file_range(o, 0, 0, 0);
    posix_fadvise(o, 0, 0, POSIX_FADV_SEQUENTIAL);
    pid_t k = fork();
    if (!k) {
        execl("/bin/sh", "sh", "-c", "exit 3", (char *)0);
    }
    int st;
    wait4(k, &st, 0, &r);
    k = fork();
    if (!k) {
        raise(SIGTERM);
    }
    waitpid(k, &st, 0);
    return 4;
}
