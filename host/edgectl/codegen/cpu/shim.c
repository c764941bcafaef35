/* What TVM's object code expects from its runtime, for a library that needs only libc: workspaces, the last error
 * and, in threads.c, parallel loops. Kernels of one library run one at a time, so a single error buffer is enough. */

typedef __SIZE_TYPE__ size_t;
typedef __UINT64_TYPE__ uint64_t;
typedef __INT32_TYPE__ int32_t;

int posix_memalign(void **memory, size_t alignment, size_t bytes);
void free(void *memory);

/* All else is hidden, so that a TVM loaded in the same process does not take its place. */
#define EXPORT __attribute__((visibility("default")))
#define WORKSPACE_ALIGNMENT 64

static char last_error[1024];

static size_t append(size_t used, const char *text)
{
    if (text)
        while (*text && used + 1 < sizeof last_error)
            last_error[used++] = *text++;
    last_error[used] = 0;
    return used;
}

EXPORT const char *edge_kernels_last_error(void)
{
    return last_error;
}

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count)
{
    size_t used = append(append(0, kind), ": ");
    for (int32_t i = 0; i < count; ++i)
        used = append(used, parts[i]);
}

static void *allocate_workspace(int device_type, int device, uint64_t bytes, int code_hint, int bits_hint)
{
    void *memory = 0;
    (void)device_type, (void)device, (void)code_hint, (void)bits_hint;
    if (bytes != (size_t)bytes || posix_memalign(&memory, WORKSPACE_ALIGNMENT, (size_t)bytes))
    {
        append(append(0, "MemoryError: "), "no memory for a kernel's workspace");
        return 0;
    }
    return memory;
}

static int free_workspace(int device_type, int device, void *memory)
{
    (void)device_type, (void)device;
    free(memory);
    return 0;
}

/* Object code calls through these slots, which it defines as weak and empty. */
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = allocate_workspace;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = free_workspace;

#include "threads.c"

#ifdef __arm__
/* The ARM EABI's unwinder entries, which nothing calls, and its integer division: a Cortex-A9 has no such instruction. */
void __aeabi_unwind_cpp_pr0(void) {}
void __aeabi_unwind_cpp_pr1(void) {}

typedef struct { unsigned quotient, remainder; } unsigned_division;

static unsigned_division divide(unsigned numerator, unsigned denominator)
{
    unsigned_division result = {0, numerator};
    if (!denominator)
        return result;
    for (int shift = __builtin_clz(denominator) - (numerator ? __builtin_clz(numerator) : 31); shift >= 0; --shift)
        if (result.remainder >> shift >= denominator)
        {
            result.remainder -= denominator << shift;
            result.quotient |= 1u << shift;
        }
    return result;
}

static unsigned magnitude(int value)
{
    return value < 0 ? -(unsigned)value : (unsigned)value;
}

unsigned __aeabi_uidiv(unsigned numerator, unsigned denominator)
{
    return divide(numerator, denominator).quotient;
}

int __aeabi_idiv(int numerator, int denominator)
{
    unsigned quotient = divide(magnitude(numerator), magnitude(denominator)).quotient;
    return (int)((numerator < 0) != (denominator < 0) ? -quotient : quotient);
}

/* The same under libgcc's name, by which parallel loops call it. */
int __divsi3(int numerator, int denominator)
{
    return __aeabi_idiv(numerator, denominator);
}

/* Quotient and remainder come back in r0 and r1. */
uint64_t __aeabi_uidivmod(unsigned numerator, unsigned denominator)
{
    unsigned_division result = divide(numerator, denominator);
    return (uint64_t)result.remainder << 32 | result.quotient;
}

uint64_t __aeabi_idivmod(int numerator, int denominator)
{
    unsigned quotient = (unsigned)__aeabi_idiv(numerator, denominator);
    return (uint64_t)((unsigned)numerator - quotient * (unsigned)denominator) << 32 | quotient;
}
#endif
