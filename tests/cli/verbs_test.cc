// What all verbs share: help, version, JSON, exit codes; and `list`.
#include <gtest/gtest.h>
#include <isonorm/isonorm.hpp>
#include <nlohmann/json.hpp>

#include "process.h"

namespace isonorm_test {
namespace {

TEST(Verbs, HelpAndVersion) {
  const Outcome help = RunCli({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  for (const char* const word : {"apply", "stats", "checkpoint", "verify", "list", "bench", "Exit codes", "--json"}) {
    EXPECT_NE(help.out.find(word), std::string::npos) << word;
  }
  const Outcome version = RunCli({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_EQ(version.out, isonorm::version() + "\n");
  for (const char* const verb : {"apply", "stats", "checkpoint", "verify", "list", "bench"})
    EXPECT_EQ(RunCli({verb, "--help"}).exit_code, 0) << verb;
}

TEST(Verbs, HelpAndVersionAsJson) {
  using nlohmann::json;
  const Outcome version = RunCli({"--json", "--version"}), help = RunCli({"--json", "apply", "--help"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_EQ(json::parse(version.out), (json{{"version", isonorm::version()}}));
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_NE(json::parse(help.out).at("help").get<std::string>().find("--contract"), std::string::npos);
}

TEST(Verbs, AWordThatIsNone) {
  const Outcome verb = RunCli({"frob"}), row = RunCli({"bench", "--filter", "zz*"});
  EXPECT_EQ(verb.exit_code, 2);
  EXPECT_NE(verb.err.find("'frob' is no verb"), std::string::npos) << verb.err;
  const Outcome option = RunCli({"--frob"});
  EXPECT_EQ(option.exit_code, 2);
  EXPECT_EQ(option.err.find("is no verb"), std::string::npos) << option.err;
  EXPECT_EQ(row.exit_code, 2);
  EXPECT_NE(row.err.find("'zz*'"), std::string::npos) << row.err;
}

TEST(Verbs, ListIsWhatTheLibrarySays) {
  const Outcome run = RunCli({"list", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto json = nlohmann::json::parse(run.out);
  EXPECT_EQ(json["version"], isonorm::version());
  EXPECT_EQ(json["targets"], isonorm::list_targets());
  EXPECT_EQ(json["target"], isonorm::list_targets().front());
  EXPECT_EQ(json["kernels"], isonorm::list_kernels());
  ASSERT_EQ(json["contracts"].size(), isonorm::list_contracts().size());
  for (const auto& c : json["contracts"]) {
    if (c["name"] != "mamba2") continue;
    EXPECT_EQ(c["scaled_rounding"], "to_x");
    EXPECT_EQ(c["gate_place"], "before");
  }
  const Outcome table = RunCli({"list"});
  for (const std::string& name : isonorm::list_contracts())
    EXPECT_NE(table.out.find("  " + name + " "), std::string::npos) << name;
  for (const std::string& name : isonorm::list_kernels())
    EXPECT_NE(table.out.find("  " + name + "\n"), std::string::npos) << name;
  EXPECT_NE(table.out.find("* " + isonorm::list_targets().front() + "\n"), std::string::npos);
}

TEST(Verbs, TheEnvironmentChoosesTheTarget) {
  const Outcome run = RunCli({"--json", "list"}, {.environment = {"ISONORM_TARGET=reference"}});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(nlohmann::json::parse(run.out)["target"], "reference");
}

TEST(Verbs, AResultThatCannotBePrintedIsAnError) {
  const Outcome run = RunCli({"list"}, {.stdout_path = "/dev/full"});
  EXPECT_EQ(run.exit_code, 4);
  EXPECT_NE(run.err.find("standard output"), std::string::npos) << run.err;
}

}  // namespace
}  // namespace isonorm_test
