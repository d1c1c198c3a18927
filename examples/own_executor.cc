// A program that has threads of its own lets isonorm use them: an executor is one function and one pointer.
// Here plain std::thread stands for the pool. No result depends on the executor, which the last line shows.
#include <cstdio>
#include <isonorm/isonorm.hpp>
#include <thread>
#include <vector>

// Calls task(task_context, i) once for every i in [0, count) and returns when all have returned.
static void ParallelFor(void* /*context*/, std::int64_t count, void (*task)(void*, std::int64_t), void* task_context) {
  std::vector<std::thread> threads;
  for (std::int64_t i = 1; i < count; ++i) threads.emplace_back(task, task_context, i);
  task(task_context, 0);
  for (std::thread& thread : threads) thread.join();
}

int main() {
  const std::int64_t rows = 4096, cols = 1024;
  std::vector<float> x(rows * cols), alone(rows * cols), together(rows * cols);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(static_cast<int>(i * 2654435761u % 2001) - 1000);

  const isonorm_executor executor = {sizeof(isonorm_executor), 4, 0, nullptr, &ParallelFor};
  isonorm::forward(isonorm::contracts::torch, 1e-6, {.x = {x, rows, cols}, .y = {alone, rows, cols}});
  isonorm::forward(isonorm::contracts::torch, 1e-6, {.x = {x, rows, cols}, .y = {together, rows, cols}, .executor = &executor});
  std::printf("one thread and four: %s\n", alone == together ? "the same bits" : "different bits");
}
