#include "guest.h"

bool tl_guest_has(const struct tl_guest *guest, uint64_t address)
{
    for (uint32_t i = 0; i < guest->range_count; i++)
        if (address - guest->ranges[i].start < guest->ranges[i].end - guest->ranges[i].start)
            return true;
    return false;
}
