// What `checkpoint` does to the tensors of a model: which of them change, and how. Looks at names, types and shapes alone, so
// that all that can be refused is known before a value is read.
//
// recenter: LayerNorm takes away the mean of a row. If nothing that is added to the residual stream has a mean, the stream has
// none, and LayerNorm is RMSNorm. So the mean over the stream's width is taken out of every tensor that writes into it.
// fold: linear(norm(x) * w + b) + c = (linear * w)(norm(x)) + (linear(b) + c).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "formats/format.h"

namespace isonorm_cli {

// Why a model is left alone; nothing was written.
class Refusal : public std::runtime_error {
 public:
  enum class Kind {
    kChoice,  // of options, whatever the model is
    kValue,
    kType
  };
  explicit Refusal(const std::string& message, Kind kind = Kind::kValue) : std::runtime_error(message), kind_(kind) {}
  Kind kind() const { return kind_; }

 private:
  Kind kind_;
};

// A new value for every number of a tensor of one or two dimensions. Other tensors are named by their places, too.
struct Change {
  enum class Kind {
    kCentreRows,     // less the mean of its row: embeddings, biases, Conv1D's weights, [in, out]
    kCentreColumns,  // less the mean of its column: Linear's weights, [out, in]
    kScale,          // times the norm's weight
    kAddBias,        // plus what the linear layer makes of the norm's bias
    kFill            // one value
  };
  Kind kind;
  std::size_t tensor;
  std::size_t norm = 0;       // kScale: the norm's weight; kAddBias: its bias
  std::size_t weight = 0;     // kAddBias: the linear layer's weight
  bool inputs_first = false;  // kScale, kAddBias: the linear layer's weight is Conv1D's, [in, out]
  double value = 0;           // kScale: added to the norm's weight; kFill: the value
};

struct CheckpointPlan {
  std::vector<Change> changes = {};  // at most one for a tensor, in the order of the tensors
  std::string untied = {};           // the name of a copy that is added, as it was before the changes; "": none
  std::size_t untied_from = 0;
};

struct RecenterOptions {
  std::string preset = {};
  std::vector<std::string> rows = {}, linear = {};  // patterns, in which * stands for text without a dot
  std::string head = {};                            // reads the last norm; "": with a preset its own
  bool no_head = false;
  std::string untie = {};  // the embedding to which a head that is missing is tied: it becomes a copy of it
};

struct FoldOptions {
  std::string preset = {};
  std::string norm = {};                              // a pattern of norms' weights; what * stands for is put in those below
  std::vector<std::string> linear = {}, conv1d = {};  // patterns of weights
  std::optional<double> offset = {};                  // added to the norm's weight; without it the preset's, or 0
};

std::vector<std::string_view> CheckpointPresets();

// Both throw Refusal.
CheckpointPlan PlanRecenter(const std::vector<TensorInfo>& tensors, const RecenterOptions& options);
CheckpointPlan PlanFold(const std::vector<TensorInfo>& tensors, const FoldOptions& options);

}  // namespace isonorm_cli
