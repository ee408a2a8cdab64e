// The cells of recurrent layers: what becomes of the gates' sums at one step, and its derivatives, one vector of units at a time.
//
// A cell has
//   kGates          sums for each unit, z = bias + W_ih x_t + W_hh h_{t-1}
//   kSplit          whether the first of these has no part of h, and the last none of x
//   kRows           numbers that it records of each unit at each step; the last kState of them are the state, the last is h
//   kPassesHidden   whether h_{t-1} reaches h_t past the gates too
//   activate        z and the record before -> the record of this step
//   differentiate   the record, the one before and dh -> dz. An LSTM's dc goes through; a cell that passes h on leaves in dh what
//                   goes that way.
#pragma once

#include <cstdint>

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
  INLINE void set(int row, Vec value) const { store(at + row * stride, value); }
};

//   i, f, o = sigmoid(z), g = tanh(z);  c_t = f c_{t-1} + i g;  h_t = o tanh(c_t)        gate order i, f, g, o
struct Lstm {
  enum { kInput, kForget, kCandidate, kOutput, kCell, kHidden, kRows };
  static constexpr int kGates = 4, kState = 2;
  static constexpr bool kSplit = false, kPassesHidden = false;

  static INLINE void activate(Rows z, Rows before, OutRows now) {
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

  static INLINE void differentiate(Rows now, Rows before, float* dh, float* dc, Vec (&dz)[kGates]) {
    const Vec i = now[kInput], f = now[kForget], g = now[kCandidate], o = now[kOutput];
    const Vec tanh_c = tanh_of(now[kCell]);
    const Vec dhu = load(dh);
    const Vec dcu = load(dc) + dhu * o * (1.0f - tanh_c * tanh_c);
    dz[0] = dcu * g * i * (1.0f - i);
    dz[1] = dcu * before[kCell] * f * (1.0f - f);
    dz[2] = dcu * i * (1.0f - g * g);
    dz[3] = dhu * tanh_c * o * (1.0f - o);
    store(dc, dcu * f);
  }
};

//   r, u = sigmoid(z);  n = tanh(z_x + r z_h);  h_t = (1 - u) n + u h_{t-1}        gate order z_x, r, u, z_h
struct Gru {
  enum { kReset, kUpdate, kCandidate, kHiddenPart, kHidden, kRows };
  static constexpr int kGates = 4, kState = 1;
  static constexpr bool kSplit = true, kPassesHidden = true;

  static INLINE void activate(Rows z, Rows before, OutRows now) {
    Vec r, u;
    sigmoids(z[1], z[2], r, u);
    const Vec part = z[3], n = tanh_of(z[0] + r * part);
    now.set(kReset, r);
    now.set(kUpdate, u);
    now.set(kCandidate, n);
    now.set(kHiddenPart, part);
    now.set(kHidden, n + u * (before[kHidden] - n));
  }

  static INLINE void differentiate(Rows now, Rows before, float* dh, float*, Vec (&dz)[kGates]) {
    const Vec r = now[kReset], u = now[kUpdate], n = now[kCandidate];
    const Vec dhu = load(dh), dn = dhu * (1.0f - u) * (1.0f - n * n);
    dz[0] = dn;
    dz[1] = dn * now[kHiddenPart] * r * (1.0f - r);
    dz[2] = dhu * (before[kHidden] - n) * u * (1.0f - u);
    dz[3] = dn * r;
    store(dh, dhu * u);
  }
};

//   h_t = tanh(z) or max(0, z)
template <bool Relu>
struct Plain {
  enum { kHidden, kRows };
  static constexpr int kGates = 1, kState = 1;
  static constexpr bool kSplit = false, kPassesHidden = false;

  static INLINE void activate(Rows z, Rows, OutRows now) {
    now.set(kHidden, Relu ? rectified(z[0]) : tanh_of(z[0]));
  }

  static INLINE void differentiate(Rows now, Rows, float* dh, float*, Vec (&dz)[kGates]) {
    const Vec h = now[kHidden], dhu = load(dh);
    dz[0] = Relu ? where_positive(h, dhu) : dhu * (1.0f - h * h);
  }
};
