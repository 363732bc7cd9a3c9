// The three slots for thread-local storage in the global descriptor table are the program's.

#include <asm/ldt.h>

#include "exact.h"

int main(void)
{
    unsigned char *page = mmap((void *)0x20000000, PAGE, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    struct user_desc *low = (void *)(page + 256);
    unsigned long seen;
    int slot[4], result;

    for (int i = 0; i < 4; i++) {
        *low = (struct user_desc){.entry_number = -1u,
                                  .base_addr = 0x20000000 + 8u * (unsigned)i,
                                  .limit = 0xfffff,
                                  .seg_32bit = 1,
                                  .limit_in_pages = 1,
                                  .useable = 1};
        ((unsigned long *)page)[i] = 0x5550 + (unsigned)i;
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(243), "b"(low) : "memory");
        slot[i] = result ? result : (int)low->entry_number;
        printf("slot: %d\n", slot[i]);
    }
    for (int i = 0; i < 3 * HOT; i++) {
        if (slot[i % 3] < 0)
            continue;
        __asm__ volatile("mov %0, %%gs" ::"r"(slot[i % 3] << 3 | 3));
        same(call(SYS_getppid), getppid());
        __asm__ volatile("mov %%gs:0, %0" : "=r"(seen));
        same(seen, 0x5550 + i % 3);
    }
    return finish();
}
