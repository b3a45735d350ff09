/* A driver that is none: the functions of libcuda that we call and no other, on the memory of the host. What it is like stands in
   its environment. A slip of the caller - memory or a context that is not given back, a kernel outside a context - ends the process. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int CUresult;
typedef unsigned long long CUdeviceptr;

static int initialised, retained, live;
static void *current;

static int number(const char *name, int otherwise) {
  const char *text = getenv(name);
  if (text == NULL) return otherwise;
  if (text[0] != '/') return atoi(text);
  /* A file: what the driver is like may change while it is loaded. */
  FILE *file = fopen(text, "r");
  if (file == NULL || fscanf(file, "%d", &otherwise) != 1) abort();
  fclose(file);
  return otherwise;
}

static void must(int held, const char *what) {
  if (!held) { fprintf(stderr, "the fake driver: %s\n", what); abort(); }
}

CUresult cuDriverGetVersion(int *version) { *version = number("FAKE_CUDA_VERSION", 13000); return 0; }

CUresult cuInit(unsigned int flags) {
  if (flags != 0) return 1;
  if (getenv("FAKE_CUDA_HANGS")) for (;;) pause();
  int code = number("FAKE_CUDA_INIT", 0);
  initialised = code == 0;
  return code;
}

CUresult cuDeviceGetCount(int *count) {
  if (!initialised) return 3;
  *count = number("FAKE_CUDA_DEVICES", 2);
  return 0;
}

CUresult cuDeviceGet(int *device, int ordinal) {
  if (!initialised) return 3;
  if (ordinal < 0 || ordinal >= number("FAKE_CUDA_DEVICES", 2)) return 101;
  *device = ordinal + 40;
  return 0;
}

CUresult cuDeviceGetName(char *name, int length, int device) {
  if (getenv("FAKE_CUDA_ENDLESS_NAME")) memset(name, 'x', length);
  else snprintf(name, length, "Fake %c", 'A' + device - 40);
  return 0;
}

#ifndef WITHOUT_MEMORY
CUresult cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)(device - 39) << 34; return 0; }
#endif

CUresult cuDeviceGetAttribute(int *value, int attribute, int device) {
  (void)device;
  if (attribute == 75) *value = number("FAKE_CUDA_MAJOR", 9);
  else if (attribute == 76) *value = number("FAKE_CUDA_MINOR", 0);
  else return 1;
  return 0;
}

#ifdef WITHOUT_SLICES
CUresult cuDeviceGetUuid(char *uuid, int device)
#else
CUresult cuDeviceGetUuid_v2(char *uuid, int device)
#endif
{
  for (int i = 0; i < 16; i++) uuid[i] = (char)(0xf0 + i + device - 40);
  return 0;
}

#ifndef WITHOUT_WORDS
CUresult cuGetErrorName(CUresult code, const char **text) {
  if (code != 803) return 1;
  *text = "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH";
  return 0;
}

CUresult cuGetErrorString(CUresult code, const char **text) {
  if (code != 803) return 1;
  *text = "system has unsupported display driver / cuda driver combination";
  return 0;
}
#endif

CUresult cuDevicePrimaryCtxRetain(void **context, int device) { retained++; *context = (void *)(long)device; return 0; }

CUresult cuDevicePrimaryCtxRelease_v2(int device) {
  (void)device;
  must(retained > 0, "a context is released that was not retained");
  must(live == 0, "a context is released before what is in it");
  retained--;
  return 0;
}

CUresult cuCtxSetCurrent(void *context) { current = context; return 0; }

CUresult cuCtxSynchronize(void) { must(current != NULL, "no context"); return number("FAKE_CUDA_KERNEL", 0); }

CUresult cuModuleLoadData(void **module, const void *image) {
  must(current != NULL, "no context");
  /* Machine code is ELF, PTX is text that says its version. */
  if (memcmp(image, "\177ELF", 4) != 0 && strstr(image, ".version") == NULL) return 200;
  live++;
  *module = (void *)7;
  return 0;
}

CUresult cuModuleUnload(void *module) { must(module == (void *)7, "another module"); live--; return 0; }

CUresult cuModuleGetFunction(void **function, void *module, const char *name) {
  must(module == (void *)7, "another module");
  if (strcmp(name, "saxpy") != 0) return 500;
  *function = (void *)8;
  return 0;
}

CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes) {
  must(current != NULL, "no context");
  if (number("FAKE_CUDA_ALLOCATIONS", 99) <= live - 1) return 2;
  *pointer = (CUdeviceptr)(size_t)malloc(bytes);
  live++;
  return 0;
}

CUresult cuMemFree_v2(CUdeviceptr pointer) { must(current != NULL, "no context"); free((void *)(size_t)pointer); live--; return 0; }

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) { memcpy((void *)(size_t)to, from, bytes); return 0; }

CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) { memcpy(to, (void *)(size_t)from, bytes); return 0; }

CUresult cuLaunchKernel(void *function, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz,
                        unsigned int shared, void *stream, void **parameters, void **extra) {
  must(function == (void *)8 && current != NULL && extra == NULL && stream == NULL && shared == 0, "a kernel of nobody");
  must(gy * gz * by * bz == 1, "a grid of more than one dimension");
  float a = *(float *)parameters[0];
  const float *x = (const float *)(size_t)*(CUdeviceptr *)parameters[1], *y = (const float *)(size_t)*(CUdeviceptr *)parameters[2];
  float *out = (float *)(size_t)*(CUdeviceptr *)parameters[3];
  unsigned int n = *(unsigned int *)parameters[4];
  must(gx * bx >= n && gx * bx < n + bx, "a grid of another size");
  for (unsigned int i = 0; i < n; i++) out[i] = a * x[i] + y[i];
  return 0;
}
