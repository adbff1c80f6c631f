// A QMP client as plain as can be, beside the service: somebody else, a judge, or what the bridge
// is measured against. One thread.
#ifndef TESTS_SUPPORT_QMP_CLIENT_H_
#define TESTS_SUPPORT_QMP_CLIENT_H_

#include <string>

#include "absl/strings/string_view.h"

namespace tidemark::test {

class QmpClient {
 public:
  // Connects to a unix socket, which need not be there yet, and negotiates.
  explicit QmpClient(const std::string& path);
  ~QmpClient();
  QmpClient(const QmpClient&) = delete;
  QmpClient& operator=(const QmpClient&) = delete;

  // False if nobody answered there.
  bool connected() const { return connected_; }

  // Runs a command; `arguments` are JSON. The error's text, empty if it succeeded.
  std::string Try(absl::string_view command, absl::string_view arguments = "{}");
  // The same of a command that should succeed, or the test fails; what it returned, as JSON.
  std::string Run(absl::string_view command, absl::string_view arguments = "{}");

  // A line of JSON with its end, as it is.
  void Send(absl::string_view line);
  // The next line, without its end; an error as QMP has it if none comes.
  std::string ReadLine();
  // The reply to a line; events before it are passed over.
  std::string RoundTrip(absl::string_view line);

 private:
  int socket_ = -1;
  std::string unread_;
  bool connected_ = false;
};

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_QMP_CLIENT_H_
