// Reads a recorded file over and over, each time with other bytes damaged and cut into other pieces.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace_text.h"

static unsigned long long state = 0x9e3779b97f4a7c15;

static unsigned below(unsigned limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)((state >> 20) % limit);
}

static struct tl_text_plan plans[tl_text_calls];

static bool plan(void *context, int32_t nr, struct tl_text_plan *found)
{
    (void)context;
    *found = plans[nr];
    if (!found->state)
        found->state = TL_TEXT_UNPLANNED;
    return true;
}

static bool named(void *context, int32_t nr, unsigned index, int64_t value, const char **text, size_t *size)
{
    static char shown[64];

    (void)context;
    *size = (size_t)snprintf(shown, sizeof shown, "<%d %u %lld>", nr, index, (long long)value);
    *text = shown;
    return true;
}

static bool line(void *context, const struct tl_trace_event *event, const char **text, size_t *size)
{
    struct tl_trace_blob blob;
    unsigned sum = 0;
    uint32_t at = 0;

    (void)context;
    if (event->kind == TL_TRACE_CALL || event->kind == TL_TRACE_SIGNAL)
        while (tl_trace_blob(event, &at, &blob))
            for (uint32_t i = 0; i < blob.size; i++)
                sum += blob.data[i];
    *text = sum & 1 ? "odd\0behind\n" : sum & 2 ? NULL : "even";
    *size = sum & 1 ? 11 : 4;
    return true;
}

int main(int argc, char **argv)
{
    static const struct tl_text_ask ask = {plan, named, line};
    FILE *file = fopen(argv[1], "rb"), *planned = fopen(argv[2], "rb");
    static unsigned char whole[1 << 20], damaged[1 << 20];
    size_t size = fread(whole, 1, sizeof whole, file);
    unsigned long long lines = 0;

    if (argc != 4 || size < 1000 || fread(plans, sizeof *plans, tl_text_calls, planned) != tl_text_calls)
        return 1;
    for (int round = 0; round < atoi(argv[3]); round++) {
        struct tl_text_options options = {.limit = below(64), .column = below(60), .durations = below(2)};
        struct tl_trace_reader *reader = tl_trace_reader_new();
        options.pids = (enum tl_text_pids)below(3);
        options.stamp = (enum tl_text_stamp)below(5);
        options.keeps = below(2);
        struct tl_text *text = tl_text_new(&options, &ask, NULL);
        memcpy(damaged, whole, size);
        for (unsigned i = below(40); i; i--)
            damaged[below((unsigned)size)] = (unsigned char)below(256);
        for (size_t at = 0, piece; at < size; at += piece) {
            const struct tl_trace_event *event;
            piece = 1 + below(8192);
            piece = piece < size - at ? piece : size - at;
            // A copy of its own, so that reading behind it is seen.
            unsigned char *own = malloc(piece);
            memcpy(own, damaged + at, piece);
            if (!tl_trace_feed(reader, own, piece))
                return 1;
            free(own);
            while ((event = tl_trace_next(reader, at + piece == size || below(9) == 0))) {
                size_t bytes;
                if (!tl_text_add(text, event))
                    return 1;
                const char *written = tl_text_bytes(text, &bytes);
                lines += bytes && written[bytes - 1] == '\n';
            }
            tl_text_clear(text);
        }
        tl_text_free(text);
        tl_trace_reader_free(reader);
    }
    fclose(file);
    fclose(planned);
    puts(lines > 1000 ? "good" : "too few lines");
    return 0;
}
