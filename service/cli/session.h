// What every command of `tidemark` works with. One thread.
#ifndef SERVICE_CLI_SESSION_H_
#define SERVICE_CLI_SESSION_H_

#include <ostream>

#include "service/cli/client.h"
#include "service/cli/flags.h"

namespace tidemark::cli {

// How a command ends.
inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

struct Session {
  const Flags& flags;
  Client& client;
  std::ostream& output;
  // For errors and remarks.
  std::ostream& diagnostics;
  // How wide the terminal is that shows `output`; 0: it is no terminal.
  int terminal_columns = 0;
};

}  // namespace tidemark::cli

#endif  // SERVICE_CLI_SESSION_H_
