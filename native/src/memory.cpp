// What Python needs of the shared runtime: reusable memory, whose threads work, and which build
// this processor can run.

#include "kernels.h"
#include "runtime.h"

void* memory_acquire(int64_t floats) {
  try {
    return Memory::instance().acquire(static_cast<size_t>(floats) * sizeof(float));
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void memory_release(void* memory) { Memory::instance().release(memory); }

void use_parallel_region(void* gomp_parallel) {
  use_region(reinterpret_cast<ParallelRegion>(gomp_parallel));
}

int processor_level() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return 4;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2"))
    return 3;
#endif
  return 0;
}

int processor_is_intel() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_is("intel") != 0;
#else
  return 0;
#endif
}
