// Products of small matrices in float32: register tiles over weights that lie packed in panels of
// columns.
#pragma once

#include <algorithm>
#include <cstdint>

#include "simd.h"

constexpr int kTileRows = kTileAccumulators == 24 ? 8 : 4;
constexpr int kTileVecs = kTileAccumulators == 24 ? 6 : 3;

// tile[r][v] += sum_k a[r * row + k * col] * w[k * w_row + v * kLanes]
template <int Rows, int Vecs>
INLINE void multiply_tile(Vec (&tile)[Rows][Vecs], const float* a, int64_t row, int64_t col,
                          int64_t depth, const float* w, int64_t w_row) {
  for (int64_t k = 0; k < depth; ++k, a += col, w += w_row) {
    Vec weights[Vecs];
    for (int v = 0; v < Vecs; ++v) weights[v] = load(w + v * kLanes);
    for (int r = 0; r < Rows; ++r) {
      const Vec factor = splat(a[r * row]);
      for (int v = 0; v < Vecs; ++v) tile[r][v] += factor * weights[v];
    }
  }
}

constexpr int kMostProducts = 4;  // in a sum

// One factor of a product: rows of `a` times `w`; see multiply_tile. `w` lies in panels of columns:
// `w_row` floats from row to row of a panel, `w_panel` from panel to panel.
struct Product {
  const float* a;
  int64_t row, col, depth;
  const float* w;
  int64_t w_row, w_panel;
};

// out (rows, Vecs) = or += start + the sum of `count` products. `start` is one row for all, or null
// for zero.
template <int Rows, int Vecs, bool Add>
void product_tile(const Product* products, int count, const float* start, float* out,
                  int64_t out_row) {
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
constexpr int most_vecs(int rows) {
  return std::min(kTileVecs, kTileAccumulators / std::min(rows, kTileRows));
}

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

// out (rows, vecs * kLanes) = or += start + sum of products. Panels of columns outside, so that a
// panel of the weights stays in the nearest cache for all rows; `panel` is its width in vectors, at
// most most_vecs(rows).
template <bool Add>
void multiply(int64_t rows, int64_t vecs, int64_t panel, const Product* products, int count,
              const float* start, float* out, int64_t out_row) {
  static const Kernels<Add> kernels;
  for (int64_t v = 0; v < vecs; v += panel) {
    const int64_t width = std::min(panel, vecs - v);
    for (int64_t r = 0; r < rows; r += kTileRows) {
      Product part[kMostProducts];
      for (int p = 0; p < count; ++p) {
        part[p] = products[p];
        part[p].a += r * part[p].row;
        part[p].w += v / panel * part[p].w_panel;
      }
      const int64_t height = std::min<int64_t>(kTileRows, rows - r);
      kernels.table[height][width](part, count, start ? start + v * kLanes : nullptr,
                                   out + r * out_row + v * kLanes, out_row);
    }
  }
}

// Packed weights lie in panels of `panel` columns, each contiguous, so that a product reads them in
// one stream. Columns that fill up the last panel are left as they are: zero.

inline int64_t packed_floats(int64_t depth, int64_t columns, int64_t panel) {
  return (columns + panel - 1) / panel * depth * panel;
}

// w (depth, columns) -> panels
inline void pack(const float* w, int64_t depth, int64_t columns, int64_t panel, float* to) {
  for (int64_t c = 0; c < columns; c += panel, to += depth * panel)
    for (int64_t k = 0; k < depth; ++k)
      std::copy_n(w + k * columns + c, std::min(panel, columns - c), to + k * panel);
}

// The transpose of w (columns, depth) -> panels
inline void pack_transposed(const float* w, int64_t depth, int64_t columns, int64_t panel,
                            float* to) {
  constexpr int64_t kPatch = 16;
  for (int64_t c = 0; c < columns; c += panel, to += depth * panel)
    for (int64_t k = 0; k < depth; k += kPatch)
      for (int64_t i = 0; i < std::min(panel, columns - c); ++i)
        for (int64_t j = k; j < std::min(depth, k + kPatch); ++j)
          to[j * panel + i] = w[(c + i) * depth + j];
}

// from (rows, columns), `row` floats from row to row -> to (columns, rows), patch by patch, which
// the caches like
inline void transpose(const float* from, int64_t row, int64_t rows, int64_t columns, float* to) {
  constexpr int64_t kPatch = 16;
  for (int64_t c = 0; c < columns; c += kPatch)
    for (int64_t r = 0; r < rows; r += kPatch)
      for (int64_t i = c; i < std::min(columns, c + kPatch); ++i)
        for (int64_t j = r; j < std::min(rows, r + kPatch); ++j)
          to[i * rows + j] = from[j * row + i];
}
