// The signal that calls our own threads back from waiting in the kernel.
#ifndef TL_STOP_SIGNAL_H
#define TL_STOP_SIGNAL_H

#include <sys/types.h>

// A real-time signal that nobody here uses, claimed once for the process; 0 when there is none. Its handler
// does nothing, except that tl_wait_unless is left if it was about to begin.
int tl_stop_signal_claim(void);

// Only that signal may interrupt the calling thread from here on.
void tl_stop_signal_alone(int number);

// wait4(PID, STATUS, OPTIONS), unless *FLAG is not 0, or becomes so before it waits and the stop signal is
// sent to this thread afterwards. -EINTR in that case.
long tl_wait_unless(const int *flag, pid_t pid, int *status, int options);

#endif
