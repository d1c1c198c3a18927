// The judge of bad calls: one spoilt scene must give its status and message, and leave every byte as it was.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "api/scene.h"

namespace isonorm_test {

// Spoils a valid call in one place.
template <class SceneType>
struct Fault {
  const char* name;
  isonorm_status status;
  std::vector<std::string> says;  // what the message must contain: the argument, and its value
  void (*spoil)(SceneType&);
};

// What is wrong with the call that was judged; "" if it failed as it should.
inline std::string Judge(Scene& scene, isonorm_status expected, const std::vector<std::string>& says) {
  const std::vector<uint8_t> before = scene.Picture();
  const isonorm_status status = scene.Run();
  if (status != expected) {
    std::string wrong = isonorm_status_name(status);
    wrong += " instead of ";
    wrong += isonorm_status_name(expected);
    if (status != ISONORM_OK) wrong.append(": ").append(isonorm_last_error());
    return wrong;
  }
  if (scene.Picture() != before) return "the failed call wrote to memory";
  const std::string message = isonorm_last_error();
  for (const std::string& part : says) {
    if (message.find(part) == std::string::npos) return std::string("no '").append(part).append("' in: ").append(message);
  }
  if (message.empty() || message.back() != '.' || message.find('\n') != std::string::npos)
    return "not one sentence: " + message;
  return "";
}

template <class SceneType>
void RunFaults(const std::vector<Fault<SceneType>>& faults) {
  for (const Fault<SceneType>& fault : faults) {
    SceneType scene;
    fault.spoil(scene);
    EXPECT_EQ(Judge(scene, fault.status, fault.says), "") << fault.name;
  }
}

}  // namespace isonorm_test
