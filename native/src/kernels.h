// The C interface. Its structures and cells are lists, from which interface.cpp tells Python what
// to fill in.
#pragma once

#include <cstdint>

#define EXPORT __attribute__((visibility("default")))

extern "C" {

#define MEMBER(type, name) type name;

// The cells, their classes in cells.h and their names in Python.
#define CELLS(CELL)                                                                          \
  CELL(kLstm, Lstm, "LSTM")                                                                  \
  CELL(kGru, Gru, "GRU") CELL(kTanh, Plain<false>, "TANH") CELL(kRelu, Plain<true>, "RELU")  \
      CELL(kModrelu, Modrelu, "MODRELU") CELL(kSlstm, Slstm, "SLSTM") CELL(kLem, Lem, "LEM") \
          CELL(kCornn, Cornn, "CORNN")
#define ENUMERATOR(kind, type, name) kind,
enum CellKind : int64_t { CELLS(ENUMERATOR) };

// One recurrent layer. All arrays are float32. Null pointers: see each. x and y have any strides
// but contiguous features. R: the cell's gates times H; W: those of them that x has a part in,
// times H; V: those of each of its sources, times H, one source after the other. c0, cn, dcn and
// dc0 belong to cells whose second state is a caller's too: kLstm (c), kLem and kCornn (z).
#define LAYER_FIELDS(FIELD)                                                                                                                                                                                                                                                             \
  FIELD(int64_t, cell) /* CellKind */                                                                                                                                                                                                                                                   \
  FIELD(int64_t, batch)                                                                                                                                                                                                                                                                 \
  FIELD(int64_t, steps) FIELD(int64_t, inputs) FIELD(int64_t, hidden) FIELD(                                                                                                                                                                                                            \
      int64_t, block) /* sequences that one thread takes through all steps; a multiple of 4 */                                                                                                                                                                                          \
      FIELD(int64_t,                                                                                                                                                                                                                                                                    \
            segment) /* steps between checkpoints; `steps` or more keeps every step instead */                                                                                                                                                                                          \
      FIELD(int64_t, threads) FIELD(const float*, x) /* (B, T, I) by strides */                                                                                                                                                                                                         \
      FIELD(int64_t, x_batch_stride) FIELD(int64_t, x_step_stride) FIELD(const float*, h0)                                                                                                                                                                                              \
          FIELD(const float*, c0)                         /* (B, H); null is zero */                                                                                                                                                                                                    \
      FIELD(const float*, w_ih) FIELD(const float*, w_hh) /* (W, I), (V, H) */                                                                                                                                                                                                          \
      FIELD(const float*,                                                                                                                                                                                                                                                               \
            bias) /* (R); null is zero */ /* a step of time (kLem, kCornn), the strength of                                                                                                                                                                                             \
                                             springs and their damping (kCornn) */                                                                                                                                                                                                      \
      FIELD(float, dt) FIELD(float, gamma) FIELD(float, epsilon)                                                                                                                                                                                                                        \
          FIELD(float*, y) /* (B, T, H) by strides; null: not wanted */                                                                                                                                                                                                                 \
      FIELD(                                                                                                                                                                                                                                                                            \
          int64_t,                                                                                                                                                                                                                                                                      \
          y_batch_stride) FIELD(int64_t,                                                                                                                                                                                                                                                \
                                y_step_stride) FIELD(float*, hn) FIELD(float*, cn) /* (B, H) */ /* (whole blocks of B, N, H in whole vectors) for the backward pass; null: no gradients wanted. */ /* N: T times the cell's records or, with checkpoints, segments times its states. */ \
      FIELD(float*, saved)    /* backward only */                                                                                                                                                                                                                                       \
      FIELD(const float*, dy) /* (B, T, H) by strides; null is zero */                                                                                                                                                                                                                  \
      FIELD(int64_t, dy_batch_stride) FIELD(int64_t, dy_step_stride) FIELD(const float*, dhn)                                                                                                                                                                                           \
          FIELD(const float*, dcn)          /* (B, H); null is zero */                                                                                                                                                                                                                  \
      FIELD(float*, dx)                     /* (B, T, I) contiguous; null: not wanted */                                                                                                                                                                                                \
      FIELD(float*, dh0) FIELD(float*, dc0) /* (B, H); null: not wanted */                                                                                                                                                                                                              \
      FIELD(float*, dw_ih) FIELD(float*, dw_hh)                                                                                                                                                                                                                                         \
          FIELD(float*, dbias) /* like the weights; dbias null: not wanted */
struct LayerCall {
  LAYER_FIELDS(MEMBER)
};

// What the functions that work return.
enum Status : int { kDone, kNoMemory, kFailed };  // kFailed: last_failure() says why

EXPORT int layer_forward(const LayerCall* call);
EXPORT int layer_backward(const LayerCall* call);

// The recurrence h_t = f(a_t h_{t-1} + b_t), f the identity or max(0, .). All arrays are float32
// and contiguous.
#define SCAN_FIELDS(FIELD)                                                                    \
  FIELD(int64_t, batch)                                                                       \
  FIELD(int64_t, steps) FIELD(int64_t, features) FIELD(int64_t, threads) FIELD(int64_t, relu) \
      FIELD(int64_t, constant) /* a is (H), the same at every step of every sequence */       \
      FIELD(const float*, a) FIELD(const float*, b) /* (B, T, H) */                           \
      FIELD(const float*, h0)                       /* (B, H); null is zero */                \
      FIELD(float*, h) /* (B, T, H) */              /* backward only */                       \
      FIELD(const float*, dh)                       /* (B, T, H) */                           \
      FIELD(float*, da)                                                                       \
          FIELD(float*, db) /* (B, T, H); da of a constant a is (B, H), and is added to */    \
      FIELD(float*, dh0)    /* (B, H); null: not wanted */
struct ScanCall {
  SCAN_FIELDS(MEMBER)
};

EXPORT int scan_forward(const ScanCall* call);
EXPORT int scan_backward(const ScanCall* call);

// Room for so many floats, aligned to huge pages, or null. Its content is whatever was left there.
EXPORT void* memory_acquire(int64_t floats);
EXPORT void memory_release(void* memory);

// Use PyTorch's OpenMP threads: the address of GOMP_parallel in its runtime. Null: threads of our
// own.
EXPORT void use_parallel_region(void* gomp_parallel);

// Why the last call of this thread that returned kFailed did so.
EXPORT const char* last_failure();

// Words: `version:N`; `lanes:floats of a vector`; `NAME:bytes` of a structure, then
// `NAME.field:type` in their order; `cell.NAME:number,records,states`. Types: n int64_t, f float, p
// a pointer.
EXPORT const char* interface_text();

// 4 and 3 for the x86-64 levels of those numbers, else 0.
EXPORT int processor_level();
}
