/* See model_file.h. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_file.h"

#define HEADER 64
#define RECORD 64
#define NAME 40
#define ALIGNMENT 64
#define CHECKSUM_AT 60

typedef struct {
    char name[NAME];
    uint32_t type, zero;
    uint64_t offset, count;
} record;

int mlpot_refuse(mlpot_reader *r, const char *format, ...)
{
    if (!r->failed && r->error_size) {
        const int n = snprintf(r->error, r->error_size, "%s: ", r->path);
        va_list arguments;
        va_start(arguments, format);
        if (n >= 0 && (size_t)n < r->error_size) vsnprintf(r->error + n, r->error_size - n, format, arguments);
        va_end(arguments);
    }
    r->failed = 1;
    return -1;
}

/* CRC-32 continued over n bytes. */
static uint32_t checksum(uint32_t crc, const unsigned char *bytes, size_t n)
{
    static const uint32_t of_nibble[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                           0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                           0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    uint32_t table[256];
    for (uint32_t k = 0; k < 256; ++k) {
        const uint32_t low = (k >> 4) ^ of_nibble[k & 15];
        table[k] = (low >> 4) ^ of_nibble[low & 15];
    }
    for (size_t k = 0; k < n; ++k) crc = (crc >> 8) ^ table[(crc ^ bytes[k]) & 255];
    return crc;
}

static uint32_t word(const unsigned char *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static size_t width_of(uint32_t type) { return type == MLPOT_DOUBLES ? 8 : 4; }

static int read_all(mlpot_reader *r)
{
    FILE *file = fopen(r->path, "rb");
    if (!file) return mlpot_refuse(r, "cannot be opened; give the path of a file that export_core wrote");
    long long size = -1;
    if (!fseek(file, 0, SEEK_END)) size = ftell(file);
    if (size < HEADER || fseek(file, 0, SEEK_SET)) {
        fclose(file);
        return mlpot_refuse(r, "is not a model file: it has less than %d bytes", HEADER);
    }
    r->size = (size_t)size;
    r->bytes = aligned_alloc(64, (r->size + 63) / 64 * 64);
    const size_t n = r->bytes ? fread(r->bytes, 1, r->size, file) : 0;
    fclose(file);
    if (!r->bytes) return mlpot_refuse(r, "no memory for %lld bytes", size);
    return n == r->size ? 0 : mlpot_refuse(r, "cannot be read");
}

static int check_header(mlpot_reader *r)
{
    const unsigned char *b = r->bytes;
    uint64_t size;
    if (memcmp(b, "MLPOTCOR", 8)) return mlpot_refuse(r, "is not a model file for the core of mlpot; write one with export_core");
    if (word(b + 12) != 0x01020304)
        return mlpot_refuse(r, "was written on a machine with another order of bytes; export the model here");
    if (word(b + 8) < MLPOT_OLDEST_VERSION || word(b + 8) > MLPOT_FILE_VERSION)
        return mlpot_refuse(r, "has format version %u, this core reads versions %d to %d; export the model with the same version of mlpot",
                            word(b + 8), MLPOT_OLDEST_VERSION, MLPOT_FILE_VERSION);
    memcpy(&size, b + 16, sizeof size);
    if (size != r->size)
        return mlpot_refuse(r, "has %zu bytes of %llu: it is truncated or damaged; export the model again", r->size,
                            (unsigned long long)size);
    uint32_t crc = checksum(0xffffffff, b, CHECKSUM_AT);
    crc = ~checksum(crc, b + CHECKSUM_AT + 4, r->size - CHECKSUM_AT - 4);
    if (crc != word(b + CHECKSUM_AT))
        return mlpot_refuse(r, "is damaged: its checksum is not that of its content; export the model again");
    return 0;
}

static int list_sections(mlpot_reader *r, uint32_t n)
{
    r->listed = calloc((size_t)n + 1, sizeof *r->listed);
    if (!r->listed) return mlpot_refuse(r, "no memory for %u sections", n);
    for (uint32_t k = 0; k < n; ++k) {
        const unsigned char *at = r->bytes + HEADER + (size_t)k * RECORD;
        record s;
        memcpy(&s, at, sizeof s);
        if (!memchr(s.name, 0, NAME) || s.type < MLPOT_DOUBLES || s.type > MLPOT_FLOATS || s.offset % ALIGNMENT
            || s.offset > r->size || s.count > (r->size - s.offset) / width_of(s.type))
            return mlpot_refuse(r, "section %u lies outside the file", k);
        r->listed[k] = (mlpot_table){(const char *)at, (int)s.type, (int64_t)s.count, r->bytes + s.offset};
    }
    r->tables = r->listed;
    r->n_tables = n;
    return 0;
}

static void start(mlpot_reader *r, const char *path, char *error, size_t error_size)
{
    memset(r, 0, sizeof *r);
    r->path = path;
    r->error = error;
    r->error_size = error ? error_size : 0;
}

int mlpot_open(mlpot_reader *r, const char *path, char *error, size_t error_size)
{
    start(r, path, error, error_size);
    if (read_all(r) || check_header(r)) return -1;
    const uint32_t n = word(r->bytes + 24);
    if (n > (r->size - HEADER) / RECORD) return mlpot_refuse(r, "%u sections do not fit the file", n);
    return list_sections(r, n);
}

int mlpot_open_tables(mlpot_reader *r, const mlpot_table *tables, size_t n, char *error, size_t error_size)
{
    start(r, "tables of a model", error, error_size);
    for (size_t k = 0; k < n; ++k) {
        const mlpot_table *t = tables + k;
        if (!t->name || !memchr(t->name, 0, NAME) || t->type < MLPOT_DOUBLES || t->type > MLPOT_FLOATS || t->count < 0 || !t->numbers
            || (uintptr_t)t->numbers % ALIGNMENT)
            return mlpot_refuse(r, "table %zu needs a short name, a type, a count, and numbers at a multiple of %d bytes", k, ALIGNMENT);
    }
    r->tables = tables;
    r->n_tables = n;
    return 0;
}

/* Find a table by its name after the prefix; NULL if there is none. */
static const mlpot_table *find(const mlpot_reader *r, const char *name)
{
    const size_t n = strlen(r->prefix);
    for (size_t k = 0; k < r->n_tables; ++k)
        if (!strncmp(r->tables[k].name, r->prefix, n) && !strcmp(r->tables[k].name + n, name)) return r->tables + k;
    return NULL;
}

int64_t mlpot_count(const mlpot_reader *r, const char *name)
{
    const mlpot_table *found = find(r, name);
    return found ? found->count : -1;
}

static const void *section(mlpot_reader *r, const char *name, int type, int64_t count)
{
    const mlpot_table *found = r->failed ? NULL : find(r, name);
    if (r->failed) return NULL;
    if (!found) {
        mlpot_refuse(r, "section %s%s is missing", r->prefix, name);
        return NULL;
    }
    if (found->type != type || count < 0 || found->count != count) {
        mlpot_refuse(r, "section %s%s has %lld numbers of type %d, not %lld of type %d", r->prefix, name, (long long)found->count,
                     found->type, (long long)count, type);
        return NULL;
    }
    return found->numbers;
}

const double *mlpot_doubles(mlpot_reader *r, const char *name, int64_t count)
{
    const double *numbers = section(r, name, MLPOT_DOUBLES, count);
    for (int64_t k = 0; numbers && k < count; ++k)
        if (!isfinite(numbers[k])) {
            mlpot_refuse(r, "section %s%s: number %lld is not finite", r->prefix, name, (long long)k);
            return NULL;
        }
    return numbers;
}

const float *mlpot_floats(mlpot_reader *r, const char *name, int64_t count)
{
    const float *numbers = section(r, name, MLPOT_FLOATS, count);
    for (int64_t k = 0; numbers && k < count; ++k)
        if (!isfinite(numbers[k])) {
            mlpot_refuse(r, "section %s%s: number %lld is not finite", r->prefix, name, (long long)k);
            return NULL;
        }
    return numbers;
}

const int32_t *mlpot_integers(mlpot_reader *r, const char *name, int64_t count, int64_t low, int64_t high)
{
    const int32_t *numbers = section(r, name, MLPOT_INTEGERS, count);
    for (int64_t k = 0; numbers && k < count; ++k)
        if (numbers[k] < low || numbers[k] > high) {
            mlpot_refuse(r, "section %s%s: number %lld is %d, not from %lld to %lld", r->prefix, name, (long long)k, numbers[k],
                         (long long)low, (long long)high);
            return NULL;
        }
    return numbers;
}

const int32_t *mlpot_ascending(mlpot_reader *r, const char *name, int64_t count, int64_t low, int64_t high)
{
    const int32_t *numbers = mlpot_integers(r, name, count, low, high);
    for (int64_t k = 0; numbers && k < count; ++k)
        if (numbers[k] < (k ? numbers[k - 1] : low) || (!k && numbers[0] != low)) {
            mlpot_refuse(r, "section %s%s: numbers do not ascend from %lld", r->prefix, name, (long long)low);
            return NULL;
        }
    return numbers;
}

int64_t mlpot_product(int64_t a, int64_t b, int64_t c, int64_t d)
{
    int64_t result;
    if (__builtin_mul_overflow(a, b, &result) || __builtin_mul_overflow(result, c, &result)
        || __builtin_mul_overflow(result, d, &result))
        return -1;
    return result;
}
