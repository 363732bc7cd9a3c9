// `syscall` at every place around the edge of two pages, also where only one of them can be written.

#include "exact.h"

int main(void)
{
    static const unsigned char bytes[] = {0x53, 0x5b, 0xb8, 0x6e, 0,    0,    0,
                                          0x0f, 0x05, 0x90, 0x48, 0x89, 0xc2, 0xc3};
    static const unsigned char bare[] = {0x89, 0xf8, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0xc3};

    for (int shape = 0; shape < 2; shape++) {
        for (size_t before = 0; before <= sizeof bytes; before++) {
            unsigned char *pages =
                mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            long (*function)(long) = (void *)(pages + PAGE - before);

            memset(pages, 0xcc, 3 * PAGE);
            if (shape)
                memcpy(pages + PAGE - before, bare, sizeof bare);
            else
                memcpy(pages + PAGE - before, bytes, sizeof bytes);
            mprotect(pages, PAGE, PROT_READ | PROT_EXEC);
            mprotect(pages + PAGE, 2 * PAGE, PROT_READ | PROT_EXEC);
            for (int round = 0; round < HOT; round++)
                same(function(SYS_getppid), getppid());
            // Now only one half is there, and then the other.
            mprotect(pages + PAGE, PAGE, PROT_READ);
            mprotect(pages + PAGE, PAGE, PROT_READ | PROT_EXEC);
            same(function(SYS_getppid), getppid());
            munmap(pages, 3 * PAGE);
        }
    }
    return finish();
}
