// Rows that the processes of MPI share: each rank has some columns, forward and backward, and MPI_Allgather brings one float of
// each row from each rank to all. The result has the bits of one process.
//
//   mpicxx -std=c++20 mpi_rms_norm.cc -lisonorm -o mpi_rms_norm
//   mpirun -n 4 ./mpi_rms_norm    # 1, 2, 4 or 8 ranks: each has whole subtrees of the sum, see docs/parallel.md
#include <mpi.h>

#include <cstdio>
#include <cstring>
#include <isonorm/isonorm.hpp>
#include <vector>

constexpr std::int64_t kRows = 3, kCols = 1536;

// The columns from `first` on of all rows. The squares of the last row of x overflow, which takes exchanges of its own.
std::vector<float> x_of(std::int64_t first, std::int64_t cols) {
  std::vector<float> x(kRows * cols);
  for (std::int64_t i = 0; i < kRows * cols; ++i) {
    const std::int64_t row = i / cols, number = row * kCols + first + i % cols;
    x[i] = static_cast<float>(number * 2654435761 % 2001 - 1000) * (row == kRows - 1 ? 1e35f : 0.01f);
  }
  return x;
}

std::vector<float> dy_of(std::int64_t first, std::int64_t cols) {
  std::vector<float> dy(kRows * cols);
  for (std::int64_t i = 0; i < kRows * cols; ++i) {
    dy[i] = static_cast<float>((i / cols * kCols + first + i % cols) * 40503 % 17 - 8);
  }
  return dy;
}

// What a process has, be it a rank with its columns or one with all of them.
struct Share {
  Share(std::int64_t first, std::int64_t cols)
      : x(x_of(first, cols)), dy(dy_of(first, cols)), y(x.size()), dx(x.size()), weight(cols, 1.5f), dweight(cols) {
    forward = {.x = {x, kRows, cols}, .weight = weight, .y = {y, kRows, cols}};
    backward = {.dy = {dy, kRows, cols}, .x = {x, kRows, cols}, .weight = weight, .dx = {dx, kRows, cols}, .dweight = dweight};
  }

  std::vector<float> x, dy, y, dx, weight, dweight;
  isonorm::forward_args forward;
  isonorm::backward_args backward;
};

bool same(const float* one, const float* other, std::int64_t count) {
  return std::memcmp(one, other, count * sizeof(float)) == 0;
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int ranks = 0, rank = 0, exchanges = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);

  const isonorm::contract contract = isonorm::contracts::llama;
  const double eps = 1e-6;
  const std::int64_t cols = kCols / ranks, first = rank * cols;
  Share own(first, cols);
  std::vector<float> partial(kRows), gathered(ranks * kRows), statistic(kRows * 4);
  const isonorm::shard shard = {.ranks = ranks,
                                .partial = {partial, kRows, 1},
                                .gathered = {gathered, {ranks, kRows, 1}},
                                .statistic = {statistic, kRows, 4}};
  const auto all_gather = [&] {
    MPI_Allgather(partial.data(), kRows, MPI_FLOAT, gathered.data(), kRows, MPI_FLOAT, MPI_COMM_WORLD);
    ++exchanges;
  };
  int of_forward = 0;
  try {
    isonorm::forward(contract, eps, own.forward, shard, all_gather);
    of_forward = exchanges;
    isonorm::backward(contract, eps, own.backward, shard, all_gather);
  } catch (const isonorm::error& error) {
    std::fprintf(stderr, "rank %d of %d, after %d exchanges: %s\n", rank, ranks, exchanges, error.what());
    // Every rank refuses such a split; with any other error one may be alone, and the others would wait for it.
    if (error.status() != ISONORM_ERROR_SPLIT) MPI_Abort(MPI_COMM_WORLD, 1);
    MPI_Finalize();
    return 1;
  }

  Share whole(0, kCols);
  isonorm::forward(contract, eps, whole.forward);
  isonorm::backward(contract, eps, whole.backward);
  int equal = same(own.dweight.data(), &whole.dweight[first], cols);
  for (std::int64_t row = 0; row < kRows; ++row) {
    const std::int64_t mine = row * cols, there = row * kCols + first;
    equal &= same(&own.y[mine], &whole.y[there], cols) && same(&own.dx[mine], &whole.dx[there], cols);
  }
  int everywhere = 0;
  MPI_Allreduce(&equal, &everywhere, 1, MPI_INT, MPI_LAND, MPI_COMM_WORLD);
  if (rank == 0) {
    std::printf("%d %s, %d exchanges forward and %d backward: %s\n", ranks, ranks == 1 ? "rank" : "ranks", of_forward,
                exchanges - of_forward, everywhere ? "the bits of one process" : "other bits");
  }
  MPI_Finalize();
  return everywhere ? 0 : 1;
}
