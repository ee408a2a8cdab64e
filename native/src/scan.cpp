// The recurrence h_t = f(a_t h_{t-1} + b_t) over (B, T, H), f the identity or ReLU, forward and
// backward: as fast as the memory delivers.

#include <algorithm>
#include <cstdint>

#include "kernels.h"
#include "runtime.h"
#include "simd.h"

namespace {

constexpr int64_t kChunk = 4 * kLanes;  // features that a task carries in registers
constexpr int64_t kBlock =
    256;  // steps over which a constant a's gradient is summed before it is added to da

// Where a_t of features [first, ...) is found: at base + t * row.
struct Coefficients {
  const float* base;
  int64_t row;
  Coefficients(const ScanCall& call, int64_t sequence, int64_t first)
      : base(call.a + first + (call.constant ? 0 : sequence * call.steps * call.features)),
        row(call.constant ? 0 : call.features) {}
  const float* at(int64_t t) const { return base + t * row; }
};

// Features [first, first + Vecs * kLanes) of one sequence.
template <bool Relu, int Vecs>
INLINE void forward(const ScanCall& call, int64_t sequence, int64_t first) {
  const int64_t begin = sequence * call.steps * call.features + first, row = call.features;
  const Coefficients a(call, sequence, first);
  Vec state[Vecs];
  for (int v = 0; v < Vecs; ++v)
    state[v] = call.h0 ? load(call.h0 + sequence * call.features + first + v * kLanes) : Vec{};
  for (int64_t t = 0; t < call.steps; ++t)
    for (int v = 0; v < Vecs; ++v) {
      const int64_t at = begin + t * row + v * kLanes;
      const Vec next = load(a.at(t) + v * kLanes) * state[v] + load(call.b + at);
      state[v] = Relu ? rectified(next) : next;
      store(call.h + at, state[v]);
    }
}

// db_t = f'_t (dh_t + a_{t+1} db_{t+1});  da_t = db_t h_{t-1}, summed over t where a is constant;
// dh0 = a_1 db_1
template <bool Relu, int Vecs>
INLINE void backward(const ScanCall& call, int64_t sequence, int64_t first) {
  const int64_t begin = sequence * call.steps * call.features + first, row = call.features;
  const int64_t start = sequence * call.features + first;
  const Coefficients a(call, sequence, first);
  Vec carry[Vecs] = {};
  for (int64_t end = call.steps; end > 0; end -= kBlock) {
    Vec sum[Vecs] = {};
    for (int64_t t = end - 1; t >= std::max<int64_t>(end - kBlock, 0); --t)
      for (int v = 0; v < Vecs; ++v) {
        const int64_t at = begin + t * row + v * kLanes;
        const Vec arriving = load(call.dh + at) + carry[v];
        const Vec gradient = Relu ? where_positive(load(call.h + at), arriving) : arriving;
        const Vec before = t > 0     ? load(call.h + at - row)
                           : call.h0 ? load(call.h0 + start + v * kLanes)
                                     : Vec{};
        store(call.db + at, gradient);
        if (call.constant)
          sum[v] += gradient * before;
        else
          store(call.da + at, gradient * before);
        carry[v] = load(a.at(t) + v * kLanes) * gradient;
      }
    if (call.constant)
      for (int v = 0; v < Vecs; ++v)
        store(call.da + start + v * kLanes, load(call.da + start + v * kLanes) + sum[v]);
  }
  if (call.dh0)
    for (int v = 0; v < Vecs; ++v) store(call.dh0 + start + v * kLanes, carry[v]);
}

// Features that fill no vector, one by one.
template <bool Relu>
void forward_rest(const ScanCall& call, int64_t sequence, int64_t first) {
  for (int64_t u = first; u < call.features; ++u) {
    const Coefficients a(call, sequence, u);
    float state = call.h0 ? call.h0[sequence * call.features + u] : 0.0f;
    for (int64_t t = 0; t < call.steps; ++t) {
      const int64_t at = (sequence * call.steps + t) * call.features + u;
      state = *a.at(t) * state + call.b[at];
      call.h[at] = state = Relu ? rectified(state) : state;
    }
  }
}

template <bool Relu>
void backward_rest(const ScanCall& call, int64_t sequence, int64_t first) {
  for (int64_t u = first; u < call.features; ++u) {
    const Coefficients a(call, sequence, u);
    const float h0 = call.h0 ? call.h0[sequence * call.features + u] : 0.0f;
    float carry = 0.0f;
    double sum = 0.0;
    for (int64_t t = call.steps - 1; t >= 0; --t) {
      const int64_t at = (sequence * call.steps + t) * call.features + u;
      const float arriving = call.dh[at] + carry;
      const float gradient = Relu ? where_positive(call.h[at], arriving) : arriving;
      const float to_a = gradient * (t > 0 ? call.h[at - call.features] : h0);
      call.db[at] = gradient;
      if (call.constant)
        sum += to_a;
      else
        call.da[at] = to_a;
      carry = *a.at(t) * gradient;
    }
    if (call.constant) call.da[sequence * call.features + u] += static_cast<float>(sum);
    if (call.dh0) call.dh0[sequence * call.features + u] = carry;
  }
}

// A task is a chunk of features of one sequence.
template <class Chunk, class Vector, class Rest>
void run(const ScanCall& call, Chunk chunk, Vector vector, Rest rest) {
  require_positive("batch", call.batch);
  require_positive("steps", call.steps);
  require_positive("features", call.features);
  const int64_t chunks = (call.features + kChunk - 1) / kChunk;
  parallel_for(static_cast<int>(call.batch * chunks), static_cast<int>(call.threads),
               [&](int task) {
                 const int64_t sequence = task / chunks;
                 int64_t first = task % chunks * kChunk;
                 if (first + kChunk <= call.features) return chunk(sequence, first);
                 for (; first + kLanes <= call.features; first += kLanes) vector(sequence, first);
                 rest(sequence, first);
               });
}

template <bool Relu>
void forward(const ScanCall& call) {
  run(
      call, [&](int64_t s, int64_t first) { forward<Relu, 4>(call, s, first); },
      [&](int64_t s, int64_t first) { forward<Relu, 1>(call, s, first); },
      [&](int64_t s, int64_t first) { forward_rest<Relu>(call, s, first); });
}

template <bool Relu>
void backward(const ScanCall& call) {
  run(
      call, [&](int64_t s, int64_t first) { backward<Relu, 4>(call, s, first); },
      [&](int64_t s, int64_t first) { backward<Relu, 1>(call, s, first); },
      [&](int64_t s, int64_t first) { backward_rest<Relu>(call, s, first); });
}

}  // namespace

int scan_forward(const ScanCall* call) {
  return guarded([&] { call->relu ? forward<true>(*call) : forward<false>(*call); });
}

int scan_backward(const ScanCall* call) {
  return guarded([&] { call->relu ? backward<true>(*call) : backward<false>(*call); });
}
