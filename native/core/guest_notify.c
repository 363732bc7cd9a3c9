// The notify engine of guests: the guest runs on a thread of its own, and the thread that runs it watches: it
// is told of calls by a seccomp listener, and of all else by a call that the guest's thread makes from a
// place that the filter catches too.
//
//   watching thread                         guest's thread
//   tl_guest_watch(): receive  <----------  a call of the guest
//   decides, replies           ---------->  goes on
//   receive                    <----------  bell: a fault, a kick, a call that needs its registers
//   decides, replies           ---------->  enters the guest again
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"
#include "notif.h"
#include "rawcall.h"
#include "seccomp_abi.h"
#include "session.h"

enum { bell_number = 0xf00d, ERESTARTNOINTR = 513 };

struct tl_guest_watcher {
    struct tl_transport *transport;
    pthread_t thread;
    sem_t started;
    long failure;
    pid_t watching_tid;
    uint64_t bell, call; // ids of what waits for a reply; 0: nothing does
    int64_t reply;
    bool continues;
    uint64_t continued; // behind a call that the kernel makes, until something else comes, or 0
};

static long ring(const struct tl_guest *guest)
{
    long result;

    __asm__ volatile("call *%2" : "=a"(result) : "a"(bell_number), "r"(guest->bell) : "rcx", "r11", "memory");
    return result;
}

static void *guest_main(void *argument)
{
    struct tl_guest_thread *thread = argument;
    struct tl_guest_watcher *watcher = thread->watcher;
    const unsigned flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;

    tl_guest_enter_thread(thread);
    long fd = tl_guest_install_filter(&thread->guest->catching, flags);
    if (fd < 0) {
        watcher->failure = fd;
        sem_post(&watcher->started);
        return NULL;
    }
    // Out of the way of a guest that has this process's descriptors and closes low numbers.
    int high = fcntl((int)fd, F_DUPFD_CLOEXEC, tl_guest_lowest_listener);
    if (high >= 0) {
        close((int)fd);
        fd = high;
    }
    struct tl_error *error = tl_notif_new((int)fd, &watcher->transport);
    if (error) {
        watcher->failure = -error->code;
        tl_error_free(error);
        sem_post(&watcher->started);
        return NULL;
    }
    tl_guest_keep((int)fd);
    // One of both runs at a time: where the kernel can, they hand one processor to each other.
    ioctl((int)fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
    sem_post(&watcher->started);
    while (ring(thread->guest) == 0)
        thread->event = tl_guest_run(thread);
    return NULL;
}

long tl_guest_watcher_start(struct tl_guest_thread *thread)
{
    struct tl_guest_watcher *watcher = calloc(1, sizeof *watcher);

    if (!watcher)
        return -ENOMEM;
    thread->watcher = watcher;
    thread->event = TL_GUEST_NONE;
    watcher->watching_tid = gettid();
    sem_init(&watcher->started, 0, 0);
    // It is born with every signal blocked.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&watcher->thread, NULL, guest_main, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        free(watcher);
        thread->watcher = NULL;
        return -error;
    }
    while (sem_wait(&watcher->started) < 0)
        ;
    long failure = watcher->failure;
    if (failure) {
        pthread_join(watcher->thread, NULL);
        free(watcher);
        thread->watcher = NULL;
    }
    return failure;
}

static void answer(struct tl_guest_thread *thread)
{
    struct tl_guest_watcher *watcher = thread->watcher;
    const struct tl_transport_ops *ops = watcher->transport->ops;

    thread->notified = false; // the guest's thread runs from the reply on
    if (watcher->call) {
        watcher->continued = watcher->continues ? thread->regs[TL_RIP] : 0;
        if (watcher->continues)
            ops->go_on(watcher->transport, watcher->call);
        else
            ops->reply(watcher->transport, watcher->call, watcher->reply, 0);
    }
    if (watcher->bell)
        ops->reply(watcher->transport, watcher->bell, 0, 0);
    watcher->call = watcher->bell = 0;
    watcher->continues = false;
}

// Takes a call as if it had trapped; registers that the listener does not tell are not known.
static void take(struct tl_guest_thread *thread, const struct tl_call *call)
{
    static const uint8_t order[6] = {TL_RDI, TL_RSI, TL_RDX, TL_R10, TL_R8, TL_R9};

    thread->notified = true;
    thread->watcher->call = call->id;
    thread->arch = call->arch;
    thread->nr = call->nr;
    thread->regs[TL_RIP] = call->ip;
    thread->regs[TL_RAX] = (uint64_t)call->nr;
    for (int i = 0; i < 6; i++)
        thread->args[i] = thread->regs[order[i]] = call->args[i];
    thread->interrupted = false;
    bool is_hot = thread->guest->rewrites && call->arch == AUDIT_ARCH_X86_64 &&
                  tl_guest_is_hot(thread->guest, call->ip - 2);
    thread->hot = is_hot ? call->ip - 2 : 0;
}

static bool pass(struct tl_guest_thread *thread)
{
    struct tl_guest *guest = thread->guest;
    unsigned number = thread->nr & 0xffff;

    if (!guest->is_linux || thread->arch != AUDIT_ARCH_X86_64 || thread->hot)
        return false;
    if (guest->classes[number] == TL_CONSTANT) {
        thread->watcher->reply = guest->constants[number];
        return true;
    }
    if (guest->classes[number] == tl_guest_pass_here) {
        int64_t result;
        if (tl_guest_perform(thread, &result))
            tl_guest_watcher_reply(thread, result);
        else
            tl_guest_watcher_restart(thread);
        guest->passed++;
        return true;
    }
    thread->watcher->continues = guest->classes[number] == TL_PASS;
    guest->passed += thread->watcher->continues;
    return thread->watcher->continues;
}

// Calls that wait, and that the kernel makes again after a signal: what a kick has ended before it was
// received looks the same, so the others are said not to have begun.
static bool may_wait(int64_t nr)
{
    switch (nr) {
    case __NR_read:
    case __NR_readv:
    case __NR_write:
    case __NR_writev:
    case __NR_open:
    case __NR_openat:
    case __NR_ioctl:
    case __NR_recvfrom:
    case __NR_recvmsg:
    case __NR_recvmmsg:
    case __NR_sendto:
    case __NR_sendmsg:
    case __NR_sendmmsg:
    case __NR_accept:
    case __NR_accept4:
    case __NR_connect:
    case __NR_futex:
    case __NR_wait4:
    case __NR_waitid:
    case __NR_flock:
    case __NR_fcntl:
    case __NR_splice:
    case __NR_mq_timedsend:
    case __NR_mq_timedreceive:
    case __NR_msgsnd:
    case __NR_msgrcv:
        return true;
    default:
        return false;
    }
}

// A kick may have ended a call that the kernel was making, and would make again, or would not: that depends
// on whether there is a signal for the guest at all.
static void find_interrupted(struct tl_guest_thread *thread, uint64_t behind)
{
    if (!behind)
        return;
    if (thread->regs[TL_RIP] == behind && thread->regs[TL_RAX] == (uint64_t)-EINTR) {
        thread->regs[TL_RIP] -= 2;
        thread->regs[TL_RAX] = (uint64_t)thread->nr;
    } else if (thread->regs[TL_RIP] + 2 != behind || thread->regs[TL_RCX] != behind ||
               thread->regs[TL_RAX] != (uint64_t)thread->nr || !may_wait(thread->nr)) {
        return;
    }
    thread->interrupted = thread->begun = true;
    thread->goes_on_at = behind;
}

enum tl_guest_event tl_guest_watch(struct tl_guest_thread *thread)
{
    struct tl_guest_watcher *watcher = thread->watcher;
    struct tl_call call;

    for (;;) {
        answer(thread);
        int error = watcher->transport->ops->receive(watcher->transport, &call);
        if (error == EINTR)
            return TL_GUEST_INTERRUPTED;
        if (error)
            continue;
        uint64_t continued = watcher->continued;
        watcher->continued = 0;
        if (call.nr != bell_number) {
            take(thread, &call);
            // From a range that is the guest's no more, while the filter stays.
            watcher->continues = !tl_guest_has(thread->guest, call.ip);
            if (!watcher->continues && !pass(thread))
                return TL_GUEST_CALL;
            continue;
        }
        watcher->bell = call.id;
        if (thread->event == TL_GUEST_NONE)
            continue;
        if (thread->event == TL_GUEST_KICKED && !thread->interrupted)
            find_interrupted(thread, continued);
        return (enum tl_guest_event)thread->event;
    }
}

void tl_guest_watcher_reply(struct tl_guest_thread *thread, int64_t result)
{
    thread->watcher->reply = result;
    thread->interrupted = false;
}

void tl_guest_watcher_continue(struct tl_guest_thread *thread)
{
    thread->watcher->continues = true;
}

// Its thread is on its way to the bell, and makes the call again after that.
void tl_guest_watcher_restart(struct tl_guest_thread *thread)
{
    tl_rawcall(__NR_tgkill, getpid(), thread->host_tid, tl_guest_kick_signal(), 0, 0, 0);
    thread->watcher->reply = -ERESTARTNOINTR;
    thread->goes_on_at = thread->regs[TL_RIP];
    thread->interrupted = thread->restarts = true;
}

void tl_guest_watcher_kick(struct tl_guest_thread *thread)
{
    tl_rawcall(__NR_tgkill, getpid(), thread->watcher->watching_tid, tl_guest_kick_signal(), 0, 0, 0);
}

void tl_guest_watcher_stop(struct tl_guest_thread *thread)
{
    struct tl_guest_watcher *watcher = thread->watcher;
    const struct tl_transport_ops *ops = watcher->transport->ops;
    struct tl_call call;

    // The kick is there before the answer, so that nothing more of the guest is executed.
    __atomic_store_n(&thread->kicked, 1, __ATOMIC_SEQ_CST);
    tl_rawcall(__NR_tgkill, getpid(), thread->host_tid, tl_guest_kick_signal(), 0, 0, 0);
    if (watcher->call)
        ops->reply(watcher->transport, watcher->call, -ENOSYS, 0);
    while (!watcher->bell) {
        __atomic_store_n(&thread->kicked, 1, __ATOMIC_SEQ_CST);
        tl_rawcall(__NR_tgkill, getpid(), thread->host_tid, tl_guest_kick_signal(), 0, 0, 0);
        if (ops->receive(watcher->transport, &call))
            continue;
        if (call.nr == bell_number)
            watcher->bell = call.id;
        else
            ops->reply(watcher->transport, call.id, -ENOSYS, 0);
    }
    ops->reply(watcher->transport, watcher->bell, 1, 0);
    pthread_join(watcher->thread, NULL);
    ops->free(watcher->transport);
    sem_destroy(&watcher->started);
    free(watcher);
    thread->watcher = NULL;
    thread->notified = thread->interrupted = thread->restarts = false;
    thread->kicked = 0;
}
