// Calls about memory, time and System V objects, with the arguments that programs usually give them.
#define _GNU_SOURCE
#include <signal.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CALL(name, ...) syscall(SYS_##name, ##__VA_ARGS__)

static char buffer[4096];

static void pages(void)
{
    long at = CALL(mmap, NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);

    CALL(mmap, at, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE | MAP_POPULATE,
         -1, 0L);
    CALL(mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, 77, 0x3000L);
    CALL(mmap, NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_STACK, -1, 0L);
    CALL(mprotect, at, 4096, PROT_READ);
    CALL(mprotect, at, 4096, PROT_READ | PROT_WRITE | PROT_GROWSDOWN);
    CALL(madvise, at, 4096, MADV_DONTNEED);
    CALL(madvise, at + 4096, 4096, MADV_NOHUGEPAGE);
    CALL(madvise, at + 4096, 4096, MADV_FREE);
    CALL(msync, at, 4096, MS_SYNC | MS_INVALIDATE);
    CALL(mincore, at, 8192, buffer);
    CALL(mlock, at, 4096);
    CALL(mlock2, at, 4096, 1);
    CALL(munlock, at, 4096);
    CALL(mlockall, MCL_CURRENT | MCL_FUTURE);
    CALL(munlockall);
    CALL(mremap, at, 65536, 131072, MREMAP_MAYMOVE);
    at = CALL(mmap, NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
    at = CALL(mremap, at, 65536, 131072, MREMAP_MAYMOVE);
    CALL(mremap, at, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, 3L);
    CALL(munmap, at, 131072);
    CALL(munmap, 1L, 4096);
    CALL(brk, 0L);
    CALL(pkey_alloc, 0, 0);
    CALL(pkey_mprotect, buffer, 4096, PROT_READ, -1);
    CALL(pkey_free, 5);
    CALL(process_vm_readv, getpid(), &(struct iovec){buffer, 5}, 1, &(struct iovec){"hello", 5}, 1, 0);
    CALL(get_mempolicy, NULL, NULL, 0, NULL, 0);
}

static void clocks(void)
{
    struct timespec time;
    struct timeval day;
    struct itimerval timer = {{1, 2}, {3000, 4}};
    struct itimerspec setting = {{1, 2}, {3000, 4}};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct timex clock = {0};
    int id = 0;

    CALL(clock_gettime, CLOCK_REALTIME, &time);
    CALL(clock_gettime, CLOCK_MONOTONIC_RAW, &time);
    CALL(clock_gettime, CLOCK_PROCESS_CPUTIME_ID, &time);
    CALL(clock_gettime, 77, &time);
    CALL(clock_getres, CLOCK_MONOTONIC, &time);
    CALL(clock_settime, CLOCK_MONOTONIC, &time);
    CALL(gettimeofday, &day, NULL);
    CALL(time, NULL);
    CALL(nanosleep, &(struct timespec){0, 1000}, &time);
    CALL(clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &(struct timespec){1, 1000}, NULL);
    CALL(clock_nanosleep, CLOCK_REALTIME, 0, &(struct timespec){0, 1000}, &time);
    CALL(nanosleep, &(struct timespec){0, 2000000000}, NULL);
    CALL(setitimer, ITIMER_REAL, &timer, NULL);
    CALL(setitimer, ITIMER_VIRTUAL, &timer, &timer);
    CALL(getitimer, ITIMER_REAL, &timer);
    CALL(alarm, 0);
    CALL(timer_create, CLOCK_MONOTONIC, &event, &id);
    CALL(timer_settime, id, 0, &setting, &setting);
    CALL(timer_settime, id, TIMER_ABSTIME, &setting, NULL);
    CALL(timer_gettime, id, &setting);
    CALL(timer_getoverrun, id);
    CALL(timer_delete, id);
    CALL(adjtimex, &clock);
}

static void objects(void)
{
    struct {
        long type;
        char text[8];
    } message = {1, "message"};

    long id = CALL(shmget, IPC_PRIVATE, 4096, IPC_CREAT | 0600);
    long at = CALL(shmat, id, NULL, SHM_RDONLY);
    CALL(shmdt, at);
    CALL(shmctl, id, IPC_RMID, NULL);
    id = CALL(semget, IPC_PRIVATE, 1, IPC_CREAT | 0600);
    CALL(semop, id, &(struct sembuf){0, 1, IPC_NOWAIT}, 1);
    CALL(semctl, id, 0, IPC_RMID, 0);
    id = CALL(msgget, IPC_PRIVATE, IPC_CREAT | 0600);
    CALL(msgsnd, id, &message, 8, IPC_NOWAIT);
    CALL(msgrcv, id, &message, 8, 0L, IPC_NOWAIT);
    CALL(msgctl, id, IPC_RMID, NULL);
}

int main(void)
{
    pages();
    clocks();
    objects();
    CALL(exit_group, 0);
}
