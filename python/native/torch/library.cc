// The operators of torch.ops.isonorm. Each name that begins with an underscore has the kernel of the one without, but no
// formula of autograd, which costs microseconds where no gradient is needed; python/isonorm/torch/_ops.py registers what is
// Python's.
// What a call seldom names comes last and has a default: an argument that is left out costs a tenth of one that is given.
#include <string>

#include "kernels.h"
#include "value.h"

namespace isonorm_torch {
namespace {

#define ISONORM_ROPE \
  "Tensor? cos=None, Tensor? sin=None, Tensor? positions=None, int style=0, int position_dim=0, SymInt position_offset=0"
#define ISONORM_FORWARD                                                                                      \
  "(Tensor x, Tensor? weight, Tensor? bias, float eps, str contract, bool want_rstd, bool want_mean=False, " \
  "Tensor? residual=None, Tensor? gate=None, " ISONORM_ROPE ", int groups=1, int window=0, ScalarType? dtype=None"
#define ISONORM_BACKWARD                                                                                         \
  "(Tensor dy, Tensor? x, Tensor? weight, Tensor? rstd, int needs, float eps, str contract, Tensor? mean=None, " \
  "Tensor? bias=None, Tensor? residual=None, Tensor? residual_out=None, Tensor? dresidual=None, Tensor? "        \
  "gate=None, " ISONORM_ROPE ", int groups=1, int window=0, ScalarType? x_dtype=None)"
#define ISONORM_SHARDED_FORWARD \
  "(Tensor x, Tensor? weight, Tensor? bias, float eps, str contract, Tensor? residual, Tensor? gate, int ranks"
#define ISONORM_SHARDED_BACKWARD                                                                             \
  "(Tensor dy, Tensor? x, Tensor? weight, Tensor? bias, float eps, str contract, Tensor? residual, Tensor? " \
  "residual_out, Tensor? dresidual, Tensor? gate, int ranks, Tensor statistic"

struct Operator {
  const char* name;
  const char* signature;
  Kernel* kernel;
};

constexpr Operator kOperators[] = {
    {"rms_norm", "(Tensor x, Tensor? weight=None, Tensor? bias=None, *, float eps, str contract=\"torch\") -> Tensor",
     &RmsNorm},
    {"_rms_norm", "(Tensor x, Tensor? weight, Tensor? bias, float eps, str contract) -> Tensor", &RmsNorm},
    {"_rms_norm_rstd", "(Tensor x, Tensor? weight, Tensor? bias, float eps, str contract) -> (Tensor y, Tensor rstd)",
     &RmsNorm},
    {"_rms_norm_backward",
     "(Tensor dy, Tensor x, Tensor? weight, Tensor? bias, Tensor? rstd, int needs, float eps, str contract) -> "
     "(Tensor dx, Tensor dweight, Tensor dbias)",
     &RmsNormBackward},
    {"forward", ISONORM_FORWARD ") -> (Tensor y, Tensor residual_out, Tensor mean, Tensor rstd)", &Forward},
    {"_forward", ISONORM_FORWARD ") -> (Tensor y, Tensor residual_out, Tensor mean, Tensor rstd)", &Forward},
    {"quantized",
     ISONORM_FORWARD ", Tensor? scale=None, int scale_kind=0, int rounded_to=0, int group_cols=0, float min_scale=0, "
                     "float scale_ub=0) -> (Tensor y, Tensor residual_out, Tensor scale_out, Tensor mean, Tensor rstd)",
     &Quantized},
    {"backward", ISONORM_BACKWARD " -> (Tensor dx, Tensor dweight, Tensor dbias, Tensor dgate)", &Backward},
    {"_backward", ISONORM_BACKWARD " -> (Tensor dx, Tensor dweight, Tensor dbias, Tensor dgate)", &Backward},
    {"_backward_parts", ISONORM_BACKWARD " -> (Tensor dx, Tensor dweight, Tensor dbias, Tensor dgate)", &BackwardParts},
    {"double_backward",
     "(Tensor dy, Tensor x, Tensor? weight, Tensor? rstd, Tensor? ddx, Tensor? ddweight, int needs, float eps, str contract, "
     "int groups=1) -> (Tensor dx, Tensor dweight, Tensor ddy)",
     &DoubleBackward},
    {"qk_norm",
     "(Tensor q, Tensor k, Tensor? q_weight, Tensor? k_weight, float eps, str contract, " ISONORM_ROPE ") -> "
     "(Tensor q_out, Tensor k_out)",
     &QkNorm},
    {"_qk_norm",
     "(Tensor q, Tensor k, Tensor? q_weight, Tensor? k_weight, float eps, str contract, " ISONORM_ROPE ") -> "
     "(Tensor q_out, Tensor k_out)",
     &QkNorm},
    {"qk_norm_backward",
     "(Tensor dq, Tensor dk, Tensor q, Tensor k, Tensor? q_weight, Tensor? k_weight, int needs, float eps, str "
     "contract, " ISONORM_ROPE ") -> (Tensor dq_out, Tensor dk_out, Tensor dq_weight, Tensor dk_weight)",
     &QkNormBackward},
    {"rms", "(Tensor x) -> Tensor", &Rms},
    {"_rms", "(Tensor x) -> Tensor", &Rms},
    {"rms_backward", "(Tensor x, Tensor drms) -> Tensor", &RmsBackward},
    {"_rms_backward", "(Tensor x, Tensor drms) -> Tensor", &RmsBackward},
    {"rms_penalty", "(Tensor x, float lambda_, bool want_penalty, bool want_gradient) -> (Tensor penalty, Tensor dx)",
     &RmsPenalty},
    {"_rms_penalty", "(Tensor x, float lambda_, bool want_penalty, bool want_gradient) -> (Tensor penalty, Tensor dx)",
     &RmsPenalty},
    {"_sharded_forward",
     ISONORM_SHARDED_FORWARD ", ScalarType? dtype) -> (Tensor sent, Tensor received, Tensor statistic, Tensor y, Tensor "
                             "residual_out, Tensor mean, Tensor rstd)",
     &ShardedForward},
    {"_sharded_forward_finish",
     ISONORM_SHARDED_FORWARD ", int turn, Tensor(a!) sent, Tensor received, Tensor(b!) statistic, Tensor(c!) y, Tensor(d!)? "
                             "residual_out, Tensor(e!)? mean, Tensor(f!)? rstd) -> int",
     &ShardedForwardFinish},
    {"_sharded_backward",
     ISONORM_SHARDED_BACKWARD ", int needs, ScalarType? x_dtype, bool unrounded) -> (Tensor sent, Tensor received, Tensor dx, "
                              "Tensor dweight, Tensor dbias, Tensor dgate)",
     &ShardedBackward},
    {"_sharded_backward_finish",
     ISONORM_SHARDED_BACKWARD ", Tensor? received, Tensor(a!)? dx, Tensor(b!)? dweight, Tensor(c!)? dbias, Tensor(d!)? dgate) "
                              "-> ()",
     &ShardedBackwardFinish},
    {"_mark_message", "(Tensor(a!) sent, str text) -> ()", &MarkMessage},
    {"_check_message", "(Tensor received, int ranks) -> ()", &CheckMessage},
    {"_combine_gradients", "(Tensor parts, Tensor(a!) gradient, int rows, int part_rows) -> ()", &CombineGradients},
};

// Torch forgets the operators when the libraries are deleted, which is when this library is unloaded.
class Registration {
 public:
  Registration() {
    CheckTorch(aoti_torch_library_init_def("isonorm", "isonorm", 0, &definitions_));
    CheckTorch(aoti_torch_library_init_impl("isonorm", "CPU", "isonorm", 0, &kernels_));
    for (const Operator& op : kOperators) {
      CheckTorch(aoti_torch_library_def(definitions_, (std::string(op.name) + op.signature).c_str()));
      CheckTorch(torch_library_impl(kernels_, op.name, op.kernel, kBuiltFor));
    }
  }
  ~Registration() {
    aoti_torch_delete_library_object(kernels_);
    aoti_torch_delete_library_object(definitions_);
  }

 private:
  TorchLibraryHandle definitions_ = nullptr, kernels_ = nullptr;
};

const Registration registration;

}  // namespace
}  // namespace isonorm_torch
