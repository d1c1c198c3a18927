// A progress line on standard error, for work that takes more than a second at a terminal. It fits the window, and overwrites
// itself without escape codes.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "verbs.h"

namespace isonorm_cli {

class Progress {
 public:
  // total: the units of work that Add() will count; below 1: unknown.
  Progress(const Context& context, std::string label, std::int64_t total);
  ~Progress();  // wipes the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Cheap: looks at the clock, and draws at most ten times a second. Call it from one thread.
  void Add(std::int64_t units);
  void SetLabel(std::string label) { label_ = std::move(label); }

 private:
  void Draw(std::chrono::steady_clock::time_point now);

  bool enabled_;
  int drawn_ = 0;  // columns
  std::string label_;
  std::int64_t total_;
  std::int64_t done_ = 0;
  std::chrono::steady_clock::time_point start_, next_;
};

}  // namespace isonorm_cli
