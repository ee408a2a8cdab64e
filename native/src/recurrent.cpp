// A recurrent layer, forward and backward through time, in float32.
//
//   z_t = b + W_ih x_t + W_hh h_{t-1};  the rest of a step is its cell's, and what else W_hh is
//   multiplied by, see cells.h
//
// A block of sequences runs alone through all steps: nothing is synchronised, and blocks are what
// threads share out. Gates lie on the SIMD lanes, sequences in the rows of a register tile: every
// batch size fills the vectors, all products (forward, backward, weight gradients) are one tile
// kernel, and nothing is ever transposed on the way.
//
// Letters: B batch, T steps, I inputs, H hidden, Hp and Ip = these rounded up to whole vectors, S
// sources, K = 1 + I + S H; R = a row of all gates and X = those of them that x has a part in. A
// cell is whole where its one source and x have a part in all gates: these follow each other
// without gaps. Otherwise each gate begins with a whole vector.

#include <algorithm>
#include <cstdint>
#include <exception>
#include <iterator>
#include <limits>
#include <vector>

#include "cells.h"
#include "kernels.h"
#include "products.h"
#include "runtime.h"
#include "simd.h"

namespace {

constexpr int64_t kGradientDepth =
    128;  // (step, sequence) rows whose weight gradients are summed in registers

// --- sizes ---

// Rows that are an odd number of cache lines apart: at a power of two they would all want the same
// few cache sets.
constexpr int64_t odd_lines(int64_t floats) { return (round_up(floats, 16) / 16 | 1) * 16; }

template <class Cell>
constexpr int kSourceCount = std::size(Cell::kSources);

template <class Cell>
constexpr bool kWhole = kSourceCount<Cell> == 1 && Cell::kSources[0].gates == Cell::kGates &&
                        Cell::kInputGates == Cell::kGates;

constexpr int kMostSources = 2;

template <class Cell>
constexpr bool kFinishes = Cell::kSources[kSourceCount<Cell> - 1].now;

// What is taken for granted below: sources of this step are last, and those that are not h are the
// one other row of the state.
template <class Cell>
constexpr bool sources_in_order() {
  bool now = false;
  for (const Source& source : Cell::kSources) {
    if (now && !source.now) return false;
    now = source.now;
    if (source.row != Cell::kHidden &&
        (Cell::kCarried != 1 || source.row != Cell::kRows - Cell::kState))
      return false;
  }
  return kSourceCount<Cell> <= kMostSources;
}

struct Sizes {
  template <class Cell>
  Sizes(const LayerCall& call, Cell)
      : I(call.inputs),
        H(call.hidden),
        Hp(round_up(H, kLanes)),
        Ip(round_up(I, kLanes)),
        K(1 + I + kSourceCount<Cell> * H),
        gate(kWhole<Cell> ? H : Hp),
        R(Cell::kGates * gate),
        X(Cell::kInputGates * gate),
        Rp(round_up(R, kLanes)),
        R_row(odd_lines(Rp)),
        record(Cell::kRows * Hp),
        state((Cell::kRows - Cell::kState) * Hp),
        state_floats(Cell::kState * Hp),
        carried(Cell::kCarried * Hp),
        steps(call.steps),
        segment(std::min(call.segment, call.steps)),
        segments((steps + segment - 1) / segment),
        block(call.block),
        blocks((call.batch + block - 1) / block) {
    static_assert(sources_in_order<Cell>());
    panel = most_vecs(static_cast<int>(block));
    panel_row = panel * kLanes;
  }
  bool checkpointed() const { return segments > 1; }
  // What a block keeps for the backward pass: every step's record, or the state at the start of
  // each segment.
  int64_t saved_per_block() const {
    return block * (checkpointed() ? segments * state_floats : steps * record);
  }

  int64_t I, H, Hp, Ip, K;
  int64_t gate, R, X, Rp,
      R_row;  // gate: from one to the next; R_row: from one row of gate gradients to the next
  int64_t record, state,
      state_floats;  // floats of a record; where in it the state begins, and how long that is
  int64_t carried;   // floats of the gradients of the state's other rows than h
  int64_t steps, segment, segments, block, blocks;
  int64_t panel, panel_row;  // width of a panel of weights, in vectors and in floats
};

// --- weights ---

// Weights (gates x H, columns) with as many rows for each gate as it takes of a row of all gates;
// new ones are zero.
class GateRows {
 public:
  GateRows(const float* w, int gates, int64_t columns, const Sizes& n) : rows_(w) {
    if (n.gate == n.H) return;
    padded_.resize(static_cast<size_t>(gates * n.gate * columns));
    for (int64_t g = 0; g < gates; ++g)
      std::copy_n(w + g * n.H * columns, n.H * columns, padded_.data() + g * n.gate * columns);
    rows_ = padded_.data();
  }
  operator const float*() const { return rows_; }

 private:
  const float* rows_;
  std::vector<float> padded_;
};

struct ForwardWeights {
  template <class Cell>
  ForwardWeights(const LayerCall& call, const Sizes& n, Cell)
      : memory(static_cast<size_t>(floats<Cell>(n))), bias(memory.data()), input(bias + n.Rp) {
    std::fill_n(memory.data(), floats<Cell>(n), 0.0f);
    for (int64_t g = 0; call.bias && g < Cell::kGates; ++g)
      std::copy_n(call.bias + g * n.H, n.H, bias + g * n.gate);
    pack_transposed(GateRows(call.w_ih, Cell::kInputGates, n.I, n), n.I, n.X, n.panel_row, input);
    float* next = input + packed_floats(n.I, n.X, n.panel_row);
    const float* w_hh = call.w_hh;
    for (int s = 0; s < kSourceCount<Cell>; ++s) {
      const int gates = Cell::kSources[s].gates;
      hidden[s] = next;
      pack_transposed(GateRows(w_hh, gates, n.H, n), n.H, gates * n.gate, n.panel_row, next);
      next += packed_floats(n.H, gates * n.gate, n.panel_row), w_hh += gates * n.H * n.H;
    }
  }

  template <class Cell>
  static int64_t floats(const Sizes& n) {
    int64_t sum = n.Rp + packed_floats(n.I, n.X, n.panel_row);
    for (const Source& source : Cell::kSources)
      sum += packed_floats(n.H, source.gates * n.gate, n.panel_row);
    return sum;
  }

  Scratch memory;
  float *bias, *input,
      *hidden[kMostSources];  // (Rp); panels of (I, X) and, of each source, (H, its gates)
};

struct BackwardWeights {
  template <class Cell>
  BackwardWeights(const LayerCall& call, const Sizes& n, Cell)
      : memory(static_cast<size_t>(floats<Cell>(n))), input(memory.data()) {
    std::fill_n(memory.data(), floats<Cell>(n), 0.0f);
    const int64_t depth = Cell::kInputGates * n.H;
    pack(call.w_ih, depth, n.I, n.panel_row, input);
    float* next = input + packed_floats(depth, n.I, n.panel_row);
    const float* w_hh = call.w_hh;
    for (int s = 0; s < kSourceCount<Cell>; ++s) {
      const int64_t rows = Cell::kSources[s].gates * n.H;
      hidden[s] = next;
      pack(w_hh, rows, n.H, n.panel_row, next);
      next += packed_floats(rows, n.H, n.panel_row), w_hh += rows * n.H;
    }
  }

  template <class Cell>
  static int64_t floats(const Sizes& n) {
    int64_t sum = packed_floats(Cell::kInputGates * n.H, n.I, n.panel_row);
    for (const Source& source : Cell::kSources)
      sum += packed_floats(source.gates * n.H, n.H, n.panel_row);
    return sum;
  }

  Scratch memory;
  float *input,
      *hidden[kMostSources];  // panels of (gates of x, I) and, of each source, (its gates, H)
};

// --- forward ---

// One sequence at one step. The last vector of a gate that the next one follows without a gap reads
// into that; what it makes lies in the padding of the record and is used by nobody.
template <class Cell>
INLINE void activate(const LayerCall& call, const float* z, const float* before, float* record,
                     const Sizes& n) {
  for (int64_t u = 0; u < n.Hp; u += kLanes)
    Cell::activate({z + u, n.gate}, {before + u, n.Hp}, {record + u, n.Hp}, call);
}

template <class Cell>
INLINE void finish(const LayerCall& call, const float* z, const float* before, float* record,
                   const Sizes& n) {
  for (int64_t u = 0; u < n.Hp; u += kLanes)
    Cell::finish({z + u, n.gate}, {before + u, n.Hp}, {record + u, n.Hp}, call);
}

// One block of sequences. `state` holds a record per sequence of which the last rows are the state
// before the first step.
template <class Cell>
struct Block {
  Block(const LayerCall& call, const Sizes& n, int64_t index)
      : call(call), n(n), first(index * n.block), size(std::min(n.block, call.batch - first)) {}

  const float* x(int64_t t) const {
    return call.x + first * call.x_batch_stride + t * call.x_step_stride;
  }

  void start(float* state) const {
    std::fill_n(state, size * n.record, 0.0f);
    for (int64_t s = 0; s < size; ++s) {
      if constexpr (kLowest<Cell> >= 0)
        std::fill_n(state + s * n.record + kLowest<Cell> * n.Hp, n.Hp,
                    -std::numeric_limits<float>::infinity());
      if (call.h0)
        std::copy_n(call.h0 + (first + s) * n.H, n.H, state + s * n.record + Cell::kHidden * n.Hp);
      if (call.c0) std::copy_n(call.c0 + (first + s) * n.H, n.H, state + s * n.record + n.state);
    }
  }

  // Step t: records of the step before -> records of this step.
  void step(const ForwardWeights& w, int64_t t, const float* before, float* records,
            float* z) const {
    const Product of_x = {x(t),        call.x_batch_stride, 1, n.I, w.input,
                          n.panel_row, n.I * n.panel_row};
    if constexpr (kWhole<Cell>) {
      const Product products[2] = {of_x, of_source(w, 0, before)};
      multiply<false>(size, n.Rp / kLanes, n.panel, products, 2, w.bias, z, n.Rp);
    } else {
      multiply<false>(size, n.X / kLanes, n.panel, &of_x, 1, w.bias, z, n.Rp);
      for (int64_t s = 0; s < size; ++s) std::copy_n(w.bias + n.X, n.R - n.X, z + s * n.Rp + n.X);
      add_sources<false>(w, before, z);
    }
    for (int64_t s = 0; s < size; ++s)
      activate<Cell>(call, z + s * n.Rp, before + s * n.record, records + s * n.record, n);
    if constexpr (kFinishes<Cell>) {
      add_sources<true>(w, records, z);
      for (int64_t s = 0; s < size; ++s)
        finish<Cell>(call, z + s * n.Rp, before + s * n.record, records + s * n.record, n);
    }
  }

  Product of_source(const ForwardWeights& w, int s, const float* records) const {
    return {records + Cell::kSources[s].row * n.Hp,
            n.record,
            1,
            n.H,
            w.hidden[s],
            n.panel_row,
            n.H * n.panel_row};
  }

  // z += the products of the sources that are of the step before, or of this one.
  template <bool Now>
  void add_sources(const ForwardWeights& w, const float* records, float* z) const {
    for (int s = 0; s < kSourceCount<Cell>; ++s) {
      const Source& source = Cell::kSources[s];
      if (source.now != Now) continue;
      const Product product = of_source(w, s, records);
      multiply<true>(size, source.gates * n.gate / kLanes, n.panel, &product, 1, nullptr,
                     z + source.first * n.gate, n.Rp);
    }
  }

  // The row of the records that begins at `from` -> an array of the caller's.
  void copy_row(const float* records, int64_t from, float* to, int64_t to_stride) const {
    for (int64_t s = 0; s < size; ++s)
      std::copy_n(records + s * n.record + from, n.H, to + s * to_stride);
  }

  void keep_checkpoint(const float* records, float* checkpoint) const {
    for (int64_t s = 0; s < size; ++s)
      std::copy_n(records + s * n.record + n.state, n.state_floats,
                  checkpoint + s * n.state_floats);
  }

  void restore_checkpoint(const float* checkpoint, float* records) const {
    for (int64_t s = 0; s < size; ++s)
      std::copy_n(checkpoint + s * n.state_floats, n.state_floats,
                  records + s * n.record + n.state);
  }

  // All steps. Records go to `saved` where it keeps them all, else into two that take turns in
  // `ring`.
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
      if (call.y)
        copy_row(records, Cell::kHidden * n.Hp,
                 call.y + first * call.y_batch_stride + t * call.y_step_stride,
                 call.y_batch_stride);
      before = records;
    }
    copy_row(before, Cell::kHidden * n.Hp, call.hn + first * n.H, n.H);
    if (call.cn) copy_row(before, n.state, call.cn + first * n.H, n.H);
  }

  static int64_t forward_scratch(const Sizes& n) {
    return n.block * (n.Rp + 3 * n.record) + kLanes;
  }

  const LayerCall& call;
  const Sizes& n;
  int64_t first, size;
};

// --- backward ---

template <int Gates>
struct GateGradients {
  Vec values[Gates];
  INLINE void set(int gate, Vec value) { values[gate] = value; }
};

// The gradients of one sequence at one step: dh and dc after it -> dz (R), and what of them passes
// the gates by.
template <class Cell>
INLINE void differentiate(const LayerCall& call, const float* record, const float* before,
                          const float* next, float* dh, float* dc, float* dz, const Sizes& n) {
  GateGradients<Cell::kGates> heads = {};
  for (int64_t u = 0; u < n.Hp; u += kLanes) {
    for (int row = 0; row < Cell::kRows; ++row) __builtin_prefetch(next + row * n.Hp + u);
    if constexpr (kWhole<Cell>) {
      GateGradients<Cell::kGates> gates;
      Cell::differentiate({record + u, n.Hp}, {before + u, n.Hp}, dh + u, {dc + u, n.Hp}, gates,
                          call);
      for (int gate = 0; gate < Cell::kGates; ++gate)
        store(dz + gate * n.gate + u, gates.values[gate]);
      if (u == 0) heads = gates;
    } else {
      OutRows gates = {dz + u, n.gate};
      Cell::differentiate({record + u, n.Hp}, {before + u, n.Hp}, dh + u, {dc + u, n.Hp}, gates,
                          call);
    }
  }
  // The last vector of a gate has spilled its padding onto the head of the next: write the heads
  // again, in order.
  if constexpr (kWhole<Cell>)
    for (int gate = 1; gate < Cell::kGates; ++gate) store(dz + gate * n.gate, heads.values[gate]);
}

template <class Cell>
INLINE void differentiate_finish(const LayerCall& call, const float* record, const float* before,
                                 float* dh, float* dz, const Sizes& n) {
  for (int64_t u = 0; u < n.Hp; u += kLanes) {
    OutRows gates = {dz + u, n.gate};
    Cell::differentiate_finish({record + u, n.Hp}, {before + u, n.Hp}, dh + u, gates, call);
  }
}

struct BackwardScratch {
  explicit BackwardScratch(const Sizes& n)
      : depth_steps(std::max<int64_t>(1, kGradientDepth / n.block)),
        memory(static_cast<size_t>(n.block * (n.Hp + n.carried + n.record + n.Rp) + kLanes +
                                   depth_steps * n.block * (n.R_row + n.K) + kLanes +
                                   (n.checkpointed() ? n.segment * n.block * n.record : 0) +
                                   n.block * n.Ip)) {
    dh = memory.data();
    dc = dh + n.block * n.Hp;
    state = dc + n.block * n.carried;
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

  // gradient: (K, Rp), of this block alone: rows of the bias, the inputs, the sources.
  void backward(const ForwardWeights* fw, const BackwardWeights& bw, float* saved, float* gradient,
                BackwardScratch& s) const {
    std::fill_n(gradient, n.K * n.Rp, 0.0f);
    std::fill_n(s.dh, n.block * (n.Hp + n.carried), 0.0f);
    for (int64_t r = 0; r < size; ++r) {
      if (call.dhn) std::copy_n(call.dhn + (first + r) * n.H, n.H, s.dh + r * n.Hp);
      if (call.dcn) std::copy_n(call.dcn + (first + r) * n.H, n.H, s.dc + r * n.carried);
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
      if (call.dc0) std::copy_n(s.dc + r * n.carried, n.H, call.dc0 + (first + r) * n.H);
    }
  }

 private:
  void recompute(const ForwardWeights& fw, int64_t begin, int64_t end, float* records,
                 BackwardScratch& s) const {
    const float* before = s.state;
    for (int64_t t = begin; t < end; ++t) {
      float* now = records + (t - begin) * n.block * n.record;
      this->step(fw, t, before, now, s.z);
      before = now;
    }
  }

  // Steps end - 1 .. begin, whose records lie one after the other; s.state holds the records before
  // `begin`.
  void backward_segment(const BackwardWeights& bw, int64_t begin, int64_t end, const float* records,
                        float* gradient, BackwardScratch& s) const {
    for (int64_t t = end - 1; t >= begin; --t) {
      const int64_t slot = n.block * n.record;
      const float* now = records + (t - begin) * slot;
      const float* before = t > begin ? now - slot : s.state;
      const float* next = t > begin + 1
                              ? before - slot
                              : s.state;  // the records after those, on their way to the cache
      float* dz = s.dz + s.filled * size * n.R_row;
      if (call.dy) add_output_gradient(t, s.dh);
      if constexpr (kFinishes<Cell>) {
        for (int64_t r = 0; r < size; ++r)
          differentiate_finish<Cell>(call, now + r * n.record, before + r * n.record,
                                     s.dh + r * n.Hp, dz + r * n.R_row, n);
        back_to_sources<true>(bw, dz, s);
      }
      for (int64_t r = 0; r < size; ++r) {
        differentiate<Cell>(call, now + r * n.record, before + r * n.record, next + r * n.record,
                            s.dh + r * n.Hp, s.dc + r * n.carried, dz + r * n.R_row, n);
        gather_row(t, r, before, now, s.rows + (s.filled * size + r) * n.K);
      }
      back_to_sources<false>(bw, dz, s);
      if (call.dx) input_gradient(bw, t, dz, s.dx);
      if (++s.filled == s.depth_steps || t == 0) {
        add_weight_gradients(s, gradient);
        s.filled = 0;
      }
    }
  }

  // dh and dc from the gates that the sources have a part in.
  template <bool Now>
  void back_to_sources(const BackwardWeights& bw, const float* dz, const BackwardScratch& s) const {
    for (int k = 0; k < kSourceCount<Cell>; ++k) {
      const Source& source = Cell::kSources[k];
      if (source.now != Now) continue;
      const float* gates = dz + source.first * n.gate;
      if (source.row != Cell::kHidden)
        back<true>(gates, bw.hidden[k], source.gates, n.Hp, s.dc);
      else
        back<Cell::kPassesHidden>(gates, bw.hidden[k], source.gates, n.Hp, s.dh);
    }
  }

  // out (size, columns) = or += dz w, w packed: a product for all gates, or where they are padded
  // one for each, for the padding may hold what an infinite input has left there.
  template <bool Add>
  void back(const float* dz, const float* w, int gates, int64_t columns, float* out) const {
    static_assert(kWhole<Cell> || Cell::kGates <= kMostProducts);
    const int parts = kWhole<Cell> ? 1 : gates;
    const int64_t depth = gates * n.H, each = depth / parts;
    Product products[kMostProducts];
    for (int g = 0; g < parts; ++g)
      products[g] = {dz + g * n.gate,    n.R_row, 1, each, w + g * each * n.panel_row, n.panel_row,
                     depth * n.panel_row};
    multiply<Add>(size, columns / kLanes, n.panel, products, parts, nullptr, out, columns);
  }

  // gradient += rows^T dz of the steps that have gathered.
  void add_weight_gradients(const BackwardScratch& s, float* gradient) const {
    const int64_t depth = s.filled * size;
    const auto add = [&](int64_t row, int64_t rows, int64_t column, int64_t columns) {
      const int64_t panel = most_vecs(static_cast<int>(rows));
      const Product outer = {s.rows + row, 1, n.K, depth, s.dz + column, n.R_row, panel * kLanes};
      multiply<true>(rows, columns / kLanes, panel, &outer, 1, nullptr,
                     gradient + row * n.Rp + column, n.Rp);
    };
    if constexpr (kWhole<Cell>) {
      add(0, n.K, 0, n.Rp);
    } else {
      add(0, 1 + n.I, 0, n.Rp);
      for (int k = 0; k < kSourceCount<Cell>; ++k)
        add(1 + n.I + k * n.H, n.H, Cell::kSources[k].first * n.gate,
            Cell::kSources[k].gates * n.gate);
    }
  }

  void add_output_gradient(int64_t t, float* dh) const {
    const float* dy = call.dy + first * call.dy_batch_stride + t * call.dy_step_stride;
    for (int64_t r = 0; r < size; ++r)
      for (int64_t u = 0; u < n.H; ++u) dh[r * n.Hp + u] += dy[r * call.dy_batch_stride + u];
  }

  // What the gates of a sequence saw at step t: 1, x_t, the sources.
  void gather_row(int64_t t, int64_t r, const float* before, const float* now, float* row) const {
    row[0] = 1.0f;
    std::copy_n(this->x(t) + r * call.x_batch_stride, n.I, row + 1);
    for (int k = 0; k < kSourceCount<Cell>; ++k)
      std::copy_n(
          (Cell::kSources[k].now ? now : before) + r * n.record + Cell::kSources[k].row * n.Hp, n.H,
          row + 1 + n.I + k * n.H);
  }

  void input_gradient(const BackwardWeights& bw, int64_t t, const float* dz, float* dx) const {
    back<false>(dz, bw.input, Cell::kInputGates, n.Ip, dx);
    for (int64_t r = 0; r < size; ++r)
      std::copy_n(dx + r * n.Ip, n.I, call.dx + ((first + r) * n.steps + t) * n.I);
  }
};

// Sum of the blocks' gradients, always in the order of the blocks, into the layout of the weights.
template <class Cell>
void reduce(const LayerCall& call, const Sizes& n, float* gradients) {
  for (int64_t b = 1; b < n.blocks; ++b)
    for (int64_t i = 0; i < n.K * n.Rp; ++i) gradients[i] += gradients[b * n.K * n.Rp + i];
  for (int64_t g = 0; call.dbias && g < Cell::kGates; ++g)
    std::copy_n(gradients + g * n.gate, n.H, call.dbias + g * n.H);
  for (int64_t g = 0; g < Cell::kInputGates; ++g)
    transpose(gradients + n.Rp + g * n.gate, n.Rp, n.I, n.H, call.dw_ih + g * n.H * n.I);
  float* dw_hh = call.dw_hh;
  for (int k = 0; k < kSourceCount<Cell>; ++k)
    for (int64_t g = 0; g < Cell::kSources[k].gates; ++g, dw_hh += n.H * n.H)
      transpose(gradients + (1 + n.I + k * n.H) * n.Rp + (Cell::kSources[k].first + g) * n.gate,
                n.Rp, n.H, n.H, dw_hh);
}

template <class Cell>
void forward(const LayerCall& call) {
  const Sizes n(call, Cell());
  const ForwardWeights weights(call, n, Cell());
  const int64_t each = Block<Cell>::forward_scratch(n);
  const Scratch scratch(static_cast<size_t>(each * n.blocks));
  parallel_for(static_cast<int>(n.blocks), static_cast<int>(call.threads), [&](int b) {
    float* saved = call.saved ? call.saved + b * n.saved_per_block() : nullptr;
    Block<Cell>(call, n, b).forward(weights, saved, scratch.data() + b * each);
  });
}

template <class Cell>
void backward(const LayerCall& call) {
  const Sizes n(call, Cell());
  const BackwardWeights weights(call, n, Cell());
  const Scratch gradients(static_cast<size_t>(n.blocks * n.K * n.Rp));
  std::unique_ptr<ForwardWeights> again;
  if (n.checkpointed()) again = std::make_unique<ForwardWeights>(call, n, Cell());
  parallel_for(static_cast<int>(n.blocks), static_cast<int>(call.threads), [&](int b) {
    BackwardScratch scratch(n);
    BackwardBlock<Cell>(call, n, b)
        .backward(again.get(), weights, call.saved + b * n.saved_per_block(),
                  gradients.data() + b * n.K * n.Rp, scratch);
  });
  reduce<Cell>(call, n, gradients.data());
}

// work(cell) for the cell that a call names, once its sizes make sense.
template <class Work>
void with_cell(const LayerCall& call, Work work) {
  require_positive("batch", call.batch);
  require_positive("steps", call.steps);
  require_positive("inputs", call.inputs);
  require_positive("hidden", call.hidden);
  require_positive("segment", call.segment);
  require_positive("block", call.block);
  switch (call.cell) {
#define CELL(kind, type, name) \
  case kind:                   \
    return work(type());
#include "cells.inc"
#undef CELL
    default:
      throw std::invalid_argument("cell: the kernels have none of the number " +
                                  std::to_string(call.cell));
  }
}

}  // namespace

int layer_forward(const LayerCall* call) {
  return guarded([&] { with_cell(*call, [&](auto cell) { forward<decltype(cell)>(*call); }); });
}

int layer_backward(const LayerCall* call) {
  return guarded([&] { with_cell(*call, [&](auto cell) { backward<decltype(cell)>(*call); }); });
}
