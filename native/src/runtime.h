// What the kernels share: reusable memory on huge pages, a pool of threads, flush-to-zero.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "kernels.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

// --- errors ---

// Why the last work of this thread failed. A buffer of its own: to say it must not need memory.
inline char* failure_text() {
  static thread_local char text[256] = "";
  return text;
}

// No exception may cross into C: what the kernels export goes through this.
template <class Work>
int guarded(Work work) {
  const char* why = "an exception of an unknown type";
  const auto failed = [&] {
    std::snprintf(failure_text(), 256, "%s", why);
    return kFailed;
  };
  try {
    work();
    return kDone;
  } catch (const std::bad_alloc&) {
    return kNoMemory;
  } catch (const std::exception& error) {
    why = error.what();
    return failed();
  } catch (...) {
    return failed();
  }
}

// Raises std::invalid_argument for a size that a caller got wrong.
inline void require_positive(const char* name, int64_t size) {
  if (size < 1)
    throw std::invalid_argument(std::string(name) + ": expected at least 1, found " +
                                std::to_string(size));
}

// --- memory ---

// Freed buffers are kept and handed out again: the page faults of fresh memory would cost as much
// as the arithmetic.
class Memory {
 public:
  static Memory& instance() {
    static Memory* memory =
        new Memory;  // never destroyed: threads may still run while the process ends
    return *memory;
  }

  void* acquire(size_t bytes) {
    bytes = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      size_t best = free_.size();
      for (size_t i = 0; i < free_.size(); ++i)
        if (free_[i].bytes >= bytes && free_[i].bytes <= 2 * bytes &&
            (best == free_.size() || free_[i].bytes < free_[best].bytes))
          best = i;
      if (best < free_.size()) {
        Buffer found = free_[best];
        free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(best));
        kept_ -= found.bytes;
        used_.push_back(found);
        return found.data;
      }
    }
    void* data = std::aligned_alloc(kHugePage, bytes);
    if (!data) return nullptr;
#if defined(__linux__)
    madvise(data, bytes, MADV_HUGEPAGE);
#endif
    std::lock_guard<std::mutex> lock(mutex_);
    used_.push_back({data, bytes});
    return data;
  }

  void release(void* data) {
    std::lock_guard<std::mutex> lock(mutex_);
    for (size_t i = 0; i < used_.size(); ++i) {
      if (used_[i].data != data) continue;
      free_.push_back(used_[i]);
      kept_ += used_[i].bytes;
      used_.erase(used_.begin() + static_cast<std::ptrdiff_t>(i));
      break;
    }
    while (free_.size() > kMostKept ||
           (kept_ > kMostKeptBytes && free_.size() > 1)) {  // the oldest goes first
      kept_ -= free_.front().bytes;
      std::free(free_.front().data);
      free_.erase(free_.begin());
    }
  }

 private:
  struct Buffer {
    void* data;
    size_t bytes;
  };
  static constexpr size_t kHugePage = size_t{2} << 20;
  static constexpr size_t kMostKept = 8;
  static constexpr size_t kMostKeptBytes = size_t{1} << 30;
  std::mutex mutex_;
  std::vector<Buffer> free_, used_;
  size_t kept_ = 0;
};

// A buffer of floats for the length of a scope.
class Scratch {
 public:
  explicit Scratch(size_t floats)
      : data_(static_cast<float*>(Memory::instance().acquire(floats * sizeof(float)))) {
    if (!data_) throw std::bad_alloc();
  }
  ~Scratch() { Memory::instance().release(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* data() const { return data_; }

 private:
  float* data_;
};

// --- floating point ---

// Denormals are taken for zero inside a scope: vanishing gradients would otherwise slow every step
// a hundredfold.
class FlushToZero {
 public:
#if defined(__SSE__)
  FlushToZero() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040u); }
  ~FlushToZero() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  FlushToZero() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" ::"r"(saved_ | (uint64_t{1} << 24)));
  }
  ~FlushToZero() { asm volatile("msr fpcr, %0" ::"r"(saved_)); }

 private:
  uint64_t saved_;
#endif
};

// --- threads ---

// OpenMP's entry for a parallel region: fn(data) on so many threads.
using ParallelRegion = void (*)(void (*fn)(void*), void* data, unsigned threads, unsigned flags);

inline std::atomic<ParallelRegion> parallel_region{nullptr};

// In a forked child OpenMP would wait for threads that exist in the parent alone: there the pool
// below works.
inline void use_region(ParallelRegion region) {
  parallel_region = region;
  static const int registered = pthread_atfork(nullptr, nullptr, [] { parallel_region = nullptr; });
  (void)registered;
}

// A condition variable of pthreads. The `wait` of GCC 12's libstdc++ is none that older ones have,
// and a wheel is to run with those too.
class Condition {
 public:
  template <class Ready>
  void wait(std::unique_lock<std::mutex>& lock, Ready ready) {
    while (!ready()) pthread_cond_wait(&condition_, lock.mutex()->native_handle());
  }
  void notify_one() { pthread_cond_signal(&condition_); }
  void notify_all() { pthread_cond_broadcast(&condition_); }

 private:
  pthread_cond_t condition_ = PTHREAD_COND_INITIALIZER;
};

// Threads of our own, for where PyTorch has no OpenMP runtime to share. They stay for the next
// call.
class Pool {
 public:
  static void run(int threads, const std::function<void()>& work) {
    Pool* pool = current();
    // Another thread's call may hold the helpers: then this one works alone instead of waiting.
    const bool helped = !pool->busy_.exchange(true);
    if (helped) pool->start(threads - 1, work);
    work();
    if (!helped) return;
    pool->wait();
    pool->busy_ = false;
  }

 private:
  static Pool*& slot() {
    static Pool* pool = nullptr;
    return pool;
  }

  static Pool* current() {
    static std::mutex creation;
    std::lock_guard<std::mutex> lock(creation);
    if (!slot()) {
      slot() = new Pool;
      static const int registered =
          pthread_atfork(nullptr, nullptr, [] { slot() = nullptr; });  // threads do not fork
      (void)registered;
    }
    return slot();
  }

  void start(int helpers, const std::function<void()>& work) {
    std::lock_guard<std::mutex> lock(mutex_);
    try {
      for (; threads_ < helpers; ++threads_) std::thread(&Pool::loop, this, threads_).detach();
    } catch (const std::exception&) {  // no more threads, or no memory for one: those that there
                                       // are do the work
    }
    work_ = &work;
    wanted_ = running_ = std::min(helpers, threads_);
    ++round_;
    wake_.notify_all();
  }

  void wait() {
    // The helpers end within microseconds of the caller: look for a while before sleeping.
    for (int i = 0; i < 2000 && running_.load(std::memory_order_acquire) > 0; ++i) relax();
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&] { return running_ == 0; });
  }

  void loop(int index) {
    uint64_t seen = 0;
    for (;;) {
      const std::function<void()>* work;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return round_ != seen && index < wanted_; });
        seen = round_;
        work = work_;
      }
      (*work)();
      std::lock_guard<std::mutex> lock(mutex_);
      if (--running_ == 0) done_.notify_one();
    }
  }

  static void relax() {
#if defined(__SSE__)
    _mm_pause();
#endif
  }

  std::atomic<bool> busy_{false};
  std::mutex mutex_;
  Condition wake_, done_;
  const std::function<void()>* work_ = nullptr;
  std::atomic<int> running_{0};
  int wanted_ = 0, threads_ = 0;
  uint64_t round_ = 0;
};

// Runs task(0) .. task(n - 1) on up to so many threads. Tasks share nothing, so that who runs which
// changes no result. What a task throws ends the others and is thrown here, as a bad_alloc or else
// a runtime_error of its text: beyond a thread's own frames it would end the process. PyTorch's own
// OpenMP threads do the work where there are any: after a region they wait by spinning, and threads
// of ours beside them would fight for the cores (measured at B=16, T=150 on two cores: 3.3 ms a
// step instead of 2.0).
inline void parallel_for(int tasks, int threads, const std::function<void(int)>& task) {
  std::atomic<int> next{0}, status{kDone};
  char why[256] = "";
  const std::function<void()> work = [&] {
    FlushToZero flush;
    const int found = guarded([&] {
      for (int i; status == kDone && (i = next.fetch_add(1, std::memory_order_relaxed)) < tasks;)
        task(i);
    });
    int none = kDone;
    if (found != kDone && status.compare_exchange_strong(none, found))
      std::snprintf(why, sizeof why, "%s", failure_text());
  };
  threads = std::min(threads, tasks);
  if (threads <= 1) {
    work();
  } else if (const ParallelRegion region = parallel_region.load()) {
    void* data = const_cast<std::function<void()>*>(&work);
    region([](void* w) { (*static_cast<std::function<void()>*>(w))(); }, data,
           static_cast<unsigned>(threads), 0);
  } else {
    Pool::run(threads, work);
  }
  if (status == kNoMemory) throw std::bad_alloc();
  if (status == kFailed) throw std::runtime_error(why);
}
