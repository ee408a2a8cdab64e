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

static void expect_close(const char* what, const Floats& actual, const Doubles& expected, double floor = 1e-12) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  if (!(std::sqrt(error) <= 2e-6 * std::sqrt(norm) + floor)) {
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

  // Sequence b, unit by unit: h = step(t, u, h before), then back(t, u, h before, h, dh, gradient of h before).
  template <class Step, class Back>
  void walk(int64_t b, Results& r, Step step, Back back) const {
    std::vector<Doubles> outs(T + 1, Doubles(H));
    Doubles dh(H);
    for (int64_t u = 0; u < H; ++u) outs[0][u] = h0[b * H + u], dh[u] = dhn[b * H + u];
    for (int64_t t = 0; t < T; ++t)
      for (int64_t u = 0; u < H; ++u) r.y[(b * T + t) * H + u] = outs[t + 1][u] = step(t, u, outs[t]);
    for (int64_t t = T - 1; t >= 0; --t) {
      Doubles before(H);
      for (int64_t u = 0; u < H; ++u) back(t, u, outs[t], outs[t + 1][u], dh[u] + dy[(b * T + t) * H + u], before);
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
    const auto back = [&](int64_t t, int64_t u, const Doubles& h, double, double d, Doubles& before) {
      const double i = gate[t][u], f = gate[t][H + u], g = gate[t][2 * H + u], o = gate[t][3 * H + u];
      const double tc = std::tanh(cells[t + 1][u]);
      dc[u] += d * o * (1 - tc * tc);
      const double dz[4] = {dc[u] * g * i * (1 - i), dc[u] * cells[t][u] * f * (1 - f), dc[u] * i * (1 - g * g), d * tc * o * (1 - o)};
      dc[u] *= f;
      for (int64_t k = 0; k < 4; ++k) {
        r.dbias[k * H + u] += dz[k];
        back_to_x(k * H + u, dz[k], b, t, r), back_to_h(k * H + u, dz[k], h, before, r);
      }
    };
    walk(b, r, step, back);
    for (int64_t u = 0; u < H; ++u) r.dc0[b * H + u] = dc[u];
  }

  void gru(int64_t b, Results& r) const {
    std::vector<Doubles> gate(T, Doubles(4 * H));  // n, r, u and the part of h in n
    const auto step = [&](int64_t t, int64_t u, const Doubles& h) {
      const double reset = sigmoid(bias[H + u] + of_x(H + u, b, t) + of_h(u, h));
      const double update = sigmoid(bias[2 * H + u] + of_x(2 * H + u, b, t) + of_h(H + u, h));
      const double part = bias[3 * H + u] + of_h(2 * H + u, h);
      const double n = std::tanh(bias[u] + of_x(u, b, t) + reset * part);
      gate[t][u] = n, gate[t][H + u] = reset, gate[t][2 * H + u] = update, gate[t][3 * H + u] = part;
      return (1 - update) * n + update * h[u];
    };
    const auto back = [&](int64_t t, int64_t u, const Doubles& h, double, double d, Doubles& before) {
      const double n = gate[t][u], reset = gate[t][H + u], update = gate[t][2 * H + u], part = gate[t][3 * H + u];
      const double dn = d * (1 - update) * (1 - n * n), dr = dn * part * reset * (1 - reset);
      const double du = d * (h[u] - n) * update * (1 - update);
      before[u] += d * update;
      r.dbias[u] += dn, r.dbias[H + u] += dr, r.dbias[2 * H + u] += du, r.dbias[3 * H + u] += dn * reset;
      back_to_x(u, dn, b, t, r), back_to_x(H + u, dr, b, t, r), back_to_x(2 * H + u, du, b, t, r);
      back_to_h(u, dr, h, before, r), back_to_h(H + u, du, h, before, r), back_to_h(2 * H + u, dn * reset, h, before, r);
    };
    walk(b, r, step, back);
  }

  void plain(int64_t b, Results& r) const {
    const auto step = [&](int64_t t, int64_t u, const Doubles& h) {
      const double z = bias[u] + of_x(u, b, t) + of_h(u, h);
      return kind == kTanh ? std::tanh(z) : std::max(0.0, z);
    };
    const auto back = [&](int64_t t, int64_t u, const Doubles& before_h, double h, double d, Doubles& before) {
      const double dz = kind == kTanh ? d * (1 - h * h) : h > 0 ? d : 0;
      r.dbias[u] += dz;
      back_to_x(u, dz, b, t, r), back_to_h(u, dz, before_h, before, r);
    };
    walk(b, r, step, back);
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
    // What is small in the other cells may be the difference of larger numbers.
    const double floor = kind == kLstm ? 1e-12 : 1e-7;
    expect_close("y", y, right.y, floor);
    expect_close("dx", dx, right.dx, floor);
    expect_close("dh0", dh0, right.dh0, floor);
    expect_close("dc0", dc0, right.dc0, floor);
    expect_close("dw_ih", dw_ih, right.dw_ih, floor);
    expect_close("dw_hh", dw_hh, right.dw_hh, floor);
    expect_close("dbias", dbias, right.dbias, floor);
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
