// The C functions of torch's stable ABI that this library calls (torch/csrc/stable/c/shim.h and
// torch/csrc/inductor/aoti_torch/c/shim.h of PyTorch, BSD-3), declared here so that no torch is needed to build. All are in
// torch 2.10 but the weak ones, which are null where torch is older. Torch, already imported, satisfies them at load time.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

using AOTITorchError = std::int32_t;  // 0: success
using StableIValue = std::uint64_t;   // any value of an operator: a number, or a handle
struct AtenTensorOpaque;
using AtenTensorHandle = AtenTensorOpaque*;
struct TorchLibraryOpaque;
using TorchLibraryHandle = TorchLibraryOpaque*;
struct StringOpaque;
using StringHandle = StringOpaque*;
struct StableListOpaque;
using StableListHandle = StableListOpaque*;

std::uint64_t aoti_torch_abi_version();

// Registering operators. A kernel takes its arguments from the stack, owns them, and leaves its results there.
AOTITorchError aoti_torch_library_init_def(const char* ns, const char* file, std::uint32_t line, TorchLibraryHandle* result);
AOTITorchError aoti_torch_library_init_impl(const char* ns, const char* key, const char* file, std::uint32_t line,
                                            TorchLibraryHandle* result);
AOTITorchError aoti_torch_library_def(TorchLibraryHandle library, const char* schema);
AOTITorchError aoti_torch_delete_library_object(TorchLibraryHandle library);
AOTITorchError torch_library_impl(TorchLibraryHandle library, const char* name,
                                  void (*kernel)(StableIValue* stack, std::uint64_t arguments, std::uint64_t results),
                                  std::uint64_t built_with);
// Calls an operator, which takes the arguments from the stack, owns them, and leaves its results there.
AOTITorchError torch_call_dispatcher(const char* name, const char* overload, StableIValue* stack, std::uint64_t built_with);

// Tensors. What is handed out as a pointer is borrowed.
AOTITorchError aoti_torch_get_dim(AtenTensorHandle tensor, std::int64_t* result);
AOTITorchError aoti_torch_get_sizes(AtenTensorHandle tensor, std::int64_t** result);
AOTITorchError aoti_torch_get_strides(AtenTensorHandle tensor, std::int64_t** result);
AOTITorchError aoti_torch_get_dtype(AtenTensorHandle tensor, std::int32_t* result);
AOTITorchError aoti_torch_is_defined(AtenTensorHandle tensor, bool* result);
AOTITorchError torch_get_const_data_ptr(AtenTensorHandle tensor, const void** result);
AOTITorchError torch_get_mutable_data_ptr(AtenTensorHandle tensor, void** result);
AOTITorchError aoti_torch_empty_strided(std::int64_t ndim, const std::int64_t* sizes, const std::int64_t* strides,
                                        std::int32_t dtype, std::int32_t device_type, std::int32_t device_index,
                                        AtenTensorHandle* result);
AOTITorchError aoti_torch_new_uninitialized_tensor(AtenTensorHandle* result);
AOTITorchError aoti_torch_copy_(AtenTensorHandle self, AtenTensorHandle source, std::int32_t non_blocking);
AOTITorchError aoti_torch_delete_tensor_object(AtenTensorHandle tensor);
bool aoti_torch_grad_mode_is_enabled();
void aoti_torch_grad_mode_set_enabled(bool enabled);

AOTITorchError aoti_torch_get_device_type(AtenTensorHandle tensor, std::int32_t* result);
AOTITorchError aoti_torch_get_layout(AtenTensorHandle tensor, std::int32_t* result);

std::int32_t aoti_torch_layout_strided();
std::int32_t aoti_torch_device_type_cpu();
std::int32_t aoti_torch_dtype_float8_e5m2();
std::int32_t aoti_torch_dtype_float8_e4m3fn();
std::int32_t aoti_torch_dtype_bfloat16();
std::int32_t aoti_torch_dtype_float16();
std::int32_t aoti_torch_dtype_float32();
std::int32_t aoti_torch_dtype_float64();
std::int32_t aoti_torch_dtype_uint8();
std::int32_t aoti_torch_dtype_int8();
std::int32_t aoti_torch_dtype_int32();
std::int32_t aoti_torch_dtype_int64();

AOTITorchError torch_string_c_str(StringHandle string, const char** result);
AOTITorchError torch_string_length(StringHandle string, std::size_t* result);
AOTITorchError torch_delete_string(StringHandle string);
AOTITorchError torch_list_size(StableListHandle list, std::size_t* result);
AOTITorchError torch_list_get_item(StableListHandle list, std::size_t index, StableIValue* result);
AOTITorchError torch_delete_list(StableListHandle list);

AOTITorchError torch_parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain_size,
                                  void (*body)(std::int64_t begin, std::int64_t end, void* context), void* context);
AOTITorchError torch_get_num_threads(std::uint32_t* result);

// An optional argument is null or a pointer to its value, which this frees; before torch 2.13 it was made by `new`.
[[gnu::weak]] AOTITorchError torch_delete_stable_ivalue(StableIValue* value);
// The message of the calling thread's last failed call; torch 2.13.
[[gnu::weak]] const char* torch_exception_get_what_without_backtrace();
}
