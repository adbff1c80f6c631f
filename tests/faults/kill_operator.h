// The operator of kill_test: does everything that the native engine can until the service is gone,
// and remembers what it was told, so that what is left can be judged. Run is for a thread of its
// own; what says so is for after it.
#ifndef TESTS_FAULTS_KILL_OPERATOR_H_
#define TESTS_FAULTS_KILL_OPERATOR_H_

#include <atomic>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/conformance/requests.h"
#include "tests/support/client.h"
#include "tests/support/random_writer.h"
#include "tests/support/temp_folder.h"

namespace tidemark::test {

// Fails the running test if `qemu-img check` finds more than leaks.
void ExpectLeaksAtWorst(const std::string& path);

class KillOperator {
 public:
  // Of the images that begin the round: the disk that guests write to, and one that comes and goes.
  static constexpr uint64_t kSizeBytes = 8 * kMiB;
  static std::string Disk(const TempFolder& folder, int number);

  // The node disk0 has a bitmap `since`, and guests that `writer` plays. The same seed sends the
  // same requests.
  KillOperator(uint64_t seed, const TempFolder& folder, Client* client, const RandomWriter& writer,
               bool keeps_bitmaps);

  // Until the service is gone.
  void Run();
  // Any thread.
  int command_count() const { return command_count_; }

  // ---- After Run
  // The images of which one is the top of the disk: several if the service was killed before it
  // answered to a snapshot.
  const std::vector<std::string>& tops() const { return tops_; }
  // Everything below these.
  const std::vector<std::string>& chain() const { return chain_; }
  // No snapshot was asked for.
  bool is_alone() const { return chain_.empty() && tops_.size() == 1; }
  // All but the disk itself.
  void Judge() const;

 private:
  // A backup that was told to have succeeded, or one of old data that was told to run.
  struct Kept {
    std::string path;
    std::string format;
    RandomWriter::Instant earliest;
    RandomWriter::Instant latest;
  };

  template <class Request>
  bool Try(const Request& request) {
    const bool ok = client_.Invoke(request).ok();
    ++command_count_;
    return ok;
  }
  std::string File(absl::string_view name) const { return folder_.File(std::string(name)); }
  // "backup7", of this round's step.
  std::string Named(absl::string_view name) const;

  void DoSomething();
  // What backs up `options.source` = the top, to a file of this step.
  BackupOptions OfTop(v1::MirrorSyncMode sync) const;
  void BackUp(const BackupOptions& options, const std::string& format);
  bool Start(const BackupOptions& options, const std::string& format, Kept* kept);
  bool HasSucceeded(const std::string& job);
  void BackUpIncrement(v1::MirrorSyncMode sync);
  void BackUpAndCancel();
  void BackUpWithPauses();
  void BackUpTwiceAtOneInstant();
  void Fleece();
  void ComeAndGo();
  void ChangeBitmaps();
  void CreateImage();
  void Snapshot();
  void SnapshotToFile();
  void SnapshotOrNot();
  // Around the request for a snapshot to the image at `path`, which becomes the node `node`.
  template <class Request>
  void MoveTop(const std::string& path, const std::string& node, const Request& request);

  void JudgeSecondDisk() const;

  const uint64_t seed_;
  const TempFolder& folder_;
  Client& client_;
  const RandomWriter& writer_;
  std::atomic<int> command_count_ = 0;

  // Run's own, and then of those who judge.
  std::mt19937_64 random_;
  int number_ = 0;
  std::string node_ = "disk0";
  bool keeps_bitmaps_;
  std::vector<std::string> tops_;
  std::vector<std::string> chain_;
  std::vector<Kept> kept_;
  std::vector<std::pair<std::string, std::string>> twins_;
  std::vector<Kept> fleeced_;
  std::string fleecing_;
  std::vector<std::string> targets_;
  std::vector<std::string> created_;
  bool disk1_is_closed_ = true;
  std::vector<std::string> bitmaps_of_disk1_;
};

}  // namespace tidemark::test

#endif  // TESTS_FAULTS_KILL_OPERATOR_H_
