// The operations of isonorm in TensorFlow and their kernels. python/isonorm/tensorflow/_options.py has the order of operands and
// results; those after the first are lists, as an operation has no inputs that may be absent.
#include <exception>
#include <memory>
#include <stdexcept>

#include "call.h"

namespace isonorm_tensorflow {
namespace {

void Forward(const Options& options, TF_OpKernelContext* context, bool added) {
  Call call(options, context);
  Array x, weight, bias, residual, gate, y, residual_out, mean, rstd;
  Rope rope;
  call.First(x, "x");
  call.Operand(0, weight, "weight", Shape::kAsIs);
  call.Operand(1, bias, "bias", Shape::kAsIs);
  call.Operand(2, residual, "residual", Shape::kRows);
  call.Operand(3, gate, "gate", Shape::kRows);
  rope.Read(call, options, 4);
  call.Rows(y, {&x, &gate});
  if (added) call.Rows(residual_out, {&residual});
  call.Result(0, mean, Shape::kPerRow);
  call.Result(1, rstd, Shape::kPerRow);
  const Executor executor(x.bytes);
  auto args = Sized<isonorm_forward_args>();
  args.x = x.get();
  args.weight = weight.get();
  args.bias = bias.get();
  args.residual = residual.get();
  args.gate = gate.get();
  args.rope = rope.get();
  args.y = y.get();
  args.residual_out = residual_out.get();
  args.mean = mean.get();
  args.rstd = rstd.get();
  args.groups = options.groups;
  args.window = options.window;
  args.executor = executor.get();
  Check(isonorm_forward(&options.contract, options.eps, &args));
}

void Norm(const Options& options, TF_OpKernelContext* context) { Forward(options, context, false); }
void AddNorm(const Options& options, TF_OpKernelContext* context) { Forward(options, context, true); }

void NormGrad(const Options& options, TF_OpKernelContext* context) {
  Call call(options, context);
  Array dy, x, weight, bias, residual, residual_out, dresidual, gate, dx, dweight, dbias, dgate;
  Rope rope;
  call.First(dy, "dy");
  call.Operand(0, x, "x", Shape::kRows);
  call.Operand(1, weight, "weight", Shape::kAsIs);
  call.Operand(2, bias, "bias", Shape::kAsIs);
  call.Operand(3, residual, "residual", Shape::kRows);
  call.Operand(4, residual_out, "residual_out", Shape::kRows);
  call.Operand(5, dresidual, "dresidual", Shape::kRows);
  call.Operand(6, gate, "gate", Shape::kRows);
  rope.Read(call, options, 7);
  call.Rows(dx, {&dy, &dresidual});
  call.Result(0, dweight, Shape::kAsIs, &weight);
  call.Result(1, dbias, Shape::kAsIs, bias.present ? &bias : &weight);
  call.Result(2, dgate, Shape::kRows);
  const Executor executor(dy.bytes);
  auto args = Sized<isonorm_backward_args>();
  args.dy = dy.get();
  args.x = x.get();
  args.weight = weight.get();
  args.bias = bias.get();
  args.residual = residual.get();
  args.residual_out = residual_out.get();
  args.gate = gate.get();
  args.rope = rope.get();
  args.dresidual = dresidual.get();
  args.dx = dx.get();
  args.dweight = dweight.get();
  args.dbias = dbias.get();
  args.dgate = dgate.get();
  args.groups = options.groups;
  args.window = options.window;
  args.executor = executor.get();
  std::size_t size = 0;
  Check(isonorm_backward_workspace(&options.contract, options.eps, &args, &size));
  const auto workspace = size > 0 ? std::make_unique_for_overwrite<std::byte[]>(size) : nullptr;
  args.workspace = workspace.get();
  args.workspace_size = size;
  Check(isonorm_backward(&options.contract, options.eps, &args));
}

// The first `Count` outputs have the shape of the first input. The shape of lists cannot be told here: the text of the package
// knows it.
template <int Count>
void Infer(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
  TF_ShapeHandle* const shape = TF_NewShapeHandle();
  TF_ShapeInferenceContextGetInput(context, 0, shape, status);
  for (int i = 0; i < Count && TF_GetCode(status) == TF_OK; ++i) {
    TF_ShapeInferenceContextSetOutput(context, i, shape, status);
  }
  TF_DeleteShapeHandle(shape);
}

// The kernel of a node: created once, and run by any number of threads.
void* Create(TF_OpKernelConstruction* construction) {
  try {
    return new Options(construction);
  } catch (const std::exception& error) {
    const Status status;
    TF_SetStatus(status.get(), TF_INVALID_ARGUMENT, error.what());
    TF_OpKernelConstruction_Failure(construction, status.get());
    return nullptr;
  }
}

template <void (*kRun)(const Options&, TF_OpKernelContext*)>
void Compute(void* kernel, TF_OpKernelContext* context) {
  try {
    kRun(*static_cast<const Options*>(kernel), context);
  } catch (const std::exception& error) {
    const Status status;
    TF_SetStatus(status.get(), TF_INVALID_ARGUMENT, error.what());
    TF_OpKernelContext_Failure(context, status.get());
  }
}

void Destroy(void* kernel) { delete static_cast<Options*>(kernel); }

struct Operation {
  const char* name;
  const char* first;
  std::initializer_list<const char*> outputs, types;
  void (*infer)(TF_ShapeInferenceContext*, TF_Status*);
  void (*compute)(void* kernel, TF_OpKernelContext*);
};

// Types are not limited here: what the library refuses it names in a sentence.
const Operation kOperations[] = {
    {"IsonormNorm",
     "x: T",
     {"y: Ty", "statistics: Tstatistics"},
     {"T: type", "Ty: type", "Tstatistics: list(type) >= 0"},
     &Infer<1>,
     &Compute<Norm>},
    {"IsonormAddNorm",
     "x: T",
     {"y: Ty", "residual_out: Tresidual_out", "statistics: Tstatistics"},
     {"T: type", "Ty: type", "Tresidual_out: type", "Tstatistics: list(type) >= 0"},
     &Infer<2>,
     &Compute<AddNorm>},
    {"IsonormNormGrad",
     "dy: Tdy",
     {"dx: T", "gradients: Tgradients"},
     {"T: type", "Tdy: type", "Tgradients: list(type) >= 0"},
     &Infer<1>,
     &Compute<NormGrad>},
};

class Registration {
 public:
  Registration() {
    const Status status;
    for (const Operation& operation : kOperations) {
      TF_OpDefinitionBuilder* const definition = TF_NewOpDefinitionBuilder(operation.name);
      TF_OpDefinitionBuilderAddInput(definition, operation.first);
      TF_OpDefinitionBuilderAddInput(definition, "others: Tothers");
      for (const char* output : operation.outputs) TF_OpDefinitionBuilderAddOutput(definition, output);
      for (const char* type : operation.types) TF_OpDefinitionBuilderAddAttr(definition, type);
      TF_OpDefinitionBuilderAddAttr(definition, "Tothers: list(type) >= 0");
      TF_OpDefinitionBuilderAddAttr(definition, "options: string");
      TF_OpDefinitionBuilderSetShapeInferenceFunction(definition, operation.infer);
      TF_RegisterOpDefinition(definition, status.get());
      status.Check();
      TF_KernelBuilder* const kernel = TF_NewKernelBuilder(operation.name, "CPU", &Create, operation.compute, &Destroy);
      TF_RegisterKernelBuilder(operation.name, kernel, status.get());
      status.Check();
    }
  }
};

const Registration registration;

}  // namespace
}  // namespace isonorm_tensorflow

// How many threads a call uses at most; 0: one for each CPU.
extern "C" __attribute__((visibility("default"))) void isonorm_tensorflow_set_threads(int threads) {
  isonorm_tensorflow::Executor::SetThreads(threads);
}
