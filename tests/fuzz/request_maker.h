// Requests of every method, right by their types and otherwise by chance. They speak of a small
// world (names of nodes, bitmaps, jobs, files in one folder), so that they meet each other. One
// thread; the same seed makes the same requests.
#ifndef TESTS_FUZZ_REQUEST_MAKER_H_
#define TESTS_FUZZ_REQUEST_MAKER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/backend/command.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace tidemark::test {

class RequestMaker {
 public:
  // File names lie in `folder`. Commands for which `has` is false are not made.
  RequestMaker(uint64_t seed, std::string folder,
               const std::function<bool(const backend::Command&)>& has);

  struct Made {
    const backend::Command* command;
    std::unique_ptr<google::protobuf::Message> request;
  };
  Made Next();

 private:
  using Message = google::protobuf::Message;
  using Field = google::protobuf::FieldDescriptor;

  bool OneIn(int n) { return random_() % n == 0; }
  template <typename T, size_t N>
  const T& Pick(const T (&choices)[N]) {
    return choices[random_() % N];
  }

  void Fill(Message* message, int depth);
  void FillUnion(Message* message, const google::protobuf::OneofDescriptor& oneof, int depth);
  void Set(Message* message, const Field& field, int depth);
  std::string Text(const Message& message, const Field& field);
  int64_t Number(const Field& field);

  std::mt19937_64 random_;
  const std::string folder_;
  std::vector<const backend::Command*> commands_;
  const backend::Command* command_ = nullptr;
};

}  // namespace tidemark::test

#endif  // TESTS_FUZZ_REQUEST_MAKER_H_
