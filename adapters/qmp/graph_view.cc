#include "adapters/qmp/graph_view.h"

#include <algorithm>
#include <iterator>

namespace tidemark::qmp {
namespace {

// Formats that keep the size of the disk in their own header.
constexpr absl::string_view kSizedDrivers[] = {
    "bochs", "cloop", "dmg", "parallels", "qcow", "qcow2", "qed", "vdi", "vhdx", "vmdk", "vpc"};

uint64_t IdOf(const Json& object, const char* member) {
  const Json* const id = Member(object, member);
  return id != nullptr && id->is_number_unsigned() ? id->get<uint64_t>() : 0;
}

std::string TextOf(const Json& object, const char* member) {
  const Json::string_t* const text = StringMember(object, member);
  return text == nullptr ? "" : *text;
}

bool HasText(const Json& list, const char* text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

// How QEMU names what nobody has named.
bool IsUnnamed(const std::string& name) { return !name.empty() && name[0] == '#'; }

const Json& ListOf(const Json& object, const char* member) {
  static const Json* const empty = new Json(Json::array());
  const Json* const list = Member(object, member);
  return list != nullptr && list->is_array() ? *list : *empty;
}

}  // namespace

GraphView::GraphView(const Json& graph, const Json& nodes) {
  if (nodes.is_array()) {
    for (const Json& node : nodes) records_[TextOf(node, "node-name")] = &node;
  }
  std::map<uint64_t, std::string> backends;
  std::map<uint64_t, std::string> jobs;
  for (const Json& node : ListOf(graph, "nodes")) {
    const uint64_t id = IdOf(node, "id");
    const std::string type = TextOf(node, "type");
    const std::string name = TextOf(node, "name");
    if (type == "block-backend") backends[id] = name;
    if (type == "block-job") jobs[id] = name;
    if (type != "block-driver") continue;
    ids_[name] = id;
    names_[id] = name;
  }
  for (const Json& edge : ListOf(graph, "edges")) {
    const uint64_t parent = IdOf(edge, "parent");
    const uint64_t child = IdOf(edge, "child");
    used_.insert(child);
    const auto job = jobs.find(parent);
    if (job != jobs.end()) {
      job_nodes_[child] = job->second;
      if (TextOf(edge, "name") == "main node") jobs_[child] = job->second;
    }
    const auto backend = backends.find(parent);
    if (backend == backends.end()) {
      parents_.emplace(
          child, Edge{parent, TextOf(edge, "name"), HasText(ListOf(edge, "shared-perm"), "write"),
                      HasText(ListOf(edge, "perm"), "resize")});
      continue;
    }
    backends_.emplace(child, backend->second);
    if (!backend->second.empty()) devices_[backend->second] = child;
  }
}

std::string GraphView::Resolve(const std::string& name) const {
  const auto device = devices_.find(name);
  if (device != devices_.end()) {
    const auto node = names_.find(device->second);
    return node == names_.end() ? "" : node->second;
  }
  return records_.contains(name) || ids_.contains(name) ? name : "";
}

std::map<std::string, std::string> GraphView::Drives() const {
  std::map<std::string, std::string> drives;
  for (const auto& [drive, id] : devices_) {
    const auto node = names_.find(id);
    if (node != names_.end()) drives[node->second] = drive;
  }
  return drives;
}

std::string GraphView::JobOfFilter(const std::string& name) const {
  const auto id = ids_.find(name);
  const auto job = id == ids_.end() ? jobs_.end() : jobs_.find(id->second);
  return job == jobs_.end() ? "" : job->second;
}

bool GraphView::IsKept(uint64_t id, std::set<uint64_t>* seen, std::string* job) const {
  if (!seen->insert(id).second) return false;
  const auto own = job_nodes_.find(id);
  if (own != job_nodes_.end()) *job = own->second;
  const auto [first, last] = backends_.equal_range(id);
  // Devices move to a job's filter, and back. Elsewhere a job has some of its own, without a name.
  const bool can_be_jobs = own != job_nodes_.end() && !jobs_.contains(id);
  if (std::any_of(first, last,
                  [&](const auto& backend) { return !can_be_jobs || !backend.second.empty(); })) {
    return true;
  }
  const auto [begin, end] = parents_.equal_range(id);
  return std::any_of(begin, end, [&](const auto& entry) {
    const uint64_t parent = entry.second.parent;
    const auto name = names_.find(parent);
    if (name == names_.end()) return false;
    const bool is_filter = jobs_.contains(parent);
    // What stands on a filter gets its source back, but not its target.
    if (is_filter && entry.second.name == "target") return false;
    return (!IsUnnamed(name->second) && !is_filter) || IsKept(parent, seen, job);
  });
}

std::string GraphView::JobThatTakesAway(const std::string& name) const {
  const std::string job_of_filter = JobOfFilter(name);
  const auto id = ids_.find(name);
  if (!job_of_filter.empty() || id == ids_.end() || !IsUnnamed(name)) return job_of_filter;
  std::set<uint64_t> seen;
  std::string job;
  return IsKept(id->second, &seen, &job) ? "" : job;
}

std::string GraphView::GrownBy(const std::string& name) const {
  const auto id = ids_.find(name);
  if (id == ids_.end()) return "";
  const auto [begin, end] = parents_.equal_range(id->second);
  for (auto it = begin; it != end; ++it) {
    const auto parent = names_.find(it->second.parent);
    if (it->second.resizes && it->second.name != "backing" && parent != names_.end()) {
      return parent->second;
    }
  }
  return "";
}

std::string GraphView::Child(const std::string& name, absl::string_view edge) const {
  const auto id = ids_.find(name);
  if (id == ids_.end()) return "";
  for (const auto& [child, above] : parents_) {
    if (above.parent != id->second || above.name != edge) continue;
    const auto found = names_.find(child);
    return found == names_.end() ? "" : found->second;
  }
  return "";
}

std::string GraphView::MeetingPoint(const std::string& name) const {
  const auto start = ids_.find(name);
  if (start == ids_.end()) return "";
  std::multimap<uint64_t, uint64_t> children;
  for (const auto& [child, edge] : parents_) children.emplace(edge.parent, child);
  std::vector<uint64_t> open = {start->second};
  std::set<uint64_t> seen = {start->second};
  while (!open.empty()) {
    const auto [begin, end] = children.equal_range(open.back());
    open.pop_back();
    for (auto it = begin; it != end; ++it) {
      const auto found = names_.find(it->second);
      if (found == names_.end()) continue;
      if (!seen.insert(it->second).second) return found->second;
      open.push_back(it->second);
    }
  }
  return "";
}

std::string GraphView::MirrorPassedBy(const std::string& name) const {
  const auto is_mirror = [&](const std::string& node) {
    const Json* const record = Node(node);
    return record != nullptr && TextOf(*record, "drv") == "mirror_top";
  };
  // Writes go down by way of `file`; a graph has no circles.
  for (std::string at = name; !at.empty() && !is_mirror(at); at = Child(at, "file")) {
    const auto id = ids_.find(at);
    if (id == ids_.end()) return "";
    const auto [begin, end] = parents_.equal_range(id->second);
    for (auto it = begin; it != end; ++it) {
      const auto parent = names_.find(it->second.parent);
      // (A mirror's target is its job's, and no child of its filter.)
      if (parent != names_.end() && is_mirror(parent->second)) return parent->second;
    }
  }
  return "";
}

bool GraphView::IsUsed(const std::string& name) const {
  const auto id = ids_.find(name);
  return id != ids_.end() && used_.contains(id->second);
}

const Json* GraphView::Node(const std::string& name) const {
  const auto found = records_.find(name);
  return found == records_.end() ? nullptr : found->second;
}

bool GraphView::IsInactive(const std::string& name) const {
  const Json* const node = Node(name);
  const Json* const active = node == nullptr ? nullptr : Member(*node, "active");
  return active != nullptr && *active == false;
}

bool GraphView::ImageHasBitmap(const std::string& name, const std::string& bitmap) const {
  const Json* found = Node(name);
  for (const char* const member : {"image", "format-specific", "data"}) {
    if (found != nullptr) found = Member(*found, member);
  }
  if (found == nullptr) return false;
  const Json& bitmaps = ListOf(*found, "bitmaps");
  return std::any_of(bitmaps.begin(), bitmaps.end(),
                     [&](const Json& stored) { return TextOf(stored, "name") == bitmap; });
}

bool GraphView::HasOwnSize(const std::string& name) const {
  const Json* const node = Node(name);
  return node != nullptr && std::find(std::begin(kSizedDrivers), std::end(kSizedDrivers),
                                      TextOf(*node, "drv")) != std::end(kSizedDrivers);
}

const GraphView::Edge* GraphView::FileEdgeOf(uint64_t id) const {
  for (const auto& [child, edge] : parents_) {
    if (edge.parent == id && edge.name == "file") return &edge;
  }
  return nullptr;
}

bool GraphView::KeepsWritersOut(const std::string& name) const {
  const auto start = ids_.find(name);
  if (start == ids_.end()) return false;
  std::vector<uint64_t> open = {start->second};
  std::set<uint64_t> seen = {start->second};
  bool keeps_out = false;
  while (!open.empty()) {
    const uint64_t id = open.back();
    open.pop_back();
    const auto found = names_.find(id);
    if (found != names_.end() && HasOwnSize(found->second)) {
      const Edge* const file = FileEdgeOf(id);
      if (file == nullptr || file->shares_writes) return false;
      keeps_out = true;
    }
    const auto [begin, end] = parents_.equal_range(id);
    for (auto it = begin; it != end; ++it) {
      if (it->second.name != "backing" && seen.insert(it->second.parent).second) {
        open.push_back(it->second.parent);
      }
    }
  }
  return keeps_out;
}

std::string GraphView::MarkedNodeOfItsSize(const std::string& name) const {
  const auto start = ids_.find(name);
  if (start == ids_.end()) return "";
  std::vector<uint64_t> open = {start->second};
  std::set<uint64_t> seen = {start->second};
  while (!open.empty()) {
    const uint64_t child = open.back();
    open.pop_back();
    const auto [begin, end] = parents_.equal_range(child);
    for (auto it = begin; it != end; ++it) {
      const Edge& edge = it->second;
      const auto parent = names_.find(edge.parent);
      if (edge.name == "backing" || parent == names_.end() || HasOwnSize(parent->second) ||
          !seen.insert(edge.parent).second) {
        continue;
      }
      const Json* const record = Node(parent->second);
      if (record != nullptr && !ListOf(*record, "dirty-bitmaps").empty()) return parent->second;
      open.push_back(edge.parent);
    }
  }
  return "";
}

}  // namespace tidemark::qmp
