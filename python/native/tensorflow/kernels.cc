// The operations of isonorm in TensorFlow and their kernels. python/isonorm/tensorflow/_options.py has the order of operands and
// results; those after the first are lists, as an operation has no inputs that may be absent.
#include <exception>
#include <stdexcept>
#include <string>

#include "call.h"

namespace isonorm_tensorflow {
namespace {

void Forward(const Options& options, TF_OpKernelContext* context, bool added) {
  Call call(options, context);
  isonorm_base::ForwardInputs<Array> in;
  isonorm_base::ForwardOutputs<Array> out;
  Rope rope;
  call.First(in.x, "x");
  call.Operand(0, in.weight, "weight", Shape::kAsIs);
  call.Operand(1, in.bias, "bias", Shape::kAsIs);
  call.Operand(2, in.residual, "residual", Shape::kRows);
  call.Operand(3, in.gate, "gate", Shape::kRows);
  rope.Read(call, options, 4);
  call.Rows(out.y, {&in.x, &in.gate});
  if (added) call.Rows(out.residual_out, {&in.residual});
  call.Result(0, out.mean, Shape::kPerRow);
  call.Result(1, out.rstd, Shape::kPerRow);
  const Executor executor(in.x.bytes);
  auto args = Sized<isonorm_forward_args>();
  in.GiveTo(args);
  out.GiveTo(args);
  args.rope = rope.get();
  args.groups = options.groups;
  args.window = options.window;
  args.executor = executor.get();
  Check(isonorm_forward(&options.contract, options.eps, &args));
}

void Norm(const Options& options, TF_OpKernelContext* context) { Forward(options, context, false); }
void AddNorm(const Options& options, TF_OpKernelContext* context) { Forward(options, context, true); }

void NormGrad(const Options& options, TF_OpKernelContext* context) {
  Call call(options, context);
  isonorm_base::BackwardInputs<Array> in;
  isonorm_base::BackwardOutputs<Array> out;
  Rope rope;
  call.First(in.dy, "dy");
  call.Operand(0, in.x, "x", Shape::kRows);
  call.Operand(1, in.weight, "weight", Shape::kAsIs);
  call.Operand(2, in.bias, "bias", Shape::kAsIs);
  call.Operand(3, in.residual, "residual", Shape::kRows);
  call.Operand(4, in.residual_out, "residual_out", Shape::kRows);
  call.Operand(5, in.dresidual, "dresidual", Shape::kRows);
  call.Operand(6, in.gate, "gate", Shape::kRows);
  rope.Read(call, options, 7);
  call.Rows(out.dx, {&in.dy, &in.dresidual});
  call.Result(0, out.dweight, Shape::kAsIs, &in.weight);
  call.Result(1, out.dbias, Shape::kAsIs, in.bias.present ? &in.bias : &in.weight);
  call.Result(2, out.dgate, Shape::kRows);
  const Executor executor(in.dy.bytes);
  auto args = Sized<isonorm_backward_args>();
  in.GiveTo(args);
  out.GiveTo(args);
  args.rope = rope.get();
  args.groups = options.groups;
  args.window = options.window;
  args.executor = executor.get();
  Check(isonorm_base::WithWorkspace(options.contract, options.eps, args, isonorm_backward_workspace, isonorm_backward));
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
  const Options& options = *static_cast<const Options*>(kernel);
  try {
    kRun(options, context);
  } catch (const std::exception& error) {
    const std::string text = options.subject.empty() ? error.what() : "In " + options.subject + ": " + error.what();
    const Status status;
    TF_SetStatus(status.get(), TF_INVALID_ARGUMENT, text.c_str());
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
      TF_OpDefinitionBuilderAddAttr(definition, "subject: string = ''");
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
