// The steps by which call.cc turns arguments into a Call. Each returns the first fault it meets.
#pragma once

#include <cstddef>
#include <initializer_list>

#include "call/call.h"
#include "call/tensor.h"

namespace isonorm {

// The tensors of one call, collected so that rules over all of them (types, overlap, collapsing) are loops.
class CallBuilder {
 public:
  explicit CallBuilder(Call* call) : call_(call) {}

  // The tensor that gives rows and cols; sets the compute type and adds the tensor itself.
  isonorm_status SetShapeFrom(RowTensor slot, const char* name, const isonorm_tensor* x);
  // Optional ones: a null tensor is no fault and stays absent.
  isonorm_status AddRows(RowTensor slot, const char* name, const isonorm_tensor* tensor, bool output);
  isonorm_status AddStatistic(RowTensor slot, const char* name, const isonorm_tensor* tensor, bool output);  // one per group
  isonorm_status AddPerRow(RowTensor slot, const char* name, const isonorm_tensor* tensor, bool output);  // of the compute type
  // One of the compute type and of exactly this shape; `view` is where it lies then.
  isonorm_status AddExact(const char* name, const isonorm_tensor* tensor, bool output, std::initializer_list<int64_t> shape,
                          const View** view);
  isonorm_status AddScale(const isonorm_tensor* tensor);  // not null; after SetQuantizer
  isonorm_status AddInput(InputVector vector, const char* name, const isonorm_tensor* tensor, const void** data, Type* type);
  isonorm_status AddOutput(const char* name, const isonorm_tensor* tensor, void** data, Type* type);

  isonorm_status SetGroups(int64_t groups, int64_t window);
  isonorm_status SetScalars(const isonorm_contract& contract, double eps);
  isonorm_status SetQuantizer(const isonorm_quantization* quantization);  // null: none; after SetGroups
  isonorm_status SetExecutor(const isonorm_executor* executor);
  // null: none; after SetGroups. x: its type.
  isonorm_status SetRope(const isonorm_contract& contract, const isonorm_rope* rope, Type x);

  // Every output against every other tensor, then strides into the call.
  isonorm_status Finish();

  // The tensors of this call and of another.
  isonorm_status CheckSameDevice(const CallBuilder& other) const { return other.CheckDevice(shape()); }
  // The outputs of this call and of one that runs at the same time, each against every tensor of the other.
  isonorm_status CheckApartFrom(const CallBuilder& other) const;

  // After Finish, once it is known how many bytes the call needs: the size of its workspace, if it needs one, and that it is
  // apart from every tensor that was added.
  isonorm_status CheckWorkspace(size_t needed) const;
  isonorm_status CheckApartFrom(const void* workspace, size_t bytes) const;

  Call& call() { return *call_; }
  // Of the first tensor.
  const char* name() const { return shape().name; }
  isonorm_device device() const { return shape().tensor->device; }

  // The tensor to read in place of x, given under another name.
  void ReadInsteadOfX(RowTensor slot) { read_x_from_ = slot; }

 private:
  struct Entry {
    View view;
    int slot;  // RowTensor, or below 0 what does not move from row to row: kVector, kTable
    bool output;
  };
  static constexpr int kMaxEntries = 20;
  static constexpr int kVector = -1, kTable = -2;  // a table's type is looked at by itself

  isonorm_status Check(const char* name, const isonorm_tensor* tensor, bool output, int slot, View** view);
  isonorm_status AddVector(const char* name, const isonorm_tensor* tensor, bool output, const View** view);
  // [leading..., per_row], or [leading...] where that is 1. extent: what the last size is, for the message.
  isonorm_status CheckPerRow(const View& view, int64_t per_row, const char* extent) const;
  isonorm_status CheckType(const View& view, int slot) const;
  isonorm_status CheckDevice(const View& view) const;
  isonorm_status CheckComputeType(const View& view) const;
  isonorm_status AddTable(const char* name, const isonorm_tensor* tensor, Type x, View** view);
  isonorm_status AddPositions(const isonorm_tensor* tensor);
  isonorm_status SetPositionsFrom(int64_t offset, int32_t dimension);
  bool Merges(int dimension, int outer) const;
  void Collapse();

  const View& shape() const { return entries_[0].view; }

  Call* call_;
  Entry entries_[kMaxEntries];  // the first one is the tensor that gives the shape
  int count_ = 0;
  int read_x_from_ = kX;
};

}  // namespace isonorm
