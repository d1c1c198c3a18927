// One call of each function of the C ABI that computes, made of choices.
#pragma once

#include "scene.h"

namespace isonorm_fuzz {

using Prepared = std::function<isonorm_status()>;  // null: no memory for it

Prepared MakeForward(Bytes& bytes, Scene& scene);   // a chain of them, at times
Prepared MakeBackward(Bytes& bytes, Scene& scene);  // with what forward wrote
Prepared MakeDoubleBackward(Bytes& bytes, Scene& scene);
Prepared MakeRms(Bytes& bytes, Scene& scene);     // rms, its gradient, the penalty
Prepared MakeShards(Bytes& bytes, Scene& scene);  // rounds of ranks that all hold the same columns
Prepared MakeBackwardShards(Bytes& bytes, Scene& scene);
Prepared MakeCombine(Bytes& bytes, Scene& scene);
Prepared MakeNames(Bytes& bytes, Scene& scene);  // by number and by name

}  // namespace isonorm_fuzz
