#include "apply/report.h"

#include <fmt/format.h>
#include <isonorm/isonorm.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <string_view>

#include "contract_words.h"
#include "print.h"

namespace isonorm_cli {
namespace {

using Json = nlohmann::ordered_json;

// Of the normalisation, without the disk: bytes read and bytes written.
double GigabytesPerSecond(const TensorResult& r) {
  return r.normalise_seconds > 0 ? static_cast<double>(r.bytes) / r.normalise_seconds * 1e-9 : 0.0;
}

std::string DigestText(const Fnv& digest, const ApplyOptions& options) { return options.digest ? digest.text() : "-"; }

std::string Shape(const TensorInfo& info) { return fmt::format("[{}]", fmt::join(info.shape, ", ")); }

Json BesideJson(const TensorInfo& info, isonorm::dtype type) {
  return {{"name", info.name}, {"shape", info.shape}, {"dtype", DtypeName(type)}};
}

Json ResultJson(const TensorResult& r, const Plan& plan, const ApplyOptions& options) {
  const Job& job = *r.job;
  Json json = {{"name", job.x.info->name},
               {"shape", job.x.info->shape},
               {"dtype", DtypeName(job.x.type())},
               {"out_dtype", DtypeName(job.out_type)},
               {"rms_before", r.before.Rms()},  // NaN becomes null
               {"rms_after", r.after.Rms()},
               {"non_finite_in", r.before.non_finite},
               {"non_finite_out", r.after.non_finite},
               {"seconds", r.seconds},
               {"normalise_seconds", r.normalise_seconds},
               {"gigabytes_per_second", GigabytesPerSecond(r)},
               {"kernel", r.kernel}};
  if (options.digest) json["digest"] = DigestText(r.digest, options);
  if (job.scale) {
    json["at_limit"] = r.quantized.at_limit;
    json["zeros"] = r.quantized.zeros;
    Json& scale = json["scale"] = BesideJson(*job.scale, plan.scale_type());
    scale["kind"] = options.scale_kind;
    scale["smallest"] = r.quantized.smallest_scale;
    scale["largest"] = r.quantized.largest_scale;
    if (options.digest) scale["digest"] = DigestText(r.scale_digest, options);
  }
  if (job.residual_out) {
    Json& sum = json["residual_out"] = BesideJson(*job.residual_out, job.residual.type());
    sum["rms"] = r.residual_out.Rms();
    sum["non_finite"] = r.residual_out.non_finite;
    if (options.digest) sum["digest"] = DigestText(r.residual_digest, options);
  }
  return json;
}

// A line about a tensor that is written beside a normalised one.
struct BesideLine {
  std::string name, shape, dtype, digest, holds;
};

// Line by line: there may be very many.
template <class Use>
void ForEachBeside(const std::vector<TensorResult>& results, const Plan& plan, const ApplyOptions& options, Use use) {
  const auto line = [&](const TensorInfo& info, isonorm::dtype type, const Fnv& digest, const std::string& holds) {
    use(BesideLine{Printable(info.name), Shape(info), DtypeName(type), DigestText(digest, options), holds});
  };
  for (const TensorResult& r : results) {
    if (r.job->scale) {
      const QuantizedStats& q = r.quantized;
      line(*r.job->scale, plan.scale_type(), r.scale_digest,
           fmt::format("{:.6g} to {:.6g}; {} values at the limit, {} zero", q.smallest_scale, q.largest_scale, q.at_limit,
                       q.zeros));
    }
    if (r.job->residual_out) {
      line(*r.job->residual_out, r.job->residual.type(), r.residual_digest,
           fmt::format("rms {:.6g}, {} non-finite", r.residual_out.Rms(), r.residual_out.non_finite));
    }
  }
}

void PrintBeside(const std::vector<TensorResult>& results, const Plan& plan, const ApplyOptions& options) {
  const BesideLine heading = {"written beside", "shape", "dtype", "digest", "holds"};
  std::size_t name = 0, digest = 0;
  ForEachBeside(results, plan, options, [&](const BesideLine& line) {
    name = std::max({name, line.name.size(), heading.name.size()});
    digest = std::max({digest, line.digest.size(), heading.digest.size()});
  });
  if (name == 0) return;
  const auto print = [&](const BesideLine& line) {
    Print("{:<{}}  {:<16}  {:<12}  {:<{}}  {}\n", line.name, name, line.shape, line.dtype, line.digest, digest, line.holds);
  };
  print(heading);
  ForEachBeside(results, plan, options, print);
}

}  // namespace

void PrintJson(const std::vector<TensorResult>& results, const Plan& plan, const ApplyOptions& options) {
  const Json head = {{"input", options.input},       {"output", options.output},
                     {"contract", options.contract}, {"contract_fields", ContractFields(plan.contract)},
                     {"eps", options.eps},           {"groups", options.groups},
                     {"window", options.window},     {"target", isonorm::target()}};
  const auto text = [](const Json& json, int indent) {  // a path need not be UTF-8
    return json.dump(indent, ' ', false, Json::error_handler_t::replace);
  };
  const std::string open = text(head, 2);
  Print("{},\n  \"tensors\": [", std::string_view(open).substr(0, open.size() - 2));  // without the last "\n}"
  const char* separator = "\n    ";
  for (const TensorResult& r : results) {  // one by one: there may be very many
    Print("{}{}", separator, text(ResultJson(r, plan, options), -1));
    separator = ",\n    ";
  }
  Print("\n  ],\n  \"left_out\": [");
  separator = "\n    ";
  for (const TensorInfo* t : plan.left_out) {
    const Json left = {{"name", t->name}, {"shape", t->shape}, {"type", t->type_name}, {"why", WhyNot(*t)}};
    Print("{}{}", separator, text(left, -1));
    separator = ",\n    ";
  }
  Print("\n  ]\n}}\n");
}

void PrintTable(const std::vector<TensorResult>& results, const Plan& plan, const ApplyOptions& options) {
  std::size_t width = 6;
  for (const TensorResult& r : results) width = std::max(width, Printable(r.job->x.info->name).size());
  Print("{:<{}}  {:<16}  {:<12}  {:>11}  {:>11}  {:>14}  {:>6}  {}\n", "tensor", width, "shape", "dtype", "rms before",
        "rms after", "non-finite", "GB/s", "digest");
  double seconds = 0;
  std::int64_t bytes = 0;
  for (const TensorResult& r : results) {
    const TensorInfo& x = *r.job->x.info;
    const std::string in = DtypeName(r.job->x.type()), out = DtypeName(r.job->out_type);
    Print("{:<{}}  {:<16}  {:<12}  {:>11.6g}  {:>11.6g}  {:>14}  {:>6.2f}  {}\n", Printable(x.name), width, Shape(x),
          in == out ? in : in + " -> " + out, r.before.Rms(), r.after.Rms(),
          fmt::format("{} -> {}", r.before.non_finite, r.after.non_finite), GigabytesPerSecond(r),
          DigestText(r.digest, options));
    seconds += r.seconds;
    bytes += x.bytes;
  }
  PrintBeside(results, plan, options);
  FirstFew left_out;
  for (const TensorInfo* t : plan.left_out) left_out.Add(*t, WhyNot(*t));
  if (!left_out.empty()) {
    Print("{}: {}\n", options.keep_others ? "copied as it is" : "left out", left_out.text());
  }
  Print("{} tensor{}, {:.1f} MB in {:.3f} s, contract {}, eps {}, target {}: {}\n", results.size(),
        results.size() == 1 ? "" : "s", static_cast<double>(bytes) * 1e-6, seconds, options.contract, options.eps,
        isonorm::target(), Visible(options.output));
}

}  // namespace isonorm_cli
