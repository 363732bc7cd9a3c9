#include "guest.h"

bool tl_guest_has(const struct tl_guest *guest, uint64_t address)
{
    for (uint32_t i = 0; i < guest->range_count; i++)
        if (address - guest->ranges[i].start < guest->ranges[i].end - guest->ranges[i].start)
            return true;
    return false;
}

bool tl_guest_is_hot(struct tl_guest *guest, uint64_t site)
{
    uint64_t hash = site * 0x9e3779b97f4a7c15;

    for (unsigned i = 0; i < 16; i++) {
        struct tl_guest_site *at = &guest->sites[((hash >> 48) + i) & (tl_guest_sites - 1)];
        uint64_t none = 0;
        if (at->address != site && !__atomic_compare_exchange_n(&at->address, &none, site, false,
                                                                __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            continue;
        return __atomic_add_fetch(&at->count, 1, __ATOMIC_RELAXED) == tl_guest_threshold;
    }
    return false;
}
