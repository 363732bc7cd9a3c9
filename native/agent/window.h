// Writing the window of a site while threads run through it:
//
//   1. a trapping byte over each instruction of the window: who arrives now is put right by the signal
//   handler
//   2. all other bytes of the jump but the first
//   3. the first byte
//
// with every processor synchronised after each. Needs no libc.
#ifndef TL_WINDOW_H
#define TL_WINDOW_H

#include <stdint.h>

enum { tl_window_int3 = 0xcc };

// BOUNDARIES: bit per byte of the window where an instruction began, the first one apart.
static inline void tl_window_bytes(volatile uint8_t *window, const uint8_t *bytes, unsigned size,
                                   uint32_t boundaries, int which, void (*synchronise)(void))
{
    for (unsigned at = 1; at < size; at++)
        if ((int)(boundaries >> at & 1) == which && window[at] != bytes[at])
            window[at] = bytes[at];
    synchronise();
}

static inline void tl_window_write(volatile uint8_t *window, const uint8_t *bytes, unsigned size,
                                   uint32_t boundaries, void (*synchronise)(void))
{
    window[0] = tl_window_int3;
    tl_window_bytes(window, bytes, size, boundaries, 1, synchronise);
    tl_window_bytes(window, bytes, size, boundaries, 0, synchronise);
    window[0] = bytes[0];
    synchronise();
}

// The reverse: where instructions begin there are traps until all of them are whole again.
static inline void tl_window_restore(volatile uint8_t *window, const uint8_t *bytes, unsigned size,
                                     uint32_t boundaries, void (*synchronise)(void))
{
    window[0] = tl_window_int3;
    synchronise();
    tl_window_bytes(window, bytes, size, boundaries, 0, synchronise);
    tl_window_bytes(window, bytes, size, boundaries, 1, synchronise);
    window[0] = bytes[0];
    synchronise();
}

#endif
