// The kernels against plain float64 loops, small and odd sizes, to be run under sanitizers and
// emulators. Every array that a caller hands over ends exactly where it should, so that a read or
// write beyond it is caught; the kernels' own scratch space is whole pages.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "../../src/kernels.h"
#include "../../src/runtime.h"

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

static std::mt19937 generator(1);

static Floats random_floats(size_t n, float limit = 0.5f) {
  std::uniform_real_distribution<float> uniform(-limit, limit);
  Floats v(n);
  for (float& f : v) f = uniform(generator);
  return v;
}

static const int64_t* current = nullptr;

static void expect_close(const char* what, const Floats& actual, const Doubles& expected,
                         double floor = 1e-12) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  if (!(std::sqrt(error) <= 2e-6 * std::sqrt(norm) + floor)) {
    std::printf("FAILED %s at B=%d T=%d I=%d H=%d: relative error %.2e of a norm of %.2e\n", what,
                int(current[0]), int(current[1]), int(current[2]), int(current[3]),
                std::sqrt(error / norm), std::sqrt(norm));
    std::exit(1);
  }
}

constexpr int64_t kRecords[] = {6, 5, 1, 1, 1, 9, 6, 3},
                  kStates[] = {2, 1, 1, 1, 1, 4, 2, 2};  // of each CellKind
constexpr double kDt = 0.6, kGamma = 1.3, kEpsilon = 0.7;

static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

struct Layer {
  CellKind kind;
  int64_t B, T, I, H;
  int64_t gates, rows, h_rows;  // a row of all gates; rows of w_ih and of w_hh
  bool two_states;
  Floats x, h0, c0, w_ih, w_hh, bias, dy, dhn, dcn;

  Layer(CellKind kind, int64_t B, int64_t T, int64_t I, int64_t H)
      : kind(kind),
        B(B),
        T(T),
        I(I),
        H(H),
        gates(kind == kLstm || kind == kGru || kind == kSlstm || kind == kLem ? 4 * H
              : kind == kModrelu                                              ? 2 * H
                                                                              : H),
        rows(kind == kGru       ? 3 * H
             : kind == kModrelu ? H
                                : gates),
        h_rows(kind == kCornn ? 2 * H : rows),
        two_states(kind == kLstm || kind == kLem || kind == kCornn),
        x(random_floats(B * T * I)),
        h0(random_floats(B * H)),
        c0(random_floats(B * H)),
        // recurrent weights as PyTorch starts them: larger ones make chaos, which no two roundings
        // follow alike
        w_ih(random_floats(rows * I)),
        w_hh(random_floats(h_rows * H, 1 / std::sqrt(float(H)))),
        bias(random_floats(gates)),
        dy(random_floats(B * T * H)),
        dhn(random_floats(B * H)),
        dcn(random_floats(B * H)) {}

  struct Results {
    Doubles y, cn, dx, dh0, dc0, dw_ih, dw_hh, dbias;
  };

  Results reference() const {
    Results r{Doubles(B * T * H),
              Doubles(two_states ? B * H : 0),
              Doubles(B * T * I),
              Doubles(B * H),
              Doubles(two_states ? B * H : 0),
              Doubles(rows * I),
              Doubles(h_rows * H),
              Doubles(gates)};
    for (int64_t b = 0; b < B; ++b) switch (kind) {
        case kLstm:
          lstm(b, r);
          break;
        case kGru:
          gru(b, r);
          break;
        case kSlstm:
          slstm(b, r);
          break;
        case kLem:
          lem(b, r);
          break;
        case kCornn:
          cornn(b, r);
          break;
        default:
          plain(b, r);
      }
    return r;
  }

  // W_ih x_t and W_hh h of one row of the weights.
  double of_x(int64_t row, int64_t b, int64_t t) const {
    double sum = 0;
    for (int64_t i = 0; i < I; ++i) sum += double(w_ih[row * I + i]) * x[(b * T + t) * I + i];
    return sum;
  }

  double of_h(int64_t row, const Doubles& h) const {
    double sum = 0;
    for (int64_t k = 0; k < H; ++k) sum += w_hh[row * H + k] * h[k];
    return sum;
  }

  void back_to_x(int64_t row, double dz, int64_t b, int64_t t, Results& r) const {
    for (int64_t i = 0; i < I; ++i) {
      r.dw_ih[row * I + i] += dz * x[(b * T + t) * I + i];
      r.dx[(b * T + t) * I + i] += dz * w_ih[row * I + i];
    }
  }

  void back_to_h(int64_t row, double dz, const Doubles& h, Doubles& dh, Results& r) const {
    for (int64_t k = 0; k < H; ++k) {
      r.dw_hh[row * H + k] += dz * h[k];
      dh[k] += dz * w_hh[row * H + k];
    }
  }

  // Sequence b, unit by unit: h = step(t, u, h before), then back(t, u, h before, h, dh, gradient
  // of h before).
  template <class Step, class Back>
  void walk(int64_t b, Results& r, Step step, Back back) const {
    std::vector<Doubles> outs(T + 1, Doubles(H));
    Doubles dh(H);
    for (int64_t u = 0; u < H; ++u) outs[0][u] = h0[b * H + u], dh[u] = dhn[b * H + u];
    for (int64_t t = 0; t < T; ++t)
      for (int64_t u = 0; u < H; ++u)
        r.y[(b * T + t) * H + u] = outs[t + 1][u] = step(t, u, outs[t]);
    for (int64_t t = T - 1; t >= 0; --t) {
      Doubles before(H);
      for (int64_t u = 0; u < H; ++u)
        back(t, u, outs[t], outs[t + 1][u], dh[u] + dy[(b * T + t) * H + u], before);
      dh = before;
    }
    for (int64_t u = 0; u < H; ++u) r.dh0[b * H + u] = dh[u];
  }

  void lstm(int64_t b, Results& r) const {
    std::vector<Doubles> gate(T, Doubles(4 * H)), cells(T + 1, Doubles(H));
    Doubles dc(H);
    for (int64_t u = 0; u < H; ++u) cells[0][u] = c0[b * H + u], dc[u] = dcn[b * H + u];
    const auto step = [&](int64_t t, int64_t u, const Doubles& h) {
      for (int64_t k = 0; k < 4; ++k) {
        const double z = bias[k * H + u] + of_x(k * H + u, b, t) + of_h(k * H + u, h);
        gate[t][k * H + u] = k == 2 ? std::tanh(z) : sigmoid(z);
      }
      cells[t + 1][u] = gate[t][H + u] * cells[t][u] + gate[t][u] * gate[t][2 * H + u];
      return gate[t][3 * H + u] * std::tanh(cells[t + 1][u]);
    };
    const auto back = [&](int64_t t, int64_t u, const Doubles& h, double, double d,
                          Doubles& before) {
      const double i = gate[t][u], f = gate[t][H + u], g = gate[t][2 * H + u],
                   o = gate[t][3 * H + u];
      const double tc = std::tanh(cells[t + 1][u]);
      dc[u] += d * o * (1 - tc * tc);
      const double dz[4] = {dc[u] * g * i * (1 - i), dc[u] * cells[t][u] * f * (1 - f),
                            dc[u] * i * (1 - g * g), d * tc * o * (1 - o)};
      dc[u] *= f;
      for (int64_t k = 0; k < 4; ++k) {
        r.dbias[k * H + u] += dz[k];
        back_to_x(k * H + u, dz[k], b, t, r), back_to_h(k * H + u, dz[k], h, before, r);
      }
    };
    walk(b, r, step, back);
    for (int64_t u = 0; u < H; ++u) r.cn[b * H + u] = cells[T][u], r.dc0[b * H + u] = dc[u];
  }

  // Without the stabiliser, which does not change h: in float64 sums of a few steps need none.
  void slstm(int64_t b, Results& r) const {
    std::vector<Doubles> gate(T, Doubles(4 * H)), cells(T + 1, Doubles(H)),
        norms(T + 1, Doubles(H));
    Doubles dc(H), dn(H);
    const auto step = [&](int64_t t, int64_t u, const Doubles& h) {
      for (int64_t k = 0; k < 4; ++k) {
        const double z = bias[k * H + u] + of_x(k * H + u, b, t) + of_h(k * H + u, h);
        gate[t][k * H + u] = k == 0 ? std::exp(z) : k == 3 ? std::tanh(z) : sigmoid(z);
      }
      const double i = gate[t][u], f = gate[t][H + u];
      cells[t + 1][u] = f * cells[t][u] + i * gate[t][3 * H + u],
                norms[t + 1][u] = f * norms[t][u] + i;
      return gate[t][2 * H + u] * cells[t + 1][u] / norms[t + 1][u];
    };
    const auto back = [&](int64_t t, int64_t u, const Doubles& h, double now, double d,
                          Doubles& before) {
      const double i = gate[t][u], f = gate[t][H + u], o = gate[t][2 * H + u],
                   g = gate[t][3 * H + u], n = norms[t + 1][u];
      dc[u] += d * o / n, dn[u] -= d * now / n;
      const double dz[4] = {(dc[u] * g + dn[u]) * i,
                            (dc[u] * cells[t][u] + dn[u] * norms[t][u]) * f * (1 - f),
                            d * now * (1 - o), dc[u] * i * (1 - g * g)};
      dc[u] *= f, dn[u] *= f;
      for (int64_t k = 0; k < 4; ++k) {
        r.dbias[k * H + u] += dz[k];
        back_to_x(k * H + u, dz[k], b, t, r), back_to_h(k * H + u, dz[k], h, before, r);
      }
    };
    walk(b, r, step, back);
  }

  void gru(int64_t b, Results& r) const {
    std::vector<Doubles> gate(T, Doubles(4 * H));  // n, r, u and the part of h in n
    const auto step = [&](int64_t t, int64_t u, const Doubles& h) {
      const double reset = sigmoid(bias[H + u] + of_x(H + u, b, t) + of_h(u, h));
      const double update = sigmoid(bias[2 * H + u] + of_x(2 * H + u, b, t) + of_h(H + u, h));
      const double part = bias[3 * H + u] + of_h(2 * H + u, h);
      const double n = std::tanh(bias[u] + of_x(u, b, t) + reset * part);
      gate[t][u] = n, gate[t][H + u] = reset, gate[t][2 * H + u] = update,
      gate[t][3 * H + u] = part;
      return (1 - update) * n + update * h[u];
    };
    const auto back = [&](int64_t t, int64_t u, const Doubles& h, double, double d,
                          Doubles& before) {
      const double n = gate[t][u], reset = gate[t][H + u], update = gate[t][2 * H + u],
                   part = gate[t][3 * H + u];
      const double dn = d * (1 - update) * (1 - n * n), dr = dn * part * reset * (1 - reset);
      const double du = d * (h[u] - n) * update * (1 - update);
      before[u] += d * update;
      r.dbias[u] += dn, r.dbias[H + u] += dr, r.dbias[2 * H + u] += du,
          r.dbias[3 * H + u] += dn * reset;
      back_to_x(u, dn, b, t, r), back_to_x(H + u, dr, b, t, r), back_to_x(2 * H + u, du, b, t, r);
      back_to_h(u, dr, h, before, r), back_to_h(H + u, du, h, before, r),
          back_to_h(2 * H + u, dn * reset, h, before, r);
    };
    walk(b, r, step, back);
  }

  void plain(int64_t b, Results& r) const {
    const auto step = [&](int64_t t, int64_t u, const Doubles& h) {
      const double z = bias[u] + of_x(u, b, t) + of_h(u, h);
      if (kind == kModrelu) return std::copysign(std::max(0.0, std::abs(z) + bias[H + u]), z);
      return kind == kTanh ? std::tanh(z) : std::max(0.0, z);
    };
    const auto back = [&](int64_t t, int64_t u, const Doubles& before_h, double h, double d,
                          Doubles& before) {
      const double dz = kind == kTanh                          ? d * (1 - h * h)
                        : h > 0 || (kind == kModrelu && h < 0) ? d
                                                               : 0;
      if (kind == kModrelu) r.dbias[H + u] += h < 0 ? -dz : dz;
      r.dbias[u] += dz;
      back_to_x(u, dz, b, t, r), back_to_h(u, dz, before_h, before, r);
    };
    walk(b, r, step, back);
  }

  // Both states of sequence b through all steps: advance(t, both, both after), then retreat(t,
  // both, both after, their gradients, those before).
  struct Pair {
    Doubles h, c;
  };

  template <class Advance, class Retreat>
  void walk_pairs(int64_t b, Results& r, Advance advance, Retreat retreat) const {
    std::vector<Pair> states(T + 1, Pair{Doubles(H), Doubles(H)});
    Pair d{Doubles(H), Doubles(H)};
    for (int64_t u = 0; u < H; ++u) {
      states[0].h[u] = h0[b * H + u], states[0].c[u] = c0[b * H + u];
      d.h[u] = dhn[b * H + u], d.c[u] = dcn[b * H + u];
    }
    for (int64_t t = 0; t < T; ++t) {
      advance(t, states[t], states[t + 1]);
      std::copy_n(states[t + 1].h.begin(), H, r.y.begin() + (b * T + t) * H);
    }
    for (int64_t t = T - 1; t >= 0; --t) {
      for (int64_t u = 0; u < H; ++u) d.h[u] += dy[(b * T + t) * H + u];
      Pair before{Doubles(H), Doubles(H)};
      retreat(t, states[t], states[t + 1], d, before);
      d = before;
    }
    for (int64_t u = 0; u < H; ++u)
      r.cn[b * H + u] = states[T].c[u], r.dh0[b * H + u] = d.h[u], r.dc0[b * H + u] = d.c[u];
  }

  void lem(int64_t b, Results& r) const {
    std::vector<Doubles> gate(T, Doubles(4 * H));  // both steps of time, the candidate, the output
    const auto advance = [&](int64_t t, const Pair& from, Pair& to) {
      for (int64_t row = 0; row < 3 * H; ++row) {
        const double z = bias[row] + of_x(row, b, t) + of_h(row, from.h);
        gate[t][row] = row < 2 * H ? kDt * sigmoid(z) : std::tanh(z);
      }
      for (int64_t u = 0; u < H; ++u)
        to.c[u] = (1 - gate[t][u]) * from.c[u] + gate[t][u] * gate[t][2 * H + u];
      for (int64_t u = 0; u < H; ++u) {
        const double step = gate[t][H + u],
                     out =
                         std::tanh(bias[3 * H + u] + of_x(3 * H + u, b, t) + of_h(3 * H + u, to.c));
        gate[t][3 * H + u] = out, to.h[u] = (1 - step) * from.h[u] + step * out;
      }
    };
    const auto retreat = [&](int64_t t, const Pair& from, const Pair& to, const Pair& d,
                             Pair& before) {
      Doubles dc = d.c;
      const auto back = [&](int64_t row, double dz, const Doubles& source, Doubles& d_source) {
        r.dbias[row] += dz;
        back_to_x(row, dz, b, t, r), back_to_h(row, dz, source, d_source, r);
      };
      for (int64_t u = 0; u < H; ++u) {
        const double step = gate[t][H + u], out = gate[t][3 * H + u];
        before.h[u] += d.h[u] * (1 - step);
        back(3 * H + u, d.h[u] * step * (1 - out * out), to.c, dc);
        back(H + u, d.h[u] * (out - from.h[u]) * step * (1 - step / kDt), from.h, before.h);
      }
      for (int64_t u = 0; u < H; ++u) {
        const double step = gate[t][u], candidate = gate[t][2 * H + u];
        before.c[u] += dc[u] * (1 - step);
        back(u, dc[u] * (candidate - from.c[u]) * step * (1 - step / kDt), from.h, before.h);
        back(2 * H + u, dc[u] * step * (1 - candidate * candidate), from.h, before.h);
      }
    };
    walk_pairs(b, r, advance, retreat);
  }

  void cornn(int64_t b, Results& r) const {
    std::vector<Doubles> force(T, Doubles(H));
    const auto advance = [&](int64_t t, const Pair& from, Pair& to) {
      for (int64_t u = 0; u < H; ++u) {
        force[t][u] = std::tanh(bias[u] + of_x(u, b, t) + of_h(u, from.c) + of_h(H + u, from.h));
        to.c[u] = from.c[u] + kDt * (force[t][u] - kGamma * from.h[u] - kEpsilon * from.c[u]);
        to.h[u] = from.h[u] + kDt * to.c[u];
      }
    };
    const auto retreat = [&](int64_t t, const Pair& from, const Pair&, const Pair& d,
                             Pair& before) {
      for (int64_t u = 0; u < H; ++u) {
        const double dc = d.c[u] + kDt * d.h[u], dz = dc * kDt * (1 - force[t][u] * force[t][u]);
        before.c[u] += dc * (1 - kDt * kEpsilon), before.h[u] += d.h[u] - dc * kDt * kGamma;
        r.dbias[u] += dz;
        back_to_x(u, dz, b, t, r), back_to_h(u, dz, from.c, before.c, r),
            back_to_h(H + u, dz, from.h, before.h, r);
      }
    };
    walk_pairs(b, r, advance, retreat);
  }

  void check(int64_t segment, int64_t threads) const {
    Floats y(B * T * H), hn(B * H), cn(B * H), dx(B * T * I), dh0(B * H), dc0(B * H),
        dw_ih(rows * I), dw_hh(h_rows * H), dbias(gates);
    LayerCall call{};
    call.cell = kind;
    call.batch = B, call.steps = T, call.inputs = I, call.hidden = H, call.segment = segment,
    call.threads = threads;
    call.x = x.data(), call.x_batch_stride = T * I, call.x_step_stride = I;
    call.h0 = h0.data(), call.c0 = two_states ? c0.data() : nullptr, call.w_ih = w_ih.data(),
    call.w_hh = w_hh.data();
    call.dt = kDt, call.gamma = kGamma, call.epsilon = kEpsilon;
    call.bias = bias.data(), call.y = y.data(), call.y_batch_stride = T * H, call.y_step_stride = H;
    call.hn = hn.data(), call.cn = two_states ? cn.data() : nullptr;
    call.block = 4 * (1 + B / 32);
    const int64_t width = (H + 15) / 16 * 16;  // of the widest vectors
    const int64_t steps =
        segment < T ? (T + segment - 1) / segment * kStates[kind] : T * kRecords[kind];
    Floats saved((B + call.block - 1) / call.block * call.block * steps * width +
                 16);  // aligned by hand: it is a buffer of memory_acquire in use
    call.saved =
        reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(saved.data()) + 63) / 64 * 64);
    if (layer_forward(&call)) std::exit(1);
    call.dy = dy.data(), call.dy_batch_stride = T * H, call.dy_step_stride = H;
    call.dhn = dhn.data(), call.dx = dx.data(), call.dh0 = dh0.data();
    if (two_states) call.dcn = dcn.data(), call.dc0 = dc0.data();
    call.dw_ih = dw_ih.data(), call.dw_hh = dw_hh.data(), call.dbias = dbias.data();
    if (layer_backward(&call)) std::exit(1);
    const Results right = reference();
    // What is small may be the difference of larger numbers.
    const double floor = kind == kLstm ? 1e-8 : 1e-7;
    expect_close("y", y, right.y, floor);
    Doubles last(B * H);
    for (int64_t b = 0; b < B; ++b)
      std::copy_n(right.y.begin() + (b * T + T - 1) * H, H, last.begin() + b * H);
    expect_close("hn", hn, last, floor);
    expect_close("cn", cn, right.cn, floor);
    expect_close("dx", dx, right.dx, floor);
    expect_close("dh0", dh0, right.dh0, floor);
    expect_close("dc0", dc0, right.dc0, floor);
    expect_close("dw_ih", dw_ih, right.dw_ih, floor);
    expect_close("dw_hh", dw_hh, right.dw_hh, floor);
    expect_close("dbias", dbias, right.dbias, floor);
  }
};

static void check_scan(int64_t B, int64_t T, int64_t H, bool relu, bool constant) {
  const Floats a = random_floats(constant ? H : B * T * H), b = random_floats(B * T * H),
               h0 = random_floats(B * H), dh = random_floats(B * T * H);
  Floats h(B * T * H), da(constant ? B * H : B * T * H), db(B * T * H), dh0(B * H);
  const ScanCall call{B,        T,         H,        2,         relu,      constant,  a.data(),
                      b.data(), h0.data(), h.data(), dh.data(), da.data(), db.data(), dh0.data()};
  scan_forward(&call);
  scan_backward(&call);
  Doubles right_h(B * T * H), right_da(da.size()), right_db(B * T * H), right_dh0(B * H);
  const auto a_at = [&](int64_t at) { return a[constant ? at % H : at]; };
  for (int64_t s = 0; s < B * H; ++s) {
    const int64_t base = s / H * T * H + s % H;
    for (int64_t t = 0; t < T; ++t) {
      const double z =
          a_at(base + t * H) * (t ? right_h[base + (t - 1) * H] : h0[s]) + b[base + t * H];
      right_h[base + t * H] = relu && z < 0 ? 0 : z;
    }
    double carry = 0;
    for (int64_t t = T - 1; t >= 0; --t) {
      right_db[base + t * H] = relu && right_h[base + t * H] == 0 ? 0 : dh[base + t * H] + carry;
      right_da[constant ? s : base + t * H] +=
          right_db[base + t * H] * (t ? right_h[base + (t - 1) * H] : h0[s]);
      carry = a_at(base + t * H) * right_db[base + t * H];
    }
    right_dh0[s] = carry;
  }
  expect_close("scan h", h, right_h);
  expect_close("scan da", da, right_da);
  expect_close("scan db", db, right_db);
  expect_close("scan dh0", dh0, right_dh0);
}

static void expect(bool right, const char* what) {
  if (right) return;
  std::printf("FAILED %s\n", what);
  std::exit(1);
}

// Whatever goes wrong comes back as a status and a text: it ends neither the process nor in a
// number.
static void check_failures() {
  LayerCall call{};
  call.cell = 99,
  call.batch = call.steps = call.inputs = call.hidden = call.segment = call.threads = 1,
  call.block = 4;
  expect(layer_forward(&call) == kFailed && layer_backward(&call) == kFailed, "an unknown cell");
  expect(std::string(last_failure()) == "cell: the kernels have none of the number 99",
         "the text of an unknown cell");
  call.cell = kLstm, call.segment = 0;
  expect(layer_forward(&call) == kFailed, "a segment of no steps");
  const ScanCall scan{};
  expect(scan_forward(&scan) == kFailed && scan_backward(&scan) == kFailed, "an empty scan");
  for (int threads : {1, 3}) {
    const auto thrown = [&](auto error) {
      return guarded([&] {
        parallel_for(20, threads, [&](int task) {
          if (task == 7) throw error;
        });
      });
    };
    expect(thrown(std::bad_alloc()) == kNoMemory, "lack of memory in a task");
    expect(thrown(std::length_error("too long")) == kFailed &&
               std::string(last_failure()) == "too long",
           "an exception in a task");
    expect(thrown(7) == kFailed && std::string(last_failure()) == "an exception of an unknown type",
           "something else in a task");
  }
}

int main() {
  int cases = 0;
  check_failures(), ++cases;
  const int64_t sizes[][4] = {{1, 1, 1, 1},   {2, 3, 1, 3},    {3, 9, 2, 5},   {5, 7, 3, 16},
                              {8, 12, 2, 17}, {17, 10, 2, 33}, {33, 6, 5, 20}, {16, 20, 2, 100},
                              {70, 4, 2, 12}, {300, 3, 1, 4}};
  for (const auto& s : sizes) {
    current = s;
    for (int64_t segment : {s[1], int64_t{1}, int64_t{3}})
      for (int64_t threads : {1, 2, 3})
        for (CellKind kind : {kLstm, kGru, kTanh, kRelu, kModrelu, kSlstm, kLem, kCornn})
          Layer(kind, s[0], s[1], s[2], s[3]).check(segment, threads), ++cases;
    for (bool relu : {false, true})
      for (bool constant : {false, true}) check_scan(s[0], s[1], s[3] * 3, relu, constant), ++cases;
  }
  std::printf("%d passed, 0 failed\n", cases);
}
