#include "tests/conformance/operator.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tidemark::test {

void Operator::CreateDisk(const std::string& node, uint64_t size_bytes,
                          const std::string& options) {
  Image::Create(FileOf(node), size_bytes, "qcow2", options);
  Attach(node);
}

void Operator::Attach(const std::string& node) { Do(Add(Qcow2Options(node, FileOf(node)))); }

void Operator::Detach(const std::string& node) { Do(Del(node)); }

std::vector<v1::BlockDeviceInfo> Operator::Nodes() {
  const auto response = Do(v1::QueryNamedBlockNodesRequest());
  return {response.nodes().begin(), response.nodes().end()};
}

std::vector<v1::JobInfo> Operator::Jobs() {
  const auto response = Do(v1::QueryJobsRequest());
  return {response.jobs().begin(), response.jobs().end()};
}

std::vector<v1::BlockJobInfo> Operator::BlockJobs() {
  const auto response = Do(v1::QueryBlockJobsRequest());
  return {response.jobs().begin(), response.jobs().end()};
}

std::vector<v1::BlockExportInfo> Operator::Exports() {
  const auto response = Do(v1::QueryBlockExportsRequest());
  return {response.exports().begin(), response.exports().end()};
}

v1::BlockDeviceInfo Operator::Node(const std::string& node) {
  for (const auto& info : Nodes()) {
    if (info.node_name() == node) return info;
  }
  return {};
}

std::vector<v1::BlockDirtyInfo> Operator::Bitmaps(const std::string& node) {
  const v1::BlockDeviceInfo info = Node(node);
  return {info.dirty_bitmaps().begin(), info.dirty_bitmaps().end()};
}

v1::BlockDirtyInfo Operator::Bitmap(const std::string& node, const std::string& name) {
  for (const v1::BlockDirtyInfo& info : Bitmaps(node)) {
    if (info.name() == name) return info;
  }
  return {};
}

std::string Operator::Sha256(const std::string& node, const std::string& name) {
  return Do(BitmapSha256(node, name)).sha256();
}

Ranges Operator::Marks(const std::string& node, const std::string& name) {
  StartNbd();
  Do(ExportAdd("marks", node, !Node(node).ro(), {name}, "marks"));
  Ranges marks;
  {
    const std::string context = "qemu:dirty-bitmap:" + name;
    Guest reader({nbd_socket(), "marks"}, std::make_shared<ByteModel>(0), {context});
    EXPECT_TRUE(reader.connected()) << reader.error();
    if (reader.connected()) marks = reader.ExtentsWith(context, 1);
  }
  RemoveExport("marks");
  return marks;
}

void Operator::AwaitStatus(const std::string& job, v1::JobStatus status) {
  EXPECT_TRUE(world_->events().WaitForStatus(job, status))
      << job << " was never " << v1::JobStatus_Name(status)
      << "; its story: " << absl::StrJoin(StoryOf(job), " ");
}

void Operator::Finish(const std::string& job) {
  AwaitEnd(job);
  const Story story = StoryOf(job);
  EXPECT_EQ(std::count(story.begin(), story.end(), "COMPLETED"), 1)
      << job << ": " << absl::StrJoin(story, " ") << ": " << Job(job).error();
}

void Operator::ReleaseAndFinish(const std::string& job) {
  Do(SetSpeed(job, 0));
  Finish(job);
}

void Operator::CancelAndAwait(const std::string& job) {
  Do(OfJob<v1::JobCancelRequest>(job));
  AwaitEnd(job);
}

v1::Job Operator::Job(const std::string& job) { return Do(OfJob<v1::GetJobRequest>(job)).job(); }

v1::BlockJobInfo Operator::BlockJob(const std::string& job) {
  for (const auto& info : BlockJobs()) {
    if (info.device() == job) return info;
  }
  return {};
}

v1::JobInfo Operator::QueriedJob(const std::string& job) {
  for (const auto& info : Jobs()) {
    if (info.id() == job) return info;
  }
  return {};
}

void Operator::StartNbd() {
  if (nbd_runs_) return;
  Do(NbdStart(nbd_socket()));
  nbd_runs_ = true;
}

void Operator::RemoveExport(const std::string& id) {
  const auto deleted_before = [&](const std::vector<v1::Event>& events) {
    return std::count_if(events.begin(), events.end(), [&](const v1::Event& event) {
      return event.has_block_export_deleted() && event.block_export_deleted().id() == id;
    });
  };
  const auto before = deleted_before(world_->events().events());
  Do(ExportDel(id, v1::BLOCK_EXPORT_REMOVE_MODE_HARD));
  EXPECT_TRUE(world_->events().WaitUntil([&](const std::vector<v1::Event>& events) {
    return deleted_before(events) > before;
  })) << "export "
      << id << " is not gone";
}

std::string Operator::Everything() {
  std::vector<std::string> lines;
  for (const auto& node : Nodes()) {
    std::string line = absl::StrCat("node ", node.node_name(), " ", node.drv(), " ", node.file(),
                                    node.ro() ? " ro" : " rw");
    // Files grow while jobs go on.
    if (node.drv() != "file") absl::StrAppend(&line, " ", node.image().virtual_size());
    for (const auto& bitmap : node.dirty_bitmaps()) {
      absl::StrAppend(&line, "\n  bitmap {", bitmap.ShortDebugString(), "}");
    }
    lines.push_back(line);
  }
  for (const auto& job : Jobs()) {
    lines.push_back(absl::StrCat("job ", job.id(), " ", v1::JobStatus_Name(job.status())));
  }
  for (const auto& exported : Exports()) {
    lines.push_back(absl::StrCat("export ", exported.id(), " ", exported.node_name()));
  }
  std::sort(lines.begin(), lines.end());
  for (const std::string& name : world_->folder().List()) {
    // What the service keeps for itself moves with every event.
    if (name.rfind("state", 0) != 0) lines.push_back("file " + name);
  }
  for (const std::string& lock : world_->folder().Locks()) lines.push_back("lock " + lock);
  return absl::StrJoin(lines, "\n");
}

}  // namespace tidemark::test
