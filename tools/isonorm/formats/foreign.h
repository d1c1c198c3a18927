// Files that people hand over in place of a .npy or .safetensors file.
#pragma once

#include <string>

#include "formats/format.h"

namespace isonorm_cli {

// What a file that is neither of the two formats seems to be, and what to do about it, to be read after "it":
// "is a Git LFS pointer and not the file itself; run `git lfs pull`". "": it looks like nothing that is known.
std::string WhatItSeems(const Source& source);

}  // namespace isonorm_cli
