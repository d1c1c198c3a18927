// What has been tried, printed at the end: a fuzzer whose calls are all refused would find nothing.
#pragma once

#include <isonorm/isonorm.h>

#include <cstdio>
#include <map>
#include <set>
#include <string>

namespace isonorm_fuzz {

struct Tally {
  static Tally& Get() {
    static Tally tally;
    return tally;
  }
  void Count(const char* function, isonorm_status status) {
    Calls& calls = functions[function];
    ++calls.made;
    calls.done += status == ISONORM_OK ? 1 : 0;
    ++statuses[isonorm_status_name(status)];
  }
  ~Tally() {
    std::printf("%-34s %9s %9s\n", "", "calls", "OK");
    for (const auto& [name, calls] : functions) std::printf("%-34s %9ld %9ld\n", name.c_str(), calls.made, calls.done);
    for (const auto& [name, count] : statuses) std::printf("%-34s %9ld\n", name.c_str(), count);
    std::printf("%ld inputs, %ld of them without memory for a call; %zu kernels\n", inputs, unmade, kernels.size());
  }

  struct Calls {
    long made = 0, done = 0;
  };
  std::map<std::string, Calls> functions;
  std::map<std::string, long> statuses;
  std::set<std::string> kernels;
  long inputs = 0, unmade = 0;
};

}  // namespace isonorm_fuzz
