// The operator's voice: what somebody does who runs disks and backups, said in one word each.
// One thread. What should succeed and does not fails the running test.
#ifndef TESTS_CONFORMANCE_OPERATOR_H_
#define TESTS_CONFORMANCE_OPERATOR_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/conformance/backend.h"
#include "tests/conformance/requests.h"
#include "tests/support/guest.h"
#include "tests/support/image.h"
#include "tests/support/matchers.h"

namespace tidemark::test {

// Disks are this large unless a scenario says else: 128 clusters.
constexpr uint64_t kDiskBytes = 8 * kMiB;

class Operator {
 public:
  explicit Operator(World* world) : world_(world) {}

  template <class Request>
  Reply<typename RpcOf<Request>::Response> Try(const Request& request) {
    return world_->client().Invoke(request);
  }
  template <class Request>
  typename RpcOf<Request>::Response Do(const Request& request) {
    auto reply = Try(request);
    EXPECT_THAT(reply, Accepted())
        << request.GetTypeName() << " {" << request.ShortDebugString() << "}";
    return reply.value;
  }

  // What the engine lists.
  std::vector<v1::BlockDeviceInfo> Nodes();
  std::vector<v1::JobInfo> Jobs();
  std::vector<v1::BlockJobInfo> BlockJobs();
  std::vector<v1::BlockExportInfo> Exports();

  // Disks. The file of node "disk0" is "disk0.qcow2" unless said otherwise.
  std::string FileOf(const std::string& node) { return world_->folder().File(node + ".qcow2"); }
  // Makes an image (`options` as for qemu-img create -o) and opens it, ready for a guest.
  void CreateDisk(const std::string& node, uint64_t size_bytes = kDiskBytes,
                  const std::string& options = "");
  void Attach(const std::string& node);
  // Closes the node, and the guest's export first if there is one.
  void Detach(const std::string& node);
  // What QueryNamedBlockNodes says of a node; empty name if it is not there.
  v1::BlockDeviceInfo Node(const std::string& node);
  bool HasNode(const std::string& node) { return !Node(node).node_name().empty(); }

  // Bitmaps.
  std::vector<v1::BlockDirtyInfo> Bitmaps(const std::string& node);
  // An empty name if there is no such bitmap.
  v1::BlockDirtyInfo Bitmap(const std::string& node, const std::string& name);
  std::string Sha256(const std::string& node, const std::string& name);
  // The ranges that a bitmap marks, as an NBD client sees them. The bitmap must not be in use.
  Ranges Marks(const std::string& node, const std::string& name);

  // Jobs. Waiting is for events; a job that does not get there in time fails the test.
  void AwaitStatus(const std::string& job, v1::JobStatus status);
  void AwaitEnd(const std::string& job) { AwaitStatus(job, v1::JOB_STATUS_NULL); }
  // Waits until the job is gone, and expects that it has done all that it should.
  void Finish(const std::string& job);
  // Lets a held job run, and then as Finish.
  void ReleaseAndFinish(const std::string& job);
  void CancelAndAwait(const std::string& job);
  Story StoryOf(const std::string& job) { return world_->events().StoryOf(job); }
  // What GetJob knows of it, also after its end.
  v1::Job Job(const std::string& job);
  // What QueryBlockJobs says of it; empty `device` if it is not there.
  v1::BlockJobInfo BlockJob(const std::string& job);
  v1::JobInfo QueriedJob(const std::string& job);

  // NBD. The server is started when it is first needed.
  std::string nbd_socket() { return world_->folder().File("nbd.sock"); }
  void StartNbd();
  void ForgetNbd() { nbd_runs_ = false; }
  void RemoveExport(const std::string& id);

  // All that a refused request must leave as it was, as text.
  std::string Everything();

 private:
  World* const world_;
  bool nbd_runs_ = false;
};

}  // namespace tidemark::test

#endif  // TESTS_CONFORMANCE_OPERATOR_H_
