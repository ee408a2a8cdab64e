// A recurrent layer, forward and backward through time, in float32.
//
//   z_t = b + W_ih x_t + W_hh h_{t-1};  the rest of a step is its cell's, see cells.h
//
// A block of sequences runs alone through all steps: nothing is synchronised, and blocks are what threads share out.
// Gates lie on the SIMD lanes, sequences in the rows of a register tile: every batch size fills the vectors, all
// products (forward, backward, weight gradients) are one tile kernel, and nothing is ever transposed on the way.
//
// Letters: B batch, T steps, I inputs, H hidden, Hp and Ip = these rounded up to whole vectors, K = 1 + I + H; R = a row of all
// gates and W = those of them that x, or h, has a part in. The gates of a row follow each other without gaps, but in a split
// cell, where each begins with a whole vector.

#include <algorithm>
#include <cstdint>
#include <exception>
#include <vector>

#include "cells.h"
#include "kernels.h"
#include "products.h"
#include "runtime.h"
#include "simd.h"

namespace {

constexpr int64_t kBlock = 16;          // sequences per block at least, while there are few blocks
constexpr int64_t kMostBlocks = 64;     // each has weight gradients of its own
constexpr int64_t kGradientDepth = 128;  // (step, sequence) rows whose weight gradients are summed in registers

// --- sizes -----------------------------------------------------------------------------------------------------------

// Rows that are an odd number of cache lines apart: at a power of two they would all want the same few cache sets.
constexpr int64_t odd_lines(int64_t floats) { return (round_up(floats, 16) / 16 | 1) * 16; }

struct Sizes {
  // Of a cell with so many gates, rows of its records and rows of its state.
  Sizes(const LayerCall& call, int gates, bool split, int rows, int state)
      : I(call.inputs), H(call.hidden), Hp(round_up(H, kLanes)), Ip(round_up(I, kLanes)), K(1 + I + H), gates(gates),
        gate(split ? Hp : H), side(split ? gate : 0), R(gates * gate), W(R - side), Rp(round_up(R, kLanes)),
        R_row(odd_lines(Rp)), record(rows * Hp), state((rows - state) * Hp), state_floats(state * Hp), steps(call.steps),
        segment(std::min(call.segment, call.steps)), segments((steps + segment - 1) / segment) {
    const int64_t few = call.batch <= kBlock ? (call.batch + 1) / 2 : kBlock;  // two threads share a small batch
    block = round_up(std::max({few, (call.batch + kMostBlocks - 1) / kMostBlocks, int64_t{1}}), 4);
    blocks = (call.batch + block - 1) / block;
    panel = most_vecs(static_cast<int>(block));
    panel_row = panel * kLanes;
  }
  bool checkpointed() const { return segments > 1; }
  // What a block keeps for the backward pass: every step's record, or the state at the start of each segment.
  int64_t saved_per_block() const { return block * (checkpointed() ? segments * state_floats : steps * record); }

  int64_t I, H, Hp, Ip, K;
  int64_t gates, gate, side;  // their number; from one gate to the next; where the gates that h has a part in begin
  int64_t R, W, Rp, R_row;    // R_row: from one row of gate gradients to the next
  int64_t record, state, state_floats;  // floats of a record; where in it the state begins, and how long that is
  int64_t steps, segment, segments, block, blocks;
  int64_t panel, panel_row;  // width of a panel of weights, in vectors and in floats
};

template <class Cell>
Sizes sizes_of(const LayerCall& call) {
  return Sizes(call, Cell::kGates, Cell::kSplit, Cell::kRows, Cell::kState);
}

// --- weights ---------------------------------------------------------------------------------------------------------

// PyTorch's weights (gates x H, columns) with as many rows for each gate as it takes of a row of all gates; new ones are zero.
class GateRows {
 public:
  GateRows(const float* w, int64_t columns, const Sizes& n) : rows_(w) {
    if (n.gate == n.H) return;
    padded_.resize(static_cast<size_t>(n.W * columns));
    for (int64_t g = 0; g < n.W / n.gate; ++g)
      std::copy_n(w + g * n.H * columns, n.H * columns, padded_.data() + g * n.gate * columns);
    rows_ = padded_.data();
  }
  operator const float*() const { return rows_; }

 private:
  const float* rows_;
  std::vector<float> padded_;
};

struct ForwardWeights {
  ForwardWeights(const LayerCall& call, const Sizes& n)
      : floats(n.Rp + packed_floats(n.I, n.W, n.panel_row) + packed_floats(n.H, n.W, n.panel_row)),
        memory(static_cast<size_t>(floats)), bias(memory.data()), input(bias + n.Rp),
        hidden(input + packed_floats(n.I, n.W, n.panel_row)) {
    std::fill_n(memory.data(), floats, 0.0f);
    for (int64_t g = 0; call.bias && g < n.gates; ++g) std::copy_n(call.bias + g * n.H, n.H, bias + g * n.gate);
    pack_transposed(GateRows(call.w_ih, n.I, n), n.I, n.W, n.panel_row, input);
    pack_transposed(GateRows(call.w_hh, n.H, n), n.H, n.W, n.panel_row, hidden);
  }
  int64_t floats;
  Scratch memory;
  float *bias, *input, *hidden;  // (Rp); panels of (I, W) and (H, W)
};

struct BackwardWeights {
  BackwardWeights(const LayerCall& call, const Sizes& n)
      : depth(n.W / n.gate * n.H), floats(packed_floats(depth, n.H, n.panel_row) + packed_floats(depth, n.I, n.panel_row)),
        memory(static_cast<size_t>(floats)), hidden(memory.data()), input(hidden + packed_floats(depth, n.H, n.panel_row)) {
    std::fill_n(memory.data(), floats, 0.0f);
    pack(call.w_hh, depth, n.H, n.panel_row, hidden);
    pack(call.w_ih, depth, n.I, n.panel_row, input);
  }
  int64_t depth, floats;  // depth: rows of PyTorch's weights
  Scratch memory;
  float *hidden, *input;  // panels of (depth, H) and (depth, I)
};

// --- forward ---------------------------------------------------------------------------------------------------------

// The gates of one sequence at one step: z (R, then padding) and the record before -> this step's record. The last
// vector of a gate reads into the next gate; what that makes lies in the padding of the record and is used by nobody.
template <class Cell>
INLINE void activate(const float* z, const float* before, float* record, const Sizes& n) {
  for (int64_t u = 0; u < n.Hp; u += kLanes) Cell::activate({z + u, n.gate}, {before + u, n.Hp}, {record + u, n.Hp});
}

// One block of sequences. `state` holds a record per sequence of which the last rows are the state before the first step.
template <class Cell>
struct Block {
  Block(const LayerCall& call, const Sizes& n, int64_t index)
      : call(call), n(n), first(index * n.block), size(std::min(n.block, call.batch - first)) {}

  const float* x(int64_t t) const { return call.x + first * call.x_batch_stride + t * call.x_step_stride; }

  void start(float* state) const {
    std::fill_n(state, size * n.record, 0.0f);
    for (int64_t s = 0; s < size; ++s) {
      if (call.h0) std::copy_n(call.h0 + (first + s) * n.H, n.H, state + s * n.record + Cell::kHidden * n.Hp);
      if (call.c0) std::copy_n(call.c0 + (first + s) * n.H, n.H, state + s * n.record + n.state);
    }
  }

  // Step t: records of the step before -> records of this step.
  void step(const ForwardWeights& w, int64_t t, const float* before, float* records, float* z) const {
    const Product products[2] = {
        {x(t), call.x_batch_stride, 1, n.I, w.input, n.panel_row, n.I * n.panel_row},
        {before + Cell::kHidden * n.Hp, n.record, 1, n.H, w.hidden, n.panel_row, n.H * n.panel_row},
    };
    if constexpr (Cell::kSplit) {
      multiply<false>(size, n.W / kLanes, n.panel, &products[0], 1, w.bias, z, n.Rp);
      for (int64_t s = 0; s < size; ++s) std::copy_n(w.bias + n.W, n.side, z + s * n.Rp + n.W);
      multiply<true>(size, n.W / kLanes, n.panel, &products[1], 1, nullptr, z + n.side, n.Rp);
    } else {
      multiply<false>(size, n.Rp / kLanes, n.panel, products, 2, w.bias, z, n.Rp);
    }
    for (int64_t s = 0; s < size; ++s)
      activate<Cell>(z + s * n.Rp, before + s * n.record, records + s * n.record, n);
  }

  // The row of the records that begins at `from` -> an array of the caller's.
  void copy_row(const float* records, int64_t from, float* to, int64_t to_stride) const {
    for (int64_t s = 0; s < size; ++s) std::copy_n(records + s * n.record + from, n.H, to + s * to_stride);
  }

  void keep_checkpoint(const float* records, float* checkpoint) const {
    for (int64_t s = 0; s < size; ++s)
      std::copy_n(records + s * n.record + n.state, n.state_floats, checkpoint + s * n.state_floats);
  }

  void restore_checkpoint(const float* checkpoint, float* records) const {
    for (int64_t s = 0; s < size; ++s)
      std::copy_n(checkpoint + s * n.state_floats, n.state_floats, records + s * n.record + n.state);
  }

  // All steps. Records go to `saved` where it keeps them all, else into two that take turns in `ring`.
  void forward(const ForwardWeights& w, float* saved, float* scratch) const {
    float *z = scratch, *state = z + n.block * n.Rp + kLanes, *ring = state + n.block * n.record;
    const int64_t slot = n.block * n.record;
    const bool keep_all = saved && !n.checkpointed();
    start(state);
    const float* before = state;
    for (int64_t t = 0; t < n.steps; ++t) {
      if (saved && n.checkpointed() && t % n.segment == 0)
        keep_checkpoint(before, saved + t / n.segment * n.block * n.state_floats);
      float* records = keep_all ? saved + t * slot : ring + (t & 1) * slot;
      step(w, t, before, records, z);
      if (call.y) copy_row(records, Cell::kHidden * n.Hp, call.y + first * call.y_batch_stride + t * call.y_step_stride,
                           call.y_batch_stride);
      before = records;
    }
    copy_row(before, Cell::kHidden * n.Hp, call.hn + first * n.H, n.H);
    if (call.cn) copy_row(before, n.state, call.cn + first * n.H, n.H);
  }

  static int64_t forward_scratch(const Sizes& n) { return n.block * (n.Rp + 3 * n.record) + kLanes; }

  const LayerCall& call;
  const Sizes& n;
  int64_t first, size;
};

// --- backward --------------------------------------------------------------------------------------------------------

// The gradients of one sequence at one step: dh and dc after it -> dz (R), and what of them passes the gates by.
template <class Cell>
INLINE void differentiate(const float* record, const float* before, const float* next, float* dh, float* dc, float* dz,
                          const Sizes& n) {
  Vec heads[Cell::kGates] = {};
  for (int64_t u = 0; u < n.Hp; u += kLanes) {
    for (int row = 0; row < Cell::kRows; ++row) __builtin_prefetch(next + row * n.Hp + u);
    Vec dzs[Cell::kGates];
    Cell::differentiate({record + u, n.Hp}, {before + u, n.Hp}, dh + u, dc + u, dzs);
    for (int gate = 0; gate < Cell::kGates; ++gate) {
      store(dz + gate * n.gate + u, dzs[gate]);
      if (u == 0) heads[gate] = dzs[gate];
    }
  }
  // The last vector of a gate has spilled its padding onto the head of the next: write the heads again, in order.
  for (int gate = 1; gate < Cell::kGates; ++gate) store(dz + gate * n.gate, heads[gate]);
}

struct BackwardScratch {
  explicit BackwardScratch(const Sizes& n)
      : depth_steps(std::max<int64_t>(1, kGradientDepth / n.block)),
        memory(static_cast<size_t>(n.block * (2 * n.Hp + n.record + n.Rp) + kLanes +
                                   depth_steps * n.block * (n.R_row + n.K) + kLanes +
                                   (n.checkpointed() ? n.segment * n.block * n.record : 0) + n.block * n.Ip)) {
    dh = memory.data();
    dc = dh + n.block * n.Hp;
    state = dc + n.block * n.Hp;
    z = state + n.block * n.record;
    dz = z + n.block * n.Rp + kLanes;
    rows = dz + depth_steps * n.block * n.R_row + kLanes;
    dx = rows + depth_steps * n.block * n.K;
    segment = dx + n.block * n.Ip;
  }
  int64_t depth_steps;
  int64_t filled = 0;  // steps whose dz and rows wait for the weight gradients
  Scratch memory;
  float *dh, *dc, *state, *z, *dz, *rows, *dx, *segment;
};

template <class Cell>
struct BackwardBlock : Block<Cell> {
  using Block<Cell>::Block;
  using Block<Cell>::call, Block<Cell>::n, Block<Cell>::first, Block<Cell>::size;

  // gradient: (K, Rp), of this block alone: rows of the bias, the inputs, the hidden state.
  void backward(const ForwardWeights* fw, const BackwardWeights& bw, float* saved, float* gradient,
                BackwardScratch& s) const {
    std::fill_n(gradient, n.K * n.Rp, 0.0f);
    std::fill_n(s.dh, n.block * 2 * n.Hp, 0.0f);
    for (int64_t r = 0; r < size; ++r) {
      if (call.dhn) std::copy_n(call.dhn + (first + r) * n.H, n.H, s.dh + r * n.Hp);
      if (call.dcn) std::copy_n(call.dcn + (first + r) * n.H, n.H, s.dc + r * n.Hp);
    }
    for (int64_t k = n.segments - 1; k >= 0; --k) {
      const int64_t begin = k * n.segment, end = std::min(n.steps, begin + n.segment);
      float* records = saved;
      if (n.checkpointed()) {
        this->restore_checkpoint(saved + k * n.block * n.state_floats, s.state);
        records = s.segment;
        recompute(*fw, begin, end, records, s);
      } else {
        this->start(s.state);
      }
      backward_segment(bw, begin, end, records, gradient, s);
    }
    for (int64_t r = 0; r < size; ++r) {
      if (call.dh0) std::copy_n(s.dh + r * n.Hp, n.H, call.dh0 + (first + r) * n.H);
      if (call.dc0) std::copy_n(s.dc + r * n.Hp, n.H, call.dc0 + (first + r) * n.H);
    }
  }

 private:
  void recompute(const ForwardWeights& fw, int64_t begin, int64_t end, float* records, BackwardScratch& s) const {
    const float* before = s.state;
    for (int64_t t = begin; t < end; ++t) {
      float* now = records + (t - begin) * n.block * n.record;
      this->step(fw, t, before, now, s.z);
      before = now;
    }
  }

  // Steps end - 1 .. begin, whose records lie one after the other; s.state holds the records before `begin`.
  void backward_segment(const BackwardWeights& bw, int64_t begin, int64_t end, const float* records, float* gradient,
                        BackwardScratch& s) const {
    for (int64_t t = end - 1; t >= begin; --t) {
      const int64_t slot = n.block * n.record;
      const float* now = records + (t - begin) * slot;
      const float* before = t > begin ? now - slot : s.state;
      const float* next = t > begin + 1 ? before - slot : s.state;  // the records after those, on their way to the cache
      float* dz = s.dz + s.filled * size * n.R_row;
      if (call.dy) add_output_gradient(t, s.dh);
      for (int64_t r = 0; r < size; ++r) {
        differentiate<Cell>(now + r * n.record, before + r * n.record, next + r * n.record, s.dh + r * n.Hp, s.dc + r * n.Hp,
                            dz + r * n.R_row, n);
        gather_row(t, r, before, s.rows + (s.filled * size + r) * n.K);
      }
      back<Cell::kPassesHidden>(dz + n.side, bw.hidden, bw.depth, n.Hp, s.dh);
      if (call.dx) input_gradient(bw, t, dz, s.dx);
      if (++s.filled == s.depth_steps || t == 0) {
        add_weight_gradients(s, gradient);
        s.filled = 0;
      }
    }
  }

  // out (size, columns) = or += dz w, w packed: a product for all gates, or where they are padded one for each, for the padding
  // may hold what an infinite input has left there.
  template <bool Add>
  void back(const float* dz, const float* w, int64_t depth, int64_t columns, float* out) const {
    constexpr int kParts = Cell::kSplit ? Cell::kGates - 1 : 1;
    static_assert(kParts <= kMostProducts);
    Product parts[kParts];
    for (int g = 0; g < kParts; ++g)
      parts[g] = {dz + g * n.gate, n.R_row, 1, depth / kParts, w + g * (depth / kParts) * n.panel_row, n.panel_row, depth * n.panel_row};
    multiply<Add>(size, columns / kLanes, n.panel, parts, kParts, nullptr, out, columns);
  }

  // gradient += rows^T dz of the steps that have gathered.
  void add_weight_gradients(const BackwardScratch& s, float* gradient) const {
    const int64_t depth = s.filled * size, of_x = Cell::kSplit ? 1 + n.I : n.K;  // rows of the bias and of x, at least
    const auto add = [&](int64_t row, int64_t rows, int64_t column, int64_t columns) {
      const int64_t panel = most_vecs(static_cast<int>(rows));
      const Product outer = {s.rows + row, 1, n.K, depth, s.dz + column, n.R_row, panel * kLanes};
      multiply<true>(rows, columns / kLanes, panel, &outer, 1, nullptr, gradient + row * n.Rp + column, n.Rp);
    };
    add(0, of_x, 0, n.Rp);
    if constexpr (Cell::kSplit) add(of_x, n.H, n.side, n.W);
  }

  void add_output_gradient(int64_t t, float* dh) const {
    const float* dy = call.dy + first * call.dy_batch_stride + t * call.dy_step_stride;
    for (int64_t r = 0; r < size; ++r)
      for (int64_t u = 0; u < n.H; ++u) dh[r * n.Hp + u] += dy[r * call.dy_batch_stride + u];
  }

  // What the gates of a sequence saw at step t: 1, x_t, h_{t-1}.
  void gather_row(int64_t t, int64_t r, const float* before, float* row) const {
    row[0] = 1.0f;
    std::copy_n(this->x(t) + r * call.x_batch_stride, n.I, row + 1);
    std::copy_n(before + r * n.record + Cell::kHidden * n.Hp, n.H, row + 1 + n.I);
  }

  void input_gradient(const BackwardWeights& bw, int64_t t, const float* dz, float* dx) const {
    back<false>(dz, bw.input, bw.depth, n.Ip, dx);
    for (int64_t r = 0; r < size; ++r)
      std::copy_n(dx + r * n.Ip, n.I, call.dx + ((first + r) * n.steps + t) * n.I);
  }
};

// Sum of the blocks' gradients, always in the order of the blocks, into PyTorch's layout.
void reduce(const LayerCall& call, const Sizes& n, float* gradients) {
  for (int64_t b = 1; b < n.blocks; ++b)
    for (int64_t i = 0; i < n.K * n.Rp; ++i) gradients[i] += gradients[b * n.K * n.Rp + i];
  for (int64_t g = 0; call.dbias && g < n.gates; ++g) std::copy_n(gradients + g * n.gate, n.H, call.dbias + g * n.H);
  for (int64_t g = 0; g < n.W / n.gate; ++g) {
    transpose(gradients + n.Rp + g * n.gate, n.Rp, n.I, n.H, call.dw_ih + g * n.H * n.I);
    transpose(gradients + (1 + n.I) * n.Rp + n.side + g * n.gate, n.Rp, n.H, n.H, call.dw_hh + g * n.H * n.H);
  }
}

// No exception may cross into C.
template <class Work>
int guarded(Work work) {
  try {
    work();
    return 0;
  } catch (const std::exception&) {
    return 1;  // out of memory is all that can happen
  }
}

template <class Cell>
void forward(const LayerCall& call) {
  const Sizes n = sizes_of<Cell>(call);
  const ForwardWeights weights(call, n);
  const int64_t each = Block<Cell>::forward_scratch(n);
  const Scratch scratch(static_cast<size_t>(each * n.blocks));
  parallel_for(static_cast<int>(n.blocks), static_cast<int>(call.threads), [&](int b) {
    float* saved = call.saved ? call.saved + b * n.saved_per_block() : nullptr;
    Block<Cell>(call, n, b).forward(weights, saved, scratch.data() + b * each);
  });
}

template <class Cell>
void backward(const LayerCall& call) {
  const Sizes n = sizes_of<Cell>(call);
  const BackwardWeights weights(call, n);
  const Scratch gradients(static_cast<size_t>(n.blocks * n.K * n.Rp));
  std::unique_ptr<ForwardWeights> again;
  if (n.checkpointed()) again = std::make_unique<ForwardWeights>(call, n);
  std::atomic<bool> exhausted{false};
  parallel_for(static_cast<int>(n.blocks), static_cast<int>(call.threads), [&](int b) {
    try {
      BackwardScratch scratch(n);
      BackwardBlock<Cell>(call, n, b).backward(again.get(), weights, call.saved + b * n.saved_per_block(),
                                               gradients.data() + b * n.K * n.Rp, scratch);
    } catch (const std::bad_alloc&) {
      exhausted = true;
    }
  });
  if (exhausted) throw std::bad_alloc();
  reduce(call, n, gradients.data());
}

// work(cell) for the cell that a call names.
template <class Work>
auto with_cell(const LayerCall& call, Work work) {
  switch (call.cell) {
    case kLstm: return work(Lstm());
    case kGru: return work(Gru());
    case kTanh: return work(Plain<false>());
    default: return work(Plain<true>());
  }
}

}  // namespace

int64_t layer_saved_floats(const LayerCall* call) {
  return with_cell(*call, [&](auto cell) {
    const Sizes n = sizes_of<decltype(cell)>(*call);
    return n.blocks * n.saved_per_block();
  });
}

int layer_forward(const LayerCall* call) {
  return guarded([&] { with_cell(*call, [&](auto cell) { forward<decltype(cell)>(*call); }); });
}

int layer_backward(const LayerCall* call) {
  return guarded([&] { with_cell(*call, [&](auto cell) { backward<decltype(cell)>(*call); }); });
}
