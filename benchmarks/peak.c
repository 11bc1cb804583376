/* The most multiplications and additions that one core can do in double precision, 24 independent sums of AVX-512:
 *     gcc -O3 -mavx512f benchmarks/peak.c -o peak && ./peak */
#include <stdio.h>
#include <time.h>

#define SUMS 24
#define STEPS 40000000L
typedef double vector __attribute__((vector_size(64)));

int main(void)
{
    vector sum[SUMS], factor = (vector){0} + 1.0000001, more = (vector){0} + 1e-9;
    for (int i = 0; i < SUMS; ++i) sum[i] = (vector){0} + i;
    const clock_t started = clock();
    for (long n = 0; n < STEPS; ++n) {
#pragma GCC unroll 24
        for (int i = 0; i < SUMS; ++i) sum[i] = sum[i] * factor + more;
        __asm__ volatile("" : "+v"(factor)); /* the loop must not be shortened */
    }
    const double seconds = (double)(clock() - started) / CLOCKS_PER_SEC;
    double total = 0.0;
    for (int i = 0; i < SUMS; ++i) total += sum[i][0];
    printf("%.1f GFLOP/s (sum %g)\n", 2.0 * 8 * SUMS * STEPS / seconds * 1e-9, total);
    return 0;
}
