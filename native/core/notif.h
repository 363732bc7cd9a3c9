// A seccomp listener as a transport, and the step that makes it quick.
#ifndef TL_NOTIF_H
#define TL_NOTIF_H

#include "error.h"
#include "transport.h"

// The transport is the owner of LISTENER from here on, whatever is returned.
struct tl_error *tl_notif_new(int listener, struct tl_transport **transport);

#endif
