// The handshake is a dialogue of options. Each is read whole, its length checked against
// kOptionBytesMax before a byte of it is stored, then taken apart by an OptionReader, which never
// reads past what came. A client that sends nonsense inside an option is told so and may go on; one
// that breaks the framing (magic, flags, lengths that cannot be skipped) is dropped, because where
// the next option begins is no longer known.
//
// Answers are collected in a string and sent when the export is no longer being looked at: a client
// that does not take them must not keep an export from being removed.
#include "engine/nbd/negotiation.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/endian.h"
#include "engine/base/status_macros.h"
#include "engine/nbd/limits.h"
#include "engine/nbd/protocol.h"

namespace tidemark::nbd {

namespace {

template <typename T>
void Append(std::string* out, T value) {
  char bytes[sizeof(T)];
  StoreBigEndian(bytes, value);
  out->append(bytes, sizeof(T));
}

// Takes the data of one option apart.
class OptionReader {
 public:
  explicit OptionReader(absl::string_view data) : rest_(data) {}

  // False, for ever, once the data was shorter than asked for.
  template <typename T>
  bool Take(T* value) {
    if (failed_ || rest_.size() < sizeof(T)) return Fail();
    *value = LoadBigEndian<T>(rest_.data());
    rest_.remove_prefix(sizeof(T));
    return true;
  }
  bool TakeText(size_t length, absl::string_view* text) {
    if (failed_ || rest_.size() < length) return Fail();
    *text = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return true;
  }
  // A 32-bit length, then the text.
  bool TakeCountedText(absl::string_view* text) {
    uint32_t length;
    return Take(&length) && TakeText(length, text);
  }
  bool AtEnd() const { return !failed_ && rest_.empty(); }

 private:
  bool Fail() {
    failed_ = true;
    return false;
  }

  absl::string_view rest_;
  bool failed_ = false;
};

class Negotiation {
 public:
  Negotiation(Socket& socket, ExportTable& exports, ExportTable::Client* client,
              const HandshakeOptions& options)
      : socket_(socket),
        exports_(exports),
        client_(client),
        offers_multiple_connections_(options.offers_multiple_connections),
        deadline_(SystemClock().Elapsed() + options.timeout) {}

  absl::StatusOr<Session> Run();

 private:
  enum class Next { kOption, kTransmission, kEnd };

  absl::Status Greet();
  absl::StatusOr<Next> HandleOption();
  absl::StatusOr<std::string> ReceiveData(uint32_t length);

  absl::StatusOr<Next> ExportName(absl::string_view name);
  void List();
  Next InfoOrGo(bool goes, absl::string_view data);
  void MetaContext(bool sets, absl::string_view data);
  void StructuredReply(absl::string_view data);

  // Fills in what the client will be told about the export. The contexts stay if they were chosen
  // for it.
  void Choose(ExportTable::Use exported);
  static uint32_t AlignmentOf(const Export& exported) {
    return std::max<uint32_t>(1, exported.storage->limits().request_alignment_bytes);
  }
  static bool IsReadOnly(const Export& exported) {
    return !exported.writable || exported.storage->limits().read_only;
  }
  uint16_t TransmissionFlags(const Export& exported) const;

  void Reply(OptionReply type, absl::string_view data = "");
  void ReplyInfo(Info info, absl::string_view data);
  absl::Status SendReplies();

  // Constant after construction.
  Socket& socket_;
  ExportTable& exports_;
  ExportTable::Client* const client_;
  const bool offers_multiple_connections_;
  const absl::Duration deadline_;  // On the monotonic clock.

  // State of the dialogue.
  bool fixed_newstyle_ = false;
  bool no_zeroes_ = false;
  Session session_;
  // Which export session_.contexts are about, and their names.
  std::string contexts_export_name_;
  std::vector<std::string> context_names_;
  Option option_ = Option::kAbort;  // Being answered.
  std::string replies_;
};

absl::StatusOr<Session> Negotiation::Run() {
  RETURN_IF_ERROR(Greet());
  for (int count = 0; count < kOptionsMax; ++count) {
    ASSIGN_OR_RETURN(const Next next, HandleOption());
    RETURN_IF_ERROR(SendReplies());
    if (next == Next::kTransmission) return std::move(session_);
    if (next == Next::kEnd) return absl::CancelledError("the client left");
  }
  return absl::ResourceExhaustedError("the client sent too many options");
}

absl::Status Negotiation::Greet() {
  Append(&replies_, kInitMagic);
  Append(&replies_, kOptionMagic);
  Append<uint16_t>(&replies_, kFlagFixedNewstyle | kFlagNoZeroes);
  RETURN_IF_ERROR(SendReplies());
  std::byte bytes[4];
  RETURN_IF_ERROR(socket_.ReceiveAll(absl::MakeSpan(bytes), deadline_));
  const auto flags = LoadBigEndian<uint32_t>(bytes);
  if ((flags & ~uint32_t{kFlagFixedNewstyle | kFlagNoZeroes}) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("unknown client flags ", absl::Hex(flags)));
  }
  fixed_newstyle_ = (flags & kFlagFixedNewstyle) != 0;
  no_zeroes_ = (flags & kFlagNoZeroes) != 0;
  return absl::OkStatus();
}

absl::StatusOr<Negotiation::Next> Negotiation::HandleOption() {
  std::byte header[kOptionHeaderBytes];
  RETURN_IF_ERROR(socket_.ReceiveAll(absl::MakeSpan(header), deadline_));
  if (LoadBigEndian<uint64_t>(header) != kOptionMagic) {
    return absl::InvalidArgumentError("an option does not begin with its magic number");
  }
  option_ = static_cast<Option>(LoadBigEndian<uint32_t>(header + 8));
  const auto length = LoadBigEndian<uint32_t>(header + 12);
  if (!fixed_newstyle_ && option_ != Option::kExportName) {
    return absl::InvalidArgumentError("a client without fixed newstyle sent another option");
  }
  const auto data = ReceiveData(length);
  if (absl::IsResourceExhausted(data.status()) && option_ != Option::kExportName) {
    Reply(OptionReply::kErrorTooBig, data.status().message());
    return Next::kOption;
  }
  RETURN_IF_ERROR(data.status());
  switch (option_) {
    case Option::kExportName:
      return ExportName(*data);
    case Option::kAbort:
      Reply(OptionReply::kAck);
      return Next::kEnd;
    case Option::kList:
      if (data->empty()) {
        List();
      } else {
        Reply(OptionReply::kErrorInvalid, "the option takes no data");
      }
      return Next::kOption;
    case Option::kInfo:
    case Option::kGo:
      return InfoOrGo(option_ == Option::kGo, *data);
    case Option::kListMetaContext:
    case Option::kSetMetaContext:
      MetaContext(option_ == Option::kSetMetaContext, *data);
      return Next::kOption;
    case Option::kStructuredReply:
      StructuredReply(*data);
      return Next::kOption;
    case Option::kStartTls:
      Reply(OptionReply::kErrorPolicy, "this server has no TLS");
      return Next::kOption;
  }
  Reply(OptionReply::kErrorUnsupported,
        absl::StrCat("option ", static_cast<uint32_t>(option_), " is not known here"));
  return Next::kOption;
}

absl::StatusOr<std::string> Negotiation::ReceiveData(uint32_t length) {
  if (length > kOptionBytesSkippedMax) {
    return absl::InvalidArgumentError(absl::StrCat("an option of ", length, " bytes"));
  }
  std::string data(std::min(length, kOptionBytesMax), '\0');
  uint32_t left = length;
  while (left > 0) {  // Once, unless the data is too long and is skipped.
    const auto step = std::min<uint32_t>(left, static_cast<uint32_t>(data.size()));
    RETURN_IF_ERROR(
        socket_.ReceiveAll({reinterpret_cast<std::byte*>(data.data()), step}, deadline_));
    left -= step;
  }
  if (length > kOptionBytesMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("an option of ", length, " bytes; at most ", kOptionBytesMax, " are taken"));
  }
  return data;
}

// The old way to choose: there is no way to say no but to hang up.
absl::StatusOr<Negotiation::Next> Negotiation::ExportName(absl::string_view name) {
  ExportTable::Use exported = exports_.Attach(name, client_);
  if (!exported) return absl::NotFoundError(absl::StrCat("export '", name, "' not present"));
  Choose(std::move(exported));
  Append<uint64_t>(&replies_, session_.size_bytes);
  Append<uint16_t>(&replies_, TransmissionFlags(*session_.exported));
  if (!no_zeroes_) replies_.append(kExportNameZeroBytes, '\0');
  return Next::kTransmission;
}

void Negotiation::List() {
  for (const ExportTable::Listing& listing : exports_.List()) {
    std::string data;
    Append<uint32_t>(&data, static_cast<uint32_t>(listing.name.size()));
    Reply(OptionReply::kServer, absl::StrCat(data, listing.name, listing.description));
  }
  Reply(OptionReply::kAck);
}

Negotiation::Next Negotiation::InfoOrGo(bool goes, absl::string_view data) {
  OptionReader reader(data);
  absl::string_view name;
  uint16_t count = 0;
  bool well_formed = reader.TakeCountedText(&name) && reader.Take(&count);
  bool wants_name = false;
  bool wants_block_size = false;
  for (uint16_t i = 0; well_formed && i < count; ++i) {
    uint16_t info = 0;
    well_formed = reader.Take(&info);
    wants_name |= info == static_cast<uint16_t>(Info::kName);
    wants_block_size |= info == static_cast<uint16_t>(Info::kBlockSize);
  }
  if (!well_formed || !reader.AtEnd() || name.size() > kNameBytesMax) {
    Reply(OptionReply::kErrorInvalid, "the lengths inside the option do not add up");
    return Next::kOption;
  }
  ExportTable::Use exported = goes ? exports_.Attach(name, client_) : exports_.Find(name);
  if (!exported) {
    Reply(OptionReply::kErrorUnknown, absl::StrCat("export '", name, "' not present"));
    return Next::kOption;
  }
  const uint32_t alignment_bytes = AlignmentOf(*exported);
  if (alignment_bytes > 1 && !wants_block_size) {
    Reply(OptionReply::kErrorBlockSizeRequired,
          absl::StrCat("export '", name, "' takes only requests aligned to ", alignment_bytes));
    return Next::kOption;
  }
  std::string info;
  Append<uint64_t>(&info, exported->storage->size_bytes());
  Append<uint16_t>(&info, TransmissionFlags(*exported));
  ReplyInfo(Info::kExport, info);
  if (wants_name) ReplyInfo(Info::kName, exported->name);
  if (!exported->description.empty()) ReplyInfo(Info::kDescription, exported->description);
  info.clear();
  Append<uint32_t>(&info, alignment_bytes);
  Append<uint32_t>(&info, std::max(alignment_bytes, kPreferredBlockBytes));
  Append<uint32_t>(&info, kPayloadBytesMax);
  ReplyInfo(Info::kBlockSize, info);
  Reply(OptionReply::kAck);
  if (!goes) return Next::kOption;
  Choose(std::move(exported));
  return Next::kTransmission;
}

void Negotiation::Choose(ExportTable::Use exported) {
  // Contexts count if they were chosen for this export, and are what they were: it may have been
  // removed and added again, with other bitmaps, under the same name.
  const std::vector<Context> offered = AllContexts(*exported);
  const bool same = contexts_export_name_ == exported->name;
  std::vector<Context> kept;
  for (size_t i = 0; same && i < session_.contexts.size(); ++i) {
    const Context& context = session_.contexts[i];
    if (std::find(offered.begin(), offered.end(), context) != offered.end() &&
        NameOf(*exported, context) == context_names_[i]) {
      kept.push_back(context);
    }
  }
  session_.contexts = std::move(kept);
  session_.size_bytes = exported->storage->size_bytes();
  session_.read_only = IsReadOnly(*exported);
  session_.alignment_bytes = AlignmentOf(*exported);
  session_.exported = std::move(exported);
}

void Negotiation::MetaContext(bool sets, absl::string_view data) {
  if (sets) {
    session_.contexts.clear();
    context_names_.clear();
  }
  if (!session_.structured) {
    Reply(OptionReply::kErrorInvalid, "structured replies must be agreed on before contexts");
    return;
  }
  OptionReader reader(data);
  absl::string_view name;
  uint32_t count = 0;
  std::vector<absl::string_view> queries;
  bool well_formed = reader.TakeCountedText(&name) && reader.Take(&count);
  for (uint32_t i = 0; well_formed && i < count; ++i) {
    absl::string_view query;
    well_formed = reader.TakeCountedText(&query);
    queries.push_back(query);
  }
  if (!well_formed || !reader.AtEnd() || name.size() > kNameBytesMax) {
    Reply(OptionReply::kErrorInvalid, "the lengths inside the option do not add up");
    return;
  }
  const ExportTable::Use exported = exports_.Find(name);
  if (!exported) {
    Reply(OptionReply::kErrorUnknown, absl::StrCat("export '", name, "' not present"));
    return;
  }
  std::vector<Context> selected;
  if (queries.empty() && !sets) selected = AllContexts(*exported);
  // As many queries as fit into an option, times as many contexts, is too much work to give away.
  if (queries.size() > kContextsMax) {
    Reply(OptionReply::kErrorTooBig, absl::StrCat(queries.size(), " queries"));
    return;
  }
  for (absl::string_view query : queries) {
    for (const Context& context : MatchingContexts(*exported, query, !sets)) {
      if (std::find(selected.begin(), selected.end(), context) == selected.end()) {
        selected.push_back(context);
      }
    }
  }
  for (const Context& context : selected) {
    std::string reply;
    Append<uint32_t>(&reply, sets ? context.id() : 0);
    const std::string context_name = NameOf(*exported, context);
    Reply(OptionReply::kMetaContext, absl::StrCat(reply, context_name));
    if (sets) context_names_.push_back(context_name);
  }
  if (sets) {
    session_.contexts = std::move(selected);
    contexts_export_name_ = std::string(name);
  }
  Reply(OptionReply::kAck);
}

void Negotiation::StructuredReply(absl::string_view data) {
  if (!data.empty()) {
    Reply(OptionReply::kErrorInvalid, "the option takes no data");
  } else if (session_.structured) {
    Reply(OptionReply::kErrorInvalid, "structured replies were agreed on before");
  } else {
    session_.structured = true;
    Reply(OptionReply::kAck);
  }
}

uint16_t Negotiation::TransmissionFlags(const Export& exported) const {
  uint16_t flags = kHasFlags | kSendFlush | kSendFua | kSendCache;
  if (offers_multiple_connections_) flags |= kCanMultiConn;
  if (session_.structured) flags |= kSendDf;
  if (IsReadOnly(exported)) return flags | kReadOnly;
  return flags | kSendTrim | kSendWriteZeroes | kSendFastZero;
}

void Negotiation::Reply(OptionReply type, absl::string_view data) {
  Append(&replies_, kOptionReplyMagic);
  Append(&replies_, static_cast<uint32_t>(option_));
  Append(&replies_, static_cast<uint32_t>(type));
  Append(&replies_, static_cast<uint32_t>(data.size()));
  replies_.append(data.data(), data.size());
}

void Negotiation::ReplyInfo(Info info, absl::string_view data) {
  std::string payload;
  Append(&payload, static_cast<uint16_t>(info));
  payload.append(data.data(), data.size());
  Reply(OptionReply::kInfo, payload);
}

absl::Status Negotiation::SendReplies() {
  const std::string replies = std::exchange(replies_, {});
  return socket_.SendAll(AsBytes(replies), deadline_);
}

}  // namespace

absl::StatusOr<Session> Negotiate(Socket& socket, ExportTable& exports, ExportTable::Client* client,
                                  const HandshakeOptions& options) {
  return Negotiation(socket, exports, client, options).Run();
}

}  // namespace tidemark::nbd
