// Copies what agents have recorded to a file, and gives back the rings of threads that are gone.
#ifndef TL_CORE_CAPTURE_H
#define TL_CORE_CAPTURE_H

#include <stddef.h>

#include "agent.h"
#include "error.h"

struct tl_capture_reader;

// Has agents record from their start. FD stays the caller's, and is only ever appended to. PART: others
// append to it too, and it has a header; 0: nobody else does.
struct tl_error *tl_capture_prepare(struct tl_agent *agent, int fd, unsigned part,
                                    struct tl_capture_reader **reader);
// Writes the file's header, and what was recorded since, from now on.
struct tl_error *tl_capture_begin(struct tl_capture_reader *reader);
// Appends a chunk that agents know nothing of. 0 or an errno.
int tl_capture_append(struct tl_capture_reader *reader, enum tl_chunk_type type, pid_t pid, pid_t tid,
                      const void *data, size_t size);
// Copies the rest, also calls that have begun and will never return. 0, or the errno of what could not be
// written.
int tl_capture_end(struct tl_capture_reader *reader);
void tl_capture_free(struct tl_capture_reader *reader);

#endif
