// The cells of recurrent layers: what becomes of the gates' sums at one step, and its derivatives,
// one vector of units at a time.
//
// A cell has
//   kGates          sums for each unit, z = bias + W_ih x_t + the products of W_hh with its sources
//   kInputGates     how many of these, the first ones, x has a part in
//   kSources        rows of the state, each with the gates that it has a part in
//   kRows           numbers that it records of each unit at each step; the last kState of them are
//   the state, the last is h kPassesHidden   whether h_{t-1} reaches h_t past the gates too
//   activate        z and the record before -> the record of this step
//   differentiate   the record, the one before, dh and dc (of the state's other rows, in their
//   order) -> dz, and in dh (where h is
//                   passed on) and dc what goes past the gates
//   kCarried        how many of the other rows of the state have a gradient, the first ones
// and where the last source is the state of this very step, for what waits for that,
//   finish, differentiate_finish
#pragma once

#include <cstdint>

#include "kernels.h"
#include "simd.h"

// Rows of numbers of which one vector each is at hand.
struct Rows {
  const float* at;
  int64_t stride;
  INLINE Vec operator[](int row) const { return load(at + row * stride); }
};

struct OutRows {
  float* at;
  int64_t stride;
  INLINE Vec operator[](int row) const { return load(at + row * stride); }
  INLINE void set(int row, Vec value) const { store(at + row * stride, value); }
};

// A row of the state whose product with weights is in the sums of some gates.
struct Source {
  int row, first, gates;  // of the record; the first of those gates and their number
  bool now;               // the state of this step, not that of the one before
};

// The row of a cell's state that begins at minus infinity, where one does not begin at zero.
template <class Cell>
inline constexpr int kLowest = -1;

//   i, f, o = sigmoid(z), g = tanh(z);  c_t = f c_{t-1} + i g;  h_t = o tanh(c_t)        gate order
//   i, f, g, o
struct Lstm {
  enum { kInput, kForget, kCandidate, kOutput, kCell, kHidden, kRows };
  static constexpr int kGates = 4, kInputGates = 4, kState = 2, kCarried = 1;
  static constexpr Source kSources[] = {{kHidden, 0, 4, false}};
  static constexpr bool kPassesHidden = false;

  static INLINE void activate(Rows z, Rows before, OutRows now, const LayerCall&) {
    Vec i, f, g, o, tanh_c;
    activations(z[0], z[1], z[2], i, f, g);
    const Vec c = f * before[kCell] + i * g;
    activations(z[3], c, o, tanh_c);
    now.set(kInput, i);
    now.set(kForget, f);
    now.set(kCandidate, g);
    now.set(kOutput, o);
    now.set(kCell, c);
    now.set(kHidden, o * tanh_c);
  }

  template <class Out>
  static INLINE void differentiate(Rows now, Rows before, float* dh, OutRows dc, Out& dz,
                                   const LayerCall&) {
    const Vec i = now[kInput], f = now[kForget], g = now[kCandidate], o = now[kOutput];
    const Vec tanh_c = tanh_of(now[kCell]);
    const Vec dhu = load(dh);
    const Vec dcu = dc[0] + dhu * o * (1.0f - tanh_c * tanh_c);
    dz.set(0, dcu * g * i * (1.0f - i));
    dz.set(1, dcu * before[kCell] * f * (1.0f - f));
    dz.set(2, dcu * i * (1.0f - g * g));
    dz.set(3, dhu * tanh_c * o * (1.0f - o));
    dc.set(0, dcu * f);
  }
};

//   r, u = sigmoid(z);  n = tanh(z_x + r z_h);  h_t = (1 - u) n + u h_{t-1}        gate order z_x,
//   r, u, z_h
struct Gru {
  enum { kReset, kUpdate, kCandidate, kHiddenPart, kHidden, kRows };
  static constexpr int kGates = 4, kInputGates = 3, kState = 1, kCarried = 0;
  static constexpr Source kSources[] = {{kHidden, 1, 3, false}};
  static constexpr bool kPassesHidden = true;

  static INLINE void activate(Rows z, Rows before, OutRows now, const LayerCall&) {
    Vec r, u;
    sigmoids(z[1], z[2], r, u);
    const Vec part = z[3], n = tanh_of(z[0] + r * part);
    now.set(kReset, r);
    now.set(kUpdate, u);
    now.set(kCandidate, n);
    now.set(kHiddenPart, part);
    now.set(kHidden, n + u * (before[kHidden] - n));
  }

  template <class Out>
  static INLINE void differentiate(Rows now, Rows before, float* dh, OutRows, Out& dz,
                                   const LayerCall&) {
    const Vec r = now[kReset], u = now[kUpdate], n = now[kCandidate];
    const Vec dhu = load(dh), dn = dhu * (1.0f - u) * (1.0f - n * n);
    dz.set(0, dn);
    dz.set(1, dn * now[kHiddenPart] * r * (1.0f - r));
    dz.set(2, dhu * (before[kHidden] - n) * u * (1.0f - u));
    dz.set(3, dn * r);
    store(dh, dhu * u);
  }
};

//   h_t = tanh(z) or max(0, z)
template <bool Relu>
struct Plain {
  enum { kHidden, kRows };
  static constexpr int kGates = 1, kInputGates = 1, kState = 1, kCarried = 0;
  static constexpr Source kSources[] = {{kHidden, 0, 1, false}};
  static constexpr bool kPassesHidden = false;

  static INLINE void activate(Rows z, Rows, OutRows now, const LayerCall&) {
    now.set(kHidden, Relu ? rectified(z[0]) : tanh_of(z[0]));
  }

  template <class Out>
  static INLINE void differentiate(Rows now, Rows, float* dh, OutRows, Out& dz, const LayerCall&) {
    const Vec h = now[kHidden], dhu = load(dh);
    dz.set(0, Relu ? where_positive(h, dhu) : dhu * (1.0f - h * h));
  }
};

//   h_t = sign(z) max(0, |z| + b)        the second gate is b, which neither x nor h has a part in
struct Modrelu {
  enum { kHidden, kRows };
  static constexpr int kGates = 2, kInputGates = 1, kState = 1, kCarried = 0;
  static constexpr Source kSources[] = {{kHidden, 0, 1, false}};
  static constexpr bool kPassesHidden = false;

  static INLINE void activate(Rows z, Rows, OutRows now, const LayerCall&) {
    const Vec x = z[0], size = rectified((x < Vec{} ? -x : x) + z[1]);
    now.set(kHidden, with_sign_of(x, size));
  }

  template <class Out>
  static INLINE void differentiate(Rows now, Rows, float* dh, OutRows, Out& dz, const LayerCall&) {
    const Vec h = now[kHidden], dhu = load(dh);
    dz.set(0, h == Vec{} ? Vec{} : dhu);
    dz.set(1, with_sign_of(h, dhu));
  }
};

//   a, b = dt sigmoid(z), z_t = (1 - a) z_{t-1} + a tanh(z);  h_t = (1 - b) h_{t-1} + b tanh(z of
//   z_t) gate order a, b, candidate, output; the last sees z_t
struct Lem {
  enum {
    kCellStep,
    kHiddenStep,
    kCandidate,
    kOutput,
    kCell,
    kHidden,
    kRows
  };  // the steps without their factor dt
  static constexpr int kGates = 4, kInputGates = 4, kState = 2, kCarried = 1;
  static constexpr Source kSources[] = {{kHidden, 0, 3, false}, {kCell, 3, 1, true}};
  static constexpr bool kPassesHidden = true;

  static INLINE void activate(Rows z, Rows before, OutRows now, const LayerCall& call) {
    Vec a, b, candidate;
    activations(z[0], z[1], z[2], a, b, candidate);
    now.set(kCellStep, a);
    now.set(kHiddenStep, b);
    now.set(kCandidate, candidate);
    now.set(kCell, before[kCell] + call.dt * a * (candidate - before[kCell]));
  }

  static INLINE void finish(Rows z, Rows before, OutRows now, const LayerCall& call) {
    const Vec output = tanh_of(z[3]), b = now[kHiddenStep];
    now.set(kOutput, output);
    now.set(kHidden, before[kHidden] + call.dt * b * (output - before[kHidden]));
  }

  template <class Out>
  static INLINE void differentiate_finish(Rows now, Rows before, float* dh, Out& dz,
                                          const LayerCall& call) {
    const Vec b = now[kHiddenStep], output = now[kOutput], dhu = load(dh), step = call.dt * b;
    dz.set(1, dhu * (output - before[kHidden]) * step * (1.0f - b));
    dz.set(3, dhu * step * (1.0f - output * output));
    store(dh, dhu * (1.0f - step));
  }

  template <class Out>
  static INLINE void differentiate(Rows now, Rows before, float*, OutRows dc, Out& dz,
                                   const LayerCall& call) {
    const Vec a = now[kCellStep], candidate = now[kCandidate], dcu = dc[0], step = call.dt * a;
    dz.set(0, dcu * (candidate - before[kCell]) * step * (1.0f - a));
    dz.set(2, dcu * step * (1.0f - candidate * candidate));
    dc.set(0, dcu * (1.0f - step));
  }
};

//   z_t = z_{t-1} + dt (tanh(z) - gamma h_{t-1} - epsilon z_{t-1});  h_t = h_{t-1} + dt z_t
struct Cornn {
  enum { kForce, kCell, kHidden, kRows };
  static constexpr int kGates = 1, kInputGates = 1, kState = 2, kCarried = 1;
  static constexpr Source kSources[] = {{kCell, 0, 1, false}, {kHidden, 0, 1, false}};
  static constexpr bool kPassesHidden = true;

  static INLINE void activate(Rows z, Rows before, OutRows now, const LayerCall& call) {
    const Vec force = tanh_of(z[0]);
    const Vec cell = (1.0f - call.dt * call.epsilon) * before[kCell] +
                     call.dt * (force - call.gamma * before[kHidden]);
    now.set(kForce, force);
    now.set(kCell, cell);
    now.set(kHidden, before[kHidden] + call.dt * cell);
  }

  template <class Out>
  static INLINE void differentiate(Rows now, Rows, float* dh, OutRows dc, Out& dz,
                                   const LayerCall& call) {
    const Vec force = now[kForce], dhu = load(dh), dcu = dc[0] + call.dt * dhu;
    dz.set(0, dcu * call.dt * (1.0f - force * force));
    dc.set(0, (1.0f - call.dt * call.epsilon) * dcu);
    store(dh, dhu - call.dt * call.gamma * dcu);
  }
};

//   m_t = max(log sigmoid(z_f) + m_{t-1}, z_i);  i = exp(z_i - m_t), f = exp(log sigmoid(z_f) +
//   m_{t-1} - m_t) c_t = f c_{t-1} + i tanh(z), n_t = f n_{t-1} + i;  h_t = sigmoid(z_o) c_t / n_t
//   gate order i, f, o, candidate m scales c and n alike and leaves h as it is: it has no gradient.
//   "Shut" is 1 - sigmoid(z_f), of which f's derivative is made.
struct Slstm {
  enum {
    kInput,
    kForget,
    kForgetShut,
    kOutput,
    kCandidate,
    kCell,
    kNorm,
    kStabiliser,
    kHidden,
    kRows
  };
  static constexpr int kGates = 4, kInputGates = 4, kState = 4, kCarried = 2;
  static constexpr Source kSources[] = {{kHidden, 0, 4, false}};
  static constexpr bool kPassesHidden = false;

  static INLINE void activate(Rows z, Rows before, OutRows now, const LayerCall&) {
    const Vec kept = log_sigmoid(z[1]) + before[kStabiliser], m = kept > z[0] ? kept : z[0];
    const Vec i = exp_of(z[0] - m), f = exp_of(kept - m);
    Vec o, shut, candidate;
    activations(z[2], -z[1], z[3], o, shut, candidate);
    const Vec c = f * before[kCell] + i * candidate, n = f * before[kNorm] + i;
    now.set(kInput, i);
    now.set(kForget, f);
    now.set(kForgetShut, shut);
    now.set(kOutput, o);
    now.set(kCandidate, candidate);
    now.set(kCell, c);
    now.set(kNorm, n);
    now.set(kStabiliser, m);
    now.set(kHidden, o * c / n);
  }

  template <class Out>
  static INLINE void differentiate(Rows now, Rows before, float* dh, OutRows dc, Out& dz,
                                   const LayerCall&) {
    const Vec i = now[kInput], f = now[kForget], o = now[kOutput], candidate = now[kCandidate],
              h = now[kHidden];
    const Vec dhu = load(dh), per_norm = dhu / now[kNorm], dcu = dc[0] + per_norm * o,
              dnu = dc[1] - per_norm * h;
    dz.set(0, (dcu * candidate + dnu) * i);
    dz.set(1, (dcu * before[kCell] + dnu * before[kNorm]) * f * now[kForgetShut]);
    dz.set(2, dhu * h * (1.0f - o));
    dz.set(3, dcu * i * (1.0f - candidate * candidate));
    dc.set(0, dcu * f);
    dc.set(1, dnu * f);
  }
};

template <>
inline constexpr int kLowest<Slstm> = Slstm::kStabiliser;
