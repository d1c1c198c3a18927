// Memory of large results: taken from the system once, and used again.
#pragma once

#include <cstddef>

namespace isonorm_python {

// Blocks on huge pages where the system has them. One that is given back stays mapped, its pages free for the system to take
// (MADV_FREE): if it does not need them, the next block of that size finds them there.
void* TakeBlock(std::size_t bytes);  // null if there is no memory
void* ResizeBlock(void* block, std::size_t bytes);
void GiveBlock(void* block);

}  // namespace isonorm_python
