/* The container of a model file: named sections of numbers, protected by a checksum.
 *
 *   0   char magic[8]      "MLPOTCOR"
 *   8   uint32 version     MLPOT_OLDEST_VERSION to MLPOT_FILE_VERSION
 *   12  uint32 order       0x01020304 as the writing machine stores it
 *   16  uint64 size        of the whole file, bytes
 *   24  uint32 n_sections
 *   28  uint32 zeros[8]
 *   60  uint32 checksum    CRC-32 (IEEE 802.3) of all other bytes
 *   64  n_sections records of 64 bytes: char name[40], uint32 type, uint32 zero, uint64 offset, uint64 count
 *
 * Sections begin on multiples of 64 bytes; two may share their bytes. Types: 1 double, 2 int32, 3 float. Features of points and
 * triangles are in the order of mlpot_pack and mlpot_pack_lower, so that a loaded model computes with the bytes of its file.
 * All reading goes through the functions below, which check length, range and finiteness: after the first error they return
 * NULL or 0, and the error text is in the reader. */
#ifndef MLPOT_MODEL_FILE_H
#define MLPOT_MODEL_FILE_H

#include "mlpot_core.h"

#define MLPOT_FILE_VERSION 3
/* Oldest version that is read: later ones have more kinds of terms and kernels, tables of covariances, and forms of ensembles. */
#define MLPOT_OLDEST_VERSION 2
#define MLPOT_PREFIX 28

typedef struct {
    const char *path;            /* or what stands for it in error messages */
    unsigned char *bytes;        /* the whole file, aligned; NULL for tables of the caller */
    size_t size;
    mlpot_table *listed;         /* the sections of a file */
    const mlpot_table *tables;   /* these, or the caller's */
    size_t n_tables;
    char prefix[MLPOT_PREFIX];   /* before the names that are asked for: "t0.p1." */
    char *error;
    size_t error_size;
    int failed;
} mlpot_reader;

/* Reads and checks the container. 0, or -1 with an error text; the caller frees `bytes` and `listed` in either case. */
int mlpot_open(mlpot_reader *r, const char *path, char *error, size_t error_size);
/* Checks tables in memory. */
int mlpot_open_tables(mlpot_reader *r, const mlpot_table *tables, size_t n, char *error, size_t error_size);
/* Records the first error, after the path. Always returns -1. */
int mlpot_refuse(mlpot_reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Count of a section, -1 where there is none. */
int64_t mlpot_count(const mlpot_reader *r, const char *name);
/* `count` finite numbers. */
const double *mlpot_doubles(mlpot_reader *r, const char *name, int64_t count);
const float *mlpot_floats(mlpot_reader *r, const char *name, int64_t count);
/* `count` integers, each from low to high. */
const int32_t *mlpot_integers(mlpot_reader *r, const char *name, int64_t count, int64_t low, int64_t high);
/* Likewise, none smaller than the one before it; the first is `low`. */
const int32_t *mlpot_ascending(mlpot_reader *r, const char *name, int64_t count, int64_t low, int64_t high);
/* Product of up to four non-negative numbers; if it is too large, a count that no section has. */
int64_t mlpot_product(int64_t a, int64_t b, int64_t c, int64_t d);

#endif
