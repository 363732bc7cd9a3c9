// Text that grows, and numbers, addresses and strings in it as C would have them.
#ifndef TL_TEXT_BUFFER_H
#define TL_TEXT_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tl_text_buffer {
    char *bytes;
    size_t size, room;
    bool has_failed; // there was no memory: something is missing
};

// Where SIZE bytes can be written, which do not count yet; NULL: no memory.
char *tl_make_room(struct tl_text_buffer *buffer, size_t size);
void tl_put(struct tl_text_buffer *buffer, const char *text, size_t size);
void tl_put_string(struct tl_text_buffer *buffer, const char *text);
void tl_put_decimal(struct tl_text_buffer *buffer, uint64_t value, bool is_negative);
void tl_put_signed(struct tl_text_buffer *buffer, int64_t value);
void tl_put_address(struct tl_text_buffer *buffer, uint64_t value); // hexadecimal, or NULL
// As a C string: printable ASCII as it is, the rest escaped, and ... behind what was cut.
void tl_put_quoted(struct tl_text_buffer *buffer, const unsigned char *data, size_t size, size_t limit);

#endif
