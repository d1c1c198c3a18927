// The C++ face: every field of the arguments, written as {...}, reaches its place in the C structure.
#include <gtest/gtest.h>

#include <isonorm/isonorm.hpp>
#include <map>
#include <string>
#include <vector>

namespace isonorm_test {
namespace {

using isonorm::dtype;
using Floats = std::vector<float>;

// A vector for each tensor of a call, whose address tells it from the others.
class Named {
 public:
  Floats& operator[](const std::string& name) { return all_.try_emplace(name, Floats(4)).first->second; }
  bool Is(const isonorm_tensor* tensor, const std::string& name) const {
    return tensor != nullptr && tensor->data == all_.at(name).data() && tensor->ndim == 2 && tensor->shape[0] == 2;
  }

 private:
  std::map<std::string, Floats> all_;
};

#define EXPECT_PLACE(field) EXPECT_TRUE(named.Is(c.args.field, #field)) << #field
#define EXPECT_NO(field) EXPECT_EQ(c.args.field, nullptr) << #field

TEST(Face, ForwardFields) {
  Named named;
  std::byte workspace[5];
  int stream = 0;
  const isonorm_executor executor = {};
  const isonorm::forward_args args = {.x = {named["x"], 2, 2},
                                      .weight = {named["weight"], 2, 2},
                                      .bias = {named["bias"], 2, 2},
                                      .residual = {named["residual"], 2, 2},
                                      .gate = {named["gate"], 2, 2},
                                      .rope = {.cos = {named["cos"], 2, 2},
                                               .sin = {named["sin"], 2, 2},
                                               .style = isonorm::rope_style::interleaved,
                                               .positions = {named["positions"], 2, 2},
                                               .position_offset = 7,
                                               .position_dim = 1},
                                      .quantization = {.kind = isonorm::scale_kind::dynamic,
                                                       .rounded_to = dtype::bf16,
                                                       .group_cols = 32,
                                                       .min_scale = 0.25,
                                                       .scale_ub = 3},
                                      .scale = {named["scale"], 2, 2},
                                      .y = {named["y"], 2, 2},
                                      .residual_out = {named["residual_out"], 2, 2},
                                      .mean = {named["mean"], 2, 2},
                                      .rstd = {named["rstd"], 2, 2},
                                      .groups = 2,
                                      .window = 3,
                                      .workspace = workspace,
                                      .stream = &stream,
                                      .executor = &executor};
  const isonorm::detail::c_args<isonorm::forward_args> c(args);
  EXPECT_EQ(c.args.struct_size, sizeof(isonorm_forward_args));
  EXPECT_PLACE(x);
  EXPECT_PLACE(weight);
  EXPECT_PLACE(bias);
  EXPECT_PLACE(residual);
  EXPECT_PLACE(gate);
  EXPECT_PLACE(scale);
  EXPECT_PLACE(y);
  EXPECT_PLACE(residual_out);
  EXPECT_PLACE(mean);
  EXPECT_PLACE(rstd);
  ASSERT_NE(c.args.rope, nullptr);
  EXPECT_EQ(c.args.rope->struct_size, sizeof(isonorm_rope));
  EXPECT_TRUE(named.Is(c.args.rope->cos, "cos"));
  EXPECT_TRUE(named.Is(c.args.rope->sin, "sin"));
  EXPECT_TRUE(named.Is(c.args.rope->positions, "positions"));
  EXPECT_EQ(c.args.rope->style, ISONORM_ROPE_INTERLEAVED);
  EXPECT_EQ(c.args.rope->position_offset, 7);
  EXPECT_EQ(c.args.rope->position_dim, 1);
  ASSERT_NE(c.args.quantization, nullptr);
  EXPECT_EQ(c.args.quantization->struct_size, sizeof(isonorm_quantization));
  EXPECT_EQ(c.args.quantization->scale_kind, ISONORM_SCALE_DYNAMIC);
  EXPECT_EQ(c.args.quantization->rounded_to.code, ISONORM_CODE_BFLOAT);
  EXPECT_EQ(c.args.quantization->group_cols, 32);
  EXPECT_EQ(c.args.quantization->min_scale, 0.25);
  EXPECT_EQ(c.args.quantization->scale_ub, 3);
  EXPECT_EQ(c.args.groups, 2);
  EXPECT_EQ(c.args.window, 3);
  EXPECT_EQ(c.args.workspace, workspace);
  EXPECT_EQ(c.args.workspace_size, 5u);
  EXPECT_EQ(c.args.stream, &stream);
  EXPECT_EQ(c.args.executor, &executor);
  EXPECT_NO(also);
}

TEST(Face, BackwardFields) {
  Named named;
  const isonorm::backward_args args = {.dy = {named["dy"], 2, 2},
                                       .x = {named["x"], 2, 2},
                                       .weight = {named["weight"], 2, 2},
                                       .bias = {named["bias"], 2, 2},
                                       .residual = {named["residual"], 2, 2},
                                       .residual_out = {named["residual_out"], 2, 2},
                                       .gate = {named["gate"], 2, 2},
                                       .rope = {.cos = {named["cos"], 2, 2}, .sin = {named["sin"], 2, 2}},
                                       .mean = {named["mean"], 2, 2},
                                       .rstd = {named["rstd"], 2, 2},
                                       .dresidual = {named["dresidual"], 2, 2},
                                       .dx = {named["dx"], 2, 2},
                                       .dweight = {named["dweight"], 2, 2},
                                       .dbias = {named["dbias"], 2, 2},
                                       .dgate = {named["dgate"], 2, 2},
                                       .groups = 2,
                                       .window = 3,
                                       .accumulate = true};
  const isonorm::detail::c_args<isonorm::backward_args> c(args);
  EXPECT_EQ(c.args.struct_size, sizeof(isonorm_backward_args));
  EXPECT_PLACE(dy);
  EXPECT_PLACE(x);
  EXPECT_PLACE(weight);
  EXPECT_PLACE(bias);
  EXPECT_PLACE(residual);
  EXPECT_PLACE(residual_out);
  EXPECT_PLACE(gate);
  EXPECT_PLACE(mean);
  EXPECT_PLACE(rstd);
  EXPECT_PLACE(dresidual);
  EXPECT_PLACE(dx);
  EXPECT_PLACE(dweight);
  EXPECT_PLACE(dbias);
  EXPECT_PLACE(dgate);
  ASSERT_NE(c.args.rope, nullptr);
  EXPECT_TRUE(named.Is(c.args.rope->cos, "cos"));
  EXPECT_TRUE(named.Is(c.args.rope->sin, "sin"));
  EXPECT_EQ(c.args.rope->positions, nullptr);
  EXPECT_EQ(c.args.groups, 2);
  EXPECT_EQ(c.args.window, 3);
  EXPECT_EQ(c.args.flags, std::uint32_t{ISONORM_ACCUMULATE});
}

TEST(Face, DoubleBackwardFields) {
  Named named;
  const isonorm::double_backward_args args = {.dy = {named["dy"], 2, 2},
                                              .x = {named["x"], 2, 2},
                                              .weight = {named["weight"], 2, 2},
                                              .rstd = {named["rstd"], 2, 2},
                                              .ddx = {named["ddx"], 2, 2},
                                              .ddweight = {named["ddweight"], 2, 2},
                                              .dx = {named["dx"], 2, 2},
                                              .dweight = {named["dweight"], 2, 2},
                                              .ddy = {named["ddy"], 2, 2},
                                              .groups = 2,
                                              .accumulate = true};
  const isonorm::detail::c_args<isonorm::double_backward_args> c(args);
  EXPECT_EQ(c.args.struct_size, sizeof(isonorm_double_backward_args));
  EXPECT_PLACE(dy);
  EXPECT_PLACE(x);
  EXPECT_PLACE(weight);
  EXPECT_PLACE(rstd);
  EXPECT_PLACE(ddx);
  EXPECT_PLACE(ddweight);
  EXPECT_PLACE(dx);
  EXPECT_PLACE(dweight);
  EXPECT_PLACE(ddy);
  EXPECT_EQ(c.args.groups, 2);
  EXPECT_EQ(c.args.flags, std::uint32_t{ISONORM_ACCUMULATE});
}

// Also where it is written as {}; of no values is another thing than absent.
TEST(Face, WhatIsLeftOutIsNull) {
  const Floats none;
  const isonorm::forward_args args = {.x = {none, 0, 4}, .weight = {}, .rope = {}, .quantization = {}, .y = {}};
  const isonorm::detail::c_args<isonorm::forward_args> c(args);
  ASSERT_NE(c.args.x, nullptr);
  EXPECT_EQ(c.args.x->shape[1], 4);
  EXPECT_NO(weight);
  EXPECT_NO(bias);
  EXPECT_NO(residual);
  EXPECT_NO(gate);
  EXPECT_NO(rope);
  EXPECT_NO(quantization);
  EXPECT_NO(scale);
  EXPECT_NO(y);
  EXPECT_NO(residual_out);
  EXPECT_NO(mean);
  EXPECT_NO(rstd);
  EXPECT_NO(executor);
  EXPECT_NO(workspace);
  EXPECT_FALSE(isonorm::const_tensor{} || isonorm::tensor{} || isonorm::rope{} || isonorm::quantization{});
}

}  // namespace
}  // namespace isonorm_test
