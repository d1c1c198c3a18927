// What a call of these functions is for is what it returns. Each is thrown away here, of which a compiler warns line by line;
// KEPT makes use of it.
#include <isonorm/isonorm.hpp>

#if defined(KEPT)
#define DISCARD(value) static_cast<void>(value)
#else
#define DISCARD(value) value
#endif

void Discard(const isonorm::forward_args& forward, const isonorm::backward_args& backward,
             const isonorm::double_backward_args& twice, const isonorm::shard& shard, const isonorm::error& error,
             const isonorm::thread_pool& pool, const std::vector<float>& vector) {
  const isonorm::contract& contract = isonorm::contracts::torch;
  DISCARD(isonorm::contracts::by_name("torch"));
  DISCARD(isonorm::to_c(contract));
  DISCARD(isonorm::to_c(forward.quantization));
  DISCARD(isonorm::from_c(ISONORM_CONTRACT_TORCH));
  DISCARD(isonorm::forward_workspace(contract, 0, forward));
  DISCARD(isonorm::backward_workspace(contract, 0, backward));
  DISCARD(isonorm::double_backward_workspace(contract, 0, twice));
  DISCARD(isonorm::forward_finish(contract, 0, forward, shard, 0));
  DISCARD(isonorm::max_ranks(4096));
  DISCARD(isonorm::rms(vector));
  DISCARD(isonorm::version());
  DISCARD(isonorm::list_targets());
  DISCARD(isonorm::list_contracts());
  DISCARD(isonorm::list_kernels());
  DISCARD(isonorm::target());
  DISCARD(isonorm::last_kernel());
  DISCARD(isonorm::shared_executor());
  DISCARD(pool.executor());
  DISCARD(pool.concurrency());
  DISCARD(isonorm::thread_pool::available_cpus());
  DISCARD(isonorm::size_of(isonorm::dtype::f32));
  DISCARD(isonorm::to_c(isonorm::dtype::f32));
  DISCARD(forward.x.c_tensor());
  DISCARD(forward.x.type());
  DISCARD(forward.x.shape());
  DISCARD(forward.x.shape().count());
  DISCARD(forward.x.shape().data());
  DISCARD(error.status());
}
