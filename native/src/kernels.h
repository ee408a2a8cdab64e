// The C interface. Python mirrors the structures and the enum in adding_problem_native/_library.py;
// interface.cpp describes them to it, so that a library built from another version of this file is
// refused where it is opened.
#pragma once

#include <cstdint>

#define EXPORT __attribute__((visibility("default")))

extern "C" {

// The cells of cells.h; kTanh and kRelu are plain ones.
enum CellKind : int64_t { kLstm, kGru, kTanh, kRelu, kModrelu, kSlstm, kLem, kCornn };

// One recurrent layer. All arrays are float32. Null pointers: see each. x and y have any strides
// but contiguous features. R: the cell's gates times H; W: those of them that x has a part in,
// times H; V: those of each of its sources, times H, one source after the other. c0, cn, dcn and
// dc0 belong to cells whose second state is a caller's too: kLstm (c), kLem and kCornn (z).
struct LayerCall {
  int64_t cell;  // CellKind
  int64_t batch, steps, inputs, hidden;
  int64_t segment;  // steps between checkpoints; `steps` or more keeps every step instead
  int64_t threads;
  const float* x;  // (B, T, I) by strides
  int64_t x_batch_stride, x_step_stride;
  const float *h0, *c0;      // (B, H); null is zero
  const float *w_ih, *w_hh;  // (W, I), (V, H)
  const float* bias;         // (R); null is zero
  float dt, gamma,
      epsilon;  // a step of time (kLem, kCornn), the strength of springs and their damping (kCornn)
  float* y;     // (B, T, H) by strides; null: not wanted
  int64_t y_batch_stride, y_step_stride;
  float *hn, *cn;  // (B, H)
  float* saved;    // layer_saved_floats() of them, for the backward pass; null: no gradients wanted
  // backward only
  const float* dy;  // (B, T, H) by strides; null is zero
  int64_t dy_batch_stride, dy_step_stride;
  const float *dhn, *dcn;        // (B, H); null is zero
  float* dx;                     // (B, T, I) contiguous; null: not wanted
  float *dh0, *dc0;              // (B, H); null: not wanted
  float *dw_ih, *dw_hh, *dbias;  // like the weights; dbias null: not wanted
};

// What the functions that work return. The first of these is -1 where it fails.
enum Status : int { kDone, kNoMemory, kFailed };  // kFailed: last_failure() says why

EXPORT int64_t layer_saved_floats(const LayerCall* call);
EXPORT int layer_forward(const LayerCall* call);
EXPORT int layer_backward(const LayerCall* call);

// The recurrence h_t = f(a_t h_{t-1} + b_t), f the identity or max(0, .). All arrays are float32
// and contiguous.
struct ScanCall {
  int64_t batch, steps, features, threads, relu;
  int64_t constant;    // a is (H), the same at every step of every sequence
  const float *a, *b;  // (B, T, H)
  const float* h0;     // (B, H); null is zero
  float* h;            // (B, T, H)
  // backward only
  const float* dh;  // (B, T, H)
  float *da, *db;   // (B, T, H); da of a constant a is (B, H), and is added to
  float* dh0;       // (B, H); null: not wanted
};

EXPORT int scan_forward(const ScanCall* call);
EXPORT int scan_backward(const ScanCall* call);

// Room for so many floats, aligned to huge pages, or null. Its content is whatever was left there.
EXPORT void* memory_acquire(int64_t floats);
EXPORT void memory_release(void* memory);

// Use PyTorch's OpenMP threads: the address of GOMP_parallel in its runtime. Null: threads of our
// own.
EXPORT void use_parallel_region(void* gomp_parallel);

// Why the last call of this thread that returned kFailed, or -1, did so.
EXPORT const char* last_failure();

// Version, structures and cells as words `name:value`, a field's value being `offset+size`.
EXPORT const char* interface_text();

// 4 and 3 for the x86-64 levels of those numbers, else 0.
EXPORT int processor_level();
}
