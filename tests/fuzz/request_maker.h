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
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/backend/command.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace tidemark::test {

class RequestMaker {
 public:
  // Whom they are for: what only the other has is left out, or rare.
  enum class Engine { kQemu, kNative };

  // What is there: the more of these a request names, the more it does.
  struct Names {
    std::vector<std::string> nodes;
    // With the node of each.
    std::vector<std::pair<std::string, std::string>> bitmaps;
    std::vector<std::string> jobs;
    std::vector<std::string> exports;
  };

  // File names lie in `folder`. Commands for which `has` is false are not made.
  RequestMaker(uint64_t seed, std::string folder,
               const std::function<bool(const backend::Command&)>& has,
               Engine engine = Engine::kQemu);

  // From now on requests mostly name these. Without this they name what may be there.
  void See(Names names) { names_ = std::move(names); }

  // How many commands there are, and from now on the folder of file names.
  size_t command_count() const { return commands_.size(); }
  void MoveTo(std::string folder) { folder_ = std::move(folder); }

  struct Made {
    const backend::Command* command;
    std::unique_ptr<google::protobuf::Message> request;
  };
  // Of a command by chance.
  Made Next();
  // Of the command at `index`, counted round and round.
  Made Of(size_t index);

 private:
  using Message = google::protobuf::Message;
  using Field = google::protobuf::FieldDescriptor;

  bool OneIn(int n) { return random_() % n == 0; }
  template <typename T, size_t N>
  const T& Pick(const T (&choices)[N]) {
    return choices[random_() % N];
  }

  Made Make();
  // One of `names` mostly, and of `choices` if there is none.
  template <size_t N>
  std::string PickName(const std::vector<std::string>& names, const char* const (&choices)[N]) {
    if (names.empty() || OneIn(5)) return Pick(choices);
    return names[random_() % names.size()];
  }

  bool IsMade(const Field& field) const;
  bool IsNeeded(const Field& field, int depth);
  bool IsMadeDriver(const Field& field);
  void Fill(Message* message, int depth);
  void NameBitmapThatIsThere(Message* message);
  void FillUnion(Message* message, const google::protobuf::OneofDescriptor& oneof, int depth);
  void Set(Message* message, const Field& field, int depth);
  std::string Text(const Message& message, const Field& field);
  int64_t Number(const Field& field);

  std::mt19937_64 random_;
  std::string folder_;
  const Engine engine_;
  std::vector<const backend::Command*> commands_;
  const backend::Command* command_ = nullptr;
  int sparseness_ = 0;
  Names names_;
};

}  // namespace tidemark::test

#endif  // TESTS_FUZZ_REQUEST_MAKER_H_
