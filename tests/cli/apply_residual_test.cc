// Residuals and gates of `apply`: what one call of the library gives, from the tensors that patterns and files name.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "process.h"
#include "tensors.h"

namespace isonorm_test {
namespace {

class Residual : public testing::Test {
 protected:
  Residual() { WriteTensors(folder_ / "in.safetensors", {{"m.x", x_}, {"m.r", residual_}, {"m.z", gate_}}); }

  Outcome Apply(const std::string& contract, const std::vector<std::string>& more, const std::string& out = "out.safetensors") {
    std::vector<std::string> args = {"apply",      folder_ / "in.safetensors",
                                     "-o",         folder_ / out,
                                     "--contract", contract,
                                     "--eps",      "1e-6",
                                     "--tensor",   "*.x",
                                     "--force",    "--json"};
    args.insert(args.end(), more.begin(), more.end());
    return RunCli(args);
  }

  Tensor Expected(const isonorm::contract& contract, bool residual, bool gate, Tensor* sum = nullptr) const {
    Tensor y = Zeros("BF16", x_.shape);
    isonorm::forward_args args = {.x = View(x_), .y = View(y)};
    if (residual) args.residual = View(residual_);
    if (gate) args.gate = View(gate_);
    if (sum != nullptr) args.residual_out = View(*sum);
    isonorm::forward(contract, 1e-6, args);
    return y;
  }

  const Folder folder_;
  const Tensor x_ = Bf16({3, 5, 40}, 1), residual_ = F32({3, 5, 40}, 2), gate_ = Bf16({3, 5, 40}, 3);
};

TEST_F(Residual, StoredAndKeptWithTheSum) {
  for (const char* const rounding : {"", "stored", "kept"}) {
    isonorm::contract contract = isonorm::contracts::llama;
    if (rounding == std::string("kept")) contract.sum_rounding = isonorm::sum_rounding::kept;
    std::vector<std::string> options = {"--residual", "{prefix}.r", "--residual-out", "{prefix}.h"};
    if (*rounding != '\0') options.insert(options.end(), {"--sum-rounding", rounding});
    const Outcome run = Apply("llama", options);
    ASSERT_EQ(run.exit_code, 0) << run.err;
    Tensor sum = Zeros("F32", x_.shape);
    const Tensor y = Expected(contract, true, false, &sum);
    const Tensors out = ReadTensors(folder_ / "out.safetensors");
    ASSERT_EQ(out.size(), 2u);
    EXPECT_EQ(out.at("m.x") == y, true) << rounding;
    EXPECT_EQ(out.at("m.h") == sum, true) << rounding;
    const auto report = nlohmann::json::parse(run.out)["tensors"][0]["residual_out"];
    EXPECT_EQ(report["name"], "m.h");
    EXPECT_EQ(report["dtype"], "f32");
    EXPECT_EQ(report["non_finite"], 0);
  }
}

TEST_F(Residual, FromAFileOfItsOwnWithoutTheSum) {
  WriteAll(folder_ / "r.npy", NpyFile(NpyDictionary("<f4", "(3, 5, 40)"), residual_.data));
  const Outcome run = Apply("torch", {"--residual-file", folder_ / "r.npy", "--out-dtype", "float32"}, "out.npy");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  Tensor y = Zeros("F32", x_.shape);
  isonorm::forward(isonorm::contracts::torch, 1e-6, {.x = View(x_), .residual = View(residual_), .y = View(y)});
  EXPECT_EQ(DataOf(ReadAll(folder_ / "out.npy")), y.data);
}

// What serves others is not normalised itself when nothing is selected by name.
TEST_F(Residual, ServesAndIsNotNormalised) {
  const Outcome run = RunCli({"apply", folder_ / "in.safetensors", "-o", folder_ / "out.safetensors", "--contract", "torch",
                              "--eps", "1e-6", "--residual", "m.r", "--gate", "m.z", "--gate-place", "after", "--keep-others"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  isonorm::contract contract = isonorm::contracts::torch;
  contract.gate_place = isonorm::gate_place::after;
  const Tensors out = ReadTensors(folder_ / "out.safetensors");
  ASSERT_EQ(out.size(), 3u);
  EXPECT_EQ(out.at("m.x") == Expected(contract, true, true), true);
  EXPECT_EQ(out.at("m.r") == residual_, true);
  EXPECT_EQ(out.at("m.z") == gate_, true);
}

TEST_F(Residual, EveryContractTakesEveryGate) {
  for (const std::string& name : isonorm::list_contracts()) {
    for (const auto& [place, place_value] :
         {std::pair{"before", isonorm::gate_place::before}, {"after", isonorm::gate_place::after}}) {
      for (const auto& [function, value] :
           {std::pair{"silu", isonorm::gate_function::silu}, {"sigmoid", isonorm::gate_function::sigmoid}}) {
        isonorm::contract contract = isonorm::contracts::by_name(name);
        contract.gate_place = place_value;
        contract.gate_function = value;
        const Outcome run = Apply(name, {"--gate", "{prefix}.z", "--gate-place", place, "--gate-function", function});
        ASSERT_EQ(run.exit_code, 0) << run.err;
        EXPECT_EQ(ReadTensors(folder_ / "out.safetensors").at("m.x") == Expected(contract, false, true), true)
            << name << place << function;
      }
    }
  }
}

TEST_F(Residual, AContractsGateMayBeLeftOut) {
  ASSERT_EQ(Apply("mamba2", {"--gate-place", "none"}).exit_code, 0);
  isonorm::contract contract = isonorm::contracts::mamba2;
  contract.gate_place = isonorm::gate_place::none;
  EXPECT_EQ(ReadTensors(folder_ / "out.safetensors").at("m.x") == Expected(contract, false, false), true);
}

TEST_F(Residual, Errors) {
  WriteTensors(folder_ / "other.safetensors",
               {{"flat", F32({15, 40}, 4)}, {"whole", {"I8", {3, 5, 40}, std::string(600, 'x')}}});
  const std::string other = folder_ / "other.safetensors";
  const struct {
    const char* contract;
    std::vector<std::string> options;
    const char* out;
    int code;
    const char* words;
  } cases[] = {
      {"torch", {"--residual-out", "h"}, "y.safetensors", 2, "--residual-out needs --residual"},
      {"torch", {"--sum-rounding", "kept"}, "y.safetensors", 2, "--sum-rounding needs --residual"},
      {"torch", {"--residual", "m.r", "--sum-rounding", "twice"}, "y.safetensors", 2, "--sum-rounding"},
      {"torch",
       {"--residual", "m.q"},
       "y.safetensors",
       3,
       "holds no tensor m.q, which --residual asks for as the residual of m.x"},
      {"torch", {"--residual", "{nam}"}, "y.safetensors", 2, "only {name} and {prefix}"},
      {"torch",
       {"--residual", "flat", "--residual-file", other},
       "y.safetensors",
       3,
       "the residual flat has another shape than m.x"},
      {"torch", {"--residual", "whole", "--residual-file", other}, "y.safetensors", 3, "a residual is one of F32"},
      {"torch", {"--residual-file", other}, "y.safetensors", 3, "holds 2 tensors; --residual says which"},
      {"torch", {"--residual", "m.r", "--residual-out", "m.h", "--out-dtype", "f32"}, "y.npy", 2, "holds one tensor and 2 are"},
      {"torch",
       {"--residual", "m.r", "--residual-out", "{name}"},
       "y.safetensors",
       2,
       "two tensors of the output would be called m.x"},
      {"torch", {"--residual", "m.r", "--residual-out", "m.r", "--keep-others"}, "y.safetensors", 2, "would be called m.r"},
      {"torch", {"--residual", "m.r", "--residual-out", "{"}, "y.safetensors", 2, "holds a brace"},
      {"torch", {"--residual", "m.r", "--residual-out", "__metadata__"}, "y.safetensors", 2, "cannot be called __metadata__"},
      {"torch", {"--residual", "m.r", "--residual-out", "\xff"}, "y.safetensors", 2, "is not UTF-8"},
      {"mamba2", {"--gate", "m.z", "--residual", "m.r"}, "y.safetensors", 2, "only one of them may be"},
      {"mamba2", {}, "y.safetensors", 2, "the contract mamba2 has a gate: --gate says which tensor it is"},
      {"mamba2", {"--gate", "m.z", "--gate-place", "none"}, "y.safetensors", 2, "--gate-place is none"},
      {"llama", {"--gate", "m.z"}, "y.safetensors", 2, "the contract llama has no gate; --gate-place before or after"},
      {"llama", {"--gate-place", "after"}, "y.safetensors", 2, "--gate-place needs --gate"},
      {"llama", {"--gate-function", "silu"}, "y.safetensors", 2, "--gate-function needs --gate"},
      {"llama", {"--gate", "m.z", "--gate-place", "after", "--gate-function", "tanh"}, "y.safetensors", 2, "--gate-function"},
  };
  for (const auto& c : cases) {
    const Outcome run = Apply(c.contract, c.options, c.out);
    EXPECT_EQ(run.exit_code, c.code) << c.words << run.err;
    EXPECT_NE(run.err.find(c.words), std::string::npos) << c.words << "\n" << run.err;
    EXPECT_EQ(folder_.Names(), (std::vector<std::string>{"in.safetensors", "other.safetensors"}));
  }
}

}  // namespace
}  // namespace isonorm_test
