// The library's own reading into a tree recurses nowhere either, but it looks for each member among
// those before it, which a hostile object of a million members turns into hours. So its events are
// taken here, with the limits counted, and members are only appended.
#include "adapters/qmp/json.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"

namespace tidemark::qmp {
namespace {

class Builder final : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(const JsonLimits& limits) : limits_(limits) {}

  bool null() override { return Add(Json()); }
  bool boolean(bool value) override { return Add(Json(value)); }
  bool number_integer(int64_t value) override { return Add(Json(value)); }
  bool number_unsigned(uint64_t value) override { return Add(Json(value)); }
  bool number_float(double value, const std::string& text) override {
    if (text.find_first_of(".eE") == std::string::npos) {
      return Refuse("an integer that does not fit 64 bits");
    }
    return Add(Json(value));
  }
  bool string(std::string& value) override { return Add(Json(std::move(value))); }
  bool binary(Json::binary_t&) override { return Refuse("binary data"); }

  bool start_object(size_t) override { return Open(Json::value_t::object); }
  bool key(std::string& name) override {
    name_ = std::move(name);
    return true;
  }
  bool end_object() override { return Close(); }
  bool start_array(size_t) override { return Open(Json::value_t::array); }
  bool end_array() override { return Close(); }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return Refuse(absl::StrCat("no valid JSON at byte ", position));
  }

  absl::StatusOr<Json> Take() && {
    if (!error_.empty()) return Error(Reason::kInvalidField, error_);
    return std::move(root_);
  }

 private:
  bool Refuse(std::string why) {
    error_ = std::move(why);
    return false;
  }

  bool Add(Json value) { return Place(std::move(value)) != nullptr; }

  // Where the value has come to lie: valid until a sibling is placed, so for as long as the value
  // is open. Null if there are too many.
  Json* Place(Json value) {
    if (++value_count_ > limits_.values_max) {
      Refuse(absl::StrCat("more than ", limits_.values_max, " values"));
      return nullptr;
    }
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      auto& elements = parent.get_ref<Json::array_t&>();
      elements.push_back(std::move(value));
      return &elements.back();
    }
    auto& members = parent.get_ref<Json::object_t&>();
    static_cast<Json::object_t::Container&>(members).emplace_back(std::move(name_),
                                                                  std::move(value));
    return &members.back().second;
  }

  bool Open(Json::value_t type) {
    if (open_.size() >= limits_.depth_max) {
      return Refuse(absl::StrCat("nested deeper than ", limits_.depth_max));
    }
    Json* const placed = Place(Json(type));
    if (placed == nullptr) return false;
    open_.push_back(placed);
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  const JsonLimits limits_;
  Json root_;
  // From the root to the innermost.
  std::vector<Json*> open_;
  std::string name_;
  size_t value_count_ = 0;
  std::string error_;
};

}  // namespace

absl::StatusOr<Json> ParseJson(absl::string_view text, const JsonLimits& limits) {
  Builder builder(limits);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return std::move(builder).Take();
}

const Json* Member(const Json& json, const char* name) {
  if (!json.is_object()) return nullptr;
  const auto found = json.find(name);
  return found == json.end() ? nullptr : &*found;
}

const Json::string_t* StringMember(const Json& json, const char* name) {
  const Json* const member = Member(json, name);
  return member == nullptr ? nullptr : member->get_ptr<const Json::string_t*>();
}

std::string Utf8Prefix(absl::string_view text, size_t bytes_max) {
  if (text.size() <= bytes_max) return std::string(text);
  size_t end = bytes_max;
  // Not in the middle of a character: its first byte is no continuation (10xxxxxx).
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return std::string(text.substr(0, end));
}

}  // namespace tidemark::qmp
