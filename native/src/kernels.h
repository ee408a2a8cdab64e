// The C interface. The fields of its structures and its cells are lists in files of their own, from
// which interface.cpp tells Python what to fill in.
#pragma once

#include <cstdint>

#define EXPORT __attribute__((visibility("default")))

extern "C" {

enum CellKind : int64_t {
#define CELL(kind, type, name) kind,
#include "cells.inc"
#undef CELL
};

#define FIELD(type, name) type name;

// One recurrent layer. All arrays are float32. Null pointers: see each. x and y have any strides
// but contiguous features. R: the cell's gates times H; W: those of them that x has a part in,
// times H; V: those of each of its sources, times H, one source after the other. c0, cn, dcn and
// dc0 belong to cells whose second state is a caller's too: kLstm (c), kLem and kCornn (z).
struct LayerCall {
#include "layer_fields.inc"
};

// What the functions that work return.
enum Status : int { kDone, kNoMemory, kFailed };  // kFailed: last_failure() says why

EXPORT int layer_forward(const LayerCall* call);
EXPORT int layer_backward(const LayerCall* call);

// The recurrence h_t = f(a_t h_{t-1} + b_t), f the identity or max(0, .). All arrays are float32
// and contiguous.
struct ScanCall {
#include "scan_fields.inc"
};

#undef FIELD

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

// Whether Intel made the processor.
EXPORT int processor_is_intel();
}
