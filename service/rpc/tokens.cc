#include "service/rpc/tokens.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/error.h"
#include "engine/base/small_file.h"
#include "engine/base/status_macros.h"
#include "service/rpc/limits.h"

namespace tidemark::rpc {
namespace {

bool IsName(absl::string_view text) {
  return !text.empty() && text.size() <= kTokenNameBytesMax &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || absl::StrContains("._-@", c);
         });
}

bool IsHash(absl::string_view text) {
  return text.size() == 2 * SHA256_DIGEST_LENGTH &&
         std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return absl::ascii_isxdigit(c); });
}

}  // namespace

absl::Status Tokens::Unusable(absl::string_view why) const {
  return Error(Reason::kInvalidField, absl::StrCat("Cannot use --token_file '", path_, "': ", why),
               {{"file", path_}});
}

absl::StatusOr<std::vector<Tokens::Entry>> Tokens::Read() const {
  const absl::StatusOr<std::string> text = ReadSmallFile(path_, kTokensBytesMax);
  if (!text.ok()) return Unusable("it cannot be read");
  std::vector<Entry> entries;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line.front() == '#') continue;
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    if (words.size() != 2 || !IsName(words[0]) || !IsHash(words[1])) {
      return Unusable(absl::StrCat("line ", number,
                                   " is not a name and the 64 hexadecimal digits of a token's "
                                   "SHA-256"));
    }
    Entry entry{std::string(words[0]), {}};
    const std::string bytes = absl::HexStringToBytes(words[1]);
    std::copy(bytes.begin(), bytes.end(), entry.hash.begin());
    for (const Entry& other : entries) {
      if (other.hash == entry.hash)
        return Unusable(absl::StrCat("line ", number, " is there twice"));
    }
    if (entries.size() == kTokensMax) {
      return Unusable(absl::StrCat("it has more than ", kTokensMax, " tokens"));
    }
    entries.push_back(std::move(entry));
  }
  if (entries.empty()) return Unusable("there is no token in it");
  return entries;
}

absl::StatusOr<std::shared_ptr<Tokens>> Tokens::Create(std::string path) {
  auto tokens = std::shared_ptr<Tokens>(new Tokens(std::move(path)));
  RETURN_IF_ERROR(tokens->Reload());
  return tokens;
}

absl::Status Tokens::Reload() {
  ASSIGN_OR_RETURN(std::vector<Entry> entries, Read());
  auto shared = std::make_shared<const std::vector<Entry>>(std::move(entries));
  MutexLock lock(&mutex_);
  entries_ = std::move(shared);
  return absl::OkStatus();
}

absl::optional<std::string> Tokens::NameOf(absl::string_view token) const {
  std::shared_ptr<const std::vector<Entry>> entries;
  {
    MutexLock lock(&mutex_);
    entries = entries_;
  }
  Hash hash;
  SHA256(reinterpret_cast<const uint8_t*>(token.data()), token.size(), hash.data());
  // All of them, and each to its end.
  const Entry* found = nullptr;
  for (const Entry& entry : *entries) {
    if (CRYPTO_memcmp(entry.hash.data(), hash.data(), hash.size()) == 0) found = &entry;
  }
  return found == nullptr ? absl::nullopt : absl::optional<std::string>(found->name);
}

absl::optional<absl::string_view> BearerToken(absl::string_view authorization) {
  constexpr absl::string_view kScheme = "bearer ";
  if (!absl::StartsWithIgnoreCase(authorization, kScheme)) return absl::nullopt;
  const absl::string_view token = absl::StripAsciiWhitespace(authorization.substr(kScheme.size()));
  return token.empty() ? absl::nullopt : absl::optional<absl::string_view>(token);
}

}  // namespace tidemark::rpc
