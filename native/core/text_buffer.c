#include "text_buffer.h"

#include <stdlib.h>
#include <string.h>

char *tl_make_room(struct tl_text_buffer *b, size_t size)
{
    if (b->room - b->size < size) {
        size_t room = 2 * b->room + size + 4096;
        char *bytes = realloc(b->bytes, room);
        if (!bytes) {
            b->has_failed = true;
            return NULL;
        }
        b->bytes = bytes;
        b->room = room;
    }
    return b->bytes + b->size;
}

void tl_put(struct tl_text_buffer *b, const char *text, size_t size)
{
    char *at = tl_make_room(b, size);

    if (at) {
        memcpy(at, text, size);
        b->size += size;
    }
}

void tl_put_string(struct tl_text_buffer *b, const char *text)
{
    tl_put(b, text, strlen(text));
}

void tl_put_decimal(struct tl_text_buffer *b, uint64_t value, bool is_negative)
{
    char digits[24], *at = digits + sizeof digits;

    do
        *--at = (char)('0' + value % 10);
    while (value /= 10);
    if (is_negative)
        *--at = '-';
    tl_put(b, at, (size_t)(digits + sizeof digits - at));
}

void tl_put_signed(struct tl_text_buffer *b, int64_t value)
{
    tl_put_decimal(b, value < 0 ? -(uint64_t)value : (uint64_t)value, value < 0);
}

void tl_put_address(struct tl_text_buffer *b, uint64_t value)
{
    char digits[20], *at = digits + sizeof digits;

    if (!value) {
        tl_put_string(b, "NULL");
        return;
    }
    do
        *--at = "0123456789abcdef"[value & 15];
    while (value >>= 4);
    *--at = 'x';
    *--at = '0';
    tl_put(b, at, (size_t)(digits + sizeof digits - at));
}

void tl_put_quoted(struct tl_text_buffer *b, const unsigned char *data, size_t size, size_t limit)
{
    size_t shown = size < limit ? size : limit;
    char *start = tl_make_room(b, 4 * shown + 8), *at = start;

    if (!at)
        return;
    *at++ = '"';
    for (size_t i = 0; i < shown; i++) {
        unsigned char byte = data[i];
        const char *known = byte ? memchr("\t\n\v\f\r\"\\", byte, 7) : NULL;
        if (known) {
            static const char *const plain = "\t\n\v\f\r\"\\";
            *at++ = '\\';
            *at++ = "tnvfr\"\\"[strchr(plain, byte) - plain];
        } else if (byte >= 32 && byte < 127) {
            *at++ = (char)byte;
        } else {
            // Three digits where a digit follows, or it would become a part of the escape.
            bool is_followed = i + 1 < shown && data[i + 1] >= '0' && data[i + 1] <= '9';
            *at++ = '\\';
            if (byte >= 64 || is_followed)
                *at++ = (char)('0' + (byte >> 6));
            if (byte >= 8 || is_followed)
                *at++ = (char)('0' + (byte >> 3 & 7));
            *at++ = (char)('0' + (byte & 7));
        }
    }
    *at++ = '"';
    b->size += (size_t)(at - start);
    if (shown < size)
        tl_put_string(b, "...");
}
