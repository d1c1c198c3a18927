// Ctrl-C and every other signal that would end the program.
//
// The first one sets a flag: a verb that takes long calls StopIfInterrupted() between pieces of work, which throws. One that
// does not get to it within half a second is ended all the same, and so is one that a second signal meets; the temporary file
// goes in any case.
#pragma once

#include <string>

namespace isonorm_cli {

// Once, at the start. A signal that is ignored already stays so: nohup asks for that. `json` says whether a program that has to
// be ended in the midst of its work prints its error as JSON too; it lives as long as the program.
void CatchSignals(const bool& json);

// Throws Failure(kInterrupted) after the first signal.
void StopIfInterrupted();

// Removed if a signal ends the program; at most one at a time. Its name is copied, and too long a one is not taken.
void RemoveIfKilled(const std::string& path);
void KeepIfKilled();

}  // namespace isonorm_cli
