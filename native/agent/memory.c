// Copying: what the compiler may call for it, and what reads and writes where the program says.
#include "inside.h"

#include <asm/unistd.h>

void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);

void *memcpy(void *to, const void *from, size_t size)
{
    void *result = to;

    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return result;
}

void *memset(void *to, int value, size_t size)
{
    void *result = to;

    __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
    return result;
}

int memcmp(const void *a, const void *b, size_t size)
{
    const unsigned char *left = a, *right = b;

    for (size_t i = 0; i < size; i++)
        if (left[i] != right[i])
            return left[i] < right[i] ? -1 : 1;
    return 0;
}

// With these blocked a bad address would end the process, so the kernel has to copy.
static bool may_not_fault(void)
{
    const struct tl_thread *thread = tl_this_thread();

    return (thread->mask | thread->waiting) & (tl_bit(SIGSEGV) | tl_bit(SIGBUS));
}

static bool copy_by_kernel(int nr, uint64_t here, uint64_t there, size_t size)
{
    uint64_t local[2] = {here, size}, remote[2] = {there, size};
    long result = tl_raw(nr, tl_this_thread()->pid, (long)local, 1, (long)remote, 1, 0);

    return result == (long)size;
}

bool tl_read(void *to, uint64_t from, size_t size)
{
    if (may_not_fault())
        return copy_by_kernel(__NR_process_vm_readv, (uint64_t)to, from, size);
    return tl_copy(to, (const void *)from, size) == 0;
}

size_t tl_read_string(void *to, uint64_t from, size_t most)
{
    enum { page = 4096 };
    bool can_fault = !may_not_fault();
    size_t size = 0;

    while (size < most) {
        // Never over the end of a page: what can be read of it is kept.
        size_t left = most - size, piece = page - (from + size) % page;
        piece = piece < left ? piece : left;
        uint8_t *at = (uint8_t *)to + size;
        if (!can_fault && !copy_by_kernel(__NR_process_vm_readv, (uint64_t)at, from + size, piece))
            break;
        long got = tl_copy_string(at, can_fault ? (const uint8_t *)from + size : at, piece);
        if (got < 0)
            break;
        size += (size_t)got;
        if (!at[got - 1])
            break;
    }
    return size;
}

bool tl_write(uint64_t to, const void *from, size_t size)
{
    if (!may_not_fault())
        return tl_copy((void *)to, from, size) == 0;
    // A stack grows where the kernel itself writes, not where process_vm_writev does.
    return copy_by_kernel(__NR_process_vm_writev, (uint64_t)from, to, size) ||
           (tl_raw(__NR_rt_sigpending, (long)to, (long)(size < 8 ? size : 8), 0, 0, 0, 0) == 0 &&
            copy_by_kernel(__NR_process_vm_writev, (uint64_t)from, to, size));
}
