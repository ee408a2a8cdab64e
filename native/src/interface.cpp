// What Python builds the structures of kernels.h from, as text.

#include <string>
#include <type_traits>

#include "cells.h"
#include "kernels.h"
#include "runtime.h"

namespace {

// Goes up with every change of a field or function: Python refuses other versions than its own.
constexpr int kVersion = 3;

template <class Type>
constexpr char kLetter = std::is_pointer_v<Type>       ? 'p'
                         : std::is_same_v<Type, float> ? 'f'
                                                       : 'n';

std::string word(const std::string& name, const std::string& value) {
  return " " + name + ":" + value;
}

std::string numbers(int64_t kind, int64_t records, int64_t states) {
  return std::to_string(kind) + "," + std::to_string(records) + "," + std::to_string(states);
}

}  // namespace

const char* interface_text() {
  static const std::string text = [] {
    std::string words = "version:" + std::to_string(kVersion);
    words += word("lanes", std::to_string(kLanes));
    words += word("LayerCall", std::to_string(sizeof(LayerCall)));
#define FIELD(type, name) words += word("LayerCall." #name, {kLetter<type>});
#include "layer_fields.inc"
#undef FIELD
    words += word("ScanCall", std::to_string(sizeof(ScanCall)));
#define FIELD(type, name) words += word("ScanCall." #name, {kLetter<type>});
#include "scan_fields.inc"
#undef FIELD
#define CELL(kind, type, name) \
  words += word("cell." name, numbers(kind, type::kRows, type::kState));
#include "cells.inc"
#undef CELL
    return words;
  }();
  return text.c_str();
}

const char* last_failure() { return failure_text(); }
