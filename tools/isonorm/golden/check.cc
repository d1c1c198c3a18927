#include "golden/check.h"

namespace isonorm_cli {

void Check::Begin(std::string form, const std::vector<const Buffer*>& inputs) {
  form_ = std::move(form);
  before_.clear();
  for (const Buffer* input : inputs) before_.emplace_back(input, input->Raw());
}

bool Check::Called(isonorm_status status, bool computes) {
  ++tally_->calls;
  if (status != ISONORM_OK) {
    Report("status", "ISONORM_OK", std::string(isonorm_status_name(status)) + ": " + isonorm_last_error());
    return false;
  }
  if (!computes) return true;
  const std::string kernel = isonorm_last_kernel();
  if (!kernel.ends_with("@" + target_)) Report("target", "a kernel on " + target_, "'" + kernel + "'");
  for (const auto& [buffer, bytes] : before_) {
    if (buffer->Raw() != bytes) Report("inputs", "unchanged", "an input was written to");
  }
  return true;
}

void Check::Compare(Output output, const Owned& buffer) {
  if (buffer == nullptr) return;
  CompareBytes(output, buffer->Compact());
  if (!buffer->SurroundingsIntact()) Report(kOutputNames[output], "only its elements written", "bytes around them too");
}

void Check::CompareBytes(Output output, std::vector<uint8_t> bytes) {
  const Digest expected = golden_.expected[output], got = DigestOf(bytes);
  (*produced_)[output] = std::move(bytes);
  ++tally_->outputs;
  if (got != expected) Report(kOutputNames[output], ToString(expected), ToString(got));
}

void Check::Report(std::string output, std::string expected, std::string got) {
  tally_->Add(
      {golden_.id, golden_.line, form_ + ", " + ToString(setup_), std::move(output), std::move(expected), std::move(got)});
}

}  // namespace isonorm_cli
