// A layer of LSTM, forward and backward through time, in float32.
//
//   z_t = b + W_ih x_t + W_hh h_{t-1};  i, f, o = sigmoid(z), g = tanh(z)   gate order i, f, g, o, as in PyTorch
//   c_t = f c_{t-1} + i g;  h_t = o tanh(c_t)
//
// A block of sequences runs alone through all steps: nothing is synchronised, and blocks are what threads share out.
// Gates lie on the SIMD lanes, sequences in the rows of a register tile: every batch size fills the vectors, all
// products (forward, backward, weight gradients) are one tile kernel, and nothing is ever transposed on the way.
//
// Letters: B batch, T steps, I inputs, H hidden, Hp and Rp = H and 4H rounded up to whole vectors, K = 1 + I + H.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <exception>

#include "kernels.h"
#include "runtime.h"
#include "simd.h"

namespace {

constexpr int kTileRows = kTileAccumulators == 24 ? 8 : 4;
constexpr int kTileVecs = kTileAccumulators == 24 ? 6 : 3;
constexpr int64_t kBlock = 16;          // sequences per block at least, while there are few blocks
constexpr int64_t kMostBlocks = 64;     // each has weight gradients of its own
constexpr int64_t kGradientDepth = 128;  // (step, sequence) rows whose weight gradients are summed in registers

// --- products --------------------------------------------------------------------------------------------------------

// tile[r][v] += sum_k a[r * row + k * col] * w[k * w_row + v * kLanes]
template <int Rows, int Vecs>
INLINE void multiply_tile(Vec (&tile)[Rows][Vecs], const float* a, int64_t row, int64_t col, int64_t depth,
                          const float* w, int64_t w_row) {
  for (int64_t k = 0; k < depth; ++k, a += col, w += w_row) {
    Vec weights[Vecs];
    for (int v = 0; v < Vecs; ++v) weights[v] = load(w + v * kLanes);
    for (int r = 0; r < Rows; ++r) {
      const Vec factor = splat(a[r * row]);
      for (int v = 0; v < Vecs; ++v) tile[r][v] += factor * weights[v];
    }
  }
}

// One factor of a product: rows of `a` times `w`; see multiply_tile. `w` lies in panels of columns: `w_row` floats from
// row to row of a panel, `w_panel` from panel to panel.
struct Product {
  const float* a;
  int64_t row, col, depth;
  const float* w;
  int64_t w_row, w_panel;
};

// out (rows, Vecs) = or += start + the sum of `count` products. `start` is one row for all, or null for zero.
template <int Rows, int Vecs, bool Add>
void product_tile(const Product* products, int count, const float* start, float* out, int64_t out_row) {
  Vec tile[Rows][Vecs];
  for (int v = 0; v < Vecs; ++v) {
    const Vec first = start ? load(start + v * kLanes) : Vec{};
    for (int r = 0; r < Rows; ++r) tile[r][v] = first;
  }
  for (int p = 0; p < count; ++p) {
    const Product& q = products[p];
    multiply_tile<Rows, Vecs>(tile, q.a, q.row, q.col, q.depth, q.w, q.w_row);
  }
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < Vecs; ++v) {
      float* place = out + r * out_row + v * kLanes;
      store(place, Add ? load(place) + tile[r][v] : tile[r][v]);
    }
}

using TileKernel = void (*)(const Product*, int, const float*, float*, int64_t);

// How many vectors of columns a tile of so many rows spans.
constexpr int most_vecs(int rows) { return std::min(kTileVecs, kTileAccumulators / std::min(rows, kTileRows)); }

template <bool Add, int Rows, int Vecs>
void fill_kernels(TileKernel (&table)[kTileRows + 1][kTileVecs + 1]) {
  table[Rows][Vecs] = product_tile<Rows, Vecs, Add>;
  if constexpr (Vecs < most_vecs(Rows)) {
    fill_kernels<Add, Rows, Vecs + 1>(table);
  } else if constexpr (Rows < kTileRows) {
    fill_kernels<Add, Rows + 1, 1>(table);
  }
}

template <bool Add>
struct Kernels {
  TileKernel table[kTileRows + 1][kTileVecs + 1] = {};
  Kernels() { fill_kernels<Add, 1, 1>(table); }
};

// out (rows, vecs * kLanes) = or += start + sum of products. Panels of columns outside, so that a panel of the weights
// stays in the nearest cache for all rows; `panel` is its width in vectors, at most most_vecs(rows).
template <bool Add>
void multiply(int64_t rows, int64_t vecs, int64_t panel, const Product* products, int count, const float* start,
              float* out, int64_t out_row) {
  static const Kernels<Add> kernels;
  for (int64_t v = 0; v < vecs; v += panel) {
    const int64_t width = std::min(panel, vecs - v);
    for (int64_t r = 0; r < rows; r += kTileRows) {
      Product part[2];
      for (int p = 0; p < count; ++p) {
        part[p] = products[p];
        part[p].a += r * part[p].row;
        part[p].w += v / panel * part[p].w_panel;
      }
      const int64_t height = std::min<int64_t>(kTileRows, rows - r);
      kernels.table[height][width](part, count, start ? start + v * kLanes : nullptr, out + r * out_row + v * kLanes,
                                   out_row);
    }
  }
}

// --- sizes -----------------------------------------------------------------------------------------------------------

// Rows that are an odd number of cache lines apart: at a power of two they would all want the same few cache sets.
constexpr int64_t odd_lines(int64_t floats) { return (round_up(floats, 16) / 16 | 1) * 16; }

struct Sizes {
  explicit Sizes(const LstmCall& call)
      : I(call.inputs), H(call.hidden), Hp(round_up(H, kLanes)), Ip(round_up(I, kLanes)), Rp(round_up(4 * H, kLanes)),
        K(1 + I + H), R_row(odd_lines(Rp)), record(6 * Hp), steps(call.steps),
        segment(std::min(call.segment, call.steps)), segments((steps + segment - 1) / segment) {
    const int64_t few = call.batch <= kBlock ? (call.batch + 1) / 2 : kBlock;  // two threads share a small batch
    block = round_up(std::max({few, (call.batch + kMostBlocks - 1) / kMostBlocks, int64_t{1}}), 4);
    blocks = (call.batch + block - 1) / block;
    panel = most_vecs(static_cast<int>(block));
    panel_row = panel * kLanes;
  }
  bool checkpointed() const { return segments > 1; }
  // What a block keeps for the backward pass: every step's record, or cell and output at the start of each segment.
  int64_t saved_per_block() const { return block * (checkpointed() ? segments * 2 * Hp : steps * record); }

  int64_t I, H, Hp, Ip, Rp, K;
  int64_t R_row;  // from one row of gate gradients to the next
  int64_t record, steps, segment, segments, block, blocks;
  int64_t panel, panel_row;  // width of a panel of weights, in vectors and in floats
};

// A record of a step of a sequence: six rows of Hp floats.
enum { kInput, kForget, kCandidate, kOutput, kCell, kHidden };

// --- weights ---------------------------------------------------------------------------------------------------------

// Weights lie in panels of n.panel_row columns, each contiguous, so that a product reads them in one stream. Columns that
// fill up the last panel are zero.

int64_t packed_floats(int64_t depth, int64_t columns, const Sizes& n) {
  return (columns + n.panel_row - 1) / n.panel_row * depth * n.panel_row;
}

// w (depth, columns) -> panels
void pack(const float* w, int64_t depth, int64_t columns, const Sizes& n, float* to) {
  for (int64_t c = 0; c < columns; c += n.panel_row, to += depth * n.panel_row)
    for (int64_t k = 0; k < depth; ++k)
      std::copy_n(w + k * columns + c, std::min(n.panel_row, columns - c), to + k * n.panel_row);
}

// The transpose of w (columns, depth) -> panels
void pack_transposed(const float* w, int64_t depth, int64_t columns, const Sizes& n, float* to) {
  constexpr int64_t kPatch = 16;
  for (int64_t c = 0; c < columns; c += n.panel_row, to += depth * n.panel_row)
    for (int64_t k = 0; k < depth; k += kPatch)
      for (int64_t i = 0; i < std::min(n.panel_row, columns - c); ++i)
        for (int64_t j = k; j < std::min(depth, k + kPatch); ++j) to[j * n.panel_row + i] = w[(c + i) * depth + j];
}

struct ForwardWeights {
  ForwardWeights(const LstmCall& call, const Sizes& n)
      : floats(n.Rp + packed_floats(n.I, 4 * n.H, n) + packed_floats(n.H, 4 * n.H, n)),
        memory(static_cast<size_t>(floats)), bias(memory.data()), input(bias + n.Rp),
        hidden(input + packed_floats(n.I, 4 * n.H, n)) {
    std::fill_n(memory.data(), floats, 0.0f);
    if (call.bias) std::copy_n(call.bias, 4 * n.H, bias);
    pack_transposed(call.w_ih, n.I, 4 * n.H, n, input);
    pack_transposed(call.w_hh, n.H, 4 * n.H, n, hidden);
  }
  int64_t floats;
  Scratch memory;
  float *bias, *input, *hidden;  // (Rp); panels of (I, 4H) and (H, 4H)
};

struct BackwardWeights {
  BackwardWeights(const LstmCall& call, const Sizes& n)
      : floats(packed_floats(4 * n.H, n.H, n) + packed_floats(4 * n.H, n.I, n)), memory(static_cast<size_t>(floats)),
        hidden(memory.data()), input(hidden + packed_floats(4 * n.H, n.H, n)) {
    std::fill_n(memory.data(), floats, 0.0f);
    pack(call.w_hh, 4 * n.H, n.H, n, hidden);
    pack(call.w_ih, 4 * n.H, n.I, n, input);
  }
  int64_t floats;
  Scratch memory;
  float *hidden, *input;  // panels of (4H, H) and (4H, I)
};

// --- forward ---------------------------------------------------------------------------------------------------------

// The gates of one sequence at one step: z (4H, then padding) and the record before -> this step's record. The last
// vector of a gate reads into the next gate; what that makes lies in the padding of the record and is used by nobody.
INLINE void activate(const float* z, const float* before, float* record, const Sizes& n) {
  for (int64_t u = 0; u < n.Hp; u += kLanes) {
    Vec i, f, g, o, tanh_c;
    activations(load(z + u), load(z + n.H + u), load(z + 2 * n.H + u), i, f, g);
    const Vec c = f * load(before + kCell * n.Hp + u) + i * g;
    activations(load(z + 3 * n.H + u), c, o, tanh_c);
    store(record + kInput * n.Hp + u, i);
    store(record + kForget * n.Hp + u, f);
    store(record + kCandidate * n.Hp + u, g);
    store(record + kOutput * n.Hp + u, o);
    store(record + kCell * n.Hp + u, c);
    store(record + kHidden * n.Hp + u, o * tanh_c);
  }
}

// One block of sequences. `state` holds a record per sequence of which cell and hidden are the state before `begin`.
struct Block {
  Block(const LstmCall& call, const Sizes& n, int64_t index)
      : call(call), n(n), index(index), first(index * n.block), size(std::min(n.block, call.batch - first)) {}

  const float* x(int64_t t) const { return call.x + first * call.x_batch_stride + t * call.x_step_stride; }

  void start(float* state) const {
    std::fill_n(state, size * n.record, 0.0f);
    for (int64_t s = 0; s < size; ++s) {
      if (call.c0) std::copy_n(call.c0 + (first + s) * n.H, n.H, state + s * n.record + kCell * n.Hp);
      if (call.h0) std::copy_n(call.h0 + (first + s) * n.H, n.H, state + s * n.record + kHidden * n.Hp);
    }
  }

  // Step t: records of the step before -> records of this step.
  void step(const ForwardWeights& w, int64_t t, const float* before, float* records, float* z) const {
    const Product products[2] = {
        {x(t), call.x_batch_stride, 1, n.I, w.input, n.panel_row, n.I * n.panel_row},
        {before + kHidden * n.Hp, n.record, 1, n.H, w.hidden, n.panel_row, n.H * n.panel_row},
    };
    multiply<false>(size, n.Rp / kLanes, n.panel, products, 2, w.bias, z, n.Rp);
    for (int64_t s = 0; s < size; ++s)
      activate(z + s * n.Rp, before + s * n.record, records + s * n.record, n);
  }

  void copy_row(const float* records, int row, float* to, int64_t to_stride) const {
    for (int64_t s = 0; s < size; ++s) std::copy_n(records + s * n.record + row * n.Hp, n.H, to + s * to_stride);
  }

  void keep_checkpoint(const float* records, float* checkpoint) const {
    for (int64_t s = 0; s < size; ++s)
      std::copy_n(records + s * n.record + kCell * n.Hp, 2 * n.Hp, checkpoint + s * 2 * n.Hp);  // cell and hidden
  }

  void restore_checkpoint(const float* checkpoint, float* records) const {
    for (int64_t s = 0; s < size; ++s)
      std::copy_n(checkpoint + s * 2 * n.Hp, 2 * n.Hp, records + s * n.record + kCell * n.Hp);
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
        keep_checkpoint(before, saved + t / n.segment * n.block * 2 * n.Hp);
      float* records = keep_all ? saved + t * slot : ring + (t & 1) * slot;
      step(w, t, before, records, z);
      if (call.y) copy_row(records, kHidden, call.y + first * call.y_batch_stride + t * call.y_step_stride,
                           call.y_batch_stride);
      before = records;
    }
    copy_row(before, kHidden, call.hn + first * n.H, n.H);
    copy_row(before, kCell, call.cn + first * n.H, n.H);
  }

  static int64_t forward_scratch(const Sizes& n) { return n.block * (n.Rp + 3 * n.record) + kLanes; }

  const LstmCall& call;
  const Sizes& n;
  int64_t index, first, size;
};

// --- backward --------------------------------------------------------------------------------------------------------

// The gradients of one sequence at one step: dh and dc after it -> dz (4H) and dc before it.
INLINE void differentiate(const float* record, const float* before, const float* next, const float* dh, float* dc,
                          float* dz, const Sizes& n) {
  Vec heads[4] = {};
  for (int64_t u = 0; u < n.Hp; u += kLanes) {
    for (int row = 0; row < 6; ++row) __builtin_prefetch(next + row * n.Hp + u);
    const Vec i = load(record + kInput * n.Hp + u), f = load(record + kForget * n.Hp + u);
    const Vec g = load(record + kCandidate * n.Hp + u), o = load(record + kOutput * n.Hp + u);
    const Vec tanh_c = tanh_of(load(record + kCell * n.Hp + u));
    const Vec dhu = load(dh + u);
    const Vec dcu = load(dc + u) + dhu * o * (1.0f - tanh_c * tanh_c);
    const Vec dzs[4] = {
        dcu * g * i * (1.0f - i),
        dcu * load(before + kCell * n.Hp + u) * f * (1.0f - f),
        dcu * i * (1.0f - g * g),
        dhu * tanh_c * o * (1.0f - o),
    };
    store(dc + u, dcu * f);
    for (int gate = 0; gate < 4; ++gate) {
      store(dz + gate * n.H + u, dzs[gate]);
      if (u == 0) heads[gate] = dzs[gate];
    }
  }
  // The last vector of a gate has spilled its padding onto the head of the next: write the heads again, in order.
  for (int gate = 1; gate < 4; ++gate) store(dz + gate * n.H, heads[gate]);
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

struct BackwardBlock : Block {
  using Block::Block;

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
        restore_checkpoint(saved + k * n.block * 2 * n.Hp, s.state);
        records = s.segment;
        recompute(*fw, begin, end, records, s);
      } else {
        start(s.state);
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
      step(fw, t, before, now, s.z);
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
        differentiate(now + r * n.record, before + r * n.record, next + r * n.record, s.dh + r * n.Hp, s.dc + r * n.Hp, dz + r * n.R_row, n);
        gather_row(t, r, before, s.rows + (s.filled * size + r) * n.K);
      }
      const Product back = {dz, n.R_row, 1, 4 * n.H, bw.hidden, n.panel_row, 4 * n.H * n.panel_row};
      multiply<false>(size, n.Hp / kLanes, n.panel, &back, 1, nullptr, s.dh, n.Hp);
      if (call.dx) input_gradient(bw, t, dz, s.dx);
      if (++s.filled == s.depth_steps || t == 0) {
        const int64_t panel = most_vecs(static_cast<int>(n.K));
        const Product outer = {s.rows, 1, n.K, s.filled * size, s.dz, n.R_row, panel * kLanes};
        multiply<true>(n.K, n.Rp / kLanes, panel, &outer, 1, nullptr, gradient, n.Rp);
        s.filled = 0;
      }
    }
  }

  void add_output_gradient(int64_t t, float* dh) const {
    const float* dy = call.dy + first * call.dy_batch_stride + t * call.dy_step_stride;
    for (int64_t r = 0; r < size; ++r)
      for (int64_t u = 0; u < n.H; ++u) dh[r * n.Hp + u] += dy[r * call.dy_batch_stride + u];
  }

  // What the gates of a sequence saw at step t: 1, x_t, h_{t-1}.
  void gather_row(int64_t t, int64_t r, const float* before, float* row) const {
    row[0] = 1.0f;
    std::copy_n(x(t) + r * call.x_batch_stride, n.I, row + 1);
    std::copy_n(before + r * n.record + kHidden * n.Hp, n.H, row + 1 + n.I);
  }

  void input_gradient(const BackwardWeights& bw, int64_t t, const float* dz, float* dx) const {
    const Product back = {dz, n.R_row, 1, 4 * n.H, bw.input, n.panel_row, 4 * n.H * n.panel_row};
    multiply<false>(size, n.Ip / kLanes, n.panel, &back, 1, nullptr, dx, n.Ip);
    for (int64_t r = 0; r < size; ++r)
      std::copy_n(dx + r * n.Ip, n.I, call.dx + ((first + r) * n.steps + t) * n.I);
  }
};

// Sum of the blocks' gradients, always in the order of the blocks, into PyTorch's layout.
void reduce(const LstmCall& call, const Sizes& n, float* gradients) {
  for (int64_t b = 1; b < n.blocks; ++b)
    for (int64_t i = 0; i < n.K * n.Rp; ++i) gradients[i] += gradients[b * n.K * n.Rp + i];
  std::copy_n(gradients, 4 * n.H, call.dbias);
  for (int64_t r = 0; r < 4 * n.H; ++r)
    for (int64_t i = 0; i < n.I; ++i) call.dw_ih[r * n.I + i] = gradients[(1 + i) * n.Rp + r];
  constexpr int64_t kPatch = 16;
  const float* hidden = gradients + (1 + n.I) * n.Rp;
  for (int64_t r = 0; r < 4 * n.H; r += kPatch)
    for (int64_t k = 0; k < n.H; k += kPatch)
      for (int64_t i = r; i < std::min(4 * n.H, r + kPatch); ++i)
        for (int64_t j = k; j < std::min(n.H, k + kPatch); ++j) call.dw_hh[i * n.H + j] = hidden[j * n.Rp + i];
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

}  // namespace

int64_t lstm_saved_floats(const LstmCall* call) {
  const Sizes n(*call);
  return n.blocks * n.saved_per_block();
}

int lstm_forward(const LstmCall* call) {
  return guarded([&] {
    const Sizes n(*call);
    const ForwardWeights weights(*call, n);
    const int64_t each = Block::forward_scratch(n);
    const int workers = static_cast<int>(n.blocks);
    const Scratch scratch(static_cast<size_t>(each * n.blocks));
    parallel_for(workers, static_cast<int>(call->threads), [&](int b) {
      float* saved = call->saved ? call->saved + b * n.saved_per_block() : nullptr;
      Block(*call, n, b).forward(weights, saved, scratch.data() + b * each);
    });
  });
}

int lstm_backward(const LstmCall* call) {
  return guarded([&] {
    const Sizes n(*call);
    const BackwardWeights weights(*call, n);
    const Scratch gradients(static_cast<size_t>(n.blocks * n.K * n.Rp));
    std::unique_ptr<ForwardWeights> forward;
    if (n.checkpointed()) forward = std::make_unique<ForwardWeights>(*call, n);
    std::atomic<bool> exhausted{false};
    parallel_for(static_cast<int>(n.blocks), static_cast<int>(call->threads), [&](int b) {
      try {
        BackwardScratch scratch(n);
        BackwardBlock(*call, n, b).backward(forward.get(), weights, call->saved + b * n.saved_per_block(),
                                            gradients.data() + b * n.K * n.Rp, scratch);
      } catch (const std::bad_alloc&) {
        exhausted = true;
      }
    });
    if (exhausted) throw std::bad_alloc();
    reduce(*call, n, gradients.data());
  });
}
