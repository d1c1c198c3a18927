// What the types of values are called.
#pragma once

#include <isonorm/isonorm.hpp>

namespace isonorm_cli {

struct DtypeWord {
  const char* name;   // as the program spells it
  const char* torch;  // as PyTorch and NumPy do
  isonorm::dtype type;
};

inline constexpr DtypeWord kDtypes[] = {{"f32", "float32", isonorm::dtype::f32},
                                        {"bf16", "bfloat16", isonorm::dtype::bf16},
                                        {"f16", "float16", isonorm::dtype::f16},
                                        {"f64", "float64", isonorm::dtype::f64},
                                        {"i8", "int8", isonorm::dtype::i8},
                                        {"e4m3", "float8_e4m3fn", isonorm::dtype::e4m3},
                                        {"e5m2", "float8_e5m2", isonorm::dtype::e5m2},
                                        {"e8m0", "float8_e8m0fnu", isonorm::dtype::e8m0}};

inline const char* DtypeName(isonorm::dtype type) {
  for (const DtypeWord& word : kDtypes) {
    if (word.type == type) return word.name;
  }
  return "unknown";
}

}  // namespace isonorm_cli
