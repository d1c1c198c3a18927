// The files beside this one, as the program holds them.
#pragma once

#include <string_view>

namespace isonorm_cli {

struct ReportParts {
  std::string_view html, css, charts, script;
  std::string_view script_hash;  // SHA-256 in base64 of the script element: a line end, charts, script
};
ReportParts ShippedReport();

}  // namespace isonorm_cli
