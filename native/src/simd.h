// Portable SIMD: one vector of floats as wide as the target's registers, loads, stores and the
// activations of recurrent cells.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int kLanes = 16;
constexpr int kTileAccumulators =
    24;  // of 32 registers; the rest hold one row of weights and a broadcast
#elif defined(__AVX__)
constexpr int kLanes = 8;
constexpr int kTileAccumulators = 12;  // of 16 registers
#elif defined(__aarch64__)
constexpr int kLanes = 4;
constexpr int kTileAccumulators = 24;
#else
constexpr int kLanes = 4;
constexpr int kTileAccumulators = 12;
#endif

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef uint32_t BitsVec __attribute__((vector_size(kLanes * 4)));
typedef float UnalignedVec __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

#define INLINE inline __attribute__((always_inline))

static INLINE Vec load(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
static INLINE void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }
static INLINE Vec splat(float s) { return s - Vec{}; }

constexpr int64_t round_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// A NaN in x passes through: the comparisons are false, and x86's instructions return their second
// operand.
static INLINE Vec clamp(Vec x, float low, float high) {
#if defined(__AVX512F__)
  return (Vec)_mm512_min_ps((__m512)splat(high), _mm512_max_ps((__m512)splat(low), (__m512)x));
#elif defined(__AVX__)
  return (Vec)_mm256_min_ps((__m256)splat(high), _mm256_max_ps((__m256)splat(low), (__m256)x));
#else
  x = x < splat(low) ? splat(low) : x;
  return x > splat(high) ? splat(high) : x;
#endif
}

// ReLU and its derivative, for vectors and for single numbers. A NaN passes through both: the
// comparisons are false.
template <class Value>
INLINE Value rectified(Value x) {
  return x < Value{} ? Value{} : x;
}

template <class Value>
INLINE Value where_positive(Value h, Value gradient) {
  return h <= Value{} ? Value{} : gradient;
}

// sign(x) y, zero where x is. A NaN in x gives y.
static INLINE Vec with_sign_of(Vec x, Vec y) { return x < Vec{} ? -y : x == Vec{} ? Vec{} : y; }

// 2^x = scale (1 + rest) for |x| <= 126.
// x = n + r with n whole, |r| <= 1/2; scale = 2^n, rest = 2^r - 1 = r P(r).
// P: the fifth degree with the least relative error, 1.1e-8 (weighted least squares, reweighted
// until level).
static INLINE void exp2_parts(Vec x, Vec& scale, Vec& rest) {
  const Vec magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest whole number
  const Vec shifted = x + magic;
  const Vec n = shifted - magic;
  const Vec r = x - n;
  Vec p = splat(1.5403511968e-4f);
  p = p * r + splat(1.3390735590e-3f);
  p = p * r + splat(9.6182374971e-3f);
  p = p * r + splat(5.5503574335e-2f);
  p = p * r + splat(2.4022649795e-1f);
  p = p * r + splat(6.9314718793e-1f);
  BitsVec bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + 0x3F800000u;  // the low bits of `shifted` hold n: build 2^n in the exponent
  std::memcpy(&scale, &bits, sizeof scale);
  rest = p * r;
}

// 2^x - 1 for |x| <= 126, to about an ulp also near 0, where 2^x itself would lose everything to
// the 1.
static INLINE Vec exp2m1(Vec x) {
  Vec scale, rest;
  exp2_parts(x, scale, rest);
  return rest * scale + (scale - 1.0f);
}

// Exponents are clamped so that a product of three denominators stays finite: a sigmoid is then at
// least 2^-40.
constexpr float kLog2E = 1.44269504088896341f;
constexpr float kMaxExponent = 40.0f;

static INLINE Vec exp_of(Vec x) {
  Vec scale, rest;
  exp2_parts(clamp(x * kLog2E, -126.0f, 126.0f), scale, rest);
  return rest * scale + scale;
}

// sigmoid(x) = 1 / (1 + e^-x) = 1 / (2 + expm1(-x))
static INLINE Vec sigmoid_denominator(Vec x) {
  return exp2m1(clamp(x * -kLog2E, -126.0f, kMaxExponent)) + 2.0f;
}

// tanh(x) = -expm1(-2x) / (2 + expm1(-2x)): this is the expm1
static INLINE Vec tanh_expm1(Vec x) {
  return exp2m1(clamp(x * (-2.0f * kLog2E), -126.0f, kMaxExponent));
}

static INLINE Vec tanh_of(Vec x) {
  const Vec e = tanh_expm1(x);
  return -e / (e + 2.0f);
}

// Divisions are slow: sigmoid x and tanh y for one, sigmoid w as well for one. NaN in any argument
// makes all NaN.
static INLINE void activations(Vec x, Vec y, Vec& sigmoid_x, Vec& tanh_y) {
  const Vec d = sigmoid_denominator(x), e = tanh_expm1(y), b = e + 2.0f;
  const Vec reciprocal = 1.0f / (d * b);
  sigmoid_x = b * reciprocal;
  tanh_y = -e * (d * reciprocal);
}

static INLINE void activations(Vec w, Vec x, Vec y, Vec& sigmoid_w, Vec& sigmoid_x, Vec& tanh_y) {
  const Vec c = sigmoid_denominator(w), d = sigmoid_denominator(x), e = tanh_expm1(y), b = e + 2.0f;
  const Vec both = c * d, reciprocal = 1.0f / (both * b), rest = b * reciprocal;
  sigmoid_w = d * rest;
  sigmoid_x = c * rest;
  tanh_y = -e * (both * reciprocal);
}

// log sigmoid(x) = min(x, 0) - log(1 + u), u = e^-|x|;  log(1 + u) = 2 artanh(s), s = u / (2 + u):
// s P(s^2). P: the fourth degree with the least relative error, 4.0e-9, found as that of
// exp2_parts.
static INLINE Vec log_sigmoid(Vec x) {
  const Vec least = x < Vec{} ? x : Vec{}, u = exp_of(x < Vec{} ? x : -x), s = u / (u + 2.0f),
            v = s * s;
  Vec p = splat(2.8178335455e-1f);
  p = p * v + splat(2.7960602966e-1f);
  p = p * v + splat(4.0024910235e-1f);
  p = p * v + splat(6.6666314684e-1f);
  p = p * v + splat(2.0000000079f);
  return least - s * p;
}

static INLINE void sigmoids(Vec x, Vec y, Vec& sigmoid_x, Vec& sigmoid_y) {
  const Vec d = sigmoid_denominator(x), e = sigmoid_denominator(y), reciprocal = 1.0f / (d * e);
  sigmoid_x = e * reciprocal;
  sigmoid_y = d * reciprocal;
}
