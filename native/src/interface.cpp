// What Python builds the structures of kernels.h from, as text.

#include <string>
#include <type_traits>

#include "cells.h"
#include "kernels.h"
#include "runtime.h"

namespace {

// Goes up where a field changes its name or meaning: Python refuses other versions than its own.
constexpr int kVersion = 2;

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
#define LAYER_WORD(type, name) words += word("LayerCall." #name, {kLetter<type>});
#define SCAN_WORD(type, name) words += word("ScanCall." #name, {kLetter<type>});
#define CELL_WORD(kind, type, name) \
  words += word("cell." name, numbers(kind, type::kRows, type::kState));
    words += word("lanes", std::to_string(kLanes));
    words += word("LayerCall", std::to_string(sizeof(LayerCall)));
    LAYER_FIELDS(LAYER_WORD)
    words += word("ScanCall", std::to_string(sizeof(ScanCall)));
    SCAN_FIELDS(SCAN_WORD)
    CELLS(CELL_WORD)
    return words;
  }();
  return text.c_str();
}

const char* last_failure() { return failure_text(); }
