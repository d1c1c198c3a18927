// The files beside this one, as the program holds them.
#pragma once

#include <string_view>

namespace isonorm_cli {

struct ReportParts {
  std::string_view html, css, charts, script;
};
ReportParts ShippedReport();

}  // namespace isonorm_cli
