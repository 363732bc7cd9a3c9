// One error type for the whole core: NULL is success, and the caller owns what it gets.
#ifndef TL_ERROR_H
#define TL_ERROR_H

struct tl_error {
    int code;      // an errno, or 0 when the message says it all
    char *message; // what failed and why, without a trailing newline
};

// Message from a format; when CODE is not 0, ": strerror (NAME)" is added to it.
struct tl_error *tl_error_new(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
void tl_error_free(struct tl_error *error);

#endif
