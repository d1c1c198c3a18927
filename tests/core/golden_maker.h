// How golden digests are made: by the target `reference`.
#pragma once

#include <string>
#include <string_view>

namespace core_test {

// The text of a golden file with every digest, whatever it was, as the reference computes it. "" and a sentence in `error` if
// it is no golden file, or a case is one that the library refuses.
std::string MakeGolden(std::string_view text, std::string* error);

}  // namespace core_test
