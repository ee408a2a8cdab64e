// What Python mirrors by hand, as text: it refuses a library whose text is not its own.

#include <cstddef>
#include <string>
#include <utility>

#include "kernels.h"
#include "runtime.h"

namespace {

// Goes up where a call changes its meaning and none of its fields.
constexpr int kVersion = 1;

struct Field {
  const char* name;
  size_t offset, size;
};

#define FIELD(structure, name) \
  Field { #name, offsetof(structure, name), sizeof(structure::name) }

const Field kLayerFields[] = {
    FIELD(LayerCall, cell),
    FIELD(LayerCall, batch),
    FIELD(LayerCall, steps),
    FIELD(LayerCall, inputs),
    FIELD(LayerCall, hidden),
    FIELD(LayerCall, segment),
    FIELD(LayerCall, threads),
    FIELD(LayerCall, x),
    FIELD(LayerCall, x_batch_stride),
    FIELD(LayerCall, x_step_stride),
    FIELD(LayerCall, h0),
    FIELD(LayerCall, c0),
    FIELD(LayerCall, w_ih),
    FIELD(LayerCall, w_hh),
    FIELD(LayerCall, bias),
    FIELD(LayerCall, dt),
    FIELD(LayerCall, gamma),
    FIELD(LayerCall, epsilon),
    FIELD(LayerCall, y),
    FIELD(LayerCall, y_batch_stride),
    FIELD(LayerCall, y_step_stride),
    FIELD(LayerCall, hn),
    FIELD(LayerCall, cn),
    FIELD(LayerCall, saved),
    FIELD(LayerCall, dy),
    FIELD(LayerCall, dy_batch_stride),
    FIELD(LayerCall, dy_step_stride),
    FIELD(LayerCall, dhn),
    FIELD(LayerCall, dcn),
    FIELD(LayerCall, dx),
    FIELD(LayerCall, dh0),
    FIELD(LayerCall, dc0),
    FIELD(LayerCall, dw_ih),
    FIELD(LayerCall, dw_hh),
    FIELD(LayerCall, dbias),
};

const Field kScanFields[] = {
    FIELD(ScanCall, batch),   FIELD(ScanCall, steps), FIELD(ScanCall, features),
    FIELD(ScanCall, threads), FIELD(ScanCall, relu),  FIELD(ScanCall, constant),
    FIELD(ScanCall, a),       FIELD(ScanCall, b),     FIELD(ScanCall, h0),
    FIELD(ScanCall, h),       FIELD(ScanCall, dh),    FIELD(ScanCall, da),
    FIELD(ScanCall, db),      FIELD(ScanCall, dh0),
};

const std::pair<const char*, CellKind> kCells[] = {
    {"LSTM", kLstm},       {"GRU", kGru},     {"TANH", kTanh}, {"RELU", kRelu},
    {"MODRELU", kModrelu}, {"SLSTM", kSlstm}, {"LEM", kLem},   {"CORNN", kCornn},
};

template <size_t Count>
void describe(std::string& text, const char* name, size_t size, const Field (&fields)[Count]) {
  text += std::string(" ") + name + ":" + std::to_string(size);
  for (const Field& field : fields)
    text += std::string(" ") + name + "." + field.name + ":" + std::to_string(field.offset) + "+" +
            std::to_string(field.size);
}

}  // namespace

const char* interface_text() {
  static const std::string text = [] {
    std::string described = "version:" + std::to_string(kVersion);
    describe(described, "LayerCall", sizeof(LayerCall), kLayerFields);
    describe(described, "ScanCall", sizeof(ScanCall), kScanFields);
    for (const auto& [name, kind] : kCells)
      described += std::string(" cell.") + name + ":" + std::to_string(kind);
    return described;
  }();
  return text.c_str();
}

const char* last_failure() { return failure_text(); }
