/* A stand-in for NVIDIA's driver: the GPU's memory is the process's own, code is a shared library that `nvcc` of the
   tests has made of the CUDA source, and a launch runs the grid's threads one after the other, the last one first. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { OK = 0, INVALID = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, NO_BINARY = 209, NO_CONTEXT = 201, NOT_FOUND = 500 };

typedef void (*Grid)(unsigned blocks, unsigned threads, void **parameters);

static int live; /* allocations, modules and contexts that were not given back */

int stand_in_live(void) { return live; }

static int devices(void) { return getenv("STAND_IN_NO_GPU") ? 0 : 1; }

int cuInit(unsigned flags) { return flags ? INVALID : devices() ? OK : NO_DEVICE; }
int cuDeviceGetCount(int *count) { *count = devices(); return OK; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal ? INVALID : OK; }
int cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "stand-in"); return device ? INVALID : OK; }

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    if (device || (attribute != 75 && attribute != 76)) return INVALID;
    *value = attribute == 75 ? 8 : 0;
    return OK;
}

int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &live; live++; return device ? INVALID : OK; }
int cuDevicePrimaryCtxRelease_v2(int device) { live--; return device ? INVALID : OK; }

static __thread void *current;

int cuCtxSetCurrent(void *context) { current = context; return context == &live ? OK : INVALID; }

int cuMemAlloc_v2(uint64_t *address, size_t size) {
    if (!current) return NO_CONTEXT;
    if (!size) return INVALID;
    if (size > (size_t)1 << 31) return OUT_OF_MEMORY;
    *address = (uint64_t)aligned_alloc(256, (size + 255) / 256 * 256);
    live++;
    return *address ? OK : OUT_OF_MEMORY;
}

/* What kernels do not write must show. */
int cuMemsetD8_v2(uint64_t address, unsigned char value, size_t size) {
    (void)value;
    if (!current) return NO_CONTEXT;
    memset((void *)address, 0xA5, size);
    return OK;
}

int cuMemFree_v2(uint64_t address) { if (!current) return NO_CONTEXT; free((void *)address); live--; return OK; }
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t size) { if (!current) return NO_CONTEXT; memcpy((void *)to, from, size); return OK; }
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size) { if (!current) return NO_CONTEXT; memcpy(to, (void *)from, size); return OK; }

/* The image begins with the library's size, as an image of the driver's says its own. */
int cuModuleLoadData(void **module, const void *image) {
    uint64_t size;
    char path[64];
    if (memcmp(image, "STANDIN", 8)) return NO_BINARY;
    memcpy(&size, (const char *)image + 8, 8);
    int file = memfd_create("kernels", 0);
    if (file < 0 || write(file, (const char *)image + 16, size) != (ssize_t)size) return OUT_OF_MEMORY;
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    close(file);
    if (!*module) return NO_BINARY;
    live++;
    return OK;
}

int cuModuleUnload(void *module) { if (!current) return NO_CONTEXT; live--; return dlclose(module) ? INVALID : OK; }

int cuModuleGetFunction(void **function, void *module, const char *name) {
    char grid[512];
    snprintf(grid, sizeof grid, "grid_%s", name);
    *function = dlsym(module, grid);
    return *function ? OK : NOT_FOUND;
}

int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
    if (!current) return NO_CONTEXT;
    if (!gx || gx > 0x7fffffff || !bx || bx > 1024 || gy != 1 || gz != 1 || by != 1 || bz != 1) return INVALID;
    if (shared || stream || extra) return INVALID;
    ((Grid)function)(gx, bx, parameters);
    return OK;
}

int cuGetErrorString(int status, const char **words) {
    *words = status == NO_DEVICE ? "no CUDA-capable device is detected"
             : status == OUT_OF_MEMORY ? "out of memory"
             : status == NO_BINARY ? "no kernel image is available for execution on the device" : "error";
    return OK;
}
