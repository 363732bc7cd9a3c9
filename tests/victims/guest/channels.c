// What programs of one process talk through: descriptors of every kind, shared memory, and a pipe that
// breaks.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static volatile sig_atomic_t broken;

static void on_pipe(int number)
{
    broken += number == SIGPIPE;
}

static void *ring(void *argument)
{
    uint64_t one = 1;

    return (void *)write(*(int *)argument, &one, sizeof one);
}

static void events(void)
{
    int event = eventfd(0, 0), poll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = event}, got;
    uint64_t count = 0;
    pthread_t thread;

    epoll_ctl(poll, EPOLL_CTL_ADD, event, &wanted);
    printf("epoll: nothing %d\n", epoll_wait(poll, &got, 1, 0));
    pthread_create(&thread, NULL, ring, &event);
    printf("epoll: %d", epoll_wait(poll, &got, 1, -1));
    printf(" %d", got.data.fd == event);
    ssize_t size = read(event, &count, sizeof count);
    printf(" %zd %d\n", size, (int)count);
    pthread_join(thread, NULL);
    close(event);
    close(poll);
}

static void watches(const char *folder)
{
    char buffer[512] __attribute__((aligned(8)));
    int fd = inotify_init1(0);

    inotify_add_watch(fd, folder, IN_CREATE);
    snprintf(buffer, sizeof buffer, "%s/made", folder);
    unlink(buffer);
    close(open(buffer, O_CREAT | O_WRONLY, 0600));
    ssize_t size = read(fd, buffer, sizeof buffer);
    const struct inotify_event *event = (const void *)buffer;
    printf("inotify: %d %s\n", size > 0, event->name);
    close(fd);
}

static void shares(void)
{
    int id = shmget(IPC_PRIVATE, 3 * 4096, IPC_CREAT | 0600);
    char *one = shmat(id, NULL, 0), *two = shmat(id, NULL, SHM_RDONLY);
    struct shmid_ds data;

    shmctl(id, IPC_STAT, &data);
    printf("shm: %lu attached\n", (unsigned long)data.shm_nattch);
    shmctl(id, IPC_RMID, NULL);
    strcpy(one + 8192, "through shared memory");
    printf("shm: %s, %d\n", two + 8192, one != two);
    printf("shm: %d %d", shmdt(one), shmdt(two));
    int again = shmdt(one);
    printf(" %d %d\n", again, errno == EINVAL);
    printf("shm: gone %d\n", shmat(id, NULL, 0) == (void *)-1);

    int fd = memfd_create("memory", MFD_CLOEXEC);
    printf("memfd: %d", ftruncate(fd, 8192));
    char *mapped = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    strcpy(mapped + 4096, "by descriptor");
    char text[14] = "";
    ssize_t size = pread(fd, text, 13, 4096);
    printf(" %zd %s\n", size, text);
    mapped = mremap(mapped, 8192, 65536, MREMAP_MAYMOVE);
    printf("mremap: %s\n", mapped + 4096);
    munmap(mapped, 65536);
    close(fd);
}

static void breaks(void)
{
    struct iovec vector = {"x", 1};
    int ends[2], sockets[2];

    signal(SIGPIPE, on_pipe);
    for (int i = 0; i < 40; i++) { // often enough for the site to be rewritten
        pipe(ends);
        close(ends[0]);
        ssize_t result = i % 2 ? write(ends[1], "x", 1) : writev(ends[1], &vector, 1);
        if (result != -1 || errno != EPIPE)
            printf("write: %zd\n", result);
        close(ends[1]);
    }
    printf("SIGPIPE: %d\n", (int)broken);
    socketpair(AF_UNIX, SOCK_STREAM, 0, sockets);
    close(sockets[0]);
    ssize_t sent = send(sockets[1], "x", 1, MSG_NOSIGNAL);
    printf("send: %zd %d", sent, (int)broken);
    sent = send(sockets[1], "x", 1, 0);
    printf(" %zd %d\n", sent, (int)broken);
    close(sockets[1]);
    pipe(ends);
    close(ends[0]);
    signal(SIGPIPE, SIG_DFL);
    fflush(stdout);
    write(ends[1], "x", 1);
    printf("still here\n");
}

int main(int count, char **words)
{
    events();
    if (count > 1)
        watches(words[1]);
    shares();
    breaks();
    return 0;
}
