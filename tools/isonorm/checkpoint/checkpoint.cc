// `isonorm checkpoint`: rewrites the weights of a model so that it computes the same with less.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <isonorm/isonorm.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/change.h"
#include "checkpoint/plan.h"
#include "command_line.h"
#include "formats/safetensors.h"
#include "input_file.h"
#include "interrupt.h"
#include "output_file.h"
#include "print.h"
#include "progress.h"
#include "verbs.h"

namespace isonorm_cli {
namespace {

struct CheckpointFiles {
  std::string input, output;
  bool force = false;
};

struct FoldChoice {
  FoldOptions fold;
  std::string contract;
};

std::string Words(const Change& change, const std::vector<TensorInfo>& tensors) {
  switch (change.kind) {
    case Change::Kind::kCentreRows: return "less the mean of each row";
    case Change::Kind::kCentreColumns: return "less the mean of each column";
    case Change::Kind::kScale: return fmt::format("times {}", tensors[change.norm].name);
    case Change::Kind::kAddBias: return fmt::format("plus {} of {}", tensors[change.weight].name, tensors[change.norm].name);
    case Change::Kind::kFill: break;
  }
  return fmt::format("all {}", change.value);
}

std::string Shape(const TensorInfo& t) { return fmt::format("[{}]", fmt::join(t.shape, ", ")); }

void PrintChanges(const CheckpointPlan& plan, const std::vector<TensorInfo>& tensors, const CheckpointFiles& files, bool json) {
  if (json) {
    nlohmann::ordered_json all = {{"input", files.input}, {"output", files.output}, {"changed", nlohmann::json::array()}};
    for (const Change& change : plan.changes) {
      const TensorInfo& t = tensors[change.tensor];
      all["changed"].push_back({{"name", t.name}, {"shape", t.shape}, {"dtype", t.type_name}, {"how", Words(change, tensors)}});
    }
    if (!plan.untied.empty()) all["added"] = {{"name", plan.untied}, {"copy_of", tensors[plan.untied_from].name}};
    Print("{}\n", all.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    return;
  }
  std::size_t width = 6;
  for (const Change& change : plan.changes) width = std::max(width, Printable(tensors[change.tensor].name).size());
  Print("{:<{}}  {:<16}  {:<5}  how it changed\n", "tensor", width, "shape", "type");
  for (const Change& change : plan.changes) {
    const TensorInfo& t = tensors[change.tensor];
    Print("{:<{}}  {:<16}  {:<5}  {}\n", Printable(t.name), width, Shape(t), t.type_name, Words(change, tensors));
  }
  if (!plan.untied.empty()) Print("{} is a copy of {} as it was\n", plan.untied, tensors[plan.untied_from].name);
}

template <class MakePlan>
void Rewrite(const CheckpointFiles& files, const Context& context, MakePlan make_plan) {
  if (!files.output.ends_with(".safetensors")) {
    throw Failure(kUsage, fmt::format("{}: the output's name must end in .safetensors", files.output));
  }
  const InputFile file(files.input);
  const TensorFile header = LoadHeader(file);
  if (header.kind != FileKind::kSafetensors) {
    throw Failure(kBadInput, fmt::format("{}: is a .npy file, but a checkpoint is a .safetensors file", files.input));
  }
  const std::vector<TensorInfo>& tensors = header.tensors;
  try {
    const CheckpointPlan plan = make_plan(tensors);
    std::vector<TensorInfo> written = tensors;
    if (!plan.untied.empty()) {
      written.push_back(tensors[plan.untied_from]);
      written.back().name = plan.untied;
    }
    const std::string out_header = SafetensorsHeader(written, header.metadata);
    std::int64_t total = 0;
    for (const TensorInfo& t : written) total += t.bytes;
    Progress progress(context, files.output, total);
    OutputFile out(files.output, files.force);
    out.Write(0, std::as_bytes(std::span(out_header)));
    const ReadTensor read = [&](std::size_t tensor, std::int64_t offset, std::span<std::byte> bytes) {
      StopIfInterrupted();
      file.Read(tensors[tensor].offset + offset, bytes);
    };
    std::size_t next = 0;  // changes are in the order of the tensors
    std::vector<std::byte> buffer;
    for (std::size_t i = 0; i < written.size(); ++i) {
      std::int64_t done = 0;
      const auto write = [&](std::span<const std::byte> bytes) {
        out.Write(written[i].offset + done, bytes);
        done += std::ssize(bytes);
        progress.Add(std::ssize(bytes));
      };
      if (next < plan.changes.size() && plan.changes[next].tensor == i) {
        ComputeChange(plan.changes[next++], tensors, read, write);
        continue;
      }
      const std::size_t from = i < tensors.size() ? i : plan.untied_from;
      while (done < written[i].bytes) {
        buffer.resize(static_cast<std::size_t>(std::min<std::int64_t>(4 << 20, written[i].bytes - done)));
        read(from, done, buffer);
        write(buffer);
      }
    }
    out.Commit();
    PrintChanges(plan, tensors, files, context.json);
  } catch (const Refusal& e) {
    if (e.kind() == Refusal::Kind::kChoice) throw Failure(kUsage, fmt::format("{}; see `isonorm checkpoint --help`", e.what()));
    throw Failure(kBadInput, fmt::format("{}: {}", files.input, e.what()));
  } catch (const FormatError& e) {
    throw Failure(kBadInput, fmt::format("{}: {}", files.input, e.what()));
  }
}

std::shared_ptr<CheckpointFiles> AddFiles(CLI::App& verb) {
  auto files = std::make_shared<CheckpointFiles>();
  verb.add_option("IN", files->input, "File to read, .safetensors")->required();
  verb.add_option("-o,--output", files->output, "File to write, .safetensors")->required();
  verb.add_flag("--force", files->force, "Replace an existing output file, which may be the input");
  return files;
}

void AddPreset(CLI::App& verb, std::string& preset) {
  const std::vector<std::string_view> words = CheckpointPresets();
  verb.add_option("--preset", preset, "A family of models of Hugging Face, whose names are known")
      ->check(CLI::IsMember(std::vector<std::string>(words.begin(), words.end())));
}

void AddRecenter(CLI::App& checkpoint, const Context& context) {
  CLI::App* const verb =
      checkpoint.add_subcommand("recenter", "Take the mean out of the residual stream: LayerNorm is then RMSNorm");
  const auto files = AddFiles(*verb);
  const auto o = std::make_shared<RecenterOptions>();
  AddPreset(*verb, o->preset);
  verb->add_option("--rows", o->rows, "Written to the stream row by row: embeddings, biases, Conv1D's weights")
      ->type_name("PATTERN");
  verb->add_option("--linear", o->linear, "Weights of Linear, [out, in], that write to the stream")->type_name("PATTERN");
  verb->add_option("--head", o->head, "Name of the weight that reads the last norm");
  verb->add_flag("--no-head", o->no_head, "Nothing does");
  verb->add_option("--untie", o->untie, "A head that is tied to this embedding becomes a copy of it")->type_name("NAME");
  verb->callback([files, o, &context] {
    Rewrite(*files, context, [&](const std::vector<TensorInfo>& tensors) { return PlanRecenter(tensors, *o); });
  });
}

void AddFold(CLI::App& checkpoint, const Context& context) {
  CLI::App* const verb =
      checkpoint.add_subcommand("fold", "Fold the weight and the bias of norms into the linear layers behind them");
  const auto files = AddFiles(*verb);
  const auto o = std::make_shared<FoldChoice>();
  AddPreset(*verb, o->fold.preset);
  verb->add_option("--norm", o->fold.norm, "Weights of norms; * stands for text without a dot")->type_name("PATTERN");
  verb->add_option("--linear", o->fold.linear, "Weights of Linear, [out, in], that read the norm; * as there")
      ->type_name("PATTERN");
  verb->add_option("--conv1d", o->fold.conv1d, "Weights of Conv1D, [in, out], that do")->type_name("PATTERN");
  verb->add_option("--contract", o->contract, "Of the norms: gemma adds 1 to the weight; without it nothing is added")
      ->check(CLI::IsMember(isonorm::list_contracts()));
  verb->callback([files, o, &context] {
    if (!o->contract.empty()) o->fold.offset = isonorm::contracts::by_name(o->contract).weight_offset;
    Rewrite(*files, context, [&](const std::vector<TensorInfo>& tensors) { return PlanFold(tensors, o->fold); });
  });
}

}  // namespace

void AddCheckpoint(CLI::App& app, Context& context) {
  CLI::App* const verb = app.add_subcommand("checkpoint", "Rewrite the weights of a model, which then computes the same");
  verb->require_subcommand(1);
  AddRecenter(*verb, context);
  AddFold(*verb, context);
}

}  // namespace isonorm_cli
