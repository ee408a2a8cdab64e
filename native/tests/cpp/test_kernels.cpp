// The kernels against plain float64 loops, small and odd sizes, to be run under sanitizers and emulators.
// Every array ends exactly where it should, so that a read or write beyond it is caught.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "../../src/kernels.h"

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

static void expect_close(const char* what, const Floats& actual, const Doubles& expected) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  if (!(std::sqrt(error) <= 2e-6 * std::sqrt(norm) + 1e-7)) {  // the rest: small results are differences of larger numbers
    std::printf("FAILED %s at B=%d T=%d I=%d H=%d: relative error %.2e of a norm of %.2e\n", what, int(current[0]), int(current[1]),
                int(current[2]), int(current[3]), std::sqrt(error / norm), std::sqrt(norm));
    std::exit(1);
  }
}

static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

struct Layer {
  CellKind kind;
  int64_t B, T, I, H;
  int64_t gates, rows;  // a row of all gates; rows of the weights
  Floats x, h0, c0, w_ih, w_hh, bias, dy, dhn, dcn;

  Layer(CellKind kind, int64_t B, int64_t T, int64_t I, int64_t H)
      : kind(kind), B(B), T(T), I(I), H(H), gates(kind == kLstm || kind == kGru ? 4 * H : H),
        rows(kind == kGru ? 3 * H : gates), x(random_floats(B * T * I)), h0(random_floats(B * H)), c0(random_floats(B * H)),
        // recurrent weights as PyTorch starts them: larger ones make chaos, which no two roundings follow alike
        w_ih(random_floats(rows * I)), w_hh(random_floats(rows * H, 1 / std::sqrt(float(H)))), bias(random_floats(gates)),
        dy(random_floats(B * T * H)), dhn(random_floats(B * H)), dcn(random_floats(B * H)) {}

  struct Results {
    Doubles y, dx, dh0, dc0, dw_ih, dw_hh, dbias;
  };

  Results reference() const {
    Results r{Doubles(B * T * H), Doubles(B * T * I), Doubles(B * H), Doubles(kind == kLstm ? B * H : 0),
              Doubles(rows * I), Doubles(rows * H), Doubles(gates)};
    for (int64_t b = 0; b < B; ++b) kind == kLstm ? lstm(b, r) : kind == kGru ? gru(b, r) : plain(b, r);
    return r;
  }

  // Sequence b of an LSTM, added to the results.
  void lstm(int64_t b, Results& r) const {
    std::vector<Doubles> gate(T, Doubles(4 * H)), cells(T + 1, Doubles(H)), outs(T + 1, Doubles(H));
    for (int64_t u = 0; u < H; ++u) cells[0][u] = c0[b * H + u], outs[0][u] = h0[b * H + u];
    for (int64_t t = 0; t < T; ++t) {
      for (int64_t g = 0; g < 4 * H; ++g) {
        double z = bias[g];
        for (int64_t i = 0; i < I; ++i) z += double(w_ih[g * I + i]) * x[(b * T + t) * I + i];
        for (int64_t k = 0; k < H; ++k) z += w_hh[g * H + k] * outs[t][k];
        gate[t][g] = g / H == 2 ? std::tanh(z) : sigmoid(z);
      }
      for (int64_t u = 0; u < H; ++u) {
        cells[t + 1][u] = gate[t][H + u] * cells[t][u] + gate[t][u] * gate[t][2 * H + u];
        outs[t + 1][u] = gate[t][3 * H + u] * std::tanh(cells[t + 1][u]);
        r.y[(b * T + t) * H + u] = outs[t + 1][u];
      }
    }
    Doubles dh(H), dc(H), dz(4 * H);
    for (int64_t u = 0; u < H; ++u) dh[u] = dhn[b * H + u], dc[u] = dcn[b * H + u];
    for (int64_t t = T - 1; t >= 0; --t) {
      for (int64_t u = 0; u < H; ++u) {
        const double i = gate[t][u], f = gate[t][H + u], g = gate[t][2 * H + u], o = gate[t][3 * H + u];
        const double tc = std::tanh(cells[t + 1][u]), d = dh[u] + dy[(b * T + t) * H + u];
        dc[u] += d * o * (1 - tc * tc);
        dz[u] = dc[u] * g * i * (1 - i);
        dz[H + u] = dc[u] * cells[t][u] * f * (1 - f);
        dz[2 * H + u] = dc[u] * i * (1 - g * g);
        dz[3 * H + u] = d * tc * o * (1 - o);
        dc[u] *= f;
      }
      std::fill(dh.begin(), dh.end(), 0.0);
      for (int64_t g = 0; g < 4 * H; ++g) {
        r.dbias[g] += dz[g];
        for (int64_t i = 0; i < I; ++i) {
          r.dw_ih[g * I + i] += dz[g] * x[(b * T + t) * I + i];
          r.dx[(b * T + t) * I + i] += dz[g] * w_ih[g * I + i];
        }
        for (int64_t k = 0; k < H; ++k) {
          r.dw_hh[g * H + k] += dz[g] * outs[t][k];
          dh[k] += dz[g] * w_hh[g * H + k];
        }
      }
    }
    for (int64_t u = 0; u < H; ++u) r.dh0[b * H + u] = dh[u], r.dc0[b * H + u] = dc[u];
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

  void gru(int64_t b, Results& r) const {
    std::vector<Doubles> gate(T, Doubles(4 * H)), outs(T + 1, Doubles(H));  // n, r, u and the part of h in n
    for (int64_t u = 0; u < H; ++u) outs[0][u] = h0[b * H + u];
    for (int64_t t = 0; t < T; ++t)
      for (int64_t u = 0; u < H; ++u) {
        const double reset = sigmoid(bias[H + u] + of_x(H + u, b, t) + of_h(u, outs[t]));
        const double update = sigmoid(bias[2 * H + u] + of_x(2 * H + u, b, t) + of_h(H + u, outs[t]));
        const double part = bias[3 * H + u] + of_h(2 * H + u, outs[t]);
        const double n = std::tanh(bias[u] + of_x(u, b, t) + reset * part);
        gate[t][u] = n, gate[t][H + u] = reset, gate[t][2 * H + u] = update, gate[t][3 * H + u] = part;
        outs[t + 1][u] = (1 - update) * n + update * outs[t][u];
        r.y[(b * T + t) * H + u] = outs[t + 1][u];
      }
    Doubles dh(H);
    for (int64_t u = 0; u < H; ++u) dh[u] = dhn[b * H + u];
    for (int64_t t = T - 1; t >= 0; --t) {
      Doubles before(H);
      for (int64_t u = 0; u < H; ++u) {
        const double n = gate[t][u], reset = gate[t][H + u], update = gate[t][2 * H + u], part = gate[t][3 * H + u];
        const double d = dh[u] + dy[(b * T + t) * H + u], dn = d * (1 - update) * (1 - n * n);
        const double dr = dn * part * reset * (1 - reset), du = d * (outs[t][u] - n) * update * (1 - update);
        before[u] += d * update;
        r.dbias[u] += dn, r.dbias[H + u] += dr, r.dbias[2 * H + u] += du, r.dbias[3 * H + u] += dn * reset;
        back_to_x(u, dn, b, t, r), back_to_x(H + u, dr, b, t, r), back_to_x(2 * H + u, du, b, t, r);
        back_to_h(u, dr, outs[t], before, r), back_to_h(H + u, du, outs[t], before, r);
        back_to_h(2 * H + u, dn * reset, outs[t], before, r);
      }
      dh = before;
    }
    for (int64_t u = 0; u < H; ++u) r.dh0[b * H + u] = dh[u];
  }

  void plain(int64_t b, Results& r) const {
    std::vector<Doubles> outs(T + 1, Doubles(H));
    for (int64_t u = 0; u < H; ++u) outs[0][u] = h0[b * H + u];
    for (int64_t t = 0; t < T; ++t)
      for (int64_t u = 0; u < H; ++u) {
        const double z = bias[u] + of_x(u, b, t) + of_h(u, outs[t]);
        outs[t + 1][u] = kind == kTanh ? std::tanh(z) : std::max(0.0, z);
        r.y[(b * T + t) * H + u] = outs[t + 1][u];
      }
    Doubles dh(H);
    for (int64_t u = 0; u < H; ++u) dh[u] = dhn[b * H + u];
    for (int64_t t = T - 1; t >= 0; --t) {
      Doubles before(H);
      for (int64_t u = 0; u < H; ++u) {
        const double h = outs[t + 1][u], d = dh[u] + dy[(b * T + t) * H + u];
        const double dz = kind == kTanh ? d * (1 - h * h) : h > 0 ? d : 0;
        r.dbias[u] += dz;
        back_to_x(u, dz, b, t, r);
        back_to_h(u, dz, outs[t], before, r);
      }
      dh = before;
    }
    for (int64_t u = 0; u < H; ++u) r.dh0[b * H + u] = dh[u];
  }

  void check(int64_t segment, int64_t threads) const {
    Floats y(B * T * H), hn(B * H), cn(B * H), dx(B * T * I), dh0(B * H), dc0(B * H), dw_ih(rows * I),
        dw_hh(rows * H), dbias(gates);
    LayerCall call{};
    call.cell = kind;
    call.batch = B, call.steps = T, call.inputs = I, call.hidden = H, call.segment = segment, call.threads = threads;
    call.x = x.data(), call.x_batch_stride = T * I, call.x_step_stride = I;
    call.h0 = h0.data(), call.c0 = kind == kLstm ? c0.data() : nullptr, call.w_ih = w_ih.data(), call.w_hh = w_hh.data();
    call.bias = bias.data(), call.y = y.data(), call.y_batch_stride = T * H, call.y_step_stride = H;
    call.hn = hn.data(), call.cn = kind == kLstm ? cn.data() : nullptr;
    Floats saved(layer_saved_floats(&call) + 16);  // aligned by hand: it is a buffer of memory_acquire in use
    call.saved = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(saved.data()) + 63) / 64 * 64);
    if (layer_forward(&call)) std::exit(1);
    call.dy = dy.data(), call.dy_batch_stride = T * H, call.dy_step_stride = H;
    call.dhn = dhn.data(), call.dx = dx.data(), call.dh0 = dh0.data();
    if (kind == kLstm) call.dcn = dcn.data(), call.dc0 = dc0.data();
    call.dw_ih = dw_ih.data(), call.dw_hh = dw_hh.data(), call.dbias = dbias.data();
    if (layer_backward(&call)) std::exit(1);
    const Results right = reference();
    expect_close("y", y, right.y);
    expect_close("dx", dx, right.dx);
    expect_close("dh0", dh0, right.dh0);
    expect_close("dc0", dc0, right.dc0);
    expect_close("dw_ih", dw_ih, right.dw_ih);
    expect_close("dw_hh", dw_hh, right.dw_hh);
    expect_close("dbias", dbias, right.dbias);
  }
};

static void check_scan(int64_t B, int64_t T, int64_t H, bool relu) {
  const Floats a = random_floats(B * T * H), b = random_floats(B * T * H), h0 = random_floats(B * H),
               dh = random_floats(B * T * H);
  Floats h(B * T * H), da(B * T * H), db(B * T * H), dh0(B * H);
  const ScanCall call{B, T, H, 2, relu, a.data(), b.data(), h0.data(), h.data(), dh.data(), da.data(), db.data(), dh0.data()};
  scan_forward(&call);
  scan_backward(&call);
  Doubles right_h(B * T * H), right_da(B * T * H), right_db(B * T * H), right_dh0(B * H);
  for (int64_t s = 0; s < B * H; ++s) {
    const int64_t base = s / H * T * H + s % H;
    for (int64_t t = 0; t < T; ++t) {
      const double z = a[base + t * H] * (t ? right_h[base + (t - 1) * H] : h0[s]) + b[base + t * H];
      right_h[base + t * H] = relu && z < 0 ? 0 : z;
    }
    double carry = 0;
    for (int64_t t = T - 1; t >= 0; --t) {
      right_db[base + t * H] = relu && right_h[base + t * H] == 0 ? 0 : dh[base + t * H] + carry;
      right_da[base + t * H] = right_db[base + t * H] * (t ? right_h[base + (t - 1) * H] : h0[s]);
      carry = a[base + t * H] * right_db[base + t * H];
    }
    right_dh0[s] = carry;
  }
  expect_close("scan h", h, right_h);
  expect_close("scan da", da, right_da);
  expect_close("scan db", db, right_db);
  expect_close("scan dh0", dh0, right_dh0);
}

int main() {
  int cases = 0;
  const int64_t sizes[][4] = {{1, 1, 1, 1}, {2, 3, 1, 3}, {3, 9, 2, 5}, {5, 7, 3, 16}, {8, 12, 2, 17}, {17, 10, 2, 33},
                              {33, 6, 5, 20}, {16, 20, 2, 100}, {70, 4, 2, 12}, {300, 3, 1, 4}};
  for (const auto& s : sizes) {
    current = s;
    for (int64_t segment : {s[1], int64_t{1}, int64_t{3}})
      for (int64_t threads : {1, 2, 3})
        for (CellKind kind : {kLstm, kGru, kTanh, kRelu}) Layer(kind, s[0], s[1], s[2], s[3]).check(segment, threads), ++cases;
    for (bool relu : {false, true}) check_scan(s[0], s[1], s[3] * 3, relu), ++cases;
  }
  std::printf("%d passed, 0 failed\n", cases);
}
