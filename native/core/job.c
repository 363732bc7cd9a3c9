#include "job.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "task.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

// Whatever a user or another program may send to a command, and what tells us of its stops.
static const int taken[] = {SIGINT,  SIGQUIT, SIGTERM, SIGHUP,  SIGUSR1, SIGUSR2, SIGALRM,
                            SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGCHLD, SIGWINCH};

struct tl_error *tl_job_begin(struct tl_job *job)
{
    sigset_t set;

    memset(job, 0, sizeof *job);
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        sigaddset(&set, taken[i]);
    job->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (job->signals < 0)
        return tl_error_new(errno, "signalfd");
    pthread_sigmask(SIG_BLOCK, &set, &job->before);
    return NULL;
}

static void tell_stops(bool tell)
{
    struct sigaction action;

    sigaction(SIGCHLD, NULL, &action);
    action.sa_flags = tell ? action.sa_flags & ~SA_NOCLDSTOP : action.sa_flags | SA_NOCLDSTOP;
    sigaction(SIGCHLD, &action, NULL);
}

// Every stop of a tracee would be announced to us by a signal.
static void silence_stops(struct tl_job *job)
{
    if (!job->quiet)
        tell_stops(false);
    job->quiet = true;
}

void tl_job_end(struct tl_job *job)
{
    struct signalfd_siginfo info;

    if (job->signals < 0)
        return;
    if (job->quiet)
        tell_stops(true);
    // What came for the command alone must not hit us now.
    while (read(job->signals, &info, sizeof info) > 0)
        ;
    close(job->signals);
    job->signals = -1;
    pthread_sigmask(SIG_SETMASK, &job->before, NULL);
}

static void pass_on(int pidfd, int number)
{
    syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0);
}

static bool is_about_us(int number)
{
    return number == SIGCHLD || number == SIGCONT || number == SIGWINCH;
}

// Takes the next signal that is for the command; false when there is none.
static bool next_signal(struct tl_job *job, struct signalfd_siginfo *info)
{
    while (read(job->signals, info, sizeof *info) == sizeof *info) {
        if (is_about_us((int)info->ssi_signo))
            continue;
        if (info->ssi_signo == SIGINT && info->ssi_code == SI_KERNEL)
            job->interrupted = true;
        return true;
    }
    return false;
}

void tl_job_early_signal(struct tl_job *job, int *number)
{
    struct signalfd_siginfo info;

    *number = 0;
    while (next_signal(job, &info))
        if (info.ssi_signo != SIGTSTP && info.ssi_signo != SIGTTIN && info.ssi_signo != SIGTTOU)
            *number = (int)info.ssi_signo;
}

void tl_job_pass_early(struct tl_job *job, int pidfd)
{
    struct signalfd_siginfo info;

    while (next_signal(job, &info))
        pass_on(pidfd, (int)info.ssi_signo);
}

// The signal that has stopped the command since we looked last, or 0. A stop under ptrace is left for the
// worker that traces.
static int take_stop(const struct tl_command *command)
{
    siginfo_t info;

    if (command->tracer)
        return tl_tracer_take_stop(command->tracer);
    memset(&info, 0, sizeof info);
    if (waitid((idtype_t)P_PIDFD, (id_t)command->pidfd, &info, WSTOPPED | WNOHANG | WNOWAIT) < 0 ||
        info.si_code != CLD_STOPPED)
        return 0;
    int number = info.si_status;
    waitid((idtype_t)P_PIDFD, (id_t)command->pidfd, &info, WSTOPPED | WNOHANG);
    return number;
}

// Has the terminal stopped it? SIGSTOP may come from a relative of the command that also means to continue
// it, so it is not followed.
static bool has_been_stopped(const struct tl_command *command)
{
    int number = take_stop(command);

    return (number == SIGTSTP || number == SIGTTIN || number == SIGTTOU) &&
           getpgid(command->pid) == getpgrp();
}

static bool is_stopped(const struct tl_command *command)
{
    return command->tracer ? tl_tracer_stopped_by(command->tracer) : tl_task_state(command->pid) == 'T';
}

// Our own parent, a shell perhaps, has to see of us what happens to the command.
static void follow_stop(const struct tl_command *command)
{
    if (!has_been_stopped(command))
        return;
    kill(getpid(), SIGSTOP);
    // A shell continues the whole group, the command a moment later than us perhaps; and it may be stopped
    // anew at once.
    for (int moment = 0; moment < 50 && is_stopped(command); moment++) {
        if (has_been_stopped(command)) {
            kill(getpid(), SIGSTOP);
            moment = 0;
        }
        poll(NULL, 0, 1);
    }
    // Whoever continued us alone meant the command as well.
    if (is_stopped(command))
        pass_on(command->pidfd, SIGCONT);
}

// True when SIGNAL is something that the caller has to know.
static bool take_signal(struct tl_job *job, const struct tl_command *command,
                        const struct signalfd_siginfo *info)
{
    int number = (int)info->ssi_signo, pidfd = command->pidfd;

    switch (number) {
    case SIGCHLD:
        if (pidfd >= 0)
            follow_stop(command);
        return false;
    case SIGCONT:
    case SIGWINCH:
        return false; // sent to the whole process group
    default:
        break;
    }
    if (number == SIGINT && info->ssi_code == SI_KERNEL)
        job->interrupted = true;
    if (pidfd < 0)
        return number == SIGINT || number == SIGTERM || number == SIGHUP || number == SIGQUIT;
    // What the terminal sends, it sends to the command as well; and the command need not be told what it sent
    // itself.
    if (info->ssi_code != SI_KERNEL && (pid_t)info->ssi_pid != command->pid)
        pass_on(pidfd, number);
    return false;
}

static bool has_exited(const struct tl_command *command, int *status)
{
    siginfo_t info;

    memset(&info, 0, sizeof info);
    if (waitid((idtype_t)P_PIDFD, (id_t)command->pidfd, &info, WEXITED | WNOHANG) < 0) {
        if (errno != ECHILD)
            return false;
        // Its tracer has been told, and tells us in a moment; or it was somebody else, and nobody knows.
        for (int moment = 0; command->tracer && moment < 100; moment++) {
            if (tl_tracer_exit_status(command->tracer, status))
                return true;
            poll(NULL, 0, 1);
        }
        *status = 255 << 8;
        return true;
    }
    if (!info.si_pid)
        return false;
    *status = info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status;
    return true;
}

struct tl_error *tl_job_wait(struct tl_job *job, const struct tl_command *command, int listener, int wake,
                             int milliseconds, enum tl_job_event *event, int *value)
{
    bool runs = command->pidfd >= 0, traced = runs && command->tracer;
    int stop = traced ? tl_tracer_stop_fd(command->tracer) : -1;

    if (traced)
        silence_stops(job);
    // What stopped the command while it was being started has been announced already.
    if (runs)
        follow_stop(command);
    for (;;) {
        struct pollfd fds[] = {{job->signals, POLLIN, 0},
                               {command->pidfd, POLLIN, 0},
                               {listener, 0, 0},
                               {wake, POLLIN, 0},
                               {stop, POLLIN, 0}};
        int ready = poll(fds, 5, milliseconds);
        if (ready < 0) {
            if (errno == EINTR)
                continue;
            return tl_error_new(errno, "poll");
        }
        if (!ready) {
            *event = TL_JOB_TIMEOUT;
            return NULL;
        }
        struct signalfd_siginfo info;
        if (fds[0].revents && read(job->signals, &info, sizeof info) == sizeof info &&
            take_signal(job, command, &info)) {
            *event = TL_JOB_SIGNAL;
            *value = (int)info.ssi_signo;
            return NULL;
        }
        if (fds[3].revents) {
            *event = TL_JOB_WOKEN;
            return NULL;
        }
        if (fds[4].revents)
            follow_stop(command);
        if (fds[1].revents && has_exited(command, value)) {
            // What ended it may have been for all of us.
            while (next_signal(job, &info))
                ;
            *event = TL_JOB_EXITED;
            return NULL;
        }
        if (fds[2].revents & (POLLHUP | POLLERR)) {
            *event = TL_JOB_EMPTY;
            return NULL;
        }
    }
}
