// The results as a table for people, as JSON for programs and as a chart.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

#include "bench/bench.h"

namespace isonorm_cli::bench {

// "14.2 ms", "421 ns"
std::string TimeText(double seconds);

// One line of the table, without the newline; TableHead() is above the first.
std::string TableHead();
std::string TableLine(const Result& result);

nlohmann::ordered_json ToJson(const std::vector<Result>& results);

// A bar for each row that has a limit or a best loop: how much of its speed isonorm reaches.
std::string Chart(const std::vector<Result>& results);

}  // namespace isonorm_cli::bench
