#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What is returned when there is no memory left to say anything else; tl_error_free knows it.
static struct tl_error out_of_memory = {12, "out of memory (ENOMEM)"};

struct tl_error *tl_error_new(int code, const char *format, ...)
{
    struct tl_error *error = malloc(sizeof *error);
    char *text = NULL;
    va_list arguments;

    if (!error)
        return &out_of_memory;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0) {
        free(error);
        return &out_of_memory;
    }
    error->code = code;
    error->message = text;
    if (code) {
        const char *name = strerrorname_np(code);
        char *full;
        if (asprintf(&full, "%s: %s (%s)", text,
                     strerrordesc_np(code) ? strerrordesc_np(code) : "unknown error",
                     name ? name : "?") >= 0) {
            free(text);
            error->message = full;
        }
    }
    return error;
}

void tl_error_free(struct tl_error *error)
{
    if (!error || error == &out_of_memory)
        return;
    free(error->message);
    free(error);
}
