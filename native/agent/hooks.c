// Calls that somebody in the supervisor decides, or whose result he wants.
#include "inside.h"

#include <asm/unistd.h>

enum {
    AF_UNIX = 1,
    F_DUPFD = 0,
    F_DUPFD_CLOEXEC = 1030,
    SOCK_SEQPACKET = 5,
    SOCK_CLOEXEC = 02000000,
    MSG_CMSG_CLOEXEC = 0x40000000,
    SCM_RIGHTS = 1,
    PROT_RW = 3,
    MAP_PRIVATE_ANONYMOUS = 0x22,
    arch_i386 = 0x40000003,
    page = 4096,
};

bool tl_is_wanted(const struct tl_thread *thread, unsigned wants)
{
    const struct tl_session *session = &tl_session;
    uint32_t nr = (uint32_t)thread->nr;
    unsigned interest = session->other_interest;

    if (nr < tl_calls)
        interest = (thread->arch == arch_i386 ? session->interest_i386 : session->interest)[nr];
    return interest & wants;
}

static void make_sockets(struct tl_mailbox *box)
{
    int32_t pair[2] = {-1, -1};

    box->result = tl_raw(__NR_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, (long)pair, 0, 0);
    box->args[0] = (uint64_t)pair[0];
    box->args[1] = (uint64_t)pair[1];
}

static void receive_fd(struct tl_mailbox *box)
{
    char byte;
    struct {
        uint64_t base, size;
    } vector = {(uint64_t)&byte, 1};
    struct {
        uint64_t length;
        int32_t level, type, fd, padding;
    } control = {0};
    struct {
        uint64_t name, name_size, vector, vectors, control, control_size, flags;
    } message = {0, 0, (uint64_t)&vector, 1, (uint64_t)&control, sizeof control, 0};
    int64_t pair[2] = {(int64_t)box->args[0], (int64_t)box->args[1]};

    tl_call3(__NR_close, pair[1], 0, 0);
    long got = tl_call3(__NR_recvmsg, pair[0], (long)&message, box->close_on_exec ? MSG_CMSG_CLOEXEC : 0);
    tl_call3(__NR_close, pair[0], 0, 0);
    if (tl_is_error(got)) {
        box->result = got;
    } else if (control.type == SCM_RIGHTS && control.length == 20) {
        // The lowest number that is free, as natively: our sockets may have had it.
        long lowest = tl_call3(__NR_fcntl, control.fd, box->close_on_exec ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
        box->result = control.fd;
        if (!tl_is_error(lowest)) {
            bool is_lower = lowest < control.fd;
            box->result = is_lower ? lowest : control.fd;
            tl_call3(__NR_close, is_lower ? control.fd : lowest, 0, 0);
        }
    } else {
        box->result = -24; // EMFILE: the kernel could not give us what was sent
    }
}

static void make_room(struct tl_thread *thread, struct tl_mailbox *box)
{
    uint64_t size = ((uint64_t)box->result + page - 1) & -(uint64_t)page;

    if (thread->room)
        tl_call3(__NR_munmap, (long)thread->room, (long)thread->room_size, 0);
    long room = tl_raw(__NR_mmap, 0, (long)size, PROT_RW, MAP_PRIVATE_ANONYMOUS, -1, 0);
    thread->room = tl_is_error(room) ? 0 : (uint64_t)room;
    thread->room_size = tl_is_error(room) ? 0 : size;
    box->result = tl_is_error(room) ? room : 0;
    box->room = thread->room;
    box->room_size = thread->room_size;
}

static void take_arguments(struct tl_thread *thread, const struct tl_mailbox *box)
{
    for (unsigned i = 0; i < 6; i++)
        if (box->changed & 1u << i)
            thread->args[i] = box->args[i];
}

bool tl_ask_hooks(struct tl_thread *thread, enum tl_request request, long *result)
{
    struct tl_mailbox *box = tl_mailbox_of(thread);
    bool performed = false;

    if (box) {
        box->arch = thread->arch;
        box->nr = (int32_t)thread->nr;
        __builtin_memcpy(box->args, thread->args, sizeof box->args);
        box->ip = thread->regs[RIP];
        box->sp = thread->regs[RSP];
        box->result = *result;
        box->changed = 0;
        box->begins_again = thread->begins_again;
        box->room = thread->room;
        box->room_size = thread->room_size;
    }
    for (int answer = tl_ask(thread, request);; answer = tl_ask_again(thread)) {
        switch (answer) {
        case TL_ANSWER_GO_ON:
            take_arguments(thread, box);
            return performed;
        case TL_ANSWER_REPLY:
            *result = box->result;
            return true;
        case TL_ANSWER_PERFORM:
            take_arguments(thread, box);
            box->result = tl_do_call(thread);
            if (thread->aborted) // its signal is delivered when the hook has decided
                box->result = -EINTR;
            thread->aborted = 0;
            performed = true;
            *result = box->result;
            break;
        case TL_ANSWER_SOCKET:
            make_sockets(box);
            break;
        case TL_ANSWER_RECEIVE:
            receive_fd(box);
            break;
        case TL_ANSWER_ROOM:
            make_room(thread, box);
            break;
        default: // nobody is there
            if (tl_session.flags & TL_ENGINE_VISITS)
                return performed;
            *result = -ENOSYS;
            return true;
        }
    }
}
