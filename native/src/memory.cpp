// What Python needs of the shared runtime: reusable memory, and which build this processor can run.

#include <cstdint>

#include "runtime.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

// Room for so many floats, aligned to huge pages, or null. Its content is whatever was left there.
EXPORT void* memory_acquire(int64_t floats) {
  try {
    return Memory::instance().acquire(static_cast<size_t>(floats) * sizeof(float));
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

EXPORT void memory_release(void* memory) { Memory::instance().release(memory); }

// 4 and 3 for the x86-64 levels of those numbers, else 0.
EXPORT int processor_level() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return 4;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) return 3;
#endif
  return 0;
}
