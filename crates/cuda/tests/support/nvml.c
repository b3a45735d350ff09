/* An NVML that is none. It knows the second device of driver.c only, and numbers it otherwise than CUDA does. */

#include <stdlib.h>
#include <string.h>

struct memory { unsigned int version; unsigned long long total, reserved, free, used; };
struct utilization { unsigned int gpu, memory; };

int nvmlInit_v2(void) { return getenv("FAKE_NVML_INIT") ? atoi(getenv("FAKE_NVML_INIT")) : 0; }
int nvmlShutdown(void) { return 0; }

int nvmlSystemGetDriverVersion(char *text, unsigned int length) { strncpy(text, "580.95.05", length); return 0; }

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
  if (strcmp(uuid, "GPU-f1f2f3f4-f5f6-f7f8-f9fa-fbfcfdfeff00") != 0) return 6;
  *device = (void *)5;
  return 0;
}

int nvmlDeviceGetMemoryInfo_v2(void *device, struct memory *memory) {
  if (device != (void *)5 || memory->version != (sizeof *memory | 2 << 24)) return 2;
  memory->total = 32ull << 30, memory->reserved = 1ull << 30, memory->free = 20ull << 30, memory->used = 11ull << 30;
  return 0;
}

int nvmlDeviceGetUtilizationRates(void *device, struct utilization *rates) {
  (void)device;
  rates->gpu = 37, rates->memory = 12;
  return 0;
}

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned int *degrees) {
  (void)device;
  if (sensor != 0) return 2;
  *degrees = 41;
  return 0;
}
