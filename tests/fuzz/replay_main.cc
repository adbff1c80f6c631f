// The short run of a fuzz target, without clang: every file of the corpus as it is, and then, by
// seed, each of them damaged. The long run is tests/fuzz/run.
//
//   NAME_replay_test CORPUS_FOLDER       FUZZ_SEED=N runs round N alone, FUZZ_ITERATIONS=N so many.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "tests/fuzz/fuzz_target.h"

namespace tidemark {
namespace {

constexpr uint64_t kIterationsDefault = 300;

uint64_t NumberFromEnvironment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  uint64_t number = otherwise;
  return text != nullptr && absl::SimpleAtoi(text, &number) ? number : otherwise;
}

std::vector<std::string> LoadCorpus(const std::string& folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> corpus;
  for (const std::filesystem::path& path : paths) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return corpus;
}

void Damage(std::string* bytes, std::mt19937_64& random) {
  if (bytes->empty()) return;
  const size_t at = random() % bytes->size();
  switch (random() % 5) {
    case 0:
      (*bytes)[at] = static_cast<char>(random());
      break;
    case 1:
      (*bytes)[at] ^= static_cast<char>(1 << random() % 8);
      break;
    case 2:
      bytes->resize(at);
      break;
    case 3:
      bytes->insert(at, bytes->substr(random() % bytes->size(), random() % 64));
      break;
    default:
      bytes->erase(at, random() % 64);
  }
}

void Run(const std::string& bytes) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace
}  // namespace tidemark

int main(int argc, char** argv) {
  using namespace tidemark;
  const std::vector<std::string> corpus =
      argc == 2 ? LoadCorpus(argv[1]) : std::vector<std::string>();
  if (corpus.empty()) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER (not empty)\n", argv[0]);
    return 2;
  }
  for (const std::string& bytes : corpus) Run(bytes);
  const uint64_t first = NumberFromEnvironment("FUZZ_SEED", 0);
  const uint64_t count = std::getenv("FUZZ_SEED") != nullptr
                             ? 1
                             : NumberFromEnvironment("FUZZ_ITERATIONS", kIterationsDefault);
  for (uint64_t seed = first; seed < first + count; ++seed) {
    std::mt19937_64 random(seed);
    std::string bytes = corpus[random() % corpus.size()];
    for (uint64_t times = 1 + random() % 4; times > 0; --times) Damage(&bytes, random);
    // A crash leaves this as the last line, with what runs it again.
    std::fprintf(stderr, "\rFUZZ_SEED=%llu", static_cast<unsigned long long>(seed));
    Run(bytes);
  }
  std::fprintf(stderr, "\n%zu files of the corpus and %llu damaged ones: no crash\n", corpus.size(),
               static_cast<unsigned long long>(count));
  return 0;
}
